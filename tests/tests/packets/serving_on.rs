//! A director whose lease is over, as after its process has ended: its program serves what another
//! director relays to it, of connections that it knows, and nothing else.

use lb_common::mac::Mac;
use lb_common::reason::{Reason, TableEvent};
use lb_tests::harness::*;

const OTHER_DIRECTOR: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x06]);

/// It knows the connection of client 1, and has had its time.
fn director() -> Director {
    let mut director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    director.data_path.executor.set_directors([OTHER_DIRECTOR].into()).unwrap();
    director.open(client(1));
    director.send(&Packet::ack(client(1)));
    director.send(&Packet::udp(client(1)));
    director.data_path.leases().serve_on(GROUP, within(60));
    director
}

fn relayed(packet: Packet) -> Packet {
    Packet { source: OTHER_DIRECTOR, ..packet }
}

type End = (&'static str, fn(&Director), Reason);

/// How a lease ends, and why a packet is not served then.
const OVER: [End; 2] = [
    ("run out", |director| director.data_path.leases().renew(GROUP, ago(1)), Reason::LeaseLapsed),
    ("given up", |director| director.data_path.leases().end(GROUP), Reason::Standby),
];

#[test]
fn what_another_director_relays_of_a_known_connection_goes_to_its_server() {
    for (description, end, _) in OVER {
        let director = director();
        end(&director);
        for flags in [ACK, ACK, FIN | ACK, ACK, RST] {
            let frame = Packet { tags: vec![DOT1Q], ..relayed(Packet::tcp(client(1), flags)) }.bytes();
            let (outcome, reasons) = director.explain(&frame);
            assert_eq!((outcome.server(), reasons), (1, vec![]), "{description}");
            assert_eq!(outcome.frame[12..], frame[12..], "only the MACs change");
        }
        assert_eq!(
            director.counts(WEB, 1),
            (0, 1),
            "{description}: it has followed the connection to its end"
        );
        director.assert_counts_are_true();
    }
}

#[test]
fn what_it_does_not_know_goes_back_and_leaves_no_trace() {
    for (description, end, _) in OVER {
        let director = director();
        end(&director);
        let entries = director.entries();
        let frame = relayed(Packet::ack(client(2))).bytes();
        let (outcome, reasons) = director.explain(&frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{description}");
        assert_eq!(outcome.frame[..6], OTHER_DIRECTOR.octets());
        assert_eq!((outcome.frame[22], ip_sum(&outcome.frame[14..])), (10, ip_sum(&frame[14..])));
        assert_eq!((director.event(TableEvent::Relayed), director.entries()), (1, entries));
        let last = Packet { ttl: 1, ..relayed(Packet::ack(client(2))) };
        assert_rows(&director, [(description, last.bytes(), Some(Reason::TtlExpired))]);
    }
}

#[test]
fn it_balances_nothing() {
    for (description, end, reason) in OVER {
        let director = director();
        end(&director);
        let stranger = |packet: Packet| Packet { source: Mac::new([2, 0, 0, 0, 0, 9]), ..packet };
        let rows = [
            ("a client's own", Packet::ack(client(1))),
            ("a station's that is no director", stranger(Packet::ack(client(1)))),
            ("a new connection", relayed(Packet::syn(client(3)))),
            ("a known one begun anew", relayed(Packet::syn(client(1)))),
            ("a datagram", relayed(Packet::udp(client(3)))),
            ("a known datagram", relayed(Packet::udp(client(1)))),
        ];
        let before = director.entries();
        for (what, packet) in rows {
            let (outcome, reasons) = director.explain(&packet.bytes());
            assert_eq!(reasons, [reason], "{description}: {what}");
            assert_ne!(outcome.verdict, Verdict::Tx, "{description}: {what}");
        }
        assert_eq!(director.entries(), before, "{description}");
    }
}

#[test]
fn it_ends_by_the_clock() {
    let director = director();
    director.data_path.leases().end(GROUP);
    let known = relayed(Packet::ack(client(1))).bytes();
    assert_rows(&director, [("in time", known.clone(), None)]);
    director.data_path.leases().serve_on(GROUP, ago(1));
    assert_rows(&director, [("over", known, Some(Reason::Standby))]);
}

#[test]
fn a_director_that_has_the_group_does_not_know_of_it() {
    let director = director();
    director.data_path.leases().renew(GROUP, within(60));
    assert_eq!(
        director.send(&relayed(Packet::syn(client(5)))).server(),
        1,
        "of a client behind that director"
    );
    assert_eq!(director.explain(&relayed(Packet::ack(client(6))).bytes()).1, [Reason::Stray]);
}
