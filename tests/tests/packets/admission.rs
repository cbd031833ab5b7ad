//! Which clients a service takes and how much of them: lists and rates.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::admission::{Admission, Rate};
use lb_common::reason::Reason;
use lb_common::stage::Stage;
use lb_datapath::plan::Service;
use lb_datapath::plan::clients::Clients;
use lb_model::ClientPrefix;
use lb_tests::harness::*;

const HOUR: u64 = 3_600_000_000_000 << lb_common::admission::SHIFT;

/// So many at once and no more as long as a test runs.
const fn only(burst: u64) -> Rate {
    Rate { interval: HOUR, burst: HOUR * burst }
}

fn with(service: Service, admission: Admission) -> Service {
    let mask = lb_common::binding::mask(true, 32).0;
    let admission = Admission { mask, ..admission };
    Service { clients: Clients { admission, listed: Arc::new(BTreeMap::new()) }, ..service }
}

fn prefix(text: &str) -> ClientPrefix {
    let (address, length) = text.split_once('/').expect("a prefix");
    ClientPrefix { address: address.parse().expect("an address"), length: length.parse().expect("a length") }
}

fn lists(allow: &[&str], deny: &[&str], is_ipv4: bool) -> Clients {
    let of = |list: &[&str]| list.iter().map(|text| prefix(text)).collect();
    let given =
        lb_model::Clients { allow: of(allow), deny: of(deny), prefix: 32, ..lb_model::Clients::default() };
    Clients::new(Some(&given), is_ipv4)
}

/// Why the packet is refused, if it is.
fn why(director: &Director, packet: &Packet) -> Option<Reason> {
    let (outcome, reasons) = director.explain(&packet.bytes());
    assert_eq!(outcome.verdict == Verdict::Tx, reasons.is_empty());
    reasons.first().copied()
}

fn opens(director: &Director, number: u32) -> Option<Reason> {
    why(director, &Packet::syn(client(number)))
}

#[test]
fn a_client_opens_so_many_connections_and_no_more() {
    let rule = Admission { client_new: only(3), ..Admission::default() };
    let mut director = Director::new([(WEB, with(rr([1]), rule)), (WEB_UDP, with(rr([1]), rule))]);
    let from = |port| Client::new(*client(1).ip(), port);
    for port in 1000..1003 {
        assert_eq!(why(&director, &Packet::syn(from(port))), None);
        assert_eq!(why(&director, &Packet::ack(from(port))), None);
        assert_eq!(why(&director, &Packet::data(from(port))), None);
    }
    assert_eq!(why(&director, &Packet::syn(from(1003))), Some(Reason::ClientNew));
    assert_eq!(director.reason(Reason::ClientNew), 1);
    assert_eq!(why(&director, &Packet::syn(from(1000))), None, "a SYN that comes again opens nothing");
    assert_eq!(opens(&director, 2), None, "another client");
    for port in 1000..1003 {
        assert_eq!(why(&director, &Packet::udp(from(port))), None, "another service");
    }
    assert_eq!(why(&director, &Packet::udp(from(1003))), Some(Reason::ClientNew));
    assert_eq!(why(&director, &Packet::udp(from(1002))), None, "it is known");
    // What is known does not pay.
    director.without_stage(Stage::Slow, |director| {
        assert_eq!(director.send(&Packet::ack(from(1000))).verdict, Verdict::Tx, "by the fast way");
    });
    director.change_service(WEB, |service| service.clients = Clients::default());
    assert_eq!(why(&director, &Packet::syn(from(1003))), None, "the rule is gone");
}

#[test]
fn clients_with_a_prefix_in_common_are_one() {
    let rule = Admission { client_new: only(2), ..Admission::default() };
    let mut web = with(rr([1]), rule);
    web.clients.admission.mask = lb_common::binding::mask(true, 24).0;
    let director = Director::new([(WEB, web)]);
    let from = |octets: [u8; 4]| Packet::syn(Client::new(octets.into(), 1000));
    assert_eq!(why(&director, &from([198, 51, 100, 1])), None);
    assert_eq!(why(&director, &from([198, 51, 100, 2])), None);
    assert_eq!(why(&director, &from([198, 51, 100, 3])), Some(Reason::ClientNew));
    assert_eq!(why(&director, &from([198, 51, 101, 3])), None);
}

#[test]
fn a_client_sends_so_many_packets_and_no_more() {
    let rule = Admission { client_packets: only(5), ..Admission::default() };
    let director = Director::new([(WEB, with(rr([1]), rule))]);
    director.establish(client(1));
    assert_eq!(why(&director, &Packet::ack(client(1))), None);
    assert_eq!(why(&director, &Packet::ack(client(1))), None);
    assert_eq!(why(&director, &Packet::ack(client(1))), Some(Reason::ClientPackets), "of a known connection");
    assert_eq!(why(&director, &Packet::ack(client(2))), Some(Reason::Stray), "another client has its own");
}

#[test]
fn all_clients_together_are_limited() {
    let rule = Admission { service_new: only(3), service_packets: only(7), ..Admission::default() };
    let director = Director::new([(WEB, with(rr([1]), rule))]);
    (1..=3).for_each(|number| assert_eq!(opens(&director, number), None));
    assert_eq!(opens(&director, 4), Some(Reason::ServiceNew));
    (1..=3).for_each(|number| assert_eq!(why(&director, &Packet::ack(client(number))), None));
    assert_eq!(why(&director, &Packet::ack(client(1))), Some(Reason::ServicePackets));
}

/// What a client's own limit refuses does not use up what all have.
#[test]
fn one_client_does_not_use_up_what_all_have() {
    let rule = Admission { client_new: only(2), service_new: only(4), ..Admission::default() };
    let director = Director::new([(WEB, with(rr([1]), rule))]);
    for port in 1000..1100 {
        director.send(&Packet::syn(Client::new(*client(1).ip(), port)));
    }
    assert_eq!(director.reason(Reason::ClientNew), 98);
    assert_eq!((opens(&director, 2), opens(&director, 3)), (None, None));
    assert_eq!(opens(&director, 4), Some(Reason::ServiceNew));
}

#[test]
fn the_longest_prefix_decides() {
    let mut director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    let set = |director: &mut Director, clients: Clients| {
        director.change_service(WEB, |service| service.clients = clients.clone());
    };
    let from = |octets: [u8; 4]| Packet::syn(Client::new(octets.into(), 1000));
    let asked = |director: &Director, octets| why(director, &from(octets));
    set(&mut director, lists(&["198.51.100.64/26"], &["198.51.100.0/24"], true));
    assert_eq!(asked(&director, [198, 51, 100, 1]), Some(Reason::ClientDenied));
    assert_eq!(asked(&director, [198, 51, 100, 65]), None, "allowed within what is denied");
    assert_eq!(asked(&director, [203, 0, 113, 1]), None, "in no list");
    let datagram = Packet::udp(Client::new([198, 51, 100, 1].into(), 1000));
    assert_eq!(why(&director, &datagram), None, "another service");

    // A client that is denied from now on, in mid-connection.
    let known = Client::new([203, 0, 113, 9].into(), 1000);
    director.establish(known);
    set(&mut director, lists(&[], &["203.0.113.9/32"], true));
    assert_eq!(why(&director, &Packet::ack(known)), Some(Reason::ClientDenied));
    assert_eq!(asked(&director, [198, 51, 100, 1]), None, "not any more");

    set(&mut director, lists(&["203.0.113.0/24"], &[], true));
    assert_eq!(why(&director, &Packet::ack(known)), None, "its connection is still there");
    assert_eq!(asked(&director, [198, 51, 100, 1]), Some(Reason::ClientUnlisted));
    set(&mut director, Clients::default());
    assert_eq!(asked(&director, [198, 51, 100, 2]), None);
}

#[test]
fn a_hundred_thousand_prefixes_are_changed_by_what_differs() {
    let mut director = Director::new([(WEB, rr([1]))]);
    let many = |first: u32| lb_model::Clients {
        deny: (first..first + 100_000)
            .map(|number| ClientPrefix {
                address: IpAddr::V4((0x0b00_0000 + number * 16).into()),
                length: 28,
            })
            .collect(),
        prefix: 32,
        ..lb_model::Clients::default()
    };
    let asked = |director: &Director, number: u32| {
        why(director, &Packet::syn(Client::new((0x0b00_0000 + number * 16 + 7).into(), 1000)))
    };
    for first in [0, 10] {
        let clients = Clients::new(Some(&many(first)), true);
        director.change_service(WEB, |service| service.clients = clients.clone());
        for number in [first, first + 50_000, first + 99_999] {
            assert_eq!(asked(&director, number), Some(Reason::ClientDenied), "{number}");
        }
        assert_eq!(asked(&director, first + 100_000), None);
    }
    assert_eq!(asked(&director, 9), None, "it has left the list");
}

#[test]
fn ipv6_has_lists_and_rates_of_its_own() {
    let mut director = Director::new([(WEB6, rr([1]))]);
    let verdict = |director: &Director, number| director.explain(&tcp6(number, SYN));
    let networks = |number: u32| format!("{}/128", client6(number));
    let deny = networks(1);
    director.change_service(WEB6, |service| service.clients = lists(&[], &[&deny], false));
    assert_eq!(verdict(&director, 1).1, [Reason::ClientDenied]);
    assert_eq!(verdict(&director, 2).1, []);
    let mask = lb_common::binding::mask(false, 64).0;
    let admission = Admission { mask, client_new: only(2), ..Admission::default() };
    director.change_service(WEB6, |service| {
        service.clients = Clients { admission, listed: Arc::default() };
    });
    // Clients 11 to 18 are neighbours of one network.
    assert_eq!((verdict(&director, 11).1, verdict(&director, 12).1), (vec![], vec![]));
    assert_eq!(verdict(&director, 13).1, [Reason::ClientNew]);
    assert_eq!(verdict(&director, 21).1, []);
}

/// One of some is looked at, so of many it is certain that some are seen.
#[test]
fn who_does_most_is_told_first() {
    let rule = Admission { client_new: only(3000), ..Admission::default() };
    let director = Director::new([(WEB, with(rr([1]), rule)), (WEB_UDP, rr([1]))]);
    for port in 0..5000 {
        director.send(&Packet::syn(Client::new(*client(1).ip(), 10_000 + port)));
    }
    for port in 0..2500 {
        director.send(&Packet::udp(Client::new(*client(2).ip(), 10_000 + port)));
    }
    for number in 100..200 {
        director.send(&Packet::syn(client(number)));
    }
    let top = director.data_path.executor.top_clients().expect("the map can be read");
    let at = |number| (IpAddr::V4(*client(number).ip()));
    assert_eq!((top[0].client, top[0].service), (at(1), WEB));
    assert!((1000..9000).contains(&top[0].opened) && (500..6000).contains(&top[0].refused), "{:?}", top[0]);
    assert_eq!((top[1].client, top[1].service, top[1].refused), (at(2), WEB_UDP, 0));
    assert!((800..7000).contains(&top[1].opened), "{:?}", top[1]);
}
