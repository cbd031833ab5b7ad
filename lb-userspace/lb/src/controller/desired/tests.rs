//! What the maps shall hold, for what is known of servers.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use lb_model::{Anycast, Failback, Group, GroupKind, GroupVip, Protocol, Timeouts, TunnelKind};

struct Facts {
    worth: Availability,
    quorum: bool,
    mac: Option<Mac>,
    route: Option<Route>,
    other: Option<(u32, Mac)>,
    draining: Vec<IpAddr>,
    departed: Vec<lb_model::Service>,
}

const UP: Facts = Facts {
    worth: Availability::Usable { weight: 3 },
    quorum: true,
    mac: Some(MAC),
    route: None,
    other: None,
    draining: Vec::new(),
    departed: Vec::new(),
};
const DOWN: Facts = Facts {
    worth: Availability::Down,
    quorum: false,
    mac: Some(MAC),
    route: None,
    other: None,
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
        Exit { other: self.other, vlan: None, tpid: 0x8100, mtu: 1500 }
    }
    fn is_gone(&self, _: IpAddr) -> bool {
        self.mac.is_none()
    }
    fn route(&self, _: IpAddr) -> Option<Route> {
        self.route
    }
    fn subnet(&self, _: IpAddr) -> V6 {
        lb_common::forward::nat::mask(WWW1, 24)
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
        web: None,
        alerts: lb_model::Alerts::default(),
        timeouts: Timeouts::default(),
        maintenance: "/var/lib/lb/disabled".into(),
        zero_copy: false,
        announce_rate: lb_model::ANNOUNCE_RATE,
        cluster: None,
        groups: Vec::new(),
        denied: lb_model::Listed::default(),
        services: vec![service.clone()],
        kept_elsewhere: Default::default(),
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

/// Each refresh makes the state anew, and lists may be long.
#[test]
fn lists_of_clients_are_shared_and_not_copied() {
    let prefix = lb_model::ClientPrefix { address: WWW1, length: 32 };
    let lists = Arc::new(lb_model::ClientLists { allow: Vec::new(), deny: vec![prefix] });
    let listed = lb_model::Listed { lists: Arc::clone(&lists), ..lb_model::Listed::default() };
    let mut service = web(Fallback::None);
    service.clients = Some(lb_model::Clients { listed: listed.clone(), ..lb_model::Clients::default() });
    let config = Config { denied: listed, ..config(&service) };
    let state = state(&config, &UP);
    assert!(Arc::ptr_eq(&state.services[&service.key].clients.lists, &lists));
    assert!(Arc::ptr_eq(&state.denied, &lists));
}

#[test]
fn a_tunnel_needs_a_route_and_direct_routing_none() {
    let mut service = web(Fallback::None);
    service.servers.push(lb_model::Server {
        tunnel: Some(lb_model::Tunnel::new(TunnelKind::Gue)),
        ..lb_model::Server::new(WWW2, 80)
    });
    assert_eq!(members(&service, &UP), vec![Target::Real(WWW1)]);
    let exit = lb_net::links::Exit { interface: 2, device: 2, mac: MAC, vlan: None, tpid: 0x8100, mtu: 1500 };
    let route = Route { next_hop: WWW1, source: Some(WWW1), mtu: 1500, exit };
    // Up to now it was reached directly, and nobody has asked for a source.
    let without_source = Facts { route: Some(Route { source: None, ..route }), ..UP };
    assert_eq!(members(&service, &without_source), vec![Target::Real(WWW1)]);
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
    let exit = lb_net::links::Exit { interface: 2, device: 2, mac: MAC, vlan: None, tpid: 0x8100, mtu: 1500 };
    let route = Route { next_hop: WWW1, source: Some(WWW1), mtu: 1500, exit };
    let facts = Facts { route: Some(route), ..UP };
    assert_eq!(members(&service, &facts), vec![Target::Real(WWW2)]);
    let state = state(&config(&service), &facts);
    let server = state.services[&service.key].server(Target::Real(WWW2)).unwrap();
    let found = server.translation.unwrap();
    assert_eq!((found.address, found.port, server.tunnel), (WWW2.into(), 8080_u16.to_be(), None));
    assert!(found.is_near(WWW1.into()) && !found.is_near(IpAddr::from([10, 0, 0, 1]).into()));
    assert_eq!(server.forwarding(Mac::new([2; 6])), lb_model::Forwarding::Masq);
    assert_eq!(server.egress, None);
    // Behind another interface, and untagged on either side.
    let own = Mac::new([2, 0, 0, 0, 0, 9]);
    for vlan in [None, Some(Vlan::UNTAGGED)] {
        service.vlan = vlan;
        let here = self::state(&config(&service), &facts).services[&service.key].servers[0];
        assert_eq!(here.egress, None, "by the interface of the VIPs they leave as they came");
        let away = Facts { other: Some((3, own)), route: Some(route), ..UP };
        let there = self::state(&config(&service), &away).services[&service.key].servers[0];
        let egress = there.egress.expect("they leave by another interface");
        assert_eq!((egress.device, egress.mac, egress.mtu), (3, own, 1500));
        assert_eq!((egress.from, egress.to), (Vlan::UNTAGGED, Vlan::UNTAGGED));
        assert_eq!(there.translation, here.translation);
    }
}

#[test]
fn address_translation_goes_into_vlans_and_keeps_ports_of_several() {
    let mut service = web(Fallback::None);
    let vlan = Some(Vlan::single(120));
    service.servers = vec![lb_model::Server { masq: true, vlan, ..lb_model::Server::new(WWW2, 80) }];
    service.ports =
        lb_model::Ports::of(&[80, 443].map(|port| lb_model::PortRange { first: port, last: port }))
            .expect("few");
    let exit = lb_net::links::Exit { interface: 2, device: 2, mac: MAC, vlan: None, tpid: 0x8100, mtu: 1500 };
    let facts = Facts { route: Some(Route { next_hop: WWW2, source: None, mtu: 1500, exit }), ..UP };
    let server = state(&config(&service), &facts).services[&service.key].servers[0];
    let egress = server.egress.expect("its tag");
    assert_eq!((egress.device, egress.from, egress.to), (0, Vlan::UNTAGGED, Vlan::single(120)));
    assert_eq!(server.translation.map(|found| found.port), Some(ANY_PORT));
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
    assert_eq!(members(&web(Fallback::Server(WWW2)), &Facts { mac: None, ..DOWN }), vec![], "not reached");
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
    for (dead_server, gives_up) in [
        (DeadServer::Keep, None),
        (DeadServer::Move, Some(GivesUp::Moves)),
        (DeadServer::Reset, Some(GivesUp::Resets)),
    ] {
        let service = lb_model::Service { dead_server, ..web(Fallback::None) };
        let of = |facts: &Facts| {
            let state = state(&config(&service), facts);
            state.services[&service.key].server(Target::Real(WWW1)).map(|server| server.gives_up)
        };
        assert_eq!((of(&UP), of(&DOWN)), (Some(None), Some(gives_up)), "{dead_server:?}");
    }
    for quiescent in [true, false] {
        let dead_server = if quiescent { DeadServer::Keep } else { DeadServer::Expire };
        let service = lb_model::Service { dead_server, ..web(Fallback::None) };
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
        let dead_server = if quiescent { DeadServer::Keep } else { DeadServer::Expire };
        let service = lb_model::Service { dead_server, servers: Vec::new(), ..web(Fallback::None) };
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

fn group(number: GroupNumber, addresses: &[IpAddr]) -> Group {
    Group {
        number,
        name: "group".to_owned(),
        vips: addresses.iter().map(|address| GroupVip { address: *address, prefix: 32 }).collect(),
        interface: None,
        label: None,
        refresh: Duration::ZERO,
        nodes: Vec::new(),
        failback: Failback::Manual,
        kind: GroupKind::Failover,
    }
}

#[test]
fn clients_may_be_sent_to_a_director_where_a_server_or_a_fallback_takes_them() {
    let usable = |fallback, facts: &Facts, is_anycast| {
        let service = web(fallback);
        let anycast = || Anycast { device: "lb-anycast".to_owned(), withdraw_wait: Duration::ZERO };
        let kind = if is_anycast { GroupKind::Anycast(anycast()) } else { GroupKind::Failover };
        let groups =
            vec![group(GroupNumber(0), &[WWW1]), Group { kind, ..group(GroupNumber(5), &[service.key.vip]) }];
        let config = Config { groups, ..config(&service) };
        usable_groups(&config.groups, &state(&config, facts))
    };
    assert_eq!(usable(Fallback::None, &UP, true), 1 << 5);
    assert_eq!(usable(Fallback::None, &DOWN, true), 0);
    assert_eq!(usable(Fallback::Refuse, &DOWN, true), 0, "nobody takes them");
    assert_eq!(usable(Fallback::Local, &DOWN, true), 1 << 5);
    assert_eq!(usable(Fallback::Local, &UP, false), 0, "one director has it");
}

#[test]
fn a_service_is_under_the_lease_of_the_group_that_holds_its_vip() {
    let service = web(Fallback::None);
    let mut config = config(&service);
    let group_of = |config: &Config| state(config, &UP).services[&service.key].settings.group;
    assert_eq!(group_of(&config), None);
    config.groups = vec![group(GroupNumber(0), &[WWW1]), group(GroupNumber(1), &[WWW2, service.key.vip])];
    assert_eq!(group_of(&config), Some(GroupNumber(1)));
    let vips = Vec::from_iter(lb_model::vips(&config.groups).map(|(vip, group)| (vip, group.0)));
    assert_eq!(vips, [(WWW1, 0), (WWW2, 1), (service.key.vip, 1)]);
    config.groups.remove(0);
    assert_eq!(group_of(&config), Some(GroupNumber(1)), "its number stays");
}
