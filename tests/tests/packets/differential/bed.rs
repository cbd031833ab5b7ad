//! One director with services of every kind, on paper and in the kernel.

pub(super) mod more;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use lb_common::forward::egress::TPID;
use lb_common::lease::Lease;
use lb_common::mac::Mac;
use lb_common::server::{GivesUp, ServerId};
use lb_common::service::admission::{Admission, Rate, SHIFT};
use lb_datapath::object::Sizes;
use lb_datapath::plan::clients::Clients;
use lb_datapath::plan::egress::{Exit, egress};
use lb_datapath::plan::{Persistence, Server, Service, State, Target, tunnel};
use lb_model::ids::GroupNumber;
use lb_model::{
    ClientLists, ClientPrefix, Ports, Protocol, Scheduler, ServiceKey, Stray, Timeouts, Tunnel, TunnelKind,
    Vlan,
};
use lb_system::clock::now_ns;
use lb_tests::harness::*;
use lb_tests::model::{Model, Setting};

/// VIPs, by group; the last one is of no group.
pub(super) const VIPS: u8 = 6;
const UNGROUPED: u8 = VIPS - 1;
pub(super) const PORTS: std::ops::Range<u16> = 80..130;
/// Services whose first server dies, and what becomes of its connections then.
const MOVES: u16 = 112;
const RESETS: u16 = 113;
/// The ports of every VIP; the first one has all.
pub(super) const SOME_PORTS: [u16; 7] = [80, 83, 86, 91, 99, 121, 124];
pub(super) const DIRECTOR_2: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x06]);
const OWN: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 5);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 5);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 7);
/// Nothing expires, however slow the machine is.
const AN_HOUR: Duration = Duration::from_secs(3600);
/// Of a rate, in its units: so seldom that no test sees a second one.
const A_LONG_TIME: u64 = (AN_HOUR.as_nanos() as u64 * 10) << SHIFT;
const TIMEOUTS: Timeouts = Timeouts {
    syn_recv: AN_HOUR,
    unproven: AN_HOUR,
    established: AN_HOUR,
    fin_wait: AN_HOUR,
    closed: AN_HOUR,
    udp: AN_HOUR,
};
const SIZES: Sizes = Sizes {
    connections: 8192,
    connections_v6: 8192,
    services: 512,
    servers: 2048,
    schedule_words: 1 << 18,
    ..SMALL
};

pub(super) fn vip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(211, 58, 250, 6 + number)
}

pub(super) fn vip6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6 + u16::from(number))
}

pub(super) struct Bed {
    pub director: Director,
    /// By service and server, in the model's order.
    pub ids: Vec<Vec<ServerId>>,
    state: State,
    vips: Vec<(IpAddr, GroupNumber)>,
}

impl Bed {
    pub(super) fn load() -> Self {
        let state = state();
        let mut director = Director::with_sizes(SIZES, []);
        director.begin_anew(state.clone());
        let ids = state.services.iter().map(|(key, service)| {
            service.servers.iter().map(|server| director.id_of(*key, server.target)).collect()
        });
        let ids = ids.collect();
        let grouped = 0..UNGROUPED;
        let vips = grouped.flat_map(|number| {
            [vip(number).into(), vip6(number).into()].map(|vip| (vip, GroupNumber(number)))
        });
        Self { director, ids, state, vips: vips.collect() }
    }

    /// All begins anew.
    pub(super) fn begin(&mut self) -> Model {
        let directors = BTreeSet::from([DIRECTOR_2]);
        self.director.begin_anew(self.state.clone());
        self.director.data_path.executor.set_vips(&self.vips).unwrap();
        self.director.data_path.executor.set_directors(directors.clone()).unwrap();
        self.director.data_path.executor.set_routes(&more::routes()).unwrap();
        let leases = self.director.data_path.leases();
        (0..UNGROUPED).map(GroupNumber).for_each(|group| leases.serve_on(group, Duration::ZERO));
        // Generations count on.
        let held = |group| Lease { generation: leases.generation(group), ..Lease::UNLIMITED };
        let held = (0..UNGROUPED).map(GroupNumber).map(held).collect();
        let mut setting = Setting::new(MAC, &self.state, &self.vips, held, directors);
        setting.routes = more::routes();
        setting.hash_keys = Some(self.director.data_path.executor.maps().control.read(0).hash_keys);
        Model::new(setting)
    }

    pub(super) fn let_servers_die(&mut self, model: &mut Model) {
        let state = with_dead_servers(self.state.clone());
        model.setting.change(&state);
        let leaving = self.director.apply(state);
        assert!(leaving.is_empty(), "no server goes");
    }

    /// Group 0 stays as it is, 1 runs out, 2 is given up and served on, 3 is taken from another
    /// director, and 4 is in the grace time of a hand-over.
    pub(super) fn change_leases(&self, model: &mut Model) {
        let leases = self.director.data_path.leases();
        let now = Duration::from_nanos(now_ns());
        // The program reads the clock once per tick of the kernel.
        let (past, later) = (now - Duration::from_millis(100), now + Duration::from_secs(600));
        let ns = |time: Duration| time.as_nanos() as u64;
        let held = &mut model.setting.leases;
        leases.renew(GroupNumber(1), past);
        held[1] = Lease { balance_until: ns(past), answer_until: ns(past), ..held[1] };
        leases.end(GroupNumber(2));
        leases.next_generation(GroupNumber(2));
        leases.serve_on(GroupNumber(2), later);
        held[2] = Lease { balance_until: 0, answer_until: 0, serve_on_until: ns(later), ..held[2] };
        leases.next_generation(GroupNumber(3));
        leases.grace(GroupNumber(4), later);
        leases.next_generation(GroupNumber(4));
        held[4] = Lease { balance_until: ns(later), answer_until: 0, ..held[4] };
        for group in [3, 4] {
            leases.relay(GroupNumber(group), Some((DIRECTOR_2, later)));
            let lease = &mut held[usize::from(group)];
            *lease = Lease { relay: DIRECTOR_2, relay_until: ns(later), ..*lease };
        }
        for group in 0..UNGROUPED {
            held[usize::from(group)].generation = leases.generation(GroupNumber(group));
        }
    }
}

/// The first servers of some services die, and give their connections up.
fn with_dead_servers(mut state: State) -> State {
    for (key, service) in &mut state.services {
        let gives_up = match key.port {
            MOVES => GivesUp::Moves,
            RESETS => GivesUp::Resets,
            _ => continue,
        };
        service.servers[0].usable = false;
        service.servers[0].gives_up = Some(gives_up);
    }
    state
}

fn state() -> State {
    let mut state = State::default();
    for number in 0..VIPS {
        let ports: Vec<u16> = if number == 0 { PORTS.collect() } else { SOME_PORTS.to_vec() };
        for port in ports {
            for vip in [IpAddr::from(vip(number)), vip6(number).into()] {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let mut service = service_at(port, protocol);
                    more::translate(&mut service, number, port, vip.is_ipv4());
                    service.clients = clients_at(port, vip.is_ipv4());
                    service.settings.timeouts = TIMEOUTS;
                    service.settings.group = (number != UNGROUPED).then_some(GroupNumber(number));
                    if let Some(persistence) = &mut service.settings.persistence
                        && vip.is_ipv4()
                    {
                        persistence.prefix -= 96;
                    }
                    state.services.insert(ServiceKey { vip, port, protocol }, service);
                }
            }
        }
    }
    // Whatever else comes to this VIP by TCP.
    for vip in [IpAddr::from(vip(UNGROUPED)), vip6(UNGROUPED).into()] {
        let mut service = rr([1, 2]);
        service.settings.timeouts = TIMEOUTS;
        service.settings.group = None;
        service.settings.ports = Some(Ports::ALL);
        state.services.insert(ServiceKey { vip, port: 0, protocol: Protocol::Tcp }, service);
    }
    state
}

fn service_at(port: u16, protocol: Protocol) -> Service {
    let with = |edit: fn(&mut Service), mut service: Service| {
        edit(&mut service);
        service
    };
    let tunnels = |kinds: &[(TunnelKind, bool)]| {
        let servers = (1..).zip(kinds).map(|(number, (kind, ipv4))| far(number, *kind, *ipv4)).collect();
        Service { servers, ..rr([]) }
    };
    if let Some(service) = more::service_at(port, protocol) {
        return service;
    }
    match port {
        80 => rr([1, 2]),
        81 => service(Scheduler::Wlc, &[3, 1]),
        82 => service(Scheduler::Wrr, &[4, 2, 1]),
        83 => with(|service| service.settings.stray = Stray::Hash, service(Scheduler::Wrr, &[2, 1])),
        84 if protocol == Protocol::Udp => {
            with(|service| service.settings.each_datagram = true, rr([1, 2, 3]))
        }
        84 => service(Scheduler::Lc, &[1, 1, 1]),
        85 => tunnels(&[(TunnelKind::Ipip, true)]),
        86 => tunnels(&[(TunnelKind::Ipip, false)]),
        87 => tunnels(&[(TunnelKind::Gue, true)]),
        88 => tunnels(&[(TunnelKind::Gue, false)]),
        89 => tunnels(&[(TunnelKind::Gre, true)]),
        90 => tunnels(&[(TunnelKind::Gre, false)]),
        91 => Service { servers: vec![Server { mac: Some(MAC), ..server(1, 1) }], ..rr([]) },
        92 => Service { servers: vec![local(true)], ..rr([]) },
        93 => with(|service| service.settings.refuses = true, rr([])),
        94 => rr([]),
        95 => with(|service| service.servers[1].mac = None, rr([1, 2])),
        96 => service(Scheduler::Sh, &[1, 2, 1]),
        97 => with(|service| service.servers[0].usable = false, rr([1, 2])),
        98 => {
            let mut service = tunnels(&[(TunnelKind::Gue, false), (TunnelKind::Gre, true)]);
            service.servers.extend(rr([1]).servers);
            service
        }
        100 => leaving(Some(Vlan::single(10)), None),
        101 => leaving(None, Some(Vlan::single(120))),
        102 => leaving(Some(Vlan::single(10)), Some(Vlan::double(100, 200))),
        103 => leaving(Some(Vlan::double(100, 10)), Some(Vlan::UNTAGGED)),
        104 => binding(7, 128, rr([1, 2, 3])),
        105 => binding(7, 128, service(Scheduler::Wlc, &[2, 1, 1])),
        106 => binding(8, 120, service(Scheduler::Wrr, &[3, 1])),
        MOVES | RESETS => rr([1, 2, 3]),
        107 => binding(9, 128, with(|service| service.servers[0].binds = false, rr([1, 2]))),
        // Not everybody is taken, nor any number, see `clients_at`.
        108..112 => rr([1, 2]),
        // Directors are its servers.
        _ => {
            let servers = [(1, MAC), (2, DIRECTOR_2)];
            let servers = servers.map(|(number, mac)| Server { mac: Some(mac), ..server(number, 1) });
            Service { servers: servers.to_vec(), ..rr([]) }
        }
    }
}

/// Which clients the service at this port takes. They have numbers up to 23.
fn clients_at(port: u16, is_ipv4: bool) -> Clients {
    let prefix = |number: u32, narrower: u8| match is_ipv4 {
        true => ClientPrefix { address: (*client(number).ip()).into(), length: 32 - narrower },
        false => ClientPrefix { address: client6(number).into(), length: 128 - narrower },
    };
    // So many, and no more as long as a test runs.
    let only = |most: u64| Rate { interval: A_LONG_TIME, burst: A_LONG_TIME * most };
    let mask = lb_common::service::binding::mask(is_ipv4, if is_ipv4 { 32 } else { 64 }).0;
    let limits = |admission| Clients { admission: Admission { mask, ..admission }, ..Clients::default() };
    let none = Admission::default();
    match port {
        108 => {
            let (allow, deny) =
                (vec![prefix(4, 2), prefix(9, 0), prefix(16, 2)], vec![prefix(8, 3), prefix(5, 0)]);
            let lists = Arc::new(ClientLists { allow, deny });
            let flags = Admission::LISTED | Admission::DENIES | Admission::LISTED_ONLY;
            Clients { lists, ..limits(Admission { flags, ..none }) }
        }
        109 => limits(Admission { client_new: only(1), client_packets: only(3), ..none }),
        110 => limits(Admission { service_new: only(4), service_packets: only(9), ..none }),
        111 => limits(Admission { connections: 1, ..none }),
        _ => Clients::default(),
    }
}

/// Its clients are in one VLAN, and its servers in another.
fn leaving(clients: Option<Vlan>, vlan: Option<Vlan>) -> Service {
    const HERE: Exit = Exit { other: None, vlan: None, tpid: TPID, mtu: 0 };
    let mut service = rr([1, 2]);
    service.servers.iter_mut().for_each(|one| one.egress = egress(clients, vlan, HERE));
    service
}

/// It binds clients, by so many bits of an IPv6 address or of an IPv4 one as it stands in it.
fn binding(group: u64, prefix: u8, mut service: Service) -> Service {
    service.settings.persistence = Some(Persistence { group, prefix, timeout: AN_HOUR });
    service
}

/// Server `number` at the far end of a tunnel.
fn far(number: u16, kind: TunnelKind, outer_ipv4: bool) -> Server {
    let (address, own): (IpAddr, IpAddr) = match outer_ipv4 {
        true => (Ipv4Addr::from(u32::from(FAR) + u32::from(number)).into(), OWN.into()),
        false => (Ipv6Addr::from(u128::from(FAR6) + u128::from(number)).into(), OWN6.into()),
    };
    Server {
        target: Target::Real(address),
        mac: Some(ROUTER),
        tunnel: Some(tunnel::tunnel(address, &Tunnel::new(kind), own, 1500)),
        ..server(1, 1)
    }
}
