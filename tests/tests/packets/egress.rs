//! Packets that leave by another interface, or with other VLAN tags; and that none leaves its VLAN
//! unless the configuration says so.

use lb_common::forward::egress::{Egress, TPID};
use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_datapath::plan::egress::{Exit, egress};
use lb_datapath::plan::{Server, Service};
use lb_model::{Tunnel, TunnelKind, Vlan};
use lb_tests::harness::*;

use crate::tunnels;

/// An interface that is there wherever tests run, and its MAC as the test has it.
const LOOPBACK: u32 = 1;
const OTHER: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x99]);
const HERE: Exit = Exit { other: None, vlan: None, tpid: TPID, mtu: 1500 };
const THERE: Exit = Exit { other: Some((LOOPBACK, OTHER)), ..HERE };

fn leaving(server: Server, clients: Option<Vlan>, vlan: Option<Vlan>, exit: Exit) -> Service {
    let egress = egress(clients, vlan, exit);
    Service { servers: vec![Server { egress, ..server }], ..rr([]) }
}

fn with(clients: Option<Vlan>, vlan: Option<Vlan>, exit: Exit) -> Director {
    let service = leaving(server(1, 1), clients, vlan, exit);
    Director::new([WEB, WEB_UDP, WEB6, DNS6].map(|key| (key, service.clone())))
}

/// For services whose clients are in another VLAN than this packet's.
pub(crate) fn of_vlan_7() -> Director {
    with(Some(Vlan::single(7)), Some(Vlan::single(120)), HERE)
}

/// Its server is behind an interface that is gone.
pub(crate) fn without_interface() -> Director {
    let director = with(None, None, THERE);
    let id = director.id(WEB, 1);
    let gone =
        Egress { device: 1 << 30, ..director.data_path.executor.maps().egresses.read(usize::from(id.0)) };
    director.data_path.executor.maps().egresses.write(usize::from(id.0), gone);
    director
}

/// The frame behind these tags, each with its TPID, priority and number.
fn tagged_as(tags: &[(u16, u16, u16)], frame: &[u8]) -> Vec<u8> {
    let words = tags.iter().flat_map(|(tpid, priority, number)| {
        [tpid.to_be_bytes(), (priority << 13 | number).to_be_bytes()].concat()
    });
    frame[..12].iter().copied().chain(words).chain(frame[12..].iter().copied()).collect()
}

/// SYN, then what takes the fast way, then a datagram; and the same of IPv6.
fn frames() -> Vec<Vec<u8>> {
    let v4 = [Packet::syn(client(1)), Packet::ack(client(1)), Packet::ack(client(1)), Packet::udp(client(1))];
    let v6 = [tcp6(1, SYN), tcp6(1, ACK), tcp6(1, ACK), udp6_of(1, 20), udp6_of(1, 20)];
    v4.iter().map(Packet::bytes).chain(v6).collect()
}

/// Each frame, with `came` before it, leaves with `tags`, and nothing else of it changes.
#[track_caller]
fn assert_leaves(director: &Director, came: &[(u16, u16, u16)], tags: &[(u16, u16, u16)], exit: Exit) {
    for frame in frames() {
        let (outcome, reasons) = director.explain(&tagged_as(came, &frame));
        let wanted = if exit.other.is_some() { Verdict::Redirect } else { Verdict::Tx };
        assert_eq!((outcome.verdict, reasons), (wanted, vec![]), "{came:x?} to {tags:x?}");
        let own = exit.other.map_or(MAC, |(_, mac)| mac);
        let link = [&mac(1).octets()[..], &own.octets()].concat();
        let expected = tagged_as(tags, &[&link, &frame[12..]].concat());
        assert!(outcome.frame == expected, "{came:x?} to {tags:x?}: {:02x?}", &outcome.frame[..26]);
    }
}

const TEN: Vlan = Vlan::single(10);

#[test]
fn tags_are_added_changed_and_removed() {
    let double = Vlan::double(100, 200);
    let came = [(0x8100, 3, 10)];
    let qinq = [(0x88a8, 3, 100), (0x8100, 3, 200)];
    // Priorities are those of the outer tag.
    for (clients, came, to, tags) in [
        (None, &[][..], Vlan::single(120), &[(0x8100, 0, 120)][..]),
        (None, &[], double, &[(0x88a8, 0, 100), (0x8100, 0, 200)]),
        (None, &[(0x8100, 5, 0)], Vlan::single(120), &[(0x8100, 5, 120)]),
        (Some(TEN), &came, Vlan::single(120), &[(0x8100, 3, 120)]),
        (Some(TEN), &came, double, &qinq),
        (Some(TEN), &came, Vlan::UNTAGGED, &[]),
        (Some(TEN), &came, TEN, &came),
        (Some(double), &qinq, Vlan::UNTAGGED, &[]),
        (Some(double), &qinq, TEN, &came),
        (Some(double), &[(0x9100, 1, 100), (0x8100, 0, 200)], double, &[(0x88a8, 1, 100), (0x8100, 1, 200)]),
    ] {
        for exit in [HERE, THERE] {
            let director = with(clients, Some(to), exit);
            assert_leaves(&director, came, tags, exit);
            director.assert_counts_are_true();
        }
    }
    // A VLAN device says by itself which tag, and of which kind.
    let exit = Exit { vlan: Some(Vlan::single(120)), tpid: 0x88a8, ..HERE };
    assert_leaves(&with(None, None, exit), &[], &[(0x88a8, 0, 120)], exit);
    assert_leaves(&with(None, None, THERE), &[], &[], THERE);
}

/// One by one: the VLAN that a packet came from, and whether it goes on.
#[test]
fn no_packet_leaves_its_vlan_unless_it_is_told_to() {
    let tag = |number| vec![(0x8100, 2, number)];
    let double = vec![(0x88a8, 2, 10), (0x8100, 2, 10)];
    let all = [vec![], tag(0), tag(10), tag(20), double.clone()];
    let untagged = [vec![], tag(0)];
    for (clients, server, exit, admitted) in [
        // What no VLAN is named for stays in that it is in.
        (None, None, HERE, &all[..]),
        (Some(TEN), None, HERE, &[tag(10)]),
        (Some(Vlan::UNTAGGED), None, HERE, &untagged),
        (None, Some(TEN), HERE, &untagged),
        (None, Some(Vlan::UNTAGGED), HERE, &untagged),
        (Some(TEN), Some(Vlan::single(20)), HERE, &[tag(10)]),
        (Some(Vlan::double(10, 10)), Some(Vlan::single(20)), HERE, std::slice::from_ref(&double)),
        (None, None, THERE, &untagged),
        (Some(TEN), None, THERE, &[tag(10)]),
    ] {
        let director = with(clients, server, exit);
        for came in &all {
            for frame in frames() {
                let frame = tagged_as(came, &frame);
                let (outcome, reasons) = director.explain(&frame);
                let what = format!("{clients:?} {server:?} {exit:?}: {came:?}");
                if !admitted.contains(came) {
                    assert_eq!(
                        (outcome.verdict, reasons),
                        (Verdict::Drop, vec![Reason::ForeignVlan]),
                        "{what}"
                    );
                    continue;
                }
                assert_eq!(reasons, [], "{what}");
                assert!(matches!(outcome.verdict, Verdict::Tx | Verdict::Redirect), "{what}");
                if server.is_none() && exit == HERE {
                    assert_eq!(outcome.frame[12..], frame[12..], "{what}: as it came");
                }
            }
        }
    }
}

/// Inside the tunnel the packet is as it came; the tags are those of the outer one.
#[test]
fn tunnels_leave_by_other_interfaces_and_vlans_too() {
    for kind in TunnelKind::ALL {
        for (outer_ipv4, exit) in [(true, HERE), (false, HERE), (true, THERE), (false, THERE)] {
            let far = tunnels::far(&Tunnel::new(kind), outer_ipv4, 1500);
            let plain = Director::new([WEB, WEB6].map(|key| (key, leaving(far, None, None, HERE))));
            let service = leaving(far, Some(TEN), Some(Vlan::double(100, 200)), exit);
            let director = Director::new([WEB, WEB6].map(|key| (key, service.clone())));
            for frame in [Packet::syn(client(1)).bytes(), Packet::ack(client(1)).bytes(), tcp6(1, SYN)] {
                let expected = plain.send_bytes(&frame).frame;
                let (outcome, reasons) = director.explain(&tagged_as(&[(0x8100, 0, 10)], &frame));
                let wanted = if exit.other.is_some() { Verdict::Redirect } else { Verdict::Tx };
                assert_eq!((outcome.verdict, reasons), (wanted, vec![]), "{kind:?} {outer_ipv4}");
                let mut expected = tagged_as(&[(0x88a8, 0, 100), (0x8100, 0, 200)], &expected);
                expected[6..12].copy_from_slice(&exit.other.map_or(MAC, |(_, mac)| mac).octets());
                assert_eq!(outcome.frame, expected, "{kind:?} {outer_ipv4}");
                let (_, reasons) = director.explain(&frame);
                assert_eq!(reasons, [Reason::ForeignVlan], "{kind:?}: untagged");
            }
        }
    }
}

#[test]
fn what_is_too_long_for_the_interface_is_told() {
    let director = with(None, None, Exit { mtu: 1400, ..THERE });
    let syn = |payload| Packet { payload, ..Packet::syn(client(1)) };
    assert_eq!(director.send(&syn(1360)).verdict, Verdict::Redirect);
    let (outcome, reasons) = director.explain(&syn(1361).bytes());
    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::TooBig]));
    assert_eq!(
        (&outcome.frame[..6], &outcome.frame[40..42]),
        (&ROUTER.octets()[..], &1400_u16.to_be_bytes()[..])
    );
    let stats = director.stats(WEB, 1);
    assert_eq!((stats.packets, stats.bytes), (1, 1414), "what was not sent is not counted");
}

/// Its gateway may be a client's, on another VLAN: what goes back there has few hops left.
#[test]
fn what_goes_back_to_where_it_came_from_has_few_hops_left() {
    let director = with(None, Some(Vlan::single(120)), HERE);
    let from_server = Packet { source: mac(1), ..Packet::syn(client(1)) };
    let outcome = director.send(&from_server);
    assert_eq!((outcome.verdict, outcome.frame[14..16].to_vec()), (Verdict::Tx, vec![0, 120]));
    assert!(outcome.frame[18 + 8] < 16, "{} hops", outcome.frame[18 + 8]);
    let again = Packet { ttl: outcome.frame[18 + 8] - 1, ..from_server };
    assert_eq!(director.explain(&again.bytes()).1, [Reason::Loop]);
}

/// The next hop, the tags and the interface may change while connections go on.
#[test]
fn connections_follow_their_server_to_another_interface() {
    let mut director = with(None, None, HERE);
    director.open(client(1));
    for (vlan, exit, verdict, length) in [
        (None, THERE, Verdict::Redirect, 54),
        (Some(Vlan::single(5)), THERE, Verdict::Redirect, 58),
        (Some(Vlan::double(5, 6)), HERE, Verdict::Tx, 62),
        (None, HERE, Verdict::Tx, 54),
    ] {
        director.change_service(WEB, |service| service.servers[0].egress = egress(None, vlan, exit));
        let outcome = director.send(&Packet::ack(client(1)));
        assert_eq!((outcome.verdict, outcome.frame.len()), (verdict, length), "{vlan:?}");
    }
    // Fragments and errors go the way of their connection.
    director.change_service(WEB_UDP, |service| service.servers[0].egress = egress(None, None, THERE));
    let datagram = Packet { payload: 1000, ..Packet::udp(client(2)) };
    for frame in [fragment(&datagram, 7, 0..64), fragment(&datagram, 7, 64..126)] {
        assert_eq!(director.send_bytes(&frame).verdict, Verdict::Redirect);
    }
    director.assert_counts_are_true();
}
