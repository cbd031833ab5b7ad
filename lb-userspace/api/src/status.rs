//! What the controller tells about itself: one snapshot, from which `lb status`, its JSON and the metrics are all made.

mod questions;

use std::net::{IpAddr, SocketAddr};

use lb_model::{Health, Step, Totals};
use serde::{Deserialize, Serialize};

use crate::events::Level;

/// The running director at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running `lb`.
    pub version: String,
    pub pid: u32,
    pub interface: String,
    /// How the XDP program is attached: `native` or `generic`.
    pub mode: String,
    /// Seconds since the controller started.
    pub uptime_s: u64,
    /// It was told to stop, and still serves the connections that run through it.
    #[serde(default)]
    pub stopping: bool,
    /// Path of the configuration file.
    pub config: String,
    /// The last reload that was refused, in its own words; `None` when the running state is the file's.
    pub config_error: Option<String>,
    /// What is wrong around the director, errors first.
    #[serde(default)]
    pub findings: Vec<FindingStatus>,
    pub table: TableStatus,
    #[serde(default)]
    pub checks: ChecksStatus,
    /// `None`: this director is alone.
    #[serde(default)]
    pub cluster: Option<ClusterStatus>,
    /// In configured order; then those that drain.
    pub services: Vec<ServiceStatus>,
    /// Frames dropped since start, by reason; every reason is listed, in a fixed order.
    pub drops: Vec<Count>,
    /// Frames for a VIP that were handed to the host's own stack, by reason.
    pub passes: Vec<Count>,
    /// Frames that were answered in a service's name, by reason.
    #[serde(default)]
    pub answers: Vec<Count>,
    /// Frames of connections unknown here that were sent to the other director of a hand-over.
    #[serde(default)]
    pub relayed: u64,
}

/// Something that is wrong around the director although the configuration is right, see [`crate::findings`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingStatus {
    /// Its id, in `snake_case`: the label of the metric `lb_finding`.
    pub finding: String,
    /// What it is about, such as a VIP or an interface.
    pub subject: String,
    pub level: Level,
    pub text: String,
    /// What the operator can do about it.
    pub mend: String,
    /// Seconds since it began.
    pub since_s: u64,
}

/// The health checks of all servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecksStatus {
    /// Checks that are made again and again.
    pub running: u64,
    /// Probes started since start.
    pub started: u64,
    /// Turns of checks that came more than 10 ms after they were due: this host has too little time for them.
    pub late: u64,
}

/// The directors as this one sees them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub name: String,
    /// This node.
    pub node: String,
    /// All nodes, in configured order.
    pub nodes: Vec<NodeStatus>,
    /// In configured order.
    pub groups: Vec<GroupStatus>,
    pub paths: Vec<PathStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    pub address: IpAddr,
    /// This node itself, or heard within the dead time.
    pub alive: bool,
    /// As the node last told; `None`: it was never heard.
    pub readiness: Option<NodeReadiness>,
    /// Its configuration is the same as this node's, as far as it must be.
    pub config_agrees: bool,
}

/// What a node could serve with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReadiness {
    /// The XDP program is attached.
    pub data_path: bool,
    /// The interface carries packets.
    pub link: bool,
    /// An operator wants it to stay out.
    pub maintenance: bool,
    /// Real servers that it finds healthy.
    pub servers: u16,
    /// Reference hosts that it reaches.
    pub references: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    pub name: String,
    pub vips: Vec<IpAddr>,
    /// This node's: `active`, `standby`, `acquiring`, `releasing` or `fault`.
    pub role: String,
    /// Seconds since the role last changed.
    pub since_s: u64,
    /// Why it has this role, in words.
    pub cause: String,
    /// The node that has the group, as far as this one knows.
    pub holder: Option<String>,
    /// The node that has it when all is well.
    pub preferred: String,
    /// Another node is ready to take it.
    #[serde(default)]
    pub has_successor: bool,
    /// It was handed over, and connections that began here are served on.
    pub serves_on: bool,
}

/// A way that heartbeats travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    pub name: String,
    pub open: bool,
    pub sent: u64,
    pub send_errors: u64,
    /// Heartbeats that were new.
    pub received: u64,
    /// Milliseconds since each node was last heard here; nodes that never were are left out.
    pub heard: Vec<Heard>,
    /// Messages dropped, by reason; every reason is listed.
    pub dropped: Vec<Count>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub node: String,
    pub ago_ms: u64,
}

/// What came of an operator's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    /// Groups that are on their way.
    pub moves: Vec<Move>,
    /// What the order does not change, although one might think so.
    #[serde(default)]
    pub note: Option<String>,
}

/// A group that goes from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub group: String,
    pub from: String,
}

/// A check made at once because somebody asked, of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The check's type: `http`, `tcp`, …
    pub check: String,
    /// Where its packets went.
    pub target: SocketAddr,
    /// They went to the VIP at the server's MAC.
    pub via_vip: bool,
    pub took_us: u64,
    pub steps: Vec<Step>,
    /// What is not wrong yet.
    pub warning: Option<String>,
    /// What the server says of its weight.
    pub advice: Option<String>,
    /// `None`: passed.
    pub failure: Option<String>,
}

/// A named counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// In `snake_case`: the label of the metric.
    pub reason: String,
    pub count: u64,
}

/// The connection table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Slots there are.
    pub capacity: u64,
    /// Connections configured (`connections:`).
    pub configured: u64,
    /// Slots in use at the last sweep.
    pub used: u64,
    pub memory_bytes: u64,
    /// Entries made since start.
    pub inserted: u64,
    /// Entries whose idle time ran out.
    pub expired: u64,
    /// Half-open or closed entries given up for a new connection.
    pub evicted: u64,
    /// New connections that found no slot and went by the client's hash.
    pub full: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub name: String,
    pub vip: IpAddr,
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `rr`, `wrr`, `lc` or `wlc`.
    pub scheduler: String,
    /// `none`, `local`, `sorry` or a server's address.
    pub fallback: String,
    /// True while the service's own servers do not serve, but the fallback (or nobody).
    pub on_fallback: bool,
    /// The fallback serves, or would if it were needed.
    pub fallback_ready: bool,
    /// Why the fallback cannot serve as it should; `None` when all is well.
    pub fallback_error: Option<String>,
    /// It left the configuration: its servers drain, and new connections are nobody's.
    #[serde(default)]
    pub draining: bool,
    pub quorum: QuorumStatus,
    pub servers: Vec<ServerStatus>,
    /// The fallback, if it is a server.
    pub fallback_server: Option<ServerStatus>,
    /// What servers had carried that have left since start: without it the service's totals would fall when one
    /// leaves, which Prometheus takes for a restart.
    #[serde(default)]
    pub former: Totals,
}

/// Whether enough servers are usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumStatus {
    /// As configured.
    pub weight: u32,
    pub hysteresis: u32,
    /// Sum of the weights of the servers that are usable now.
    pub usable: u64,
    pub won: bool,
    /// Seconds since `won` last changed.
    pub since_s: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    /// Forwarding method in ipvsadm's word: `Route`.
    pub method: String,
    /// Configured weight.
    pub weight: u16,
    /// The weight that it has now; 0 while it takes no new connections.
    pub effective_weight: u16,
    /// Why a server that is up has another weight than the configured one: `slow start` or `advised`.
    pub weight_reason: Option<String>,
    /// Connections in state ESTABLISHED.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    pub health: Health,
    /// Why the last check failed, why the server is kept out, or what it waits for; `None` when all is well.
    pub reason: Option<String>,
    /// What is not wrong yet: a certificate that ends soon.
    pub warning: Option<String>,
    /// In configured order.
    pub checks: Vec<CheckStatus>,
    /// Seconds since `health` last changed.
    pub since_s: u64,
    /// Link-layer address that packets go to, `aa:bb:cc:dd:ee:ff`; `None` while unresolved.
    pub mac: Option<String>,
    /// Totals since the server was added.
    pub connections: u64,
    pub packets: u64,
    /// Bytes of the frames from the Ethernet header on.
    pub bytes: u64,
}

/// A check of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Its type: `http`, `tcp`, …
    pub check: String,
    /// How long the last good probes took, the newest first, in microseconds.
    pub latencies_us: Vec<u64>,
}
