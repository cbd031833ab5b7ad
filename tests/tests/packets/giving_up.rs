//! Services that give the connections of dead servers up (`dead_server`): they are moved to another
//! server, or their clients are told by a reset. Of both families, directly routed and translated.

use std::net::IpAddr;

use lb_common::reason::Reason;
use lb_common::server::GivesUp;
use lb_datapath::plan::{Server, Service, Target};
use lb_model::ServiceKey;
use lb_tests::harness::*;

use crate::nat::{Segment, masq, with};

/// Changes the first server of these services.
fn change_first(director: &mut Director, services: &[ServiceKey], change: impl Fn(&mut Server)) {
    for key in services {
        director.change_service(*key, |service| change(&mut service.servers[0]));
    }
}

fn die(gives_up: GivesUp) -> impl Fn(&mut Server) {
    move |server| (server.usable, server.gives_up) = (false, Some(gives_up))
}

#[test]
fn a_dead_servers_connections_are_moved_if_the_service_wants_it() {
    let mut director = Director::new([(WEB, rr([1, 2])), (WEB_UDP, rr([1, 2]))]);
    assert_eq!(director.open(client(1)), 1);
    assert_eq!(director.open(client(2)), 2);
    change_first(&mut director, &[WEB, WEB_UDP], die(GivesUp::Moves));
    assert_eq!(director.send(&Packet::ack(client(1))).server(), 2, "in mid-connection");
    assert_eq!(director.send(&Packet::ack(client(2))).server(), 2);
    assert_eq!((director.counts(WEB, 1), director.counts(WEB, 2)), ((0, 0), (2, 0)));
    change_first(&mut director, &[WEB, WEB_UDP], |server| (server.usable, server.gives_up) = (true, None));
    assert_eq!(director.send(&Packet::ack(client(1))).server(), 2, "what moved stays where it is");
    assert_eq!(director.send(&Packet::fin(client(1))).server(), 2);
    director.assert_counts_are_true();
}

#[test]
fn a_dead_servers_connections_are_reset_if_the_service_wants_it() {
    let mut director = Director::new([(WEB, rr([1, 2])), (WEB_UDP, rr([1, 2]))]);
    assert_eq!(director.open(client(1)), 1);
    assert_eq!(director.open(client(2)), 2);
    assert_eq!(director.send(&Packet::udp(client(1))).server(), 1);
    change_first(&mut director, &[WEB, WEB_UDP], die(GivesUp::Resets));
    let (outcome, reasons) = director.explain(&Packet::ack(client(1)).bytes());
    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::ServerDead]));
    assert_eq!(outcome.frame[14 + 20 + 13], RST, "a reset, from the VIP");
    assert_eq!(outcome.frame[26..30], VIP.octets());
    assert_eq!((director.counts(WEB, 1), director.counts(WEB, 2)), ((0, 1), (1, 0)), "it has ended");
    let (_, reasons) = director.explain(&Packet::ack(client(1)).bytes());
    assert_eq!(reasons, [Reason::ServerDead], "what is under way is answered, too");
    let (_, reasons) = director.explain(&Packet::rst(client(1)).bytes());
    assert_eq!(reasons, [Reason::RefusedSilently], "but no reset");
    assert_eq!(director.send(&Packet::ack(client(2))).server(), 2, "the other server's go on");
    assert_eq!(director.open(client(1)), 2, "the client connects anew at once");
    assert_eq!(director.send(&Packet::udp(client(1))).server(), 2, "a datagram finds another server");
    assert_eq!((director.counts(WEB, 1), director.counts(WEB, 2)), ((0, 0), (2, 0)));
    director.assert_counts_are_true();
}

#[test]
fn those_of_ipv6_too() {
    for gives_up in [GivesUp::Moves, GivesUp::Resets] {
        let mut director = Director::new([(WEB6, rr([1, 2]))]);
        for flags in [SYN, ACK] {
            assert_eq!(director.send_bytes(&tcp6(1, flags)).server(), 1);
        }
        change_first(&mut director, &[WEB6], die(gives_up));
        let (outcome, reasons) = director.explain(&tcp6(1, ACK));
        assert_eq!(outcome.verdict, Verdict::Tx);
        match gives_up {
            GivesUp::Moves => assert_eq!((outcome.server(), reasons), (2, vec![])),
            GivesUp::Resets => {
                assert_eq!(reasons, [Reason::ServerDead]);
                assert_eq!(outcome.frame[14 + 40 + 13], RST, "a reset, from the VIP");
                assert_eq!(outcome.frame[IP + 8..IP + 24], VIP6.octets());
            }
        }
        assert_eq!(director.send_bytes(&tcp6(2, SYN)).server(), 2);
        director.assert_counts_are_true();
    }
}

/// A translated connection that is moved gets the new server's address, and that one's answers find
/// the client.
#[test]
fn translated_ones_too() {
    const OTHER: [&str; 2] = ["10.1.0.2", "2001:db8:ff::2"];
    for (family, key, other) in [(4, WEB, OTHER[0]), (6, WEB6, OTHER[1])] {
        for gives_up in [GivesUp::Moves, GivesUp::Resets] {
            let other: IpAddr = other.parse().expect("an address");
            let of = Segment::new((family, TCP), SYN);
            let servers = vec![masq(of.server()), masq(other)];
            let mut director = with(vec![(key, Service { servers, ..rr([]) })]);
            of.open(&director);
            change_first(&mut director, &[key], die(gives_up));
            let ack = of.clone().flagged(ACK);
            let (outcome, reasons) = director.explain(&ack.to_vip());
            match gives_up {
                GivesUp::Moves => {
                    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]));
                    assert_eq!(outcome.frame, ack.clone().at(other).to_server());
                    let answer = ack.at(other);
                    assert_eq!(director.send_bytes(&answer.by_server()).frame, answer.to_client());
                }
                GivesUp::Resets => {
                    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::ServerDead]));
                    let (tcp, source) = if family == 4 { (IP + 20, IP + 12) } else { (IP + 40, IP + 8) };
                    assert_eq!(outcome.frame[tcp + 13], RST);
                    let vip = match key.vip {
                        IpAddr::V4(vip) => vip.octets().to_vec(),
                        IpAddr::V6(vip) => vip.octets().to_vec(),
                    };
                    assert_eq!(outcome.frame[source..source + vip.len()], vip);
                }
            }
            let server = director.id_of(key, Target::Real(of.server()));
            assert_eq!(director.data_path.table.counts(server).active(), 0);
            director.assert_counts_are_true();
        }
    }
}
