//! Services of IPv6, packet by packet: what holds of IPv4 holds here.

use lb_common::lease::{RETURNED_TTL, returned};
use lb_common::mac::Mac;
use lb_common::reason::{Reason, TableEvent};
use lb_tests::harness::*;

pub(crate) fn director() -> Director {
    Director::new([(WEB6, rr([1, 2, 3])), (DNS6, rr([1, 2, 3])), (WEB, rr([1, 2, 3]))])
}

#[track_caller]
fn server_of(director: &Director, frame: &[u8]) -> u16 {
    director.send_bytes(frame).server()
}

#[test]
fn only_the_macs_change() {
    let director = director();
    for frame in [tcp6(1, SYN), tcp6(1, ACK), udp6(2), extended(tcp6(3, SYN), 60, [0; 7])] {
        let outcome = director.send_bytes(&frame);
        assert_eq!(outcome.verdict, Verdict::Tx);
        assert_eq!((&outcome.frame[6..12], &outcome.frame[12..]), (&MAC.octets()[..], &frame[12..]));
    }
}

#[test]
fn connections_stay_with_their_server_from_syn_to_fin() {
    let director = director();
    let servers: Vec<u16> = (0..300).map(|number| server_of(&director, &tcp6(number, SYN))).collect();
    let expected: Vec<u16> = (0..300).map(|number| number % 3 + 1).collect();
    assert_eq!(servers, expected, "in turn");
    assert_eq!(director.counts(WEB6, 1), (0, 100));
    for flags in [SYN, ACK, ACK, ACK | FIN, ACK] {
        for (number, server) in (0..).zip(&servers) {
            assert_eq!(server_of(&director, &tcp6(number, flags)), *server, "client {number}");
        }
        director.assert_counts_are_true();
    }
    assert_eq!((director.counts(WEB6, 1), director.entries()), ((0, 100), 300));
    let stats = director.stats(WEB6, 1);
    assert_eq!((stats.connections, stats.packets, stats.bytes), (100, 600, 600 * 74));
}

#[test]
fn both_families_share_servers_but_not_connections() {
    let director = director();
    let v4: Vec<u16> = (0..30).map(|number| director.open(client(number))).collect();
    for number in 0..30 {
        assert_eq!(server_of(&director, &tcp6(number, SYN)), v4[number as usize], "each by its own cursor");
    }
    assert_eq!((director.counts(WEB, 1), director.counts(WEB6, 1)), ((10, 0), (0, 10)));
    director.assert_counts_are_true();
}

#[test]
fn datagrams_stay_too() {
    let director = director();
    for number in 0..30 {
        let server = server_of(&director, &udp6(number));
        assert_eq!([server_of(&director, &udp6(number)), server_of(&director, &udp6(number))], [server; 2]);
    }
    director.assert_counts_are_true();
}

#[test]
fn headers_before_the_ports_are_looked_through() {
    const NOTHING: [u8; 7] = [0; 7];
    let director = director();
    let server = server_of(&director, &tcp6(1, SYN));
    let mut frame = tcp6(1, ACK);
    for kind in [60, 0, 43, 44] {
        frame = extended(frame, kind, NOTHING);
        assert_eq!(server_of(&director, &frame), server, "{} bytes", frame.len());
    }
    for tags in [&[DOT1Q][..], &[DOT1AD, DOT1Q]] {
        assert_eq!(server_of(&director, &tagged(tags, &frame)), server, "{tags:?}");
        assert_eq!(server_of(&director, &tagged(tags, &tcp6(1, ACK))), server, "{tags:?}");
    }
    let too_deep = extended(frame, 60, NOTHING);
    assert_eq!(director.send_bytes(&too_deep).verdict, Verdict::Pass);
}

#[test]
fn what_must_not_be_forwarded_has_its_reason() {
    let director = director();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = tcp6(1, SYN);
        change(&mut frame);
        frame
    };
    let rows: [Row; 8] = [
        ("a stray", tcp6(9, ACK), Some(Reason::Stray)),
        ("hop limit 0", changed(&|frame| frame[IP + 7] = 0), Some(Reason::TtlExpired)),
        ("longer than the frame", changed(&|frame| frame[IP + 5] += 1), Some(Reason::BadLength)),
        ("SYN and FIN", tcp6(1, SYN | FIN), Some(Reason::BadTcpFlags)),
        (
            "from the VIP itself",
            changed(&|frame| frame[IP + 8..IP + 24].copy_from_slice(&VIP6.octets())),
            Some(Reason::SourceIsVip),
        ),
        (
            "to another station",
            changed(&|frame| frame[..6].copy_from_slice(&mac(9).octets())),
            Some(Reason::NotOurMac),
        ),
        (
            "sent back by its server before",
            changed(&|frame| {
                frame[6..12].copy_from_slice(&mac(1).octets());
                frame[IP + 7] = 7;
            }),
            Some(Reason::Loop),
        ),
        ("as it should be", tcp6(1, SYN), None),
    ];
    assert_rows(&director, rows);
}

#[test]
fn a_gateway_that_is_the_server_gets_its_packets_back_once() {
    let director = Director::new([(WEB6, rr([1]))]);
    let mut frame = tcp6(1, SYN);
    frame[6..12].copy_from_slice(&mac(1).octets());
    let outcome = director.send_bytes(&frame);
    assert_eq!((outcome.server(), outcome.frame[IP + 7]), (1, lb_common::forward::hairpin::TTL));
}

#[test]
fn the_lease_decides() {
    let mut director = director();
    director.data_path.executor.set_vips(&[(VIP6.into(), GROUP)]).unwrap();
    let leases = director.data_path.leases();
    let reasons = |frame: &[u8]| director.explain(frame).1;
    leases.renew(GROUP, within(60));
    assert_eq!(reasons(&tcp6(1, SYN)), []);
    leases.renew(GROUP, ago(1));
    assert_eq!(reasons(&tcp6(2, SYN)), [Reason::LeaseLapsed]);
    assert_eq!(reasons(&tcp6(1, ACK)), [], "a connection outlives it");
    let ping = ipv6(ICMPV6, VIP6, &[128, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(reasons(&ping), [Reason::LeaseLapsed], "the host's, too");
    leases.end(GROUP);
    assert_eq!(reasons(&tcp6(1, ACK)), [Reason::Standby]);
}

/// To the director that had the group before, and back with few hops left.
#[test]
fn what_nobody_knows_is_relayed() {
    const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 7]);
    let director = director();
    let leases = director.data_path.leases();
    leases.renew(GROUP, within(60));
    leases.relay(GROUP, Some((OTHER, within(60))));
    let outcome = director.send_bytes(&tcp6(1, ACK));
    assert_eq!((outcome.verdict, &outcome.frame[..6]), (Verdict::Tx, &OTHER.octets()[..]));
    assert_eq!(director.event(TableEvent::Relayed), 1);
    leases.grace(GROUP, within(60));
    let mut from_other = tcp6(1, ACK);
    from_other[6..12].copy_from_slice(&OTHER.octets());
    let outcome = director.send_bytes(&from_other);
    assert_eq!((outcome.verdict, &outcome.frame[..6]), (Verdict::Tx, &OTHER.octets()[..]));
    assert_eq!(Some(outcome.frame[IP + 7]), returned(from_other[IP + 7], RETURNED_TTL));
}

/// More connections than the table has slots for: none is lost that somebody would miss.
#[test]
fn a_flood_takes_no_connection_from_anybody() {
    let director = director();
    let servers: Vec<u16> = (0..500)
        .map(|number| {
            let server = server_of(&director, &tcp6(number, SYN));
            assert_eq!(server_of(&director, &tcp6(number, ACK)), server);
            assert_eq!(server_of(&director, &tcp6_data(number)), server);
            server
        })
        .collect();
    for number in 1_000..20_000 {
        server_of(&director, &tcp6(number, SYN));
    }
    assert!(director.event(TableEvent::Evicted) > 0);
    for (number, server) in (0..).zip(&servers) {
        assert_eq!(server_of(&director, &tcp6(number, ACK)), *server, "client {number}");
    }
    director.assert_counts_are_true();
}
