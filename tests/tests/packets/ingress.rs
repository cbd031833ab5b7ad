//! Packets that come in by another interface than the main one: they are served as all others, and
//! leave by the main interface, by the one that their server is behind, or go back.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use lb_common::control::Control;
use lb_common::forward::egress::TPID;
use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_datapath::plan::Service;
use lb_datapath::plan::egress::{Exit, egress};
use lb_tests::harness::*;

/// The only interface that is there wherever tests run: packets come in by it.
const LOOPBACK: u32 = 1;
/// Its MAC as the test has it.
const OTHER: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x99]);

/// The loopback is both, by a word that names it and is no index for whoever compares.
fn director(services: impl IntoIterator<Item = (lb_model::ServiceKey, Service)>) -> Director {
    let mut director = Director::new(services);
    director.data_path.executor.set_ingresses(LOOPBACK, &[(LOOPBACK, OTHER)]).expect("room");
    let main = director.data_path.executor.maps().control.word(0, offset_of!(Control, main));
    main.store(1 << 32 | u64::from(LOOPBACK), Ordering::Release);
    director
}

fn here(frame: &[u8]) -> Vec<u8> {
    [&OTHER.octets()[..], &frame[6..]].concat()
}

/// SYN, then what takes the fast way, then a datagram; and the same of IPv6.
fn frames() -> Vec<Vec<u8>> {
    let v4 = [Packet::syn(client(1)), Packet::ack(client(1)), Packet::ack(client(1)), Packet::udp(client(1))];
    let v6 = [tcp6(1, SYN), tcp6(1, ACK), tcp6(1, ACK), udp6_of(1, 20), udp6_of(1, 20)];
    v4.iter().map(Packet::bytes).chain(v6).map(|frame| here(&frame)).collect()
}

#[test]
fn they_leave_by_the_main_interface_with_its_mac() {
    let mut director = director([WEB, WEB_UDP, WEB6, DNS6].map(|key| (key, rr([1]))));
    for frame in frames() {
        let (outcome, reasons) = director.explain_ingress(&frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Redirect, vec![]));
        let expected = [&mac(1).octets()[..], &MAC.octets(), &frame[12..]].concat();
        assert_eq!(outcome.frame, expected);
    }
    director.assert_counts_are_true();
}

#[test]
fn they_leave_by_the_interface_that_their_server_is_behind() {
    let there = Exit { other: Some((LOOPBACK, OTHER)), vlan: None, tpid: TPID, mtu: 1500 };
    let mut service = rr([1]);
    service.servers[0].egress = egress(None, None, there);
    let mut director = director([WEB, WEB_UDP, WEB6, DNS6].map(|key| (key, service.clone())));
    for frame in frames() {
        let (outcome, reasons) = director.explain_ingress(&frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Redirect, vec![]));
        let expected = [&mac(1).octets()[..], &OTHER.octets(), &frame[12..]].concat();
        assert_eq!(outcome.frame, expected);
    }
}

#[test]
fn answers_go_back_and_the_host_gets_what_is_its_own() {
    let mut refusing = rr([]);
    refusing.settings.refuses = true;
    let mut director = director([(WEB, refusing)]);
    let syn = Packet::syn(client(1));
    let (outcome, reasons) = director.explain_ingress(&here(&syn.bytes()));
    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::Refused]));
    assert_eq!((&outcome.frame[..6], &outcome.frame[6..12]), (&ROUTER.octets()[..], &OTHER.octets()[..]));
    let nobodys = here(&Packet::udp(client(1)).bytes());
    for (description, frame) in [
        ("a port of nobody", nobodys.clone()),
        ("a broadcast", [&[0xff; 6][..], &nobodys[6..]].concat()),
        ("for the main interface, which gets it by itself", syn.bytes()),
        ("for another station", [&mac(9).octets()[..], &nobodys[6..]].concat()),
    ] {
        let (outcome, _) = director.explain_ingress(&frame);
        assert_eq!((outcome.verdict, outcome.frame), (Verdict::Pass, frame), "{description}");
    }
}

/// VLANs of two interfaces have nothing in common, whatever their numbers.
#[test]
fn none_with_tags_is_forwarded() {
    let mut director = director([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    for tags in [vec![DOT1Q], vec![DOT1AD, DOT1Q]] {
        let syn = Packet { tags: tags.clone(), ..Packet::syn(client(1)) };
        let fragment = fragment(&Packet { tags, payload: 1000, ..Packet::udp(client(1)) }, 7, 0..64);
        for frame in [syn.bytes(), fragment] {
            let (outcome, reasons) = director.explain_ingress(&here(&frame));
            assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::ForeignVlan]));
        }
    }
    let untagged = here(&Packet::syn(client(1)).bytes());
    assert_eq!(director.explain_ingress(&untagged).0.verdict, Verdict::Redirect);
}

#[test]
fn connections_are_spread_and_stay_with_their_servers() {
    let mut director = director([(WEB, rr([1, 2, 3]))]);
    for number in 0..6 {
        let syn = here(&Packet::syn(client(number)).bytes());
        let server = server_of_mac(&director.explain_ingress(&syn).0.frame[..6]);
        assert_eq!(server, number as u16 % 3 + 1);
        let ack = here(&Packet::ack(client(number)).bytes());
        let (outcome, reasons) = director.explain_ingress(&ack);
        assert_eq!((outcome.verdict, reasons), (Verdict::Redirect, vec![]));
        assert_eq!(outcome.frame[..6], mac(server).octets());
    }
    director.assert_counts_are_true();
}
