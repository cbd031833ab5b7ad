//! Which clients a service takes and how much of them: lists and limits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;
use lb_common::addr::V6;
use lb_common::program::stage::Stage;
use lb_common::reason::Reason;
use lb_common::service::admission::{Admission, CLIENT_CONNECTIONS, ClientKey, PREFIXES, Rate, SHIFT};
use lb_common::service::binding::mask;
use lb_common::table::connection::Tick;
use lb_datapath::plan::Service;
use lb_datapath::plan::clients::Clients;
use lb_lab::busy;
use lb_model::{ClientLists, ClientPrefix, Listed};
use lb_system::clock::now_ns;
use lb_tests::harness::*;

const HOUR: u64 = 3_600_000_000_000 << SHIFT;

/// So many at once and no more as long as a test runs.
pub(crate) const fn only(burst: u64) -> Rate {
    Rate { interval: HOUR, burst: HOUR * burst }
}

/// No rule.
pub(crate) const NONE: Admission = Admission {
    mask: [0; 2],
    client_new: Rate::NONE,
    client_packets: Rate::NONE,
    service_new: Rate::NONE,
    service_packets: Rate::NONE,
    connections: 0,
    flags: 0,
};

/// The service with these limits, of each address.
pub(crate) fn limited(service: Service, admission: Admission) -> Service {
    let admission = Admission { mask: mask(true, 32).0, ..admission };
    Service { clients: Clients { admission, ..Clients::default() }, ..service }
}

fn prefix(text: &str) -> ClientPrefix {
    let (address, length) = text.split_once('/').expect("a prefix");
    ClientPrefix { address: address.parse().expect("an address"), length: length.parse().expect("a length") }
}

fn lists(allow: &[&str], deny: &[&str]) -> ClientLists {
    let of = |list: &[&str]| {
        let mut list: Vec<ClientPrefix> = list.iter().map(|text| prefix(text)).collect();
        list.sort_unstable();
        list
    };
    ClientLists { allow: of(allow), deny: of(deny) }
}

/// The rules of a service that has these lists.
fn listed(lists: ClientLists, is_ipv4: bool, denied: &ClientLists) -> Clients {
    let given = Arc::new(lists);
    let listed = Listed { lists: Arc::clone(&given), given, ..Listed::default() };
    let clients = lb_model::Clients { listed, prefix: 32, ..lb_model::Clients::default() };
    Clients::new(Some(&clients), is_ipv4, denied)
}

fn set_lists(director: &mut Director, lists: ClientLists) {
    let clients = listed(lists, true, &ClientLists::default());
    director.change_service(WEB, |service| service.clients = clients.clone());
}

/// Why the packet is refused, if it is.
#[track_caller]
fn why(director: &Director, packet: &Packet) -> Option<Reason> {
    let (outcome, reasons) = director.explain(&packet.bytes());
    let expected = if reasons.is_empty() { Verdict::Tx } else { Verdict::of(reasons[0]) };
    assert_eq!(outcome.verdict, expected, "{reasons:?}");
    reasons.first().copied()
}

fn opens(director: &Director, number: u32) -> Option<Reason> {
    why(director, &Packet::syn(client(number)))
}

fn from(octets: [u8; 4]) -> Client {
    Client::new(octets.into(), 1000)
}

/// A director that refuses a SYN of client 1 for this reason.
pub(crate) fn refusing(reason: Reason) -> Director {
    let never = Rate { interval: HOUR, burst: 0 };
    let admission = match reason {
        Reason::ClientNewLimit => Admission { client_new: never, ..NONE },
        Reason::ClientPacketLimit => Admission { client_packets: never, ..NONE },
        Reason::ServiceNewLimit => Admission { service_new: never, ..NONE },
        Reason::ServicePacketLimit => Admission { service_packets: never, ..NONE },
        Reason::ClientConnectionLimit => Admission { connections: 1, ..NONE },
        _ => NONE,
    };
    let everywhere = match reason {
        Reason::ClientDenied => lists(&[], &["10.128.0.0/16"]),
        Reason::ClientUnlisted => lists(&["192.0.2.0/24"], &[]),
        _ => ClientLists::default(),
    };
    let clients = match everywhere.is_empty() {
        true => limited(rr([1]), admission).clients,
        false => listed(everywhere, true, &ClientLists::default()),
    };
    let director = Director::new([(WEB, Service { clients, ..rr([1]) })]);
    if reason == Reason::ClientConnectionLimit {
        assert_eq!(why(&director, &Packet::syn(Client::new(*client(1).ip(), 7))), None);
    }
    director
}

#[test]
fn a_client_opens_so_many_connections_and_no_more() {
    let rule = Admission { client_new: only(3), ..NONE };
    let mut director = Director::new([(WEB, limited(rr([1]), rule)), (WEB_UDP, limited(rr([1]), rule))]);
    let from = |port| Client::new(*client(1).ip(), port);
    for port in 1000..1003 {
        assert_eq!(why(&director, &Packet::syn(from(port))), None);
        assert_eq!(why(&director, &Packet::ack(from(port))), None);
        assert_eq!(why(&director, &Packet::data(from(port))), None);
    }
    assert_eq!(why(&director, &Packet::syn(from(1003))), Some(Reason::ClientNewLimit));
    assert_eq!(director.reason(Reason::ClientNewLimit), 1);
    assert_eq!(why(&director, &Packet::syn(from(1000))), None, "a SYN that comes again opens nothing");
    assert_eq!(opens(&director, 2), None, "another client");
    for port in 1000..1003 {
        assert_eq!(why(&director, &Packet::udp(from(port))), None, "another service");
    }
    assert_eq!(why(&director, &Packet::udp(from(1003))), Some(Reason::ClientNewLimit));
    assert_eq!(why(&director, &Packet::udp(from(1002))), None, "it is known");
    // What is known does not pay.
    for stage in [Stage::Admit, Stage::Slow] {
        director.without_stage(stage, |director| {
            assert_eq!(director.send(&Packet::ack(from(1000))).verdict, Verdict::Tx, "by the fast way");
        });
    }
    director.change_service(WEB, |service| service.clients = Clients::default());
    assert_eq!(why(&director, &Packet::syn(from(1003))), None, "the rule is gone");
}

/// Where no service has rules, no packet meets the program that asks; where some have, none of
/// another service that takes the fast way does.
#[test]
fn without_rules_nobody_is_asked() {
    let mut director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1])), (WEB6, rr([1]))]);
    let sent = |director: &Director, frame: &[u8]| {
        let (outcome, reasons) = director.explain(frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]));
    };
    for (stage, number) in [(Stage::Admit, 1), (Stage::AdmitIpv6, 2)] {
        director.without_stage(stage, |director| {
            let fragment = Packet { fragment: 0x2000, payload: 64, ..Packet::udp(client(number)) };
            for packet in [Packet::syn(client(number)), Packet::ack(client(number)), fragment] {
                sent(director, &packet.bytes());
            }
            sent(director, &tcp6(number, SYN));
            sent(director, &tcp6(number, ACK));
        });
    }
    let rule = limited(rr([1]), Admission { client_new: only(3), ..NONE }).clients;
    director.change_service(WEB_UDP, |service| service.clients = rule.clone());
    director.establish(client(3));
    director.without_stage(Stage::Admit, |director| {
        sent(director, &Packet::ack(client(3)).bytes());
        sent(director, &Packet::syn(client(4)).bytes());
    });
}

#[test]
fn a_bucket_fills_again_with_time() {
    const EACH: Duration = Duration::from_millis(100);
    let rule = Admission { client_new: Rate::per_second(10, 2), ..NONE };
    let refused = Some(Reason::ClientNewLimit);
    let filled = busy::measured("a bucket that fills again", || {
        let director = Director::new([(WEB, limited(rr([1]), rule))]);
        let open = |port| why(&director, &Packet::syn(Client::new(*client(1).ip(), port)));
        let begun = Instant::now();
        let first = [open(1), open(2), open(3)];
        ensure!(begun.elapsed() < EACH, "three packets took {:?}", begun.elapsed());
        sleep(EACH + EACH / 10);
        let second = [open(4), open(5)];
        ensure!(begun.elapsed() < EACH * 2, "the second look came after {:?}", begun.elapsed());
        sleep(EACH * 10);
        let third = [open(6), open(7), open(8)];
        ensure!(first == [None, None, refused], "at once: {first:?}");
        ensure!(second == [None, refused], "after the time of one: {second:?}");
        ensure!(third[..2] == [None, None], "after a second: {third:?}");
        Ok(())
    });
    filled.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn clients_with_a_prefix_in_common_are_one() {
    let mut web = limited(rr([1]), Admission { client_new: only(2), ..NONE });
    web.clients.admission.mask = mask(true, 24).0;
    let director = Director::new([(WEB, web)]);
    let asked = |octets| why(&director, &Packet::syn(from(octets)));
    assert_eq!(asked([198, 51, 100, 1]), None);
    assert_eq!(asked([198, 51, 100, 2]), None);
    assert_eq!(asked([198, 51, 100, 3]), Some(Reason::ClientNewLimit));
    assert_eq!(asked([198, 51, 101, 3]), None);
}

#[test]
fn a_client_sends_so_many_packets_and_no_more() {
    let rule = Admission { client_packets: only(5), ..NONE };
    let director = Director::new([(WEB, limited(rr([1]), rule))]);
    director.establish(client(1));
    assert_eq!(why(&director, &Packet::ack(client(1))), None);
    assert_eq!(why(&director, &Packet::ack(client(1))), None);
    assert_eq!(
        why(&director, &Packet::ack(client(1))),
        Some(Reason::ClientPacketLimit),
        "of a known connection"
    );
    assert_eq!(why(&director, &Packet::ack(client(2))), Some(Reason::Stray), "another client has its own");
}

#[test]
fn all_clients_together_are_limited() {
    let rule = Admission { service_new: only(3), service_packets: only(7), ..NONE };
    let director = Director::new([(WEB, limited(rr([1]), rule))]);
    (1..=3).for_each(|number| assert_eq!(opens(&director, number), None));
    assert_eq!(opens(&director, 4), Some(Reason::ServiceNewLimit));
    (1..=3).for_each(|number| assert_eq!(why(&director, &Packet::ack(client(number))), None));
    assert_eq!(why(&director, &Packet::ack(client(1))), Some(Reason::ServicePacketLimit));
    let accounts = director.data_path.executor.client_accounts().read().expect("the maps can be read");
    assert!(accounts.is_empty(), "no client is limited by itself: {accounts:?}");
}

/// What a client's own limit refuses does not use up what all have.
#[test]
fn one_client_does_not_use_up_what_all_have() {
    let rule = Admission { client_new: only(2), service_new: only(4), ..NONE };
    let director = Director::new([(WEB, limited(rr([1]), rule))]);
    for port in 1000..1100 {
        director.send(&Packet::syn(Client::new(*client(1).ip(), port)));
    }
    assert_eq!(director.reason(Reason::ClientNewLimit), 98);
    assert_eq!((opens(&director, 2), opens(&director, 3)), (None, None));
    assert_eq!(opens(&director, 4), Some(Reason::ServiceNewLimit));
}

/// Whatever the slow way refuses uses nothing up.
#[test]
fn what_is_refused_for_another_reason_does_not_count() {
    let rule = Admission { client_packets: only(1), ..NONE };
    let director = Director::new([(WEB, limited(rr([1]), rule))]);
    let syn = Packet::syn(client(1));
    for _ in 0..3 {
        assert_eq!(why(&director, &Packet { ttl: 0, ..syn.clone() }), Some(Reason::TtlExpired));
        assert_eq!(why(&director, &Packet { destination: mac(7), ..syn.clone() }), Some(Reason::NotOurMac));
    }
    director.data_path.leases().end(GROUP);
    assert_eq!(why(&director, &syn), Some(Reason::Standby));
    director.data_path.leases().unlimited(GROUP);
    assert_eq!(why(&director, &syn), None);
    assert_eq!(why(&director, &syn), Some(Reason::ClientPacketLimit));
}

#[test]
fn the_longest_prefix_decides() {
    let mut director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    let asked = |director: &Director, octets| why(director, &Packet::syn(from(octets)));
    // Nobody else is allowed.
    set_lists(&mut director, lists(&["198.51.100.64/26"], &["198.51.100.0/24"]));
    assert_eq!(asked(&director, [198, 51, 100, 1]), Some(Reason::ClientDenied));
    assert_eq!(asked(&director, [198, 51, 100, 65]), None, "allowed within what is denied");
    assert_eq!(asked(&director, [203, 0, 113, 1]), Some(Reason::ClientUnlisted));
    set_lists(&mut director, lists(&["0.0.0.0/0", "198.51.100.64/26"], &["198.51.100.0/24"]));
    assert_eq!(asked(&director, [203, 0, 113, 1]), None, "everybody else is");
    assert_eq!(why(&director, &Packet::udp(from([198, 51, 100, 1]))), None, "another service");
}

/// Who is denied from now on is so in mid-connection; who is not allowed any more goes on.
#[test]
fn established_connections_are_denied_and_not_disallowed() {
    let mut director = Director::new([(WEB, rr([1]))]);
    let known = from([203, 0, 113, 9]);
    director.establish(known);
    set_lists(&mut director, lists(&[], &["203.0.113.9/32"]));
    assert_eq!(why(&director, &Packet::ack(known)), Some(Reason::ClientDenied));
    set_lists(&mut director, lists(&["198.51.100.0/24"], &[]));
    assert_eq!(why(&director, &Packet::ack(known)), None, "its connection is still there");
    director.without_stage(Stage::Admit, |director| {
        assert_eq!(director.send(&Packet::ack(known)).verdict, Verdict::Tx, "by the fast way");
    });
    assert_eq!(why(&director, &Packet::syn(from([203, 0, 113, 10]))), Some(Reason::ClientUnlisted));
    set_lists(&mut director, ClientLists::default());
    assert_eq!(why(&director, &Packet::syn(from([203, 0, 113, 10]))), None);
}

#[test]
fn whom_every_service_denies_a_service_may_allow() {
    let denied = Arc::new(lists(&[], &["198.51.100.0/24"]));
    let mut director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    director.change(|state| {
        state.denied = Arc::clone(&denied);
        let own = lists(&["0.0.0.0/1", "128.0.0.0/1", "198.51.100.7/32"], &[]);
        state.services.get_mut(&WEB).expect("it is there").clients = listed(own, true, &denied);
        state.services.get_mut(&WEB_UDP).expect("it is there").clients = Clients::new(None, true, &denied);
    });
    let datagram = |octets| why(&director, &Packet::udp(from(octets)));
    assert_eq!(datagram([198, 51, 100, 7]), Some(Reason::ClientDenied));
    assert_eq!(datagram([198, 51, 101, 7]), None);
    assert_eq!(why(&director, &Packet::syn(from([198, 51, 100, 7]))), None, "its own list comes first");
    director.change(|state| {
        state.denied = Arc::default();
        state.services.values_mut().for_each(|service| service.clients = Clients::default());
    });
    assert_eq!(why(&director, &Packet::udp(from([198, 51, 100, 7]))), None);
}

/// Only what differs is written: of 100,000 prefixes those ten that come, and the ten that go.
#[test]
fn a_hundred_thousand_prefixes_are_changed_by_what_differs() {
    let mut director = Director::new([(WEB, rr([1]))]);
    let many = |first: u32| {
        let deny = (first..first + 100_000).map(|number| ClientPrefix {
            address: IpAddr::V4((0x0b00_0000 + number * 16).into()),
            length: 28,
        });
        ClientLists { allow: Vec::new(), deny: deny.collect() }
    };
    let asked = |director: &Director, number: u32| {
        why(director, &Packet::syn(Client::new((0x0b00_0000 + number * 16 + 7).into(), 1000)))
    };
    let mut written = director.data_path.executor.prefixes_written();
    for (first, writes) in [(0, 100_000), (5, 10), (5, 0)] {
        set_lists(&mut director, many(first));
        let now = director.data_path.executor.prefixes_written();
        assert_eq!(now - written, writes, "from {first} on");
        written = now;
        for number in [first, first + 50_000, first + 99_999] {
            assert_eq!(asked(&director, number), Some(Reason::ClientDenied), "{number}");
        }
        assert_eq!(asked(&director, first + 100_000), None);
    }
    assert_eq!(asked(&director, 4), None, "it has left the list");
}

/// Where a list finds no room, nothing of it is left for the next one.
#[test]
fn a_list_without_room_leaves_nothing_behind() {
    let mut director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    let addresses = |first: u32, count: u32| {
        let deny = (first..first + count)
            .map(|address| ClientPrefix { address: IpAddr::V4(address.into()), length: 32 });
        ClientLists { allow: Vec::new(), deny: deny.collect() }
    };
    set_lists(&mut director, addresses(0x0b00_0000, PREFIXES - 1));
    let [one, two, three] = [[203, 0, 113, 1], [203, 0, 113, 2], [203, 0, 113, 3]];
    let both = listed(lists(&[], &["203.0.113.1/32", "203.0.113.2/32"]), true, &ClientLists::default());
    let mut state = director.data_path.applied().clone();
    state.services.get_mut(&WEB_UDP).expect("it is there").clients = both;
    let errors = director.data_path.apply(state).errors;
    assert!(format!("{errors:#?}").contains("no room for 203.0.113.2/32"), "{errors:#?}");
    let third = listed(lists(&[], &["203.0.113.3/32"]), true, &ClientLists::default());
    director.change_service(WEB_UDP, |service| service.clients = third.clone());
    let asked = |octets| why(&director, &Packet::udp(from(octets)));
    assert_eq!([one, two, three].map(asked), [None, None, Some(Reason::ClientDenied)]);
}

#[test]
fn ipv6_has_lists_and_limits_of_its_own() {
    let mut director = Director::new([(WEB6, rr([1]))]);
    let reasons = |director: &Director, number| director.explain(&tcp6(number, SYN)).1;
    let deny = format!("{}/128", client6(1));
    let denied = listed(lists(&[], &[&deny]), false, &ClientLists::default());
    director.change_service(WEB6, |service| service.clients = denied.clone());
    assert_eq!(reasons(&director, 1), [Reason::ClientDenied]);
    assert_eq!(director.explain(&tcp6(1, ACK)).1, [Reason::ClientDenied], "whatever it sends");
    assert_eq!(reasons(&director, 2), []);
    let admission = Admission { mask: mask(false, 64).0, client_new: only(2), ..NONE };
    director.change_service(WEB6, |service| {
        service.clients = Clients { admission, ..Clients::default() };
    });
    // Clients 11 to 18 are neighbours of one network.
    assert_eq!((reasons(&director, 11), reasons(&director, 12)), (vec![], vec![]));
    assert_eq!(reasons(&director, 13), [Reason::ClientNewLimit]);
    assert_eq!(reasons(&director, 21), []);
    assert_eq!(director.explain(&tcp6(11, ACK)).1, [], "what is known goes on");
}

/// A walk over the table counts connections anew, so that none is held for ever.
#[test]
fn a_client_has_so_many_connections_at_a_time() {
    let rule = Admission { connections: 3, ..NONE };
    let director = Director::new([(WEB, limited(rr([1]), rule))]);
    let from = |port| Client::new(*client(1).ip(), port);
    let table = &director.data_path.table;
    let mut tally = director.data_path.executor.maps().tally();
    let mut walk = || {
        let counting = tally.begin();
        table.sweep_for(0..table.pages(), Tick::from_ns(now_ns()), |_| false, None, Some(&counting));
        let counts = counting.counts();
        let found = counts.values().sum::<u64>();
        tally.tell(counts).expect("the map has room");
        found
    };
    let refused = Some(Reason::ClientConnectionLimit);
    let open = |port| why(&director, &Packet::syn(from(port)));
    assert_eq!([open(1), open(2), open(3), open(4)], [None, None, None, refused], "before any walk");
    assert_eq!(opens(&director, 2), None, "another client");
    assert_eq!(walk(), 4);
    assert_eq!(open(4), refused, "the walk has found them");
    assert_eq!(open(3), None, "a SYN that comes again opens nothing");
    assert_eq!(why(&director, &Packet::rst(from(3))), None);
    assert_eq!(open(4), refused, "the end of one is known with the next walk");
    assert_eq!(walk(), 3);
    assert_eq!([open(4), open(5)], [None, refused], "one has ended");
    assert_eq!(walk(), 4);
    assert_eq!(open(5), refused, "what was opened between two walks counts once");
    // As if all had gone without a packet.
    director.sweep_after(Duration::from_secs(7 * 86_400));
    assert_eq!(walk(), 0);
    assert_eq!([open(6), open(7), open(8), open(9)], [None, None, None, refused]);
    director.sweep_after(Duration::from_secs(7 * 86_400));
    assert_eq!(walk(), 0);
}

/// What a walk could not tell in full does not limit clients beyond the next one.
#[test]
fn connections_that_could_not_be_told_are_forgotten_with_the_next_walk() {
    let director = Director::new([(WEB, limited(rr([1]), Admission { connections: 1, ..NONE }))]);
    let mut tally = director.data_path.executor.maps().tally();
    let (_, id, admission) = director.data_path.executor.admissions().next().expect("a service");
    let key = |number| admission.client(id.0.into(), IpAddr::V4(*client(number).ip()).into());
    let clients = [1, 2, 3].map(key);
    let others = 3..=u64::from(CLIENT_CONNECTIONS);
    let others = others.map(|number| ClientKey { address: V6([1, number]), ..clients[0] });
    let too_many: HashMap<ClientKey, u64> = clients.into_iter().chain(others).map(|key| (key, 1)).collect();
    tally.tell(too_many).expect_err("the map has room for all but one");
    let refused = (1..=3).filter(|number| opens(&director, *number).is_some()).count();
    assert!(refused >= 2, "{refused} of 3 clients have a connection");
    tally.tell(HashMap::new()).expect("the map has room");
    (1..=3).for_each(|number| assert_eq!(opens(&director, number), None, "client {number}"));
}

/// What `lb top-clients` reads.
#[test]
fn accounts_tell_what_clients_have_done() {
    let rule = Admission { client_new: only(2), client_packets: only(100), ..NONE };
    let mut director = Director::new([(WEB, limited(rr([1]), rule)), (WEB_UDP, rr([1]))]);
    for port in 0..5 {
        director.send(&Packet::syn(Client::new(*client(1).ip(), 1000 + port)));
    }
    let denied = listed(lists(&[], &["10.128.0.2/32"]), true, &ClientLists::default());
    director.change_service(WEB_UDP, |service| service.clients = denied.clone());
    (0..7).for_each(|_| drop(director.send(&Packet::udp(client(2)))));
    let done = director.data_path.executor.client_accounts().read().expect("the maps can be read");
    let of = |number| {
        let address = V6::from(IpAddr::V4(*client(number).ip()));
        let mut found = done.iter().filter(|(key, _)| key.address == address);
        (*found.next().expect("it is known").1, found.next())
    };
    let (one, more) = of(1);
    assert_eq!((one.opened, one.packets, one.limited, one.denied, more), (2, 5, 3, 0, None));
    let (two, more) = of(2);
    assert_eq!((two.opened, two.packets, two.limited, two.denied, more), (0, 0, 0, 7, None));
    let of_all = limited(rr([1]), Admission { service_new: only(2), ..NONE }).clients;
    director.change_service(WEB, |service| service.clients = of_all.clone());
    let left = director.data_path.executor.client_accounts().read().expect("the maps can be read");
    assert!(left.values().all(|done| done.opened == 0), "no client of it is limited by itself: {left:?}");
    assert_eq!(left.len(), 1, "another service's account stays");
    director
        .change(|state| state.services.values_mut().for_each(|service| service.clients = Clients::default()));
    let left = director.data_path.executor.client_accounts().read().expect("the maps can be read");
    assert!(left.is_empty(), "accounts of services without rules: {left:?}");
}
