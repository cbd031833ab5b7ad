//! Persistence: clients that are bound to their server.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use lb_common::reason::TableEvent;
use lb_common::service::binding::{Binding, Key, TENTATIVE};
use lb_common::table::connection::Tick;
use lb_datapath::object::Sizes;
use lb_datapath::plan::{Persistence, Service};
use lb_model::{Ports, Scheduler, ServiceKey};
use lb_system::clock::now_ns;
use lb_tests::harness::*;

const BY_CLIENT: Persistence = Persistence { group: 7, prefix: 32, timeout: Duration::from_secs(300) };

fn persistent(mut service: Service, persistence: Persistence) -> Service {
    service.settings.persistence = Some(persistence);
    service
}

/// Client number `number`, from one of its ports.
fn from(number: u32, port: u16) -> Client {
    SocketAddrV4::new(*client(number).ip(), port)
}

/// What is bound for good: clients and until when.
fn bound(director: &Director) -> Vec<(Key, Binding)> {
    director.data_path.executor.maps().bindings.list(now_ns()).unwrap()
}

/// The time left of each binding.
fn left(director: &Director) -> Vec<Duration> {
    let now = now_ns();
    bound(director).iter().map(|(_, binding)| Duration::from_nanos(binding.until_ns - now)).collect()
}

/// Changes every binding, tentative ones too.
fn age(director: &mut Director, left: Duration) {
    // The program reads the clock once a tick: what is over must be so for that one, too.
    let until_ns = if left.is_zero() { 1 } else { now_ns() + left.as_nanos() as u64 };
    for (key, binding) in bound(director) {
        director.data_path.executor.bindings().set(key, Binding { until_ns, ..binding }).unwrap();
    }
    for (key, binding) in director.tentative.list(now_ns()).unwrap() {
        director.tentative.set(key, Binding { until_ns, ..binding }).unwrap();
    }
}

#[test]
fn a_client_stays_with_its_server_and_others_go_on_in_turn() {
    for scheduler in [Scheduler::Rr, Scheduler::Wlc, Scheduler::Twos] {
        let director = Director::new([(WEB, persistent(service(scheduler, &[1, 1, 1]), BY_CLIENT))]);
        let servers: Vec<u16> = (0..30).map(|number| director.establish(from(number, 1000))).collect();
        for port in 1001..1004 {
            let again: Vec<u16> = (0..30).map(|number| director.establish(from(number, port))).collect();
            assert_eq!(again, servers, "{scheduler:?}, port {port}");
        }
        assert!((1..=3).all(|server| servers.contains(&server)), "all are used: {servers:?}");
        assert_eq!(bound(&director).len(), 30);
        director.assert_counts_are_true();
    }
}

/// Several first packets before the first answer, as browsers send them; and a flood of clients
/// that never answer binds nobody for good.
#[test]
fn first_packets_bind_for_a_start() {
    let director = Director::new([(WEB, persistent(rr([1, 2, 3]), BY_CLIENT))]);
    let first = director.send(&Packet::syn(from(1, 1000))).server();
    for port in 1001..1007 {
        assert_eq!(director.send(&Packet::syn(from(1, port))).server(), first);
    }
    (100..400).for_each(|number| drop(director.send(&Packet::syn(client(number)))));
    assert_eq!(bound(&director), [], "nobody has established a connection");
    assert_eq!(director.send(&Packet::ack(from(1, 1003))).server(), first);
    assert_eq!(bound(&director), [], "two packets may have a made-up source");
    assert_eq!(director.send(&Packet::data(from(1, 1003))).server(), first);
    assert_eq!(bound(&director).len(), 1);
}

#[test]
fn clients_of_one_prefix_are_one() {
    let director =
        Director::new([(WEB, persistent(rr([1, 2, 3, 4]), Persistence { prefix: 24, ..BY_CLIENT }))]);
    let at = |net: u8, host: u8| SocketAddrV4::new(Ipv4Addr::new(10, 9, net, host), 5000);
    let first: Vec<u16> = (0..4).map(|net| director.establish(at(net, 1))).collect();
    assert_eq!(first, [1, 2, 3, 4]);
    for host in [2, 77, 254] {
        let again: Vec<u16> = (0..4).map(|net| director.establish(at(net, host))).collect();
        assert_eq!(again, first, "host {host}");
    }
    assert_eq!(bound(&director).len(), 4);
}

#[test]
fn clients_of_ipv6_are_bound_too_by_their_prefix() {
    let persistence = Persistence { prefix: 64, ..BY_CLIENT };
    let director = Director::new([(WEB6, persistent(rr([1, 2, 3]), persistence))]);
    let open = |number| {
        let server = director.send_bytes(&tcp6(number, SYN)).server();
        assert_eq!(director.send_bytes(&tcp6(number, ACK)).server(), server);
        server
    };
    // Ten neighbours share a network of 64 bits.
    let servers: Vec<u16> = (0..40).map(open).collect();
    let expected: Vec<u16> = (0..40).map(|number: u16| number / 10 % 3 + 1).collect();
    assert_eq!(servers, expected);
}

/// What the sweep does with the bindings that are about to run out.
fn keep(director: &Director) {
    const TIME: Duration = Duration::from_secs(5);
    let table = &director.data_path.table;
    let mut keeper = director.data_path.executor.maps().keeper().unwrap();
    let due = keeper.due(now_ns(), TIME).unwrap();
    table.sweep_for(0..table.pages(), Tick::from_ns(now_ns()), |_| false, Some(&due), None);
    let alive = due.alive();
    keeper.prolong(alive, now_ns(), TIME);
}

/// Nothing comes from the client, and its connection is open: IPVS counts such connections, too.
#[test]
fn a_binding_lives_as_long_as_an_idle_connection() {
    let mut director = Director::new([(WEB, persistent(rr([1, 2, 3]), BY_CLIENT))]);
    assert_eq!(director.establish(from(1, 1000)), 1);
    for _ in 0..3 {
        age(&mut director, Duration::from_secs(1));
        keep(&director);
        let left = left(&director)[0];
        assert!((299..400).contains(&left.as_secs()), "{left:?}");
    }
    // Longer ago than its time-out, as when the controller did not run.
    age(&mut director, Duration::ZERO);
    keep(&director);
    assert_eq!(director.establish(from(1, 1001)), 1, "where the first one is");
    for port in [1000, 1001] {
        director.send(&Packet::rst(from(1, port)));
    }
    age(&mut director, Duration::from_secs(1));
    keep(&director);
    assert!(left(&director).iter().all(|left| *left <= Duration::from_secs(1)), "{:?}", left(&director));
    age(&mut director, Duration::ZERO);
    assert_eq!(director.establish(from(1, 1002)), 2, "its time is over");
}

#[test]
fn only_connections_of_the_binding_keep_it() {
    let mut director = Director::new([(WEB, persistent(rr([1, 2, 3]), BY_CLIENT))]);
    let none_is_kept = |director: &mut Director, what: &str| {
        age(director, Duration::from_secs(1));
        keep(director);
        assert!(left(director).iter().all(|left| *left <= Duration::from_secs(1)), "{what}");
    };
    assert_eq!(director.establish(from(1, 1000)), 1);
    director.send(&Packet::rst(from(1, 1000)));
    director.send(&Packet::syn(from(1, 1001)));
    none_is_kept(&mut director, "a client that tries again and again");
    assert_eq!(director.establish(from(2, 1000)), 2);
    director.change_service(WEB, |service| service.servers[1].usable = false);
    assert_ne!(director.establish(from(2, 1001)), 2, "its server is down");
    age(&mut director, Duration::from_secs(1));
    keep(&director);
    let of_server_2 =
        bound(&director).iter().filter(|(_, binding)| binding.server == target(2).address()).count();
    assert_eq!(of_server_2, 0, "the connection to the old server does not bring it back");
}

#[test]
fn a_binding_ends_with_its_time_and_packets_of_connections_prolong_it() {
    let mut director = Director::new([(WEB, persistent(rr([1, 2, 3]), BY_CLIENT))]);
    assert_eq!(director.establish(from(1, 1000)), 1);
    let full = left(&director)[0];
    assert!(full > Duration::from_secs(299) && full < Duration::from_secs(320), "{full:?}");
    age(&mut director, Duration::from_secs(5));
    for port in 2000..2003 {
        assert_eq!(director.send(&Packet::syn(from(1, port))).server(), 1);
        assert_eq!(director.send(&Packet::syn(from(1, port))).server(), 1, "the same packet again");
    }
    assert!(left(&director)[0] < Duration::from_secs(6), "first packets do not prolong it");
    assert_eq!(director.send(&Packet::ack(from(1, 2000))).server(), 1);
    assert!(left(&director)[0] < Duration::from_secs(6), "nor do two packets");
    assert_eq!(director.send(&Packet::data(from(1, 2000))).server(), 1);
    assert!(left(&director)[0] > Duration::from_secs(299), "an established connection does");
    age(&mut director, Duration::ZERO);
    assert_eq!(director.establish(from(1, 3000)), 2, "its time is over: it is new");
    assert_eq!(director.establish(from(1, 3001)), 2);
}

#[test]
fn a_client_of_a_dead_server_gets_another_at_once_and_stays_there() {
    let mut director = Director::new([(WEB, persistent(rr([1, 2, 3]), BY_CLIENT))]);
    assert_eq!(director.establish(from(1, 1000)), 1);
    assert_eq!(director.send(&Packet::syn(from(1, 1001))).server(), 1, "half open");
    let down = |service: &mut Service| {
        service.servers[0] =
            lb_datapath::plan::Server { usable: false, weight: 0, binds: false, ..server(1, 1) };
    };
    director.change_service(WEB, down);
    let moved = director.send(&Packet::syn(from(1, 1001))).server();
    assert_ne!(moved, 1, "the first packet again");
    assert_eq!(director.send(&Packet::ack(from(1, 1000))).server(), 1, "what is established stays");
    assert_eq!(director.establish(from(1, 1002)), moved);
    let binding = bound(&director);
    assert_eq!(binding.len(), 1);
    // The server comes back: its connection goes on, and the client stays where it is.
    director.change_service(WEB, |service| service.servers[0] = server(1, 1));
    assert_eq!(director.send(&Packet::ack(from(1, 1000))).server(), 1);
    assert_eq!(director.establish(from(1, 1003)), moved);
    // Removed for good: as if it were down.
    let gone =
        director.change_service(WEB, |service| service.servers.retain(|one| one.target != target(moved)));
    let next = director.establish(from(1, 1004));
    assert_ne!(next, moved);
    director.purge(&gone);
    assert_eq!(director.establish(from(1, 1005)), next);
    director.assert_counts_are_true();
}

#[test]
fn without_any_server_the_binding_waits_for_it() {
    let mut director = Director::new([(WEB, persistent(rr([1]), BY_CLIENT))]);
    director.change_service(WEB, |service| service.servers.push(server(2, 1)));
    let first = director.establish(from(1, 1000));
    director.change_service(WEB, |service| {
        for server in &mut service.servers {
            (server.usable, server.binds) = (false, false);
        }
        service.servers.push(local(true));
    });
    assert_eq!(director.send(&Packet::syn(from(1, 1001))).verdict, Verdict::Pass, "the fallback");
    director.change_service(WEB, |service| {
        service.servers.retain(|server| server.target != lb_datapath::plan::Target::Local);
        for server in &mut service.servers {
            (server.usable, server.binds) = (true, true);
        }
    });
    assert_eq!(director.establish(from(1, 1002)), first);
}

#[test]
fn weight_zero_keeps_bound_clients_or_not() {
    for keeps in [true, false] {
        let mut director = Director::new([(WEB, persistent(rr([1, 2]), BY_CLIENT))]);
        assert_eq!(director.establish(from(1, 1000)), 1);
        director.change_service(WEB, |service| {
            service.servers[0] = lb_datapath::plan::Server { weight: 0, binds: keeps, ..server(1, 1) };
        });
        assert_eq!(director.establish(from(1, 1001)), if keeps { 1 } else { 2 });
        assert_eq!(director.establish(from(2, 1000)), 2, "nobody new comes");
    }
}

/// FTP: the port itself and a range of its data ports, two services with servers of their own
/// numbers and another order.
#[test]
fn services_of_a_group_share_the_servers_of_clients() {
    let (control, data) = (tcp(VIP, 21), ServiceKey { port: 30_000, ..tcp(VIP, 21) });
    let mut range = persistent(rr([3, 2, 1]), BY_CLIENT);
    let ports = lb_model::PortRange { first: 30_000, last: 30_099 };
    range.settings.ports = Ports::of(&[ports]);
    let mut director = Director::with_sizes(
        SMALL.with_services(1000, 0),
        [
            (control, persistent(rr([1, 2, 3]), BY_CLIENT)),
            (data, range),
            (WEB, persistent(rr([1, 2, 3]), Persistence { group: 8, ..BY_CLIENT })),
        ],
    );
    let open = |director: &Director, number: u32, source: u16, port: u16| {
        let server = director.send(&Packet::syn(from(number, source)).to(VIP, port)).server();
        for packet in [Packet::ack, Packet::data] {
            assert_eq!(director.send(&packet(from(number, source)).to(VIP, port)).server(), server);
        }
        server
    };
    for number in 0..9_u16 {
        let server = open(&director, number.into(), 1000, 21);
        assert_eq!(server, number % 3 + 1);
        for (source, port) in [(1001, 30_000), (1002, 30_050), (1003, 30_099)] {
            assert_eq!(
                open(&director, number.into(), source, port),
                server,
                "client {number} at port {port}"
            );
        }
    }
    assert_eq!(bound(&director).len(), 9);
    assert_eq!(director.establish(from(1, 1000)), 1, "another group");
    // A server that the other service does not have.
    director.change_service(data, |service| service.servers.retain(|one| one.target != target(1)));
    assert_ne!(open(&director, 0, 1005, 30_000), 1);
}

#[test]
fn datagrams_prolong_their_binding_each_time() {
    let mut director = Director::new([(WEB_UDP, persistent(rr([1, 2, 3]), BY_CLIENT))]);
    let send = |director: &Director, port| director.send(&Packet::udp(from(1, port))).server();
    assert_eq!(send(&director, 1000), 1);
    assert_eq!(bound(&director), [], "one datagram is no flow");
    age(&mut director, Duration::from_secs(5));
    assert_eq!(send(&director, 1001), 1);
    assert!(director.tentative.list(now_ns()).unwrap()[0].1.until_ns > now_ns() + 290_000_000_000);
    assert_eq!(send(&director, 1001), 1);
    assert_eq!(bound(&director), [], "nor are two");
    assert_eq!(send(&director, 1001), 1);
    assert_eq!(bound(&director).len(), 1);
    assert_eq!(send(&director, 1002), 1);
}

/// The client has its binding back with a packet of its connection, and it is counted that it was
/// gone.
#[test]
fn a_binding_that_gave_way_is_counted_and_made_anew() {
    let mut director = Director::new([(WEB, persistent(rr([1, 2, 3]), BY_CLIENT))]);
    assert_eq!(director.establish(from(1, 1000)), 1);
    let write_anew = |director: &mut Director| {
        director.change_service(WEB, |service| service.settings.timeouts.established *= 2);
        assert_eq!(director.send(&Packet::ack(from(1, 1000))).server(), 1);
    };
    write_anew(&mut director);
    assert_eq!(director.event(TableEvent::BindingLost), 0, "it was there");
    let give_way = |director: &mut Director| {
        age(director, Duration::ZERO);
        director.data_path.executor.bindings().clear().expect("a map");
    };
    give_way(&mut director);
    write_anew(&mut director);
    assert_eq!(director.event(TableEvent::BindingLost), 1);
    assert_eq!(bound(&director).len(), 1, "it is bound anew");
    write_anew(&mut director);
    assert_eq!(director.event(TableEvent::BindingLost), 1, "once");
    // What no connection goes on of nobody misses.
    give_way(&mut director);
    assert_eq!(director.establish(from(2, 1000)), 2);
    assert_eq!(director.event(TableEvent::BindingLost), 1);
}

/// However many clients come, bindings take the room that they were given: those that nothing was
/// heard of for longest give way, and first packets push out nobody who is bound for good.
#[test]
fn many_clients_take_no_more_room_than_there_is() {
    const ROOM: u32 = 1024;
    let sizes = Sizes { bindings: ROOM, connections: 1 << 15, ..SMALL };
    let director = Director::with_sizes(sizes, [(WEB, persistent(rr([1, 2, 3]), BY_CLIENT))]);
    for number in 0..5 * ROOM {
        let server = director.establish(from(number, 1000));
        assert_eq!(director.establish(from(number, 1001)), server, "client {number} was just bound");
        if number % ROOM == 0 {
            assert!(bound(&director).len() <= ROOM as usize);
        }
    }
    let of_many = bound(&director);
    assert!((ROOM as usize / 2..=ROOM as usize).contains(&of_many.len()), "{} are bound", of_many.len());
    for number in 0..TENTATIVE + 5000 {
        director.send(&Packet::syn(from(1_000_000 + number, 1000)));
    }
    let tentative = director.tentative.list(now_ns()).unwrap().len();
    assert!(tentative <= TENTATIVE as usize, "{tentative} are bound for a start");
    let clients = |bound: &[(Key, Binding)]| bound.iter().map(|(key, _)| *key).collect::<BTreeSet<Key>>();
    assert_eq!(clients(&bound(&director)), clients(&of_many), "first packets push out nobody");
}
