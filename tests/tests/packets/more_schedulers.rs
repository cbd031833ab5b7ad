//! sed, nq, sh, dh, mh, fo, ovf and twos through the program.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::reason::Reason;
use lb_common::schedule::Member;
use lb_common::schedule::least::Least;
use lb_common::server::{Counts, ServerId};
use lb_datapath::plan::{Server, Service};
use lb_model::{Hashing, Scheduler, Stray};
use lb_tests::harness::*;

const HASHING: [Scheduler; 2] = [Scheduler::Sh, Scheduler::Mh];

/// Servers of new connections, as letters: A is server 1.
fn picks(director: &Director, clients: std::ops::Range<u32>) -> String {
    clients.map(|number| char::from(b'@' + director.open(client(number)) as u8)).collect()
}

#[track_caller]
fn assert_picks(scheduler: Scheduler, weights: &[u16], expected: &str) {
    let director = Director::new([(WEB, service(scheduler, weights))]);
    assert_eq!(picks(&director, 0..expected.len() as u32), expected, "{scheduler:?} over {weights:?}");
}

#[test]
fn shortest_expected_delay() {
    assert_picks(Scheduler::Sed, &[1, 1, 1], "ABCABC");
    // (active + 1) / weight: A 1/4, 2/4, then B 1/2 is not less than A 2/4.
    assert_picks(Scheduler::Sed, &[4, 2, 1], "AABAABCAABAABC");
    assert_picks(Scheduler::Sed, &[0, 1], "BB");
}

#[test]
fn never_queue() {
    assert_picks(Scheduler::Nq, &[4, 2, 1], "ABCAAABAABAABC");
    assert_picks(Scheduler::Nq, &[1, 0, 9], "ACCCCCCCC");
    let director = Director::new([(WEB, service(Scheduler::Nq, &[1, 100]))]);
    assert_eq!(picks(&director, 0..4), "ABBB");
    director.send(&Packet::fin(client(0)));
    assert_eq!(picks(&director, 4..6), "AB", "A is idle again");
}

/// No SYN finds all servers idle for long: half-open connections count as the 256th part.
#[test]
fn never_queue_spreads_what_is_half_open() {
    let director = Director::new([(WEB, service(Scheduler::Nq, &[1, 1, 1]))]);
    let picks: Vec<u16> = (0..9).map(|number| director.send(&Packet::syn(client(number))).server()).collect();
    assert_eq!(picks, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[test]
fn fail_over_to_the_next_weight() {
    let mut director = Director::new([(WEB, service(Scheduler::Fo, &[1, 3, 2, 3]))]);
    assert_eq!(picks(&director, 0..4), "BBBB", "of equals the first");
    director.change_service(WEB, |service| service.servers[1].usable = false);
    assert_eq!(picks(&director, 4..6), "DD");
    director.change_service(WEB, |service| service.servers[3].weight = 0);
    assert_eq!(picks(&director, 6..8), "CC");
    assert_eq!(director.send(&Packet::ack(client(4))).server(), 4, "connections of weight 0 stay");
}

#[test]
fn overflow_fills_one_after_the_other() {
    let director = Director::new([(WEB, service(Scheduler::Ovf, &[1, 3, 2]))]);
    assert_eq!(picks(&director, 0..6), "BBBCCA");
    let (_, reasons) = director.explain(&Packet::syn(client(6)).bytes());
    assert_eq!(reasons, [Reason::NoServer], "all are full");
    director.send(&Packet::fin(client(1)));
    assert_eq!(picks(&director, 7..8), "B", "there is room again");
}

#[test]
fn two_choices_take_the_less_loaded() {
    let mut director = Director::new([(WEB, service(Scheduler::Twos, &[1, 1]))]);
    for number in 0..200 {
        director.open(client(number));
    }
    let (first, second) = (director.counts(WEB, 1).0, director.counts(WEB, 2).0);
    assert_eq!(first + second, 200);
    // One in four draws meets the busier one twice: a walk that is pulled to the middle.
    assert!(first.abs_diff(second) < 30, "{first} and {second}");
    director.change_service(WEB, |service| service.servers[0].weight = 0);
    assert!((200..210).all(|number| director.open(client(number)) == 2));
}

#[test]
fn two_choices_go_by_weight() {
    let director = Director::new([(WEB, service(Scheduler::Twos, &[3, 1, 0]))]);
    for number in 0..400 {
        director.open(client(number));
    }
    let heavy = director.counts(WEB, 1).0;
    assert!((270..330).contains(&heavy), "three of four: {heavy}");
    assert_eq!(director.counts(WEB, 3), (0, 0));
}

#[test]
fn two_hundred_and_fifty_six_servers_by_the_rule() {
    let weights: Vec<u16> = (0..256).map(|index| index % 5).collect();
    for scheduler in [Scheduler::Sed, Scheduler::Nq, Scheduler::Ovf] {
        let director = Director::new([(WEB, service(scheduler, &weights))]);
        let mut counts = vec![0; weights.len()];
        for number in 0..400 {
            let mut least = Least::of(scheduler).unwrap();
            for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
                let member = Member::new(ServerId(index as u16 + 1), *weight);
                least.consider(member, Counts::new(counts[index], 0));
            }
            let expected = least.server().unwrap().0;
            assert_eq!(director.open(client(number)), expected, "{scheduler:?}, pick {number}");
            counts[usize::from(expected) - 1] += 1;
        }
    }
}

/// By client number, the server of a SYN; `None`: no server.
fn homes(director: &Director, from: fn(u32) -> Client) -> Vec<Option<u16>> {
    (0..300).map(|number| director.send(&Packet::syn(from(number))).sent_to()).collect()
}

fn hashed(scheduler: Scheduler, weights: &[u16]) -> Service {
    service(scheduler, weights)
}

/// One client address, ports of its own.
fn port(number: u32) -> Client {
    SocketAddrV4::new(Ipv4Addr::new(10, 9, 8, 7), 1024 + number as u16)
}

/// The same client from another port: another connection.
fn again(number: u32) -> Client {
    SocketAddrV4::new(*client(number).ip(), 50_001)
}

fn used(homes: &[Option<u16>]) -> BTreeMap<Option<u16>, usize> {
    let mut used = BTreeMap::new();
    homes.iter().for_each(|home| *used.entry(*home).or_default() += 1);
    used
}

#[test]
fn a_client_comes_to_the_same_server_from_any_port() {
    for scheduler in HASHING {
        let director = Director::new([(WEB, hashed(scheduler, &[4, 3, 2, 0]))]);
        let first = homes(&director, client);
        let stays = first.iter().zip(homes(&director, again)).all(|(one, other)| *one == other);
        assert!(stays, "{scheduler:?}");
        assert_eq!(used(&homes(&director, port)).len(), 1, "one address, one server");
        let used = used(&first);
        let of = |server| used.get(&server).copied().unwrap_or_default();
        assert!(of(Some(1)) > of(Some(3)) && of(Some(2)) > 50 && of(Some(3)) > 25, "{used:?}");
        assert_eq!(of(Some(4)), 0);
        assert!((10..60).contains(&of(None)), "who belongs to weight 0 gets nobody: {used:?}");
    }
}

#[test]
fn with_its_port_a_client_uses_all_servers() {
    for scheduler in HASHING {
        let mut web = hashed(scheduler, &[1, 1, 1]);
        web.hashing.port = true;
        let director = Director::new([(WEB, web)]);
        let used = used(&homes(&director, port));
        assert!(used.len() == 3 && used.values().all(|clients| (60..140).contains(clients)), "{used:?}");
    }
}

#[test]
fn the_destination_picks_one_server() {
    let vips: Vec<Ipv4Addr> = (1..=30).map(|host| Ipv4Addr::new(211, 58, 250, host)).collect();
    let director = Director::new(vips.iter().map(|vip| (tcp(*vip, PORT), hashed(Scheduler::Dh, &[1, 1, 1]))));
    let home = |vip: &Ipv4Addr| {
        let of = |number| director.send(&Packet::syn(client(number)).to(*vip, PORT)).server();
        assert!((1..5).all(|number| of(number) == of(0)), "all clients come to one server");
        Some(of(0))
    };
    let used = used(&vips.iter().map(home).collect::<Vec<_>>());
    assert_eq!(used.len(), 3, "but of several VIPs to several: {used:?}");
}

/// Weight 0 by will: without the fallback its clients get nobody, with it they go on, and nobody
/// else does.
#[test]
fn a_server_of_weight_0_keeps_its_clients_from_others_unless_they_fall_back() {
    for scheduler in HASHING {
        let mut director = Director::new([(WEB, hashed(scheduler, &[1, 1, 1]))]);
        let before = homes(&director, client);
        director.change_service(WEB, |service| service.servers[1].weight = 0);
        let refused = homes(&director, again);
        for (before, now) in before.iter().zip(&refused) {
            assert_eq!(*now, before.filter(|server| *server != 2), "{scheduler:?}");
        }
        director.change_service(WEB, |service| service.hashing = Hashing { fallback: true, port: false });
        let gone_on = homes(&director, |number| SocketAddrV4::new(*client(number).ip(), 50_002));
        for (before, now) in before.iter().zip(&gone_on) {
            match before {
                Some(2) => assert!(matches!(now, Some(1 | 3)), "{scheduler:?}"),
                _ => assert_eq!(now, before, "{scheduler:?}"),
            }
        }
        assert_eq!(used(&gone_on).len(), 2, "on to both others");
        assert_eq!(director.send(&Packet::ack(client(0))).sent_to(), before[0], "known ones stay");
    }
}

/// A server that is down: its clients go on without being told to, and come back to it.
#[test]
fn clients_of_a_server_that_is_down_go_on_and_come_back() {
    for scheduler in HASHING {
        let mut director = Director::new([(WEB, hashed(scheduler, &[1, 1, 1]))]);
        let before = homes(&director, client);
        director.change_service(WEB, |service| {
            service.servers[1] = Server { usable: false, weight: 0, ..service.servers[1] };
        });
        for (before, now) in before.iter().zip(homes(&director, again)) {
            assert!(*before == now || *before == Some(2) && now.is_some(), "{scheduler:?}");
        }
        director.change_service(WEB, |service| {
            service.servers[1] = Server { usable: true, weight: 1, ..service.servers[1] };
        });
        assert_eq!(homes(&director, |number| SocketAddrV4::new(*client(number).ip(), 50_002)), before);
    }
}

#[test]
fn the_fallback_has_all_clients_when_nobody_else_serves() {
    let mut web = hashed(Scheduler::Mh, &[0, 0]);
    web.servers.push(Server { share: 0, ..server(9, 1) });
    let director = Director::new([(WEB, web)]);
    assert_eq!(used(&homes(&director, client)), BTreeMap::from([(Some(9), 300)]));
}

/// What a take-over is for those that hash: a director that knows no connection sends its packets
/// where the other one did, though its servers have other numbers.
#[test]
fn strays_go_where_the_scheduler_would_send_them_on_any_director() {
    for (scheduler, port) in
        [(Scheduler::Sh, false), (Scheduler::Mh, false), (Scheduler::Mh, true), (Scheduler::Dh, false)]
    {
        let web = || {
            let mut web = hashed(scheduler, &[2, 1, 0, 3]);
            web.settings.stray = Stray::Hash;
            web.hashing = Hashing { port, fallback: true };
            web
        };
        let first = Director::new([(WEB, web())]);
        // Numbers of services and servers are others.
        let second = Director::new([(tcp(OTHER_VIP, PORT), rr(1..=7)), (WEB, web())]);
        for number in 0..200 {
            let home = first.open(client(number));
            let stray = second.send(&Packet::ack(client(number)));
            assert_eq!(stray.sent_to(), Some(home), "{scheduler:?}, client {number}");
        }
        assert_eq!(second.entries(), 0);
    }
}

/// One-packet scheduling with those that need no connections.
#[test]
fn datagrams_one_by_one() {
    for (scheduler, servers) in
        [(Scheduler::Sh, 1), (Scheduler::Dh, 1), (Scheduler::Mh, 1), (Scheduler::Fo, 1), (Scheduler::Twos, 3)]
    {
        let mut dns = service(scheduler, &[1, 1, 1]);
        dns.settings.each_datagram = true;
        let director = Director::new([(WEB_UDP, dns)]);
        let homes: Vec<_> = (0..100).map(|_| director.send(&Packet::udp(client(1))).sent_to()).collect();
        assert_eq!(used(&homes).len(), servers, "{scheduler:?}: {homes:?}");
        assert_eq!(director.entries(), 0);
    }
}

/// Flows of UDP are inactive connections for all schedulers; those that go by them spread them.
#[test]
fn flows_of_udp() {
    for scheduler in [Scheduler::Sed, Scheduler::Nq] {
        let director = Director::new([(WEB_UDP, service(scheduler, &[1, 1, 1]))]);
        let picks: Vec<u16> =
            (0..6).map(|number| director.send(&Packet::udp(client(number))).server()).collect();
        assert_eq!(picks, [1, 2, 3, 1, 2, 3], "{scheduler:?}");
    }
}
