//! What the data path shall hold, and the changes that lead there from what it holds: pure.
//!
//! Start, reload, a server's health, a new MAC and a dry run all take this one path: build the
//! desired [`State`], diff it against the applied one, execute the changes.

pub mod clients;
mod diff;
pub mod egress;
pub mod nat;
pub mod quic;
pub mod tunnel;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::addr::V6;
use lb_common::forward::egress::Egress;
use lb_common::forward::nat::Translation;
use lb_common::forward::nat::source::Pool;
use lb_common::forward::tunnel::Tunnel;
use lb_common::mac::Mac;
use lb_common::program::stage::Stage;
use lb_common::schedule::compile::{Candidate, Holding};
use lb_common::server::GivesUp;
use lb_common::service::limits::Thresholds;
use lb_model::ids::GroupNumber;
use lb_model::{ClientLists, Forwarding, Hashing, Ports, Scheduler, ServiceKey, Stray, Timeouts};

use self::clients::Clients;
use self::quic::Quic;
pub use diff::{diff, schedule};

/// Everything the data path holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub services: BTreeMap<ServiceKey, Service>,
    /// Clients whom every service denies.
    pub denied: Arc<ClientLists>,
}

impl State {
    /// The programs that packets can come to; the kernel need not verify the others.
    pub fn stages(&self) -> impl Iterator<Item = Stage> + use<> {
        let has_ipv6 = self.services.keys().any(|key| key.vip.is_ipv6());
        let mut servers = self.services.values().flat_map(|service| &service.servers);
        let translates = servers.any(|server| server.translation.is_some());
        let admits = self.services.values().any(|service| !service.clients.is_empty());
        let of_its_family = move |stage: &Stage| has_ipv6 || !stage.is_for_ipv6();
        Stage::ALL.into_iter().filter(of_its_family).filter(move |stage| match stage {
            Stage::Translate
            | Stage::TranslateIpv6
            | Stage::TranslateBack
            | Stage::TranslateBackIpv6
            | Stage::RelatedBack
            | Stage::RelatedBackIpv6 => translates,
            Stage::Admit | Stage::AdmitIpv6 => admits,
            _ => true,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub settings: Settings,
    pub scheduler: Scheduler,
    pub hashing: Hashing,
    pub quic: Quic,
    pub clients: Clients,
    /// In configured order; behind them draining servers and the fallback, if the service has one.
    pub servers: Vec<Server>,
}

/// What the program needs of a service for packets of known connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `None`: the key's port alone.
    pub ports: Option<Ports>,
    pub stray: Stray,
    /// Clients are told when there is no server for them.
    pub refuses: bool,
    /// Each datagram is scheduled by itself.
    pub each_datagram: bool,
    /// Packets are of QUIC, and their connection IDs name servers.
    pub quic: bool,
    pub timeouts: Timeouts,
    /// `None`: clients are not bound to their server.
    pub persistence: Option<Persistence>,
    /// Addresses that stand in the place of clients at servers behind address translation.
    pub source_nat: Option<Pool>,
    /// The group of its VIP, whose lease it is under; `None`: always active.
    pub group: Option<GroupNumber>,
    /// The service left the configuration and keeps the connections it has: others are nobody's, as
    /// at any port without a service.
    pub departed: bool,
}

/// How clients are bound to their server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// Services with the same number share bindings ([`lb_common::service::binding::group`]).
    pub group: u64,
    /// Bits of an address that tell clients apart.
    pub prefix: u8,
    pub timeout: Duration,
}

/// Where packets can go: a real server, or the director's own host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Real(IpAddr),
    Local,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    pub target: Target,
    pub weight: u16,
    /// What it weighs where servers keep their buckets (sh, dh, mh) while its weight is 0 or it is
    /// not usable; 0: it leaves them to others, as draining servers and the fallback do.
    pub share: u16,
    /// `None`: not resolved, or not needed because the target is local. A real server at the
    /// interface's own MAC is the director's host.
    pub mac: Option<Mac>,
    /// `None`: direct routing. The MAC is that of the next hop on the way to the other end.
    pub tunnel: Option<Tunnel>,
    /// Where packets are translated to; `None`: direct routing, or a tunnel. The MAC is that of the
    /// next hop.
    pub translation: Option<Translation>,
    /// `None`: packets leave to it by the interface that they come in by, with the tags that they
    /// have.
    pub egress: Option<Egress>,
    /// New connections may go to it: healthy, reachable, not on its way out. Weight 0 is not
    /// unusable: what is known to such a server stays with it, UDP too.
    pub usable: bool,
    /// It is down and keeps no TCP connection; `None`: it keeps what it has.
    pub gives_up: Option<GivesUp>,
    /// New connections of clients that are bound to it may go to it, where the service binds
    /// clients.
    pub binds: bool,
    /// How many connections it may have.
    pub thresholds: Thresholds,
}

impl Server {
    /// How the server is reached; `own` is the interface's MAC.
    pub fn forwarding(&self, own: Mac) -> Forwarding {
        match self.target {
            Target::Real(_) => Forwarding::of_server(self.method(), self.mac, own),
            Target::Local => Forwarding::Local,
        }
    }

    const fn method(&self) -> Forwarding {
        match (self.tunnel.is_some(), self.translation.is_some()) {
            (true, _) => Forwarding::Tunnel,
            (false, true) => Forwarding::Masq,
            (false, false) => Forwarding::Direct,
        }
    }
}

impl Service {
    /// The servers that new connections are spread over.
    pub fn members(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.usable && server.weight > 0)
    }

    /// What its schedule is made of: the members, and for a scheduler that hashes the servers that
    /// keep buckets.
    pub fn candidates(&self) -> Vec<Candidate<Target>> {
        let candidate = |server: &Server| Candidate {
            server: server.target,
            weight: if server.usable { server.weight } else { 0 },
            holding: server.holding(),
            thresholds: server.thresholds,
        };
        match self.scheduler.hashes() {
            true => self
                .servers
                .iter()
                .map(candidate)
                .filter(|one| one.weight > 0 || one.holding.share > 0)
                .collect(),
            false => {
                let plain = |server| Candidate { holding: Holding::default(), ..candidate(server) };
                self.members().map(plain).collect()
            }
        }
    }

    pub fn server(&self, target: Target) -> Option<&Server> {
        self.servers.iter().find(|server| server.target == target)
    }
}

impl Server {
    fn holding(&self) -> Holding {
        let keeps = self.usable && self.weight == 0;
        Holding { address: self.target.address(), share: self.share, keeps }
    }
}

impl Target {
    /// As the map `TARGETS` holds it.
    pub fn address(self) -> V6 {
        match self {
            Self::Real(address) => address.into(),
            Self::Local => V6::UNSPECIFIED,
        }
    }
}

/// One step from the applied state towards the desired one. Executed in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    AddService(ServiceKey, Settings),
    ChangeService(ServiceKey, Settings),
    /// The removal of the service's servers comes before this.
    RemoveService(ServiceKey),
    AddServer(ServiceKey, Server),
    ChangeServer(ServiceKey, Server),
    /// The schedule without the server comes before this.
    RemoveServer(ServiceKey, Target),
    /// Which servers its QUIC connection IDs name. Servers are added before this, and removed after
    /// it.
    Quic(ServiceKey, Quic),
    /// The rules about its clients.
    Clients(ServiceKey, Clients),
    /// From now on these are the clients whom every service denies.
    Denied(Arc<ClientLists>),
    /// From now on new connections go to those of weights above 0, in this order.
    Schedule(ServiceKey, Scheduler, Hashing, Vec<Candidate<Target>>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real(address) => address.fmt(f),
            Self::Local => f.write_str("local"),
        }
    }
}

/// In the words of ldirectord's log.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(key, _) => write!(f, "Adding virtual server: {key}"),
            Self::ChangeService(key, _) => write!(f, "Changing virtual server: {key}"),
            Self::RemoveService(key) => write!(f, "Removing virtual server: {key}"),
            Self::AddServer(key, server) => {
                write!(f, "Adding real server: {} ({}*{key})", server.target, server.weight)
            }
            Self::ChangeServer(key, server) => {
                let usable = if server.usable { "in service" } else { "out of service" };
                write!(f, "Changing real server: {} ({}*{key}), {usable}", server.target, server.weight)
            }
            Self::Quic(key, quic) => {
                write!(f, "Reading QUIC connection IDs of {key} by {} configurations", quic.encodings.len())
            }
            Self::Clients(key, clients) => {
                write!(f, "Changing the rules about clients of {key}, {} prefixes", clients.lists.len())
            }
            Self::Denied(denied) => write!(f, "Denying {} prefixes of clients everywhere", denied.len()),
            Self::RemoveServer(key, target) => write!(f, "Removing real server: {target} ({key})"),
            Self::Schedule(key, scheduler, _, candidates) => {
                let mut members = candidates.iter().filter(|candidate| candidate.weight > 0).peekable();
                if members.peek().is_none() {
                    return write!(f, "No server left for {key} ({})", scheduler.name());
                }
                write!(f, "Scheduling {key} by {} over", scheduler.name())?;
                members.try_for_each(|member| write!(f, " {}*{}", member.weight, member.server))
            }
        }
    }
}
