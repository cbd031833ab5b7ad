//! The checked configuration: what the rest of the controller works from.
//!
//! Values here are valid by construction of `lb_config::load`: names are unique, ports and weights are in range, a
//! direct-routing server has the service's own port. Nothing in this file knows about YAML.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use lb_common::schedule::Scheduler;
pub use lb_common::service::Protocol;

use crate::check::Check;
use crate::ids::GroupId;

/// Everything one `lb run` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Interface that receives the VIPs' packets and reaches the real servers, such as `eth0`.
    pub interface: String,
    pub xdp_mode: XdpMode,
    /// How many connections the table must hold (1 to 64 million).
    pub connections: u32,
    pub control: Control,
    pub metrics: Option<Metrics>,
    pub timeouts: Timeouts,
    /// A file in it puts the server of its name, `ADDRESS` or `ADDRESS:PORT` into maintenance. Default
    /// `/var/lib/lb/disabled`.
    pub maintenance: PathBuf,
    /// Sockets of checks through the VIP share their memory with the driver, if it can do that.
    pub zero_copy: bool,
    /// Frames a second that announcements of VIPs may take: at least 10, at most a million.
    pub announce_rate: u32,
    /// The directors that share the work; `None`: this one is alone and always active.
    pub cluster: Option<Cluster>,
    /// VIPs that `lb` itself puts on the interface. Those of no group are the operator's.
    pub groups: Vec<Group>,
    /// In file order.
    pub services: Vec<Service>,
}

impl Config {
    /// The VIPs of all groups, each with its group's number.
    pub fn grouped_vips(&self) -> HashMap<IpAddr, u8> {
        vips(&self.groups).collect()
    }
}

/// The VIPs of these groups, each with its group's number.
pub fn vips(groups: &[Group]) -> impl Iterator<Item = (IpAddr, u8)> + '_ {
    groups.iter().flat_map(|group| group.vips.iter().map(|vip| (vip.address, group.number)))
}

/// Where the XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, or not at all.
    Native,
    /// In the kernel's stack.
    Generic,
    /// In the driver if it can and what the program sends gets through, else in the kernel's stack.
    Auto,
}

/// Frames a second that announcements of VIPs may take unless the file says otherwise.
pub const ANNOUNCE_RATE: u32 = 10_000;

/// VIPs of all groups together, at most.
pub const MAX_VIPS: usize = 4096;

/// The Unix socket that `lb status` talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Default `/run/lb/lb.sock`.
    pub socket: PathBuf,
}

/// The Prometheus endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Default `127.0.0.1:9105`.
    pub listen: SocketAddr,
}

/// Idle times after which a connection is forgotten, by its state. Whole milliseconds, at least 1 s, at most 7 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Half-open: a SYN was seen and nothing after it. Default 60 s.
    pub syn_recv: Duration,
    /// Default 900 s.
    pub established: Duration,
    /// The client has sent its FIN. Default 120 s.
    pub fin_wait: Duration,
    /// The client has sent a RST. Default 10 s.
    pub closed: Duration,
    /// Default 300 s.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            syn_recv: Duration::from_secs(60),
            established: Duration::from_secs(900),
            fin_wait: Duration::from_secs(120),
            closed: Duration::from_secs(10),
            udp: Duration::from_secs(300),
        }
    }
}

/// VIPs that are taken and given up together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Unique; below [`MAX_GROUPS`](crate::ids::MAX_GROUPS). The same for as long as `lb` runs, whatever other
    /// groups come and go: its place in the file at the start.
    pub number: u8,
    /// Unique; default the first VIP.
    pub name: String,
    /// At least one, each in one group only.
    pub vips: Vec<GroupVip>,
    /// What ifconfig(8) shows the IPv4 addresses as, such as `eth0:0`; at most 15 bytes.
    pub label: Option<String>,
    /// From one announcement to the next while the VIPs are held; zero: only when they are taken.
    pub refresh: Duration,
    /// Places in [`Cluster::nodes`] of those that may have the group, the preferred one first; empty without a cluster.
    pub nodes: Vec<u8>,
    pub failback: Failback,
}

impl Group {
    /// What the other nodes know it by.
    pub fn id(&self) -> GroupId {
        GroupId::of(&self.name)
    }
}

/// Whether a group returns by itself to a node that comes before its present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failback {
    /// Once that node has been ready for `delay` without a break.
    Auto { delay: Duration },
    /// Only by `lb failback`.
    Manual,
}

/// The directors of which one is active for each group, and how they hear of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Tells clusters apart that share a network; the same on all nodes. Default `lb`.
    pub name: String,
    /// Place of this machine in `nodes`.
    pub me: u8,
    /// At least one, at most 16; the same on all nodes, in the same order.
    pub nodes: Vec<Node>,
    /// See `cluster::auth::file`. Default `/etc/lb/keys`.
    pub key_file: PathBuf,
    /// From one heartbeat to the next; 10 ms to 10 s, default 50 ms.
    pub interval: Duration,
    /// A node that was silent for so long on all paths is dead. At least four intervals; default 200 ms.
    pub dead: Duration,
    /// A longer silence than this is worth a warning; default half of `dead`.
    pub late: Duration,
    /// How long to listen at start before a group is taken; at least `dead`, default 1 s.
    pub initial_dead: Duration,
    /// How long a stop for good waits for the connections that still run through this node; default
    /// 5 s. Other stops wait no longer than clients need to hear where the VIPs are now.
    pub linger: Duration,
    /// At least one if there are two nodes or more, at most 16.
    pub paths: Vec<HeartbeatPath>,
    /// Hosts whose answers to ping tell a node that is cut off from one that is not; at most 16.
    pub references: Vec<IpAddr>,
    /// Where maintenance mode is remembered. Default `/var/lib/lb`.
    pub state: PathBuf,
    pub hooks: Hooks,
    /// Run before a dead node's groups are taken; they are taken only if it succeeds.
    pub fence: Option<Command>,
}

impl Cluster {
    /// There while this node is in maintenance.
    pub fn maintenance_file(&self) -> PathBuf {
        self.state.join("maintenance")
    }

    /// All nodes but this one.
    pub fn others(&self) -> impl Iterator<Item = &Node> {
        let me = usize::from(self.me);
        self.nodes.iter().enumerate().filter(move |(place, _)| *place != me).map(|(_, node)| node)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Unique.
    pub name: String,
    /// Its own address on the interface of the VIPs, unique. Packets in mid-connection reach it there after a hand-over.
    pub address: IpAddr,
}

/// A way that heartbeats travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatPath {
    /// One datagram to each other node. By place in [`Cluster::nodes`].
    Unicast { interface: Option<String>, port: u16, addresses: Vec<IpAddr> },
    /// One datagram to the group.
    Multicast { interface: String, group: SocketAddr },
    /// One datagram to the network's broadcast address, IPv4 only.
    Broadcast { interface: Option<String>, address: SocketAddr },
    /// A null-modem cable between two nodes.
    Serial { device: PathBuf, baud: u32 },
}

/// Commands that are run when a group's role here has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    pub active: Option<Command>,
    pub standby: Option<Command>,
    pub fault: Option<Command>,
}

/// A program and its arguments; no shell is involved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// At least one word; the first is an absolute path.
    pub words: Vec<String>,
    /// After which it is killed, with all it started. Default 10 s.
    pub timeout: Duration,
}

/// A VIP as it goes onto the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVip {
    pub address: IpAddr,
    /// Prefix length, 1 to 32 or, of an IPv6 address, to 128.
    pub prefix: u8,
}

/// What identifies a service towards clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The virtual IP address.
    pub vip: IpAddr,
    /// Host byte order, 1 to 65535.
    pub port: u16,
    pub protocol: Protocol,
}

impl ServiceKey {
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.vip, self.port)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol.name(), self.address())
    }
}

/// One virtual service: VIP, port and protocol, and the real servers behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Unique; default `PROTOCOL/VIP:PORT`. The `service` label of the metrics.
    pub name: String,
    pub key: ServiceKey,
    pub scheduler: Scheduler,
    /// Who serves when no real server is usable, or fewer than the quorum.
    pub fallback: Fallback,
    /// A server that is down keeps the connections it has; else they are given up with it.
    pub quiescent: bool,
    /// How long the weight of a server that came back takes to grow to its own; zero: it has it at once.
    pub slow_start: Duration,
    /// `None`: a server may come and go as often as its checks say.
    pub damping: Option<Damping>,
    pub quorum: Quorum,
    pub hooks: ServiceHooks,
    /// What happens to a packet in mid-connection that no entry of the table knows.
    pub stray: Stray,
    /// UDP: each datagram is scheduled by itself, and the table remembers none.
    pub ops: bool,
    /// Idle times of this service's connections: the file's, with the service's own on top.
    pub timeouts: Timeouts,
    /// How long a server that left the configuration keeps serving the connections it has.
    pub drain: Duration,
    /// In file order, which is the order schedulers prefer.
    pub servers: Vec<Server>,
}

impl Service {
    /// With the defaults of the configuration, and no servers.
    pub fn new(name: String, key: ServiceKey) -> Self {
        Self {
            name,
            key,
            scheduler: Scheduler::Wlc,
            fallback: Fallback::None,
            quiescent: true,
            slow_start: Duration::ZERO,
            damping: None,
            quorum: Quorum::default(),
            hooks: ServiceHooks::default(),
            stray: Stray::Pass,
            ops: false,
            timeouts: Timeouts::default(),
            drain: Duration::from_secs(30),
            servers: Vec::new(),
        }
    }

    /// The one that is not among the servers and serves when they do not.
    pub fn fallback_server(&self) -> Option<Server> {
        match self.fallback {
            Fallback::Server(address) => Some(Server::new(address, self.key.port)),
            Fallback::None | Fallback::Refuse | Fallback::Local | Fallback::Sorry(_) => None,
        }
    }
}

/// Who serves when no real server is usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// Nobody: packets of new connections are dropped and counted.
    None,
    /// Nobody, and clients are told at once: by a TCP reset or an ICMP "port unreachable", from the VIP.
    Refuse,
    /// The director's own host, which owns the VIP: packets are passed up its stack.
    Local,
    /// A server that is not checked and not among the service's own.
    Server(IpAddr),
    /// `lb` itself: it answers HTTP requests with status 503 and this page, or one of its own.
    Sorry(Option<PathBuf>),
}

/// As in the configuration.
impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Refuse => f.write_str("refuse"),
            Self::Local => f.write_str("local"),
            Self::Server(address) => address.fmt(f),
            Self::Sorry(_) => f.write_str("sorry"),
        }
    }
}

/// When a server that comes and goes is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damping {
    /// So many times it went down, at least 2,
    pub falls: u32,
    /// within this time;
    pub within: Duration,
    /// then it must have been well for this long before it comes back.
    pub hold: Duration,
}

/// How much must be up before the real servers serve: less than that would be crushed by what is meant for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    /// Sum of the weights of usable servers, at least 1. Default 1.
    pub weight: u32,
    /// Lost below `weight - hysteresis`, won at `weight + hysteresis`; less than `weight`. Default 0.
    pub hysteresis: u32,
}

impl Default for Quorum {
    fn default() -> Self {
        Self { weight: 1, hysteresis: 0 }
    }
}

/// Commands that are run when the health of a service or one of its servers changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceHooks {
    pub server_up: Option<Command>,
    pub server_down: Option<Command>,
    pub quorum_up: Option<Command>,
    pub quorum_down: Option<Command>,
}

/// What happens to a TCP packet in mid-connection that no entry of the table knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// It goes to the server that a hash of the client picks; no entry is made.
    Hash,
    /// It goes to the director's own host, which answers with a reset.
    Pass,
}

/// One real server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Unique within the service; default the address. The `server` label of the metrics.
    pub name: String,
    pub address: IpAddr,
    /// Host byte order. Equal to the service's port: direct routing rewrites MACs only.
    pub port: u16,
    /// 0 to 65535; 0 takes no new connections.
    pub weight: u16,
    /// All must be passed; none: the server is taken to be healthy.
    pub checks: Arc<[Check]>,
}

impl Server {
    /// Of weight 1, unchecked, called by its address.
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self { name: address.to_string(), address, port, weight: 1, checks: Arc::default() }
    }
}
