//! From configuration, health and MACs to what the data path shall hold: pure.

use std::net::IpAddr;
use std::sync::Arc;

use lb_common::addr::V6;
use lb_common::forward::egress::Egress;
use lb_common::forward::nat::{ANY_PORT, Translation};
use lb_common::forward::tunnel::Tunnel;
use lb_common::mac::Mac;
use lb_common::server::GivesUp;
use lb_common::service::binding;
use lb_common::service::limits::Thresholds;
use lb_datapath::plan::clients::Clients;
use lb_datapath::plan::egress::{Exit, egress};
use lb_datapath::plan::quic::Quic;
use lb_datapath::plan::{Persistence, Server, Service, Settings, State, Target, nat, tunnel};
use lb_health::server::Availability;
use lb_model::ids::GroupNumber;
use lb_model::{Config, DeadServer, Fallback, Group, ServiceKey, Vlan};
use lb_net::routes::Route;

/// What is known of the servers besides the configuration.
pub(crate) trait RuntimeState {
    fn worth(&self, service: &ServiceKey, server: IpAddr) -> Availability;
    /// Whether enough servers are usable for the real ones to serve.
    fn has_quorum(&self, service: &ServiceKey) -> bool;
    fn mac(&self, server: IpAddr) -> Option<Mac>;
    /// The mask of the addresses that reach this one without the director.
    fn subnet(&self, server: IpAddr) -> V6;
    /// The way to a server that is reached by a tunnel or by address translation.
    fn route(&self, server: IpAddr) -> Option<Route>;
    /// The interface that it is behind.
    fn exit(&self, server: IpAddr) -> Exit;
    /// It has not answered ARP for so long that it counts as gone.
    fn is_gone(&self, server: IpAddr) -> bool;
    /// Servers that left the configuration, or whose service did, and still serve the connections
    /// they have.
    fn draining(&self, service: &ServiceKey) -> Vec<lb_model::Server>;
    /// Services that left the configuration and have such servers.
    fn departed(&self) -> Vec<&lb_model::Service>;
}

/// What the data path shall hold.
pub(crate) fn state(config: &Config, runtime: &impl RuntimeState) -> State {
    let grouped = config.grouped_vips();
    let group = |vip| grouped.get(&vip).copied();
    let denied = &config.denied.lists;
    let with_clients = |service: &lb_model::Service, built: Service| {
        let clients = Clients::new(service.clients.as_ref(), service.key.vip.is_ipv4(), denied);
        (service.key, Service { clients, ..built })
    };
    let configured = config
        .services
        .iter()
        .map(|service| with_clients(service, self::service(service, group(service.key.vip), runtime)));
    let departed = runtime
        .departed()
        .into_iter()
        .map(|service| with_clients(service, departed(service, group(service.key.vip), runtime)));
    State { services: configured.chain(departed).collect(), denied: Arc::clone(denied) }
}

/// Groups of `kind: anycast` of which a service has somebody that clients can be sent to: a bit
/// each, by their numbers.
pub(crate) fn usable_groups(groups: &[Group], state: &State) -> u32 {
    let serves = |service: &&Service| !service.settings.departed && service.members().next().is_some();
    let numbers = state.services.values().filter(serves).filter_map(|service| service.settings.group);
    let bits = numbers.fold(0_u32, |bits, number| bits | number.bit());
    let anycast = groups.iter().filter(|group| group.anycast().is_some());
    anycast.fold(0, |usable, group| usable | bits & group.number.bit())
}

fn service(service: &lb_model::Service, group: Option<GroupNumber>, runtime: &impl RuntimeState) -> Service {
    let servers = service.servers.iter();
    let mut servers: Vec<Server> =
        servers.filter_map(|server| real_server(service, server, runtime)).collect();
    let unneeded = servers.iter().any(|server| server.usable && server.weight > 0);
    let fallback = fallback(service, !unneeded, runtime);
    servers.extend(draining(service, runtime));
    servers.extend(fallback);
    Service {
        settings: settings(service, group, false),
        scheduler: service.scheduler,
        hashing: service.hashing,
        quic: quic(service, &servers, runtime),
        clients: Clients::default(),
        servers,
    }
}

/// A service that left the configuration: its servers keep what they have. UDP would not stay with
/// one that is not usable.
fn departed(service: &lb_model::Service, group: Option<GroupNumber>, runtime: &impl RuntimeState) -> Service {
    let servers = draining(service, runtime).map(|server| Server { usable: server.mac.is_some(), ..server });
    let servers = Vec::from_iter(servers);
    Service {
        settings: settings(service, group, true),
        scheduler: service.scheduler,
        hashing: service.hashing,
        quic: quic(service, &servers, runtime),
        clients: Clients::default(),
        servers,
    }
}

fn settings(service: &lb_model::Service, group: Option<GroupNumber>, departed: bool) -> Settings {
    Settings {
        ports: (!service.ports.is_one()).then_some(service.ports),
        stray: service.stray,
        refuses: service.fallback == Fallback::Refuse,
        each_datagram: service.ops,
        quic: !service.quic.is_empty(),
        timeouts: service.timeouts,
        persistence: service.persistence.as_ref().filter(|_| !departed).map(|own| persistence(service, own)),
        source_nat: nat::pool(&service.source_nat),
        group,
        departed,
    }
}

/// Connection IDs name the servers that are there, those on their way out included.
fn quic(service: &lb_model::Service, servers: &[Server], runtime: &impl RuntimeState) -> Quic {
    if service.quic.is_empty() {
        return Quic::default();
    }
    let draining = runtime.draining(&service.key);
    let all = service.servers.iter().chain(&draining);
    let named = all.map(|server| (Target::Real(server.address), &server.quic_ids));
    let present = |target: Target| servers.iter().any(|server| server.target == target);
    Quic::new(&service.quic, named.filter(|(target, _)| present(*target)))
}

fn persistence(service: &lb_model::Service, own: &lb_model::Persistence) -> Persistence {
    let name = own.group.clone().unwrap_or_else(|| service.key.to_string());
    let group = binding::group(service.key.vip.into(), name.as_bytes());
    Persistence { group, prefix: own.prefix, timeout: own.timeout }
}

/// The servers on their way out, but for those that are given up as dead.
fn draining(service: &lb_model::Service, runtime: &impl RuntimeState) -> impl Iterator<Item = Server> {
    let lives = |server: &lb_model::Server| {
        let down = runtime.worth(&service.key, server.address) == Availability::Down;
        service.dead_server != DeadServer::Expire || !down
    };
    let servers = runtime.draining(&service.key).into_iter().filter(lives);
    servers.map(|server| Way::to(Packets::of(service), &server, runtime)).map(
        |Way { address, mac, tunnel, translation, egress }| Server {
            target: Target::Real(address),
            weight: 0,
            share: 0,
            tunnel,
            translation,
            egress,
            mac,
            usable: false,
            gives_up: gives_up(service, runtime.worth(&service.key, address)),
            binds: false,
            thresholds: Thresholds::NONE,
        },
    )
}

/// What a service says of its packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packets {
    /// The VLAN of its clients.
    clients: Option<Vlan>,
    /// It has several ports, and packets keep theirs.
    keep_ports: bool,
}

impl Packets {
    pub(super) fn of(service: &lb_model::Service) -> Self {
        Self { clients: service.vlan, keep_ports: !service.ports.is_one() }
    }
}

/// The way of packets to a server.
pub(super) struct Way {
    pub address: IpAddr,
    /// Of a server with a tunnel or address translation, that of the next hop; `None` while there
    /// is no way.
    pub mac: Option<Mac>,
    pub tunnel: Option<Tunnel>,
    pub translation: Option<Translation>,
    pub egress: Option<Egress>,
}

impl Way {
    pub(super) fn to(packets: Packets, server: &lb_model::Server, runtime: &impl RuntimeState) -> Self {
        let (Packets { clients, keep_ports }, address) = (packets, server.address);
        let mac = runtime.mac(address);
        let exit = runtime.exit(address);
        if server.masq {
            // Whoever has no way keeps its place, for what the server still sends.
            let port = if keep_ports { ANY_PORT } else { server.port };
            let translation = nat::translation(address, port, runtime.subnet(address));
            let mac = mac.filter(|_| runtime.route(address).is_some());
            // By the interface of the VIPs packets leave with the tags that they came with.
            let as_it_came = exit.other.is_none() && exit.vlan.is_none() && server.vlan.is_none();
            let egress = if as_it_came { None } else { egress(clients, server.vlan, exit) };
            return Self { address, mac, tunnel: None, translation: Some(translation), egress };
        }
        let egress = egress(clients, server.vlan, exit);
        let Some(config) = &server.tunnel else {
            return Self { address, mac, tunnel: None, translation: None, egress };
        };
        // A server that was reached directly up to now has a route without a source: that of a
        // tunnel is being asked for.
        let route = runtime.route(address).and_then(|route| Some((route.source?, route.mtu)));
        let tunnel = route.map(|(source, mtu)| tunnel::tunnel(address, config, source, mtu));
        Self { address, mac: mac.filter(|_| tunnel.is_some()), tunnel, translation: None, egress }
    }
}

/// `None`: the server is down, and its connections are given up with it.
fn real_server(
    service: &lb_model::Service,
    server: &lb_model::Server,
    runtime: &impl RuntimeState,
) -> Option<Server> {
    let Way { address, mac, tunnel, translation, egress } = Way::to(Packets::of(service), server, runtime);
    let quorum = runtime.has_quorum(&service.key);
    let keeps = service.persistence.as_ref().is_some_and(|persistence| persistence.keeps);
    let mut binds = false;
    let (usable, weight) = match runtime.worth(&service.key, address) {
        Availability::Down if service.dead_server == DeadServer::Expire => return None,
        Availability::Down | Availability::Unknown => (false, 0),
        // Without the quorum it keeps what it has.
        Availability::Usable { weight } => {
            binds = quorum && (weight > 0 || keeps);
            (mac.is_some(), if quorum { weight } else { 0 })
        }
    };
    let share = server.weight.max(1);
    Some(Server {
        target: Target::Real(address),
        weight,
        share,
        mac,
        tunnel,
        translation,
        egress,
        usable,
        gives_up: gives_up(service, runtime.worth(&service.key, address)),
        binds,
        thresholds: server.thresholds,
    })
}

/// What becomes of the connections of a server that is down.
fn gives_up(service: &lb_model::Service, worth: Availability) -> Option<GivesUp> {
    match (worth, service.dead_server) {
        (Availability::Down, DeadServer::Move) => Some(GivesUp::Moves),
        (Availability::Down, DeadServer::Reset) => Some(GivesUp::Resets),
        _ => None,
    }
}

fn fallback(service: &lb_model::Service, needed: bool, runtime: &impl RuntimeState) -> Option<Server> {
    let (target, mac) = match service.fallback {
        Fallback::None | Fallback::Refuse => return None,
        Fallback::Local | Fallback::Sorry(_) => (Target::Local, None),
        Fallback::Server(address)
            if runtime.is_gone(address) && service.dead_server == DeadServer::Expire =>
        {
            return None;
        }
        Fallback::Server(address) => (Target::Real(address), runtime.mac(address)),
    };
    let egress = match target {
        Target::Real(address) => egress(service.vlan, None, runtime.exit(address)),
        Target::Local => None,
    };
    let reached = target == Target::Local || mac.is_some();
    Some(Server {
        target,
        weight: 1,
        share: 0,
        mac,
        tunnel: None,
        translation: None,
        egress,
        usable: needed && reached,
        gives_up: None,
        binds: false,
        thresholds: Thresholds::NONE,
    })
}

#[cfg(test)]
mod tests;
