//! The validated configuration.
//!
//! `lb_config::load` guarantees that the values are valid: names are unique, ports and weights are
//! in range, a direct-routing server has its service's port. Nothing in this file depends on YAML.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use lb_common::schedule::{Hashing, Scheduler};
pub use lb_common::service::Protocol;
pub use lb_common::service::limits::Thresholds;

use crate::alerts::Alerts;
use crate::check::Check;
use crate::clients::{Clients, Listed};
use crate::cluster::Cluster;
use crate::group::GroupKind;
use crate::ids::{GroupId, GroupNumber, NodeId};
use crate::ports::Ports;
use crate::quic::{QuicEncoding, QuicServerIds};
use crate::tunnel::Tunnel;
use crate::web::Web;
use lb_common::packet::vlan::Vlan;

/// The configuration of one `lb run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The main interface, which receives the VIPs' packets and reaches the real servers, such as
    /// `eth0`.
    pub interface: String,
    /// Further interfaces that receive the VIPs' packets.
    pub other_interfaces: Vec<String>,
    pub xdp_mode: XdpMode,
    /// Capacity of the connection table (1 to 64 million).
    pub connections: u32,
    /// Clients that are bound to servers at most (1024 to 16 million).
    pub bindings: u32,
    pub control: Control,
    pub metrics: Option<Metrics>,
    /// The page and the HTTP API. `None`: off.
    pub web: Option<Web>,
    pub alerts: Alerts,
    pub timeouts: Timeouts,
    /// A file `ADDRESS` or `ADDRESS:PORT` in this folder puts that server into maintenance. Default
    /// `/var/lib/lb/disabled`.
    pub maintenance: PathBuf,
    /// AF_XDP sockets of checks through the VIP use zero-copy mode if the driver supports it.
    pub zero_copy: bool,
    /// Rate limit for announcements (gratuitous ARP), in frames per second: 10 to a million.
    pub announce_rate: u32,
    /// `None`: this director is alone and always active.
    pub cluster: Option<Cluster>,
    /// VIPs that `lb` itself puts on the interface. The operator configures VIPs of no group.
    pub groups: Vec<Group>,
    /// Clients whom no service serves; nobody is allowed here.
    pub denied: Listed,
    /// In file order.
    pub services: Vec<Service>,
    /// Those of them that come from elsewhere ([`crate::overlay::is_kept_elsewhere`]): the nodes
    /// get them one after the other, so they need not agree on them.
    pub kept_elsewhere: BTreeSet<ServiceKey>,
}

impl Config {
    /// The VIPs of all groups, each with the number of its group.
    pub fn grouped_vips(&self) -> HashMap<IpAddr, GroupNumber> {
        vips(&self.groups).collect()
    }

    /// The file that stores operators' standing orders for servers. Each director has its own.
    pub fn orders_file(&self) -> PathBuf {
        match &self.cluster {
            Some(cluster) => cluster.state.join("orders"),
            None => self.maintenance.join(format!(".orders.{}", self.interface)),
        }
    }
}

/// The VIPs of these groups, each with its group's number.
pub fn vips(groups: &[Group]) -> impl Iterator<Item = (IpAddr, GroupNumber)> + '_ {
    groups.iter().flat_map(|group| group.vips.iter().map(|vip| (vip.address, group.number)))
}

/// Where the XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver; fail if that is impossible.
    Native,
    /// In the kernel's network stack.
    Generic,
    /// In the driver if it supports XDP and packets sent by XDP_TX arrive, else in the kernel's
    /// network stack.
    Auto,
}

/// Default of [`Config::announce_rate`].
pub const ANNOUNCE_RATE: u32 = 10_000;

/// The control socket: the Unix socket that `lb status` and other commands connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Default [`Self::SOCKET`].
    pub socket: PathBuf,
    /// A user's name or number; `None`: whoever `lb` runs as.
    pub owner: Option<String>,
    /// A group's name or number; `None`: that of `lb`.
    pub group: Option<String>,
    /// Permissions; none for others than the owner and the group.
    pub mode: u32,
}

impl Control {
    pub const SOCKET: &str = "/run/lb/lb.sock";
    /// Owner and group may ask.
    pub const MODE: u32 = 0o660;

    /// At this path, with the defaults of all else.
    pub const fn at(socket: PathBuf) -> Self {
        Self { socket, owner: None, group: None, mode: Self::MODE }
    }
}

/// The Prometheus endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Default `127.0.0.1:9105`.
    pub listen: SocketAddr,
    /// Connections and servers by the names of Prometheus' node exporter for IPVS, too. Default
    /// off.
    pub ipvs_names: bool,
}

/// Idle time-outs of connections by state, in whole milliseconds, 1 s to 7 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Half-open: the client has sent a SYN and nothing after it. Default 60 s.
    pub syn_recv: Duration,
    /// The client has answered the handshake and has sent no data. Default 120 s; not more than
    /// `established`.
    pub unproven: Duration,
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
            unproven: Duration::from_secs(120),
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
    /// Unique; below [`MAX_GROUPS`](crate::ids::MAX_GROUPS). The group's index in the file at the
    /// start; it stays the same while `lb` runs, even if other groups are added or removed.
    pub number: GroupNumber,
    /// Unique; default the first VIP.
    pub name: String,
    /// At least one, each in one group only.
    pub vips: Vec<GroupVip>,
    /// The one of [`Config::other_interfaces`] that the VIPs are on; `None`: the main one.
    pub interface: Option<String>,
    /// Label of the IPv4 addresses, which ifconfig(8) shows, such as `eth0:0`; at most 15 bytes.
    pub label: Option<String>,
    /// Interval of announcements while the VIPs are held; zero: announce only when they are taken.
    pub refresh: Duration,
    /// The nodes that may hold the group, the preferred one first;
    /// empty without a cluster.
    pub nodes: Vec<NodeId>,
    pub failback: Failback,
    pub kind: GroupKind,
}

impl Group {
    /// The id by which other nodes know the group.
    pub fn id(&self) -> GroupId {
        GroupId::of(&self.name)
    }
}

/// Whether a group returns to a preferred node by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failback {
    /// Once that node has been ready for `delay` without a break.
    Auto { delay: Duration },
    /// The group returns only by `lb failback`.
    Manual,
}

/// Commands that run when a group's role on this node has changed.
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
    /// After this time `lb` kills the program with all processes that it started. Default 10 s.
    pub timeout: Duration,
}

/// A VIP as an address of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVip {
    pub address: IpAddr,
    /// Prefix length, 1 to 32 or, of an IPv6 address, to 128.
    pub prefix: u8,
}

/// What identifies a service to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The virtual IP address.
    pub vip: IpAddr,
    /// Host byte order: the first one of [`Service::ports`]; 0 of a service with all ports.
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
        match (self.vip, self.port) {
            (IpAddr::V6(vip), 0) => write!(f, "{}/[{vip}]:*", self.protocol.name()),
            (vip, 0) => write!(f, "{}/{vip}:*", self.protocol.name()),
            _ => write!(f, "{}/{}", self.protocol.name(), self.address()),
        }
    }
}

/// One virtual service: VIP, port and protocol, and the real servers behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Unique; default `PROTOCOL/VIP:PORT`. The `service` label of the metrics.
    pub name: String,
    pub key: ServiceKey,
    /// Of several services of one VIP and protocol that have a port, the one that has it by itself
    /// serves it, else the one with the range, else the one with all ports. No other ports are
    /// shared.
    pub ports: Ports,
    pub scheduler: Scheduler,
    /// What sh and mh hash, and whom they take in place of a server of weight 0.
    pub hashing: Hashing,
    /// How QUIC connection IDs name servers, by UDP services that follow them; in file order, with
    /// different numbers. Empty: QUIC is like any other UDP.
    pub quic: Vec<QuicEncoding>,
    /// Who serves while the usable servers do not have the quorum.
    pub fallback: Fallback,
    /// What becomes of the connections of a server that goes down.
    pub dead_server: DeadServer,
    /// Slow start: how long the weight of a server that came back ramps up to its configured one;
    /// zero: no ramp.
    pub slow_start: Duration,
    /// Flap damping; `None`: a server may go up and down as often as its checks report.
    pub damping: Option<Damping>,
    pub quorum: Quorum,
    pub hooks: ServiceHooks,
    /// What happens to a TCP packet in mid-connection without an entry in the connection table.
    pub stray: Stray,
    /// One-packet scheduling for UDP: each datagram is scheduled by itself, without an entry in the
    /// connection table.
    pub ops: bool,
    /// Idle time-outs of this service's connections: those of the file, overridden by those of the
    /// service.
    pub timeouts: Timeouts,
    /// Clients are bound to their server; `None`: they are not.
    pub persistence: Option<Persistence>,
    /// Which clients it takes, and how much of them; `None`: all, as much as they like.
    pub clients: Option<Clients>,
    /// The VLAN that its clients' packets come from; `None`: it is not looked at, but for servers
    /// that packets leave to with other tags, where it is none.
    pub vlan: Option<Vlan>,
    /// Own addresses that clients' packets come from at servers behind address translation, of the
    /// VIP's family; none: clients keep theirs.
    pub source_nat: Vec<IpAddr>,
    /// How long a server that left the configuration keeps serving its open connections.
    pub drain: Duration,
    /// In file order, which is the order schedulers prefer.
    pub servers: Vec<Server>,
}

impl Service {
    /// A service with the configuration's defaults and no servers.
    pub fn new(name: String, key: ServiceKey) -> Self {
        Self {
            name,
            key,
            ports: Ports::of_key(key.port),
            scheduler: Scheduler::Wlc,
            hashing: Hashing::default(),
            quic: Vec::new(),
            fallback: Fallback::None,
            dead_server: DeadServer::Keep,
            slow_start: Duration::ZERO,
            damping: None,
            quorum: Quorum::default(),
            hooks: ServiceHooks::default(),
            stray: Stray::Pass,
            ops: false,
            source_nat: Vec::new(),
            timeouts: Timeouts::default(),
            persistence: None,
            clients: None,
            vlan: None,
            drain: Duration::from_secs(30),
            servers: Vec::new(),
        }
    }

    /// Its VIP with each of its ports; with none if it has a range.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let ports = self.ports.listed().into_iter().flatten();
        ports.map(|port| SocketAddr::new(self.key.vip, port))
    }

    /// The server of `fallback: ADDRESS`.
    pub fn fallback_server(&self) -> Option<Server> {
        match self.fallback {
            Fallback::Server(address) => Some(Server::new(address, self.key.port)),
            Fallback::None | Fallback::Refuse | Fallback::Local | Fallback::Sorry(_) => None,
        }
    }
}

/// Persistence: new connections of a client go to the server that its last ones went to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persistence {
    /// How long after the last packet of its connections a client stays bound; 1 s to 7 days.
    pub timeout: Duration,
    /// Clients whose addresses begin with the same bits are one; 1 to 32 or, of IPv6, to 128.
    pub prefix: u8,
    /// Services of one VIP whose groups have the same name share the servers of their clients.
    pub group: Option<String>,
    /// Bound clients go on to a server of weight 0.
    pub keeps: bool,
}

/// Who serves when no real server is usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// Nobody: the data path drops and counts packets of new connections.
    None,
    /// Nobody, and the data path refuses new connections by a TCP reset or an ICMP "port
    /// unreachable" from the VIP.
    Refuse,
    /// The director's own host, which owns the VIP: the data path passes packets to its network
    /// stack.
    Local,
    /// A server without checks that is not one of the service's servers.
    Server(IpAddr),
    /// `lb` itself: it answers HTTP requests with status 503 and this page, or a built-in one.
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

/// Flap damping: when a server that goes up and down is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damping {
    /// The server went down this many times, at least 2,
    pub falls: u32,
    /// within this time;
    pub within: Duration,
    /// then it must have been healthy for this long before it comes back.
    pub hold: Duration,
}

/// The weight that must be usable before the real servers serve: fewer servers would be overloaded
/// by the whole traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    /// Sum of the weights of usable servers, at least 1. Default 1.
    pub weight: u32,
    /// The quorum is lost below `weight - hysteresis` and regained at `weight + hysteresis`; less
    /// than `weight`. Default 0.
    pub hysteresis: u32,
}

impl Default for Quorum {
    fn default() -> Self {
        Self { weight: 1, hysteresis: 0 }
    }
}

/// Commands that run when the health of a service or one of its servers has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceHooks {
    pub server_up: Option<Command>,
    pub server_down: Option<Command>,
    pub quorum_up: Option<Command>,
    pub quorum_down: Option<Command>,
}

/// What becomes of the connections of a server that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadServer {
    /// They wait for it.
    Keep,
    /// They are forgotten: their packets are strays.
    Expire,
    /// They go on at another server.
    Move,
    /// The client gets a TCP reset with its next packet.
    Reset,
}

impl DeadServer {
    pub const ALL: [Self; 4] = [Self::Keep, Self::Expire, Self::Move, Self::Reset];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Expire => "expire",
            Self::Move => "move",
            Self::Reset => "reset",
        }
    }
}

/// What happens to a stray: a TCP packet in mid-connection without an entry in the connection
/// table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// The packet goes to the server that a hash of the client picks, without an entry in the
    /// table.
    Hash,
    /// The packet goes to the director's own host, which answers with a reset.
    Pass,
}

/// One real server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Unique within the service; default the address. The `server` label of the metrics.
    pub name: String,
    pub address: IpAddr,
    /// Host byte order. Equal to the service's port, where packets reach the server as they are;
    /// with `masq` any.
    pub port: u16,
    /// `None`: direct routing, or address translation.
    pub tunnel: Option<Tunnel>,
    /// Packets reach the server with its own address and port as their destination (NAT); never
    /// with a tunnel.
    pub masq: bool,
    /// One for each of the service's `quic`, unlike those of the other servers.
    pub quic_ids: QuicServerIds,
    /// The interface that the server is behind; `None`: that of the VIPs, or by the host's routes.
    pub interface: Option<String>,
    /// The VLAN that packets leave into, by the device that has it; `None`: that of its interface.
    pub vlan: Option<Vlan>,
    /// 0 to 65535; 0 takes no new connections.
    pub weight: u16,
    /// How many connections it may have before it gets no new ones, and how few until it does.
    pub thresholds: Thresholds,
    /// The server must pass all of them; without checks it counts as healthy.
    pub checks: Arc<[Check]>,
}
