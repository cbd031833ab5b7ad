//! Clients that come in by another interface than the main one, or in a VLAN of it, with servers
//! behind address translation: answers leave by the route to the client, by its interface and in
//! its VLAN.

use lb_common::forward::egress::TPID;
use lb_common::forward::nat::{Hop, Route};
use lb_common::mac::Mac;
use lb_common::packet::vlan::Vlan;
use lb_common::reason::Reason;
use lb_datapath::plan::egress::{Exit, egress};
use lb_datapath::plan::{Server, Service};
use lb_tests::harness::*;

use super::elsewhere::{LOOPBACK, OTHER, here, with_ingress};
use super::related::{cut, error};
use super::{SEGMENTS, Segment, UDP, routes, services, with};

fn by_other(route: Route) -> Route {
    Route { device: LOOPBACK, ..route }
}

/// Clients and their router are behind the other interface.
fn director(routes: Vec<Route>) -> Director {
    let mut director = with_ingress(with(services()));
    director.data_path.executor.set_routes(&routes).expect("there is room");
    director
}

/// The frame comes in by the other interface, and leaves by the main one.
#[track_caller]
fn assert_arrives(director: &mut Director, description: &str, frame: &[u8], expected: &[u8]) {
    let (outcome, reasons) = director.explain_ingress(&here(frame));
    assert_eq!((outcome.verdict, reasons), (Verdict::Redirect, vec![]), "{description}");
    assert_eq!(outcome.frame, expected, "{description}");
}

/// What `expected` is on the main interface leaves by the other one, with its MAC.
#[track_caller]
fn assert_leaves(director: &mut Director, description: &str, frame: &[u8], expected: &[u8]) {
    let expected = [&expected[..6], &OTHER.octets(), &expected[12..]].concat();
    assert_arrives(director, description, frame, &expected);
}

#[test]
fn answers_leave_by_the_interface_that_leads_to_the_client() {
    for on_link in [false, true] {
        let hop = |route: Route| if on_link { Route { hop: Hop::ON_LINK, ..route } } else { route };
        let mut director = director(routes().into_iter().map(by_other).map(hop).collect());
        for kind in SEGMENTS {
            for length in [0, 333] {
                let segment = Segment::new(kind, ACK).with(64, vec![7; length]);
                let description = format!("{kind:?} {length}, on link: {on_link}");
                for flags in [SYN, ACK, ACK, ACK] {
                    let segment = segment.clone().flagged(flags);
                    assert_arrives(&mut director, &description, &segment.to_vip(), &segment.to_server());
                }
                for flags in [SYN | ACK, ACK, ACK, ACK] {
                    let segment = segment.clone().flagged(flags);
                    assert_leaves(&mut director, &description, &segment.by_server(), &segment.to_client());
                }
            }
        }
        director.assert_counts_are_true();
    }
}

/// A client's MAC is that of the segment that its route leads to.
#[test]
fn a_client_that_comes_in_elsewhere_than_its_route_leads_is_not_learnt() {
    let route = routes().into_iter().map(|route| Route { hop: Hop::ON_LINK, ..route });
    let mut director = director(route.collect());
    let segment = Segment { client: [10, 131, 7, 7].into(), ..Segment::new((4, UDP), 0) };
    assert_arrives(&mut director, "to the server", &segment.to_vip(), &segment.to_server());
    let (outcome, reasons) = director.explain_ingress(&here(&segment.by_server()));
    assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::NoWayBack]));
}

#[test]
fn errors_and_fragments_leave_there_too() {
    let mut director = director(routes().into_iter().map(by_other).collect());
    for kind in SEGMENTS {
        let segment = Segment::new(kind, ACK).with(64, vec![7; 99]);
        for flags in [SYN, ACK] {
            director.explain_ingress(&here(&segment.clone().flagged(flags).to_vip()));
        }
        let ip = if kind.0 == 4 { 20 } else { 40 };
        let code = if kind.0 == 4 { [3, 4] } else { [2, 0] };
        let quote = |frame: &[u8]| frame[14..][..ip + 20].to_vec();
        let arrived = quote(&segment.to_server());
        let from = error(code, [MAC, mac(1)], [segment.server(), segment.client], &arrived, 64);
        let sent = quote(&segment.clone().with(63, vec![7; 99]).to_vip());
        let to_client = error(code, [ROUTER, MAC], [segment.vip, segment.client], &sent, 63);
        assert_leaves(&mut director, &format!("{kind:?}"), &from, &to_client);
    }
    for kind in [(4, UDP), (6, UDP)] {
        let datagram = Segment::new(kind, 0).with(64, vec![3; 1000]);
        for range in [0..40, 80..126, 40..80] {
            let part = |whole: &[u8]| match kind.0 {
                4 => cut(whole, range.clone()),
                _ => fragment6(whole, 9, range.clone()),
            };
            let (from, to) = (part(&datagram.to_vip()), part(&datagram.to_server()));
            assert_arrives(&mut director, &format!("{kind:?} {range:?}"), &from, &to);
            let (from, to) = (part(&datagram.by_server()), part(&datagram.to_client()));
            assert_leaves(&mut director, &format!("{kind:?} {range:?}, back"), &from, &to);
        }
    }
}

/// Without a word of the file no packet gets out of the VLAN that it is in.
#[test]
fn an_answer_in_a_vlan_does_not_leave_by_another_interface() {
    let mut director = with(services());
    // What is tried comes in by the main interface.
    director.data_path.executor.set_ingresses(LOOPBACK, &[(LOOPBACK, OTHER)]).expect("room");
    let routes: Vec<Route> = routes().into_iter().map(by_other).collect();
    director.data_path.executor.set_routes(&routes).expect("there is room");
    for kind in SEGMENTS {
        let tagged = Segment { tags: vec![DOT1Q], ..Segment::new(kind, SYN) };
        let (outcome, reasons) = director.explain(&tagged.to_vip());
        assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{kind:?}");
        let answer = tagged.flagged(SYN | ACK);
        let (outcome, reasons) = director.explain(&answer.by_server());
        assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::ForeignVlan]), "{kind:?}");
        let untagged = Segment { tags: vec![], ..answer };
        let (outcome, reasons) = director.explain(&untagged.by_server());
        assert_eq!((outcome.verdict, reasons), (Verdict::Redirect, vec![]), "{kind:?}");
        let expected = untagged.to_client();
        let expected = [&expected[..6], &OTHER.octets(), &expected[12..]].concat();
        assert_eq!(outcome.frame, expected, "{kind:?}");
    }
}

/// In each VLAN another router leads to the same addresses.
#[test]
fn each_vlan_of_clients_has_routes_of_its_own() {
    const ROUTER_OF_TEN: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x66]);
    let ten = Vlan::single(10);
    let exit = Exit { other: None, vlan: None, tpid: TPID, mtu: 0 };
    let egress = egress(Some(ten), None, exit);
    let moved = |service: Service| Service {
        servers: service.servers.iter().map(|server| Server { egress, ..*server }).collect(),
        ..service
    };
    let tagged = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0, 10], &frame[12..]].concat();
    let in_ten = |route: Route| Route { vlan: ten, hop: Hop::by(ROUTER_OF_TEN), ..route };
    for (both, expected) in [(true, vec![]), (false, vec![Reason::NoWayBack])] {
        let mut director = with(services().into_iter().map(|(key, service)| (key, moved(service))).collect());
        let own = routes().into_iter().filter(|_| both).map(in_ten);
        let all: Vec<Route> = routes().into_iter().chain(own).collect();
        director.data_path.executor.set_routes(&all).expect("there is room");
        for kind in SEGMENTS {
            for flags in [SYN, ACK, ACK] {
                let segment = Segment::new(kind, flags);
                let (outcome, reasons) = director.explain(&tagged(&segment.to_vip()));
                assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{kind:?}");
                assert_eq!(outcome.frame, tagged(&segment.to_server()), "{kind:?}");
            }
            for flags in [SYN | ACK, ACK, ACK] {
                let segment = Segment::new(kind, flags);
                let (outcome, reasons) = director.explain(&tagged(&segment.by_server()));
                assert_eq!(reasons, expected, "{kind:?}");
                if both {
                    let to_client = tagged(&segment.to_client());
                    let to_client = [&ROUTER_OF_TEN.octets()[..], &to_client[6..]].concat();
                    assert_eq!((outcome.verdict, outcome.frame), (Verdict::Tx, to_client), "{kind:?}");
                }
            }
        }
    }
}
