//! Servers that come, go, and take no new connections: weight 0, unusable, no MAC, fallback,
//! removal, reload.

use std::collections::BTreeMap;

use lb_common::reason::Reason;
use lb_datapath::object::Sizes;
use lb_datapath::plan::{Server, Service, State, Target};
use lb_model::Scheduler;
use lb_tests::harness::*;

fn both() -> Director {
    Director::new([(WEB, rr([1, 2])), (WEB_UDP, rr([1, 2]))])
}

/// Changes server 1 of both services.
fn change_first(director: &mut Director, change: impl Fn(&mut Server)) {
    for key in [WEB, WEB_UDP] {
        director.change_service(key, |service| change(&mut service.servers[0]));
    }
}

#[test]
fn weight_zero_keeps_what_it_has_and_takes_nothing_new() {
    // Those that would pick both servers, one after the other.
    let in_turn =
        [Scheduler::Rr, Scheduler::Wrr, Scheduler::Lc, Scheduler::Wlc, Scheduler::Sed, Scheduler::Nq];
    for scheduler in in_turn {
        let mut director =
            Director::new([(WEB, service(scheduler, &[1, 1])), (WEB_UDP, service(scheduler, &[1, 1]))]);
        assert_eq!(director.open(client(1)), 1);
        assert_eq!(director.send(&Packet::udp(client(1))).server(), 1);
        assert_eq!(director.send(&Packet::syn(client(2))).server(), 2);
        change_first(&mut director, |server| server.weight = 0);
        for packet in [Packet::ack(client(1)), Packet::syn(client(1)), Packet::udp(client(1))] {
            assert_eq!(director.send(&packet).server(), 1, "{scheduler:?}: {packet:?}");
        }
        for number in 10..20 {
            assert_eq!(director.open(client(number)), 2, "{scheduler:?}");
            assert_eq!(director.send(&Packet::udp(client(number))).server(), 2, "{scheduler:?}");
        }
        director.send(&Packet::fin(client(1)));
        assert_eq!(director.open(client(1)), 2, "{scheduler:?}: a new connection of an old client");
    }
}

#[test]
fn an_unusable_server_keeps_known_tcp_connections_only() {
    let mut director = both();
    assert_eq!(director.open(client(1)), 1);
    assert_eq!(director.send(&Packet::udp(client(1))).server(), 1);
    assert_eq!(director.send(&Packet::syn(client(2))).server(), 2);
    assert_eq!(director.send(&Packet::syn(client(3))).server(), 1, "half-open when its server dies");
    change_first(&mut director, |server| server.usable = false);

    assert_eq!(director.send(&Packet::ack(client(1))).server(), 1);
    assert_eq!(director.send(&Packet::udp(client(1))).server(), 2, "a datagram finds another server");
    assert_eq!(director.send(&Packet::udp(client(1))).server(), 2);
    assert_eq!(director.send(&Packet::syn(client(3))).server(), 2, "so does the SYN's next try");
    assert_eq!(director.send(&Packet::ack(client(3))).server(), 2);
    assert_eq!(director.open(client(4)), 2);
    assert_eq!(director.send(&Packet::fin(client(1))).server(), 1);
    assert_eq!((director.counts(WEB, 1), director.counts(WEB_UDP, 1)), ((0, 1), (0, 0)));
    director.assert_counts_are_true();

    change_first(&mut director, |server| server.usable = true);
    assert_eq!(director.send(&Packet::udp(client(1))).server(), 2, "what moved stays where it is");
    let picks: Vec<u16> = (10..14).map(|number| director.open(client(number))).collect();
    assert_eq!(picks.iter().filter(|server| **server == 1).count(), 2, "back in the round: {picks:?}");
}

#[test]
fn without_a_mac_nothing_is_sent_to_where_it_used_to_be() {
    let mut director = both();
    assert_eq!(director.open(client(1)), 1);
    change_first(&mut director, |server| {
        server.mac = None;
        server.usable = false;
    });
    let (outcome, reasons) = director.explain(&Packet::ack(client(1)).bytes());
    assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::NoMac]));
    assert_eq!(director.open(client(2)), 2);

    change_first(&mut director, |server| {
        server.mac = Some(mac(99));
        server.usable = true;
    });
    assert_eq!(director.send(&Packet::ack(client(1))).server(), 99, "the connection lived on");
}

/// A MAC can be lost before the plan knows: until then the schedule still names the server.
#[test]
fn a_syn_that_met_no_mac_finds_another_server_at_its_next_try() {
    let mut director = both();
    change_first(&mut director, |server| server.mac = None);
    assert_eq!(director.explain(&Packet::syn(client(1)).bytes()).1, [Reason::NoMac]);
    assert_eq!(director.send(&Packet::syn(client(1))).server(), 2);
    assert_eq!(director.explain(&Packet::udp(client(1)).bytes()).1, [Reason::NoMac]);
    assert_eq!(director.send(&Packet::udp(client(1))).server(), 2);
    director.assert_counts_are_true();
}

#[test]
fn no_member_means_no_server() {
    let unusable = |service: &mut Service| service.servers[0].usable = false;
    let weightless = |service: &mut Service| service.servers[0].weight = 0;
    let gone = |service: &mut Service| service.servers.clear();
    for scheduler in Scheduler::ALL {
        for without in [unusable, weightless, gone] {
            let mut director =
                Director::new([(WEB, service(scheduler, &[1])), (WEB_UDP, service(scheduler, &[1]))]);
            for key in [WEB, WEB_UDP] {
                director.change_service(key, without);
            }
            for packet in [Packet::syn(client(1)), Packet::udp(client(1))] {
                let (outcome, reasons) = director.explain(&packet.bytes());
                assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::NoServer]));
            }
            assert_eq!(director.entries(), 0);
        }
    }
}

#[test]
fn the_fallback_serves_while_nobody_else_does_and_keeps_what_it_began() {
    let with_fallback = |mut service: Service| {
        service.servers.push(local(false));
        service
    };
    let mut director = Director::new([(WEB, with_fallback(rr([1]))), (WEB_UDP, with_fallback(rr([1])))]);
    assert_eq!(director.open(client(1)), 1);
    for key in [WEB, WEB_UDP] {
        director.change_service(key, |service| {
            service.servers[0].usable = false;
            service.servers[1].usable = true;
        });
    }
    let (syn, ack, udp) = (Packet::syn(client(2)), Packet::ack(client(2)), Packet::udp(client(2)));
    for packet in [&syn, &ack, &udp] {
        let frame = packet.bytes();
        let (outcome, reasons) = director.explain(&frame);
        assert_eq!(reasons, [Reason::LocalFallback]);
        assert_eq!(outcome, Outcome { verdict: Verdict::Pass, frame }, "passed as it came");
    }
    assert_eq!(director.send(&Packet::ack(client(1))).server(), 1, "begun before its server failed");
    let host = director.id_of(WEB, Target::Local);
    assert_eq!(director.data_path.table.counts(host).active(), 1);
    assert_eq!(director.data_path.executor.maps().stats.read(host).unwrap().connections, 1);

    for key in [WEB, WEB_UDP] {
        director.change_service(key, |service| {
            service.servers[0].usable = true;
            service.servers[1].usable = false;
        });
    }
    assert_eq!(director.explain(&ack.bytes()).1, [Reason::LocalFallback], "it stays with the host");
    assert_eq!(director.open(client(3)), 1);
    assert_eq!(director.send(&udp).server(), 1, "datagrams go back at once");
    assert_eq!(director.explain(&Packet::fin(client(2)).bytes()).1, [Reason::LocalFallback]);
    assert_eq!(director.open(client(2)), 1, "its next connection does not");
    director.assert_counts_are_true();
}

#[test]
fn a_removed_servers_connections_end_with_the_purge() {
    let mut director = Director::new([(WEB, rr([1, 2]))]);
    assert_eq!([director.open(client(1)), director.open(client(2))], [1, 2]);
    let old = director.id(WEB, 1);
    let leaving = director.change_service(WEB, |service| _ = service.servers.remove(0));
    assert_eq!(leaving, [old]);
    assert_eq!(director.open(client(3)), 2, "nothing new");

    let census = director.purge(&leaving);
    assert_eq!(census.purged, 1);
    assert_eq!(director.explain(&Packet::ack(client(1)).bytes()).1, [Reason::Stray]);
    assert_eq!(director.send(&Packet::ack(client(2))).server(), 2, "the other server's stay");
    assert_eq!(director.data_path.table.counts(old).0, 0);
    director.assert_counts_are_true();
}

#[test]
fn a_number_is_not_used_again_before_the_purge() {
    let mut director = Director::new([(WEB, rr([1, 2]))]);
    director.open(client(1));
    let old = director.id(WEB, 1);
    let leaving = director.change_service(WEB, |service| service.servers[0] = server(3, 1));
    assert_ne!(director.id(WEB, 3), old);
    // The same server added again is a new one: what the old number remembers is not its own.
    director.change_service(WEB, |service| service.servers.push(server(1, 1)));
    assert!(![director.id(WEB, 3), old].contains(&director.id(WEB, 1)));
    director.purge(&leaving);
    director.change_service(WEB, |service| service.servers.push(server(4, 1)));
    assert_eq!(director.id(WEB, 4), old, "free again");
    assert_eq!(director.counts(WEB, 4), (0, 0));
    assert_eq!(director.stats(WEB, 4).packets, 0, "totals begin anew with the number");
}

#[test]
fn a_removed_service_is_gone_and_its_numbers_come_back_after_the_purge() {
    let other = tcp(VIP, 443);
    let mut director = Director::new([(WEB, rr([1, 2])), (other, rr([3]))]);
    director.open(client(1));
    director.send(&Packet::syn(client(1)).to(VIP, 443));
    let leaving = director.change(|state| _ = state.services.remove(&WEB));
    assert_eq!(leaving.len(), 2);
    let (outcome, reasons) = director.explain(&Packet::syn(client(2)).bytes());
    assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "nobody's service");

    // Back before the purge: the old connection is not the new service's.
    director.change(|state| _ = state.services.insert(WEB, rr([5, 6])));
    let picks: Vec<u16> = (10..14).map(|number| director.open(client(number))).collect();
    assert_eq!(picks, [5, 6, 5, 6]);
    assert_eq!(director.purge(&leaving).purged, 1);
    assert_eq!(director.explain(&Packet::ack(client(1)).bytes()).1, [Reason::Stray]);
    assert_eq!(director.send(&Packet::ack(client(10))).server(), 5);
    assert_eq!(director.send(&Packet::ack(client(1)).to(VIP, 443)).server(), 3);
    director.assert_counts_are_true();
}

#[test]
fn numbers_last_through_many_reloads() {
    let sizes = Sizes { services: 4, servers: 6, ..SMALL };
    let mut director = Director::with_sizes(sizes, [(WEB, rr([1, 2]))]);
    for round in 0..50 {
        let services = BTreeMap::from([(WEB, rr([round, round + 1])), (tcp(VIP, 1000 + round), rr([9]))]);
        let leaving = director.apply(State { services, ..State::default() });
        director.purge(&leaving);
        assert!([round, round + 1].contains(&director.open(client(u32::from(round)))));
    }
    director.assert_counts_are_true();
}

/// Everything changes around server 1: its connections are where they were, its counts and totals
/// too.
#[test]
fn a_reload_touches_no_connection_of_an_unchanged_server() {
    let mut director = Director::new([(WEB, rr([1, 2])), (WEB_UDP, rr([1, 2])), (tcp(VIP, 443), rr([1]))]);
    let homes: Vec<u16> = (0..100).map(|number| director.open(client(number))).collect();
    let udp_homes: Vec<u16> =
        (0..100).map(|number| director.send(&Packet::udp(client(number))).server()).collect();
    let id = director.id(WEB, 1);
    let before = (director.counts(WEB, 1), director.stats(WEB, 1));

    let mut web = service(Scheduler::Wlc, &[]);
    web.servers = vec![server(7, 5), server(1, 3), server(8, 0)];
    web.settings.timeouts.fin_wait *= 2;
    let mut web_udp = rr([2, 1, 3]);
    web_udp.servers[0].weight = 4;
    let services = [(WEB, web), (WEB_UDP, web_udp), (tcp(OTHER_VIP, PORT), rr([1, 2]))];
    let leaving = director.apply(State { services: services.into(), ..State::default() });
    assert_eq!(leaving.len(), 2, "server 2 of the web, server 1 of port 443");

    assert_eq!(director.id(WEB, 1), id);
    assert_eq!((director.counts(WEB, 1), director.stats(WEB, 1)), before);
    director.purge(&leaving);
    for (number, (home, udp_home)) in (0..).zip(homes.iter().zip(&udp_homes)) {
        let sent_to = director.send(&Packet::ack(client(number))).sent_to();
        assert_eq!(sent_to, (*home == 1).then_some(1), "client {number}");
        assert_eq!(director.send(&Packet::udp(client(number))).server(), *udp_home, "client {number}");
    }
    assert_eq!(director.counts(WEB, 1), before.0);
    director.assert_counts_are_true();
}

#[test]
fn an_equal_state_changes_nothing() {
    let mut director = both();
    director.open(client(1));
    let state = director.data_path.applied().clone();
    let applied = director.data_path.apply(state);
    assert_eq!((applied.changes, applied.purge), (vec![], vec![]));
    assert_eq!(director.open(client(2)), 2, "not even the turn");
}

/// There is room for six servers.
#[test]
fn a_change_that_does_not_fit_leaves_a_director_that_works() {
    let sizes = Sizes { services: 4, servers: 6, ..SMALL };
    let mut director = Director::with_sizes(sizes, [(WEB, rr([1, 2]))]);
    let homes: Vec<u16> = (0..10).map(|number| director.open(client(number))).collect();
    let good = director.data_path.applied().clone();
    for _ in 0..5 {
        let mut too_much = good.clone();
        too_much.services.insert(WEB_UDP, rr(3..=8));
        let errors = director.data_path.apply(too_much).errors;
        let error = errors.first().expect("eight servers").to_string();
        assert!(error.contains("room for 6 servers"), "{error}");
        // What could be added has to go again.
        let leaving = director.apply(good.clone());
        director.purge(&leaving);
    }
    for (number, home) in (0..).zip(homes) {
        assert_eq!(director.send(&Packet::ack(client(number))).server(), home, "client {number}");
    }
    assert_eq!(director.send(&Packet::udp(client(1))).verdict, Verdict::Pass, "no such service any more");
    director.change(|state| _ = state.services.insert(WEB_UDP, rr(3..=6)));
    assert_eq!(director.send(&Packet::udp(client(1))).server(), 3);
}

/// As many as the maps have room for, all answered by their own server.
#[test]
fn thousands_of_services() {
    const SERVICES: u16 = 4096;
    let room = u32::from(SERVICES);
    let sizes = Sizes { services: room, servers: room, schedule_words: 8 * room, ..SMALL };
    let port = |number: u16| 10_000 + number;
    let services = (0..SERVICES).map(|number| (tcp(VIP, port(number)), rr([number + 1])));
    let director = Director::with_sizes(sizes, services);
    for number in 0..SERVICES {
        let packet = Packet::syn(client(1)).to(VIP, port(number));
        assert_eq!(director.send(&packet).server(), number + 1);
    }
    assert_eq!(director.send(&Packet::syn(client(1)).to(VIP, port(SERVICES))).verdict, Verdict::Pass);
}
