//! The status: a snapshot of the director, from which `lb status`, its JSON and the metrics are
//! made.

mod questions;
mod sentences;
mod service;
mod troubles;

use std::net::{IpAddr, SocketAddr};

use lb_model::ProbeStep;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::sentences::Tone;
pub use self::service::{
    BoundClient, CheckStatus, HashStatus, PersistenceStatus, QuorumStatus, ServerStatus, ServiceStatus,
    StandingOrder, Transitions,
};
pub use self::troubles::Troubles;
use crate::events::Level;

/// A snapshot of the running director.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the running `lb`.
    pub version: String,
    pub pid: u32,
    /// The main one.
    pub interface: String,
    /// The others that packets come in by: those of clients, or of servers behind address
    /// translation.
    #[serde(default)]
    pub other_interfaces: Vec<InterfaceStatus>,
    /// How the XDP program is attached: `native` or `generic`.
    pub mode: String,
    /// Seconds since the controller started.
    pub uptime_s: u64,
    /// The director is stopping, and still serves open connections.
    #[serde(default)]
    pub stopping: bool,
    /// Path of the configuration file.
    pub config: String,
    /// The error of the last reload; `None` if the running configuration is the file's.
    pub config_error: Option<String>,
    /// When the running configuration was read, in seconds since 1970.
    #[serde(default)]
    pub config_since: u64,
    /// The findings, errors first.
    #[serde(default)]
    pub findings: Vec<FindingStatus>,
    /// What was changed at run time, and is no part of the file.
    #[serde(default)]
    pub overlay: Vec<OverlayStatus>,
    pub table: TableStatus,
    /// Idle time-outs of connections, where a service has no others.
    #[serde(default)]
    pub timeouts: TimeoutsStatus,
    #[serde(default)]
    pub checks: ChecksStatus,
    /// Receivers of alerts, in configured order.
    #[serde(default)]
    pub alerts: Vec<ReceiverStatus>,
    /// `None`: no cluster.
    #[serde(default)]
    pub cluster: Option<ClusterStatus>,
    /// In configured order, followed by draining services.
    pub services: Vec<ServiceStatus>,
    /// Frames dropped since start, by reason; every reason is listed, in a fixed order.
    pub drops: Vec<Count>,
    /// Frames for a VIP that were passed to the host's network stack since start, by reason.
    pub passes: Vec<Count>,
    /// Frames that the XDP program answered for a service, by reason.
    #[serde(default)]
    pub answers: Vec<Count>,
    /// Frames of unknown connections that were relayed to the other director of a hand-over.
    #[serde(default)]
    pub relayed: u64,
    #[serde(default)]
    pub fragments: FragmentsStatus,
    /// QUIC packets of clients with another address than before, sent by their connection IDs.
    #[serde(default)]
    pub quic_moved: u64,
    /// Clients of open connections whose binding had given way, because there were more clients
    /// than `bindings` has room for.
    #[serde(default)]
    pub bindings_lost: u64,
    /// Packets that open a connection with a checksum that was left to hardware.
    #[serde(default)]
    pub partial_checksums: u64,
}

/// A change at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OverlayStatus {
    /// Who made it: `cli`.
    pub source: String,
    /// As `lb overlay show` prints it: `+ server web/www3`.
    pub change: String,
    /// Why it changes nothing, if it does not: the file has changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<String>,
}

/// Idle time-outs by a connection's state, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimeoutsStatus {
    pub syn_recv_s: u64,
    pub established_s: u64,
    pub unproven_s: u64,
    pub fin_wait_s: u64,
    pub closed_s: u64,
    pub udp_s: u64,
}

/// Fragments that came before those that they wait for, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FragmentsStatus {
    /// The controller has taken them.
    pub held: u64,
    /// Of these it has sent so many in their turn,
    pub sent: u64,
    /// passed so many to the host, whose they are, or because nobody claimed them in time,
    pub passed: u64,
    /// and given so many up, which are among the drops as `fragment_given_up`.
    pub given_up: u64,
}

/// An interface that packets come in by, besides the main one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceStatus {
    pub name: String,
    /// How the XDP program is attached: `native`, `generic`, or `none` if it is not.
    pub mode: String,
}

/// A finding, see [`crate::findings`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingStatus {
    /// The kind's id in `snake_case`: the label of the metric `lb_finding`.
    pub finding: String,
    /// What it concerns, such as a VIP or an interface.
    pub subject: String,
    pub level: Level,
    pub text: String,
    /// What the operator can do about it.
    pub mend: String,
    /// Seconds since its beginning.
    pub since_s: u64,
}

/// Totals of all health checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChecksStatus {
    /// Number of periodic checks.
    pub running: u64,
    /// Probes started since start.
    pub started: u64,
    /// Timers of checks that fired more than 10 ms late: this host has too little CPU time.
    pub late: u64,
}

/// What became of alerts to a receiver, since it was configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiverStatus {
    pub receiver: String,
    /// `email`, `webhook` or `alertmanager`.
    pub via: String,
    /// Messages that the receiver has taken.
    pub delivered: u64,
    /// Attempts that have failed.
    pub failed: u64,
    /// Messages that waited because of `limit`.
    pub held: u64,
    /// Events that wait to be told.
    pub waiting: u64,
    /// Events that were given up: there were too many, or they waited for too long.
    pub dropped: u64,
    /// Why the last attempt has failed; `None`: it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What came of a test message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertTest {
    pub receiver: String,
    /// Host and port.
    pub target: String,
    pub took_us: u64,
    /// `None`: it was taken.
    pub failure: Option<String>,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterStatus {
    pub name: String,
    /// Name of this node.
    pub node: String,
    /// All nodes, in configured order.
    pub nodes: Vec<NodeStatus>,
    /// In configured order.
    pub groups: Vec<GroupStatus>,
    pub paths: Vec<PathStatus>,
    /// `None`: directors do not tell each other about connections.
    #[serde(default)]
    pub sync: Option<SyncStatus>,
}

/// Connection synchronisation, as this director sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncStatus {
    pub peers: Vec<SyncPeer>,
    /// Datagrams and connections that were not used, by reason.
    pub dropped: Vec<Count>,
    /// Processor time that it has taken, seconds.
    pub busy_s: f64,
}

/// What passes between this director and another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncPeer {
    pub node: String,
    /// It answers.
    pub up: bool,
    /// It knows the connections that this director knows, as it says itself.
    pub knows_ours: bool,
    /// This director knows the connections that it knows.
    pub knows_theirs: bool,
    /// While it tells this director what that one lacks: the share that has come.
    #[serde(default)]
    pub learned: Option<f64>,
    /// While this director tells it what it lacks: the share of the table that was gone through.
    #[serde(default)]
    pub told_again: Option<f64>,
    /// From when a connection was told until it said that it has it, milliseconds.
    pub lag_ms: f64,
    /// Datagrams that it has not confirmed yet.
    pub backlog: u64,
    /// Share of the connections that both know, of those that either knows, when it last compared;
    /// `None`: it balances nothing.
    pub agreement: Option<f64>,
    /// Connections that it was told of, and that it has told of, changes included.
    pub told: u64,
    pub taken: u64,
    /// Datagrams.
    pub sent: u64,
    pub sent_bytes: u64,
    pub sent_again: u64,
    pub received: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    pub name: String,
    pub address: IpAddr,
    /// This is the node itself, or its heartbeat arrived within the dead time.
    pub alive: bool,
    /// From the node's last heartbeat; `None`: there was none.
    pub readiness: Option<NodeReadiness>,
    /// Its configuration digest equals this node's.
    pub config_agrees: bool,
}

/// What a node needs in order to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeReadiness {
    /// The XDP program is attached.
    pub data_path: bool,
    /// The interface's link is up.
    pub link: bool,
    /// An operator has put the node into maintenance.
    pub maintenance: bool,
    /// Number of healthy real servers.
    pub servers: u16,
    /// Number of reference hosts that answer.
    pub references: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupStatus {
    pub name: String,
    pub vips: Vec<IpAddr>,
    /// This node's role: `active`, `standby`, `acquiring`, `releasing` or `fault`.
    pub role: String,
    /// Seconds since the role last changed.
    pub since_s: u64,
    /// Why this node has the role.
    pub cause: String,
    /// `failover`: one node at a time has the group; `anycast`: every node that could serves it.
    #[serde(default = "failover")]
    pub kind: String,
    /// The nodes that serve the group, as far as this node knows: several of `anycast`.
    #[serde(default)]
    pub serving: Vec<String>,
    /// The node that holds the group, as far as this node knows; of `anycast` this node, if it is
    /// one of them.
    pub holder: Option<String>,
    /// The preferred node; of `anycast` this node.
    pub preferred: String,
    /// Another node is ready to take the group, or serves it too.
    #[serde(default)]
    pub has_successor: bool,
    /// The group was handed over, and this node still serves connections that began here.
    pub serves_on: bool,
    /// How often this node has taken the group since its start, by the event's `cause_id`.
    #[serde(default)]
    pub takeovers: Vec<Count>,
}

fn failover() -> String {
    "failover".to_owned()
}

/// A heartbeat path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathStatus {
    pub name: String,
    pub open: bool,
    pub sent: u64,
    pub send_errors: u64,
    /// Accepted heartbeats.
    pub received: u64,
    /// Milliseconds since the last heartbeat of each node on this path; nodes without any are
    /// absent.
    pub heard: Vec<Heard>,
    /// Messages dropped, by reason; every reason is listed.
    pub dropped: Vec<Count>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heard {
    pub node: String,
    pub ago_ms: u64,
}

/// The result of an operator's command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// Groups that are moving.
    pub moves: Vec<Move>,
    /// What the command does not change, although an operator might expect it.
    #[serde(default)]
    pub note: Option<String>,
}

/// A group that moves from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Move {
    pub group: String,
    pub from: String,
}

/// The report of a check that an operator ran by `lb probe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeReport {
    /// The check's type: `http`, `tcp`, …
    pub check: String,
    /// The target address.
    pub target: SocketAddr,
    /// The probe went to the VIP at the server's MAC.
    pub via_vip: bool,
    pub took_us: u64,
    pub steps: Vec<ProbeStep>,
    /// A warning: something that is not a failure yet.
    pub warning: Option<String>,
    /// The advised weight.
    pub advice: Option<String>,
    /// `None`: the check succeeded.
    pub failure: Option<String>,
}

/// A named counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// In `snake_case`: the label of the metric.
    pub reason: String,
    pub count: u64,
}

/// The connection table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableStatus {
    /// Slots for connections of IPv4.
    pub capacity: u64,
    /// Slots for connections of IPv6.
    #[serde(default)]
    pub capacity_v6: u64,
    /// Configured capacity (`connections:`).
    pub configured: u64,
    /// Slots for IPv4 in use at the last sweep.
    pub used: u64,
    /// Slots for IPv6 in use at the last sweep.
    #[serde(default)]
    pub used_v6: u64,
    pub memory_bytes: u64,
    /// Entries created since start.
    pub inserted: u64,
    /// Entries whose idle time-out expired.
    pub expired: u64,
    /// Half-open or closed entries evicted for a new connection.
    pub evicted: u64,
    /// New connections without a free slot, scheduled by a hash of the client.
    pub full: u64,
    /// Slots that another CPU claimed first.
    #[serde(default)]
    pub contended: u64,
}
