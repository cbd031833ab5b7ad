//! Services, their servers, and what is known of each.

use std::net::IpAddr;

use lb_model::{Forwarding, Health, Totals};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// `departed` as it was at the last `ipvsadm -Z`.
    #[serde(default)]
    pub zeroed_departed: Totals,
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
    #[serde(default)]
    pub transitions: Transitions,
    /// Seconds since `health` last changed.
    pub since_s: u64,
    /// The server's MAC address, `aa:bb:cc:dd:ee:ff`; `None` while unresolved.
    pub mac: Option<String>,
    /// Totals since the server was added.
    pub connections: u64,
    pub packets: u64,
    /// Bytes of frames, including the Ethernet header.
    pub bytes: u64,
    /// These totals as they were at the last `ipvsadm -Z` since start: `ipvsadm -L --stats` counts
    /// from there.
    #[serde(default)]
    pub zeroed: Totals,
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
    /// Probes that have failed since the check began.
    #[serde(default)]
    pub failures: u64,
}

/// How often a server's health has changed since start, by what it became. The first verdict is no
/// change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transitions {
    pub up: u64,
    pub down: u64,
    pub maintenance: u64,
}
