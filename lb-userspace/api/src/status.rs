//! The status: a snapshot of the director, from which `lb status`, its JSON and the metrics are
//! made.

mod questions;
mod sentences;

use std::net::{IpAddr, SocketAddr};

use lb_model::{Forwarding, Health, Step, Totals};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::sentences::Tone;
use crate::events::Level;

/// A snapshot of the running director.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the running `lb`.
    pub version: String,
    pub pid: u32,
    /// The main one.
    pub interface: String,
    /// The others that clients' packets come in by.
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

/// An interface that clients' packets come in by, besides the main one.
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
    /// The node that holds the group, as far as this node knows.
    pub holder: Option<String>,
    /// The preferred node.
    pub preferred: String,
    /// Another node is ready to take the group.
    #[serde(default)]
    pub has_successor: bool,
    /// The group was handed over, and this node still serves connections that began here.
    pub serves_on: bool,
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
    pub steps: Vec<Step>,
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStatus {
    pub name: String,
    pub vip: IpAddr,
    /// The first one of `ports`; 0 if these are all.
    pub port: u16,
    /// As in the configuration: `80`, `80,443`, `30000-30999`, or `*`, which is all.
    #[serde(default)]
    pub ports: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// A name of `lb_common::schedule::Scheduler`.
    pub scheduler: String,
    #[serde(default)]
    pub hash: HashStatus,
    /// Each datagram is scheduled by itself.
    #[serde(default)]
    pub ops: bool,
    /// `none`, `local`, `sorry` or a server's address.
    pub fallback: String,
    /// Whether the fallback (or nobody) serves in place of the service's servers.
    pub on_fallback: bool,
    /// Whether the fallback serves, or could serve if needed.
    pub fallback_ready: bool,
    /// Why the fallback cannot serve; `None` if it can.
    pub fallback_error: Option<String>,
    /// The service left the configuration: its servers drain, and no server gets new connections.
    #[serde(default)]
    pub draining: bool,
    /// Who added it at run time; `None`: it is the file's.
    #[serde(default)]
    pub source: Option<String>,
    pub quorum: QuorumStatus,
    /// `None`: clients are not bound to their server.
    #[serde(default)]
    pub persistence: Option<PersistenceStatus>,
    pub servers: Vec<ServerStatus>,
    /// The fallback, if it is a server.
    pub fallback_server: Option<ServerStatus>,
    /// Totals of servers that have left since start. Without them the service's totals would fall
    /// when a server leaves, which Prometheus takes for a restart.
    #[serde(default)]
    pub departed: Totals,
}

/// What the schedulers sh and mh hash, and whom they take in place of a server of weight 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HashStatus {
    pub port: bool,
    pub fallback: bool,
}

/// Persistence: clients that are bound to their server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PersistenceStatus {
    pub timeout_s: u64,
    /// Bits of an address that tell clients apart.
    pub prefix: u8,
    /// Other services with this name and VIP share the bound clients.
    pub group: Option<String>,
    /// Whether bound clients go on to a server of weight 0.
    pub keeps_at_weight_zero: bool,
    /// Clients (or prefixes) that are bound now.
    pub bound: u64,
    /// The first thousand of them, by address.
    pub clients: Vec<BoundClient>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct BoundClient {
    /// Its address, or the first one of its prefix.
    pub client: IpAddr,
    pub server: IpAddr,
    pub expires_in_s: u64,
}

/// The quorum: whether enough servers are usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuorumStatus {
    /// Configured weight.
    pub weight: u32,
    pub hysteresis: u32,
    /// Sum of the weights of usable servers.
    pub usable: u64,
    pub won: bool,
    /// Seconds since `won` last changed.
    pub since_s: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStatus {
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    /// Forwarding method as in ipvsadm: `Route`, `Local`, `Tunnel`, `Masq`.
    pub method: Forwarding,
    /// `ipip`, `gue` or `gre`, if the method is `Tunnel`.
    #[serde(default)]
    pub tunnel: Option<String>,
    /// UDP port of `gue` at the server.
    #[serde(default)]
    pub tunnel_port: Option<u16>,
    /// Configured weight.
    pub weight: u16,
    /// Effective weight; 0 while the server takes no new connections.
    pub effective_weight: u16,
    /// Connections from which the server is full and gets no new ones; 0: none.
    #[serde(default)]
    pub upper_threshold: u32,
    /// Below so many it gets new ones again.
    #[serde(default)]
    pub lower_threshold: u32,
    /// It gets no new connections because it has too many.
    #[serde(default)]
    pub full: bool,
    /// Standing orders of operators that hold for the server, on all directors.
    #[serde(default)]
    pub orders: Vec<StandingOrder>,
    /// Why the effective weight of a server that is up differs from the configured one: `slow
    /// start` or `advised`.
    pub weight_reason: Option<String>,
    /// Connections in state ESTABLISHED.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// Clients (or prefixes) that are bound to the server by the service's persistence.
    #[serde(default)]
    pub bound: u64,
    pub health: Health,
    /// Who added it at run time; `None`: it is the file's.
    #[serde(default)]
    pub source: Option<String>,
    /// Why the last check failed, or why the server is kept out or waits; `None` if nothing is
    /// wrong.
    pub reason: Option<String>,
    /// A warning: something that is not a failure yet, such as a certificate that expires soon.
    pub warning: Option<String>,
    /// In configured order.
    pub checks: Vec<CheckStatus>,
    /// Seconds since `health` last changed.
    pub since_s: u64,
    /// The server's MAC address, `aa:bb:cc:dd:ee:ff`; `None` while unresolved.
    pub mac: Option<String>,
    /// Totals since the server was added.
    pub connections: u64,
    pub packets: u64,
    /// Bytes of frames, including the Ethernet header.
    pub bytes: u64,
}

/// What an operator has ordered for a server until it is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandingOrder {
    /// `drain` or `weight`.
    pub order: String,
    /// Of `weight`.
    pub weight: Option<u16>,
    pub by: String,
    pub reason: Option<String>,
    /// When it was given, in seconds since 1970.
    pub since: u64,
}

/// A check of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckStatus {
    /// The check's type: `http`, `tcp`, …
    pub check: String,
    /// Latencies of the last successful probes in microseconds, the newest first.
    pub latencies_us: Vec<u64>,
}
