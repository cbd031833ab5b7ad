//! From configuration, health and MACs to what the data path shall hold: pure.

use std::net::IpAddr;

use lb_common::addr::V6;
use lb_common::binding;
use lb_common::egress::Egress;
use lb_common::limits::Thresholds;
use lb_common::mac::Mac;
use lb_common::nat::Translation;
use lb_common::tunnel::Tunnel;
use lb_datapath::plan::egress::{Exit, egress};
use lb_datapath::plan::quic::Quic;
use lb_datapath::plan::{Persistence, Server, Service, Settings, State, Target, nat, tunnel};
use lb_health::server::Availability;
use lb_model::{Config, Fallback, ServiceKey, Vlan};
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
    let configured = config
        .services
        .iter()
        .map(|service| (service.key, self::service(service, group(service.key.vip), runtime)));
    let departed = runtime.departed().into_iter();
    let departed =
        departed.map(|service| (service.key, self::departed(service, group(service.key.vip), runtime)));
    State { services: configured.chain(departed).collect() }
}

fn service(service: &lb_model::Service, group: Option<u8>, runtime: &impl RuntimeState) -> Service {
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
        servers,
    }
}

/// A service that left the configuration: its servers keep what they have. UDP would not stay with
/// one that is not usable.
fn departed(service: &lb_model::Service, group: Option<u8>, runtime: &impl RuntimeState) -> Service {
    let servers = draining(service, runtime).map(|server| Server { usable: server.mac.is_some(), ..server });
    let servers = Vec::from_iter(servers);
    Service {
        settings: settings(service, group, true),
        scheduler: service.scheduler,
        hashing: service.hashing,
        quic: quic(service, &servers, runtime),
        servers,
    }
}

fn settings(service: &lb_model::Service, group: Option<u8>, departed: bool) -> Settings {
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
        service.quiescent || !down
    };
    let servers = runtime.draining(&service.key).into_iter().filter(lives);
    servers.map(|server| Way::to(service.vlan, &server, runtime)).map(
        |Way { address, mac, tunnel, translation, egress }| Server {
            target: Target::Real(address),
            weight: 0,
            share: 0,
            tunnel,
            translation,
            egress,
            mac,
            usable: false,
            binds: false,
            thresholds: Thresholds::NONE,
        },
    )
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
    /// `clients`: the VLAN of the service's clients.
    pub(super) fn to(clients: Option<Vlan>, server: &lb_model::Server, runtime: &impl RuntimeState) -> Self {
        let address = server.address;
        let mac = runtime.mac(address);
        if server.masq {
            // Whoever has no way keeps its place, for what the server still sends.
            let translation = nat::translation(address, server.port, runtime.subnet(address));
            let mac = mac.filter(|_| runtime.route(address).is_some());
            return Self { address, mac, tunnel: None, translation: Some(translation), egress: None };
        }
        let egress = egress(clients, server.vlan, runtime.exit(address));
        let Some(config) = &server.tunnel else {
            return Self { address, mac, tunnel: None, translation: None, egress };
        };
        let route = runtime.route(address);
        let tunnel = route.map(|route| tunnel::tunnel(address, config, route.source, route.mtu));
        Self { address, mac: mac.filter(|_| tunnel.is_some()), tunnel, translation: None, egress }
    }
}

/// `None`: the server is down, and its connections are given up with it.
fn real_server(
    service: &lb_model::Service,
    server: &lb_model::Server,
    runtime: &impl RuntimeState,
) -> Option<Server> {
    let Way { address, mac, tunnel, translation, egress } = Way::to(service.vlan, server, runtime);
    let quorum = runtime.has_quorum(&service.key);
    let keeps = service.persistence.as_ref().is_some_and(|persistence| persistence.keeps);
    let mut binds = false;
    let (usable, weight) = match runtime.worth(&service.key, address) {
        Availability::Down if !service.quiescent => return None,
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
        binds,
        thresholds: server.thresholds,
    })
}

fn fallback(service: &lb_model::Service, needed: bool, runtime: &impl RuntimeState) -> Option<Server> {
    let (target, mac) = match service.fallback {
        Fallback::None | Fallback::Refuse => return None,
        Fallback::Local | Fallback::Sorry(_) => (Target::Local, None),
        Fallback::Server(address) if runtime.is_gone(address) && !service.quiescent => return None,
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
        binds: false,
        thresholds: Thresholds::NONE,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use lb_model::{Failback, Group, GroupVip, Protocol, Timeouts, TunnelKind};

    struct Facts {
        worth: Availability,
        quorum: bool,
        mac: Option<Mac>,
        route: Option<Route>,
        draining: Vec<IpAddr>,
        departed: Vec<lb_model::Service>,
    }

    const UP: Facts = Facts {
        worth: Availability::Usable { weight: 3 },
        quorum: true,
        mac: Some(MAC),
        route: None,
        draining: Vec::new(),
        departed: Vec::new(),
    };
    const DOWN: Facts = Facts {
        worth: Availability::Down,
        quorum: false,
        mac: Some(MAC),
        route: None,
        draining: Vec::new(),
        departed: Vec::new(),
    };

    impl RuntimeState for Facts {
        fn worth(&self, _: &ServiceKey, _: IpAddr) -> Availability {
            self.worth
        }
        fn has_quorum(&self, _: &ServiceKey) -> bool {
            self.quorum
        }
        fn mac(&self, _: IpAddr) -> Option<Mac> {
            self.mac
        }
        fn exit(&self, _: IpAddr) -> Exit {
            Exit { other: None, vlan: None, tpid: 0x8100, mtu: 1500 }
        }
        fn is_gone(&self, _: IpAddr) -> bool {
            self.mac.is_none()
        }
        fn route(&self, _: IpAddr) -> Option<Route> {
            self.route
        }
        fn subnet(&self, _: IpAddr) -> V6 {
            lb_common::nat::mask(WWW1, 24)
        }
        fn draining(&self, service: &ServiceKey) -> Vec<lb_model::Server> {
            let servers = self.draining.iter();
            servers.map(|address| lb_model::Server::new(*address, service.port)).collect()
        }
        fn departed(&self) -> Vec<&lb_model::Service> {
            self.departed.iter().collect()
        }
    }

    const WWW1: IpAddr = IpAddr::V4(Ipv4Addr::new(211, 58, 250, 25));
    const WWW2: IpAddr = IpAddr::V4(Ipv4Addr::new(211, 58, 250, 27));
    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 25]);

    fn web(fallback: Fallback) -> lb_model::Service {
        let vip = IpAddr::V4(Ipv4Addr::new(211, 58, 250, 6));
        let key = ServiceKey { vip, port: 80, protocol: Protocol::Tcp };
        let servers = vec![lb_model::Server::new(WWW1, 80)];
        lb_model::Service { fallback, servers, ..lb_model::Service::new("web".to_owned(), key) }
    }

    /// A director of this service.
    fn config(service: &lb_model::Service) -> Config {
        Config {
            other_interfaces: Vec::new(),
            interface: "eth0".to_owned(),
            xdp_mode: lb_model::XdpMode::Auto,
            connections: 1,
            bindings: 1024,
            control: lb_model::Control::at("/run/lb/lb.sock".into()),
            metrics: None,
            timeouts: Timeouts::default(),
            maintenance: "/var/lib/lb/disabled".into(),
            zero_copy: false,
            announce_rate: lb_model::ANNOUNCE_RATE,
            cluster: None,
            groups: Vec::new(),
            services: vec![service.clone()],
        }
    }

    fn members(service: &lb_model::Service, facts: &Facts) -> Vec<Target> {
        let state = state(&config(service), facts);
        state.services[&service.key].members().map(|server| server.target).collect()
    }

    #[test]
    fn a_server_takes_new_connections_when_healthy_and_reachable() {
        let service = web(Fallback::None);
        for (worth, mac, expected) in [
            (Availability::Usable { weight: 1 }, Some(MAC), vec![Target::Real(WWW1)]),
            (Availability::Usable { weight: 0 }, Some(MAC), vec![]),
            (Availability::Usable { weight: 1 }, None, vec![]),
            (Availability::Down, Some(MAC), vec![]),
            (Availability::Unknown, Some(MAC), vec![]),
        ] {
            assert_eq!(members(&service, &Facts { worth, mac, ..UP }), expected, "{worth:?} {mac:?}");
        }
    }

    #[test]
    fn a_tunnel_needs_a_route_and_direct_routing_none() {
        let mut service = web(Fallback::None);
        service.servers.push(lb_model::Server {
            tunnel: Some(lb_model::Tunnel::new(TunnelKind::Gue)),
            ..lb_model::Server::new(WWW2, 80)
        });
        assert_eq!(members(&service, &UP), vec![Target::Real(WWW1)]);
        let exit =
            lb_net::links::Exit { interface: 2, device: 2, mac: MAC, vlan: None, tpid: 0x8100, mtu: 1500 };
        let route = Route { next_hop: WWW1, source: WWW1, mtu: 1500, exit };
        let with_route = Facts { route: Some(route), ..UP };
        assert_eq!(members(&service, &with_route), vec![Target::Real(WWW1), Target::Real(WWW2)]);
        let state = state(&config(&service), &with_route);
        let tunnel = |address| state.services[&service.key].server(Target::Real(address)).unwrap().tunnel;
        assert_eq!(tunnel(WWW1), None);
        let tunnel = tunnel(WWW2).unwrap();
        assert_eq!((tunnel.destination, tunnel.source, tunnel.mtu), (WWW2.into(), WWW1.into(), 1500));
    }

    #[test]
    fn address_translation_needs_a_route_too_and_may_change_the_port() {
        let mut service = web(Fallback::None);
        service.servers = vec![lb_model::Server { masq: true, ..lb_model::Server::new(WWW2, 8080) }];
        assert_eq!(members(&service, &UP), vec![]);
        let exit =
            lb_net::links::Exit { interface: 2, device: 2, mac: MAC, vlan: None, tpid: 0x8100, mtu: 1500 };
        let route = Route { next_hop: WWW1, source: WWW1, mtu: 1500, exit };
        let facts = Facts { route: Some(route), ..UP };
        assert_eq!(members(&service, &facts), vec![Target::Real(WWW2)]);
        let state = state(&config(&service), &facts);
        let server = state.services[&service.key].server(Target::Real(WWW2)).unwrap();
        let found = server.translation.unwrap();
        assert_eq!((found.address, found.port, server.tunnel), (WWW2.into(), 8080_u16.to_be(), None));
        assert!(found.is_near(WWW1.into()) && !found.is_near(IpAddr::from([10, 0, 0, 1]).into()));
        assert_eq!(server.forwarding(Mac::new([2; 6])), lb_model::Forwarding::Masq);
    }

    #[test]
    fn the_fallback_serves_exactly_while_nobody_else_does() {
        for (fallback, target) in [
            (Fallback::Local, Target::Local),
            (Fallback::Sorry(None), Target::Local),
            (Fallback::Server(WWW2), Target::Real(WWW2)),
        ] {
            let service = web(fallback);
            assert_eq!(members(&service, &UP), vec![Target::Real(WWW1)]);
            assert_eq!(members(&service, &DOWN), vec![target]);
            let none_left = Facts { worth: Availability::Usable { weight: 0 }, ..UP };
            assert_eq!(members(&service, &none_left), vec![target], "weight 0 takes nothing new");
            let too_few = Facts { quorum: false, ..UP };
            assert_eq!(members(&service, &too_few), vec![target], "without the quorum");
        }
        assert_eq!(
            members(&web(Fallback::Server(WWW2)), &Facts { mac: None, ..DOWN }),
            vec![],
            "not reached"
        );
    }

    #[test]
    fn without_the_quorum_servers_keep_what_they_have() {
        let service = web(Fallback::Local);
        let state = state(&config(&service), &Facts { quorum: false, ..UP });
        let server = state.services[&service.key].server(Target::Real(WWW1)).unwrap();
        assert_eq!((server.usable, server.weight), (true, 0));
    }

    #[test]
    fn a_server_that_is_down_goes_with_its_connections_unless_quiescent() {
        for quiescent in [true, false] {
            let service = lb_model::Service { quiescent, ..web(Fallback::None) };
            let has_it = |facts: &Facts| {
                state(&config(&service), facts).services[&service.key].server(Target::Real(WWW1)).is_some()
            };
            assert_eq!(has_it(&DOWN), quiescent);
            assert!(has_it(&UP) && has_it(&Facts { worth: Availability::Unknown, ..UP }));
        }
    }

    #[test]
    fn a_draining_server_keeps_its_mac_and_takes_nothing_new() {
        let facts = Facts { draining: vec![WWW2], ..UP };
        let service = web(Fallback::None);
        let state = state(&config(&service), &facts);
        let draining = state.services[&service.key].server(Target::Real(WWW2)).unwrap();
        assert_eq!((draining.usable, draining.mac), (false, Some(MAC)));
    }

    #[test]
    fn c7b_who_dies_on_its_way_out_is_given_up_unless_quiescent() {
        for quiescent in [true, false] {
            let service = lb_model::Service { quiescent, servers: Vec::new(), ..web(Fallback::None) };
            for departed in [vec![], vec![service.clone()]] {
                let kept = |facts: Facts| {
                    let facts = Facts { draining: vec![WWW2], departed: departed.clone(), ..facts };
                    let config = match facts.departed.is_empty() {
                        true => config(&service),
                        false => Config { services: Vec::new(), ..config(&service) },
                    };
                    state(&config, &facts).services[&service.key].server(Target::Real(WWW2)).is_some()
                };
                assert_eq!((kept(UP), kept(DOWN)), (true, quiescent));
                assert!(kept(Facts { mac: None, ..UP }), "its checks judge");
            }
            let fallback = lb_model::Service { fallback: Fallback::Server(WWW2), ..service };
            let state = state(&config(&fallback), &Facts { mac: None, ..DOWN });
            let kept = state.services[&fallback.key].server(Target::Real(WWW2)).is_some();
            assert_eq!(kept, quiescent, "a fallback that is gone");
        }
    }

    #[test]
    fn c1_servers_of_a_service_that_left_keep_what_they_have_and_nobody_takes_new() {
        let service = web(Fallback::Local);
        let facts = Facts { draining: vec![WWW1], departed: vec![service.clone()], ..UP };
        let empty = Config { services: Vec::new(), ..config(&service) };
        let state = state(&empty, &facts);
        let departed = &state.services[&service.key];
        assert!(departed.settings.departed && departed.members().next().is_none());
        let server = departed.server(Target::Real(WWW1)).unwrap();
        assert_eq!((server.usable, server.weight, server.mac), (true, 0, Some(MAC)));
    }

    #[test]
    fn a_service_is_under_the_lease_of_the_group_that_holds_its_vip() {
        let service = web(Fallback::None);
        let group = |number, addresses: &[IpAddr]| Group {
            number,
            name: "group".to_owned(),
            vips: addresses.iter().map(|address| GroupVip { address: *address, prefix: 32 }).collect(),
            interface: None,
            label: None,
            refresh: Duration::ZERO,
            nodes: Vec::new(),
            failback: Failback::Manual,
        };
        let mut config = config(&service);
        let group_of = |config: &Config| state(config, &UP).services[&service.key].settings.group;
        assert_eq!(group_of(&config), None);
        config.groups = vec![group(0, &[WWW1]), group(1, &[WWW2, service.key.vip])];
        assert_eq!(group_of(&config), Some(1));
        let vips = Vec::from_iter(lb_model::vips(&config.groups));
        assert_eq!(vips, [(WWW1, 0), (WWW2, 1), (service.key.vip, 1)]);
        config.groups.remove(0);
        assert_eq!(group_of(&config), Some(1), "its number stays");
    }
}
