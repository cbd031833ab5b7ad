//! Servers behind address translation in a VLAN of their own: no packet leaves its VLAN but for the
//! server's, and answers leave in that of the clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::forward::egress::TPID;
use lb_common::forward::nat::Route;
use lb_common::packet::vlan::Vlan;
use lb_common::reason::Reason;
use lb_datapath::plan::egress::{Exit, egress};
use lb_datapath::plan::{Server, Service};
use lb_tests::harness::*;

use super::elsewhere::{OTHER, THERE, here, leaving, with_ingress};
use super::related::{cut, error};
use super::{SEGMENTS, Segment, UDP, assert_becomes, routes, services, with};

const HERE: Exit = Exit { other: None, vlan: None, tpid: TPID, mtu: 0 };
const SERVERS: Vlan = Vlan::single(120);

fn director(clients: Option<Vlan>, server: Option<Vlan>) -> Director {
    let egress = egress(clients, server, HERE);
    let moved = |service: Service| Service {
        servers: service.servers.iter().map(|server| Server { egress, ..*server }).collect(),
        ..service
    };
    let mut director = with(services().into_iter().map(|(key, service)| (key, moved(service))).collect());
    let vlan = clients.unwrap_or(Vlan::UNTAGGED);
    let routes: Vec<Route> = routes().into_iter().map(|route| Route { vlan, ..route }).collect();
    director.data_path.executor.set_routes(&routes).expect("there is room");
    director
}

/// The frame in this VLAN.
fn within(vlan: Vlan, frame: &[u8]) -> Vec<u8> {
    let tag = |tpid: u16, number: u16| [tpid.to_be_bytes(), number.to_be_bytes()].concat();
    let tags = match (vlan.outer(), vlan.inner()) {
        (0, 0) => vec![],
        (0, inner) => tag(DOT1Q, inner),
        (outer, inner) => [tag(DOT1AD, outer), tag(DOT1Q, inner)].concat(),
    };
    [&frame[..12], &tags, &frame[12..]].concat()
}

#[track_caller]
fn assert_foreign(director: &Director, description: &str, frame: &[u8]) {
    let (outcome, reasons) = director.explain(frame);
    assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::ForeignVlan]), "{description}");
}

#[test]
fn both_ways_change_vlans() {
    let ten = Vlan::single(10);
    for (clients, server) in [
        (Vlan::UNTAGGED, SERVERS),
        (Vlan::UNTAGGED, Vlan::double(100, 200)),
        (ten, SERVERS),
        (Vlan::double(100, 200), SERVERS),
        (ten, Vlan::UNTAGGED),
    ] {
        let director = director(Some(clients), Some(server));
        for kind in SEGMENTS {
            for ip_options in if kind.0 == 4 { &[0, 10][..] } else { &[0] } {
                for length in [0, 333] {
                    let segment = Segment::new(kind, SYN).with(64, vec![7; length]);
                    let segment = Segment { ip_options: *ip_options, ..segment };
                    let description = format!("{kind:?} {clients} {server} {ip_options} {length}");
                    for flags in [SYN, ACK, ACK, ACK] {
                        let segment = segment.clone().flagged(flags);
                        let [from, to] = [segment.to_vip(), segment.to_server()];
                        let (from, to) = (within(clients, &from), within(server, &to));
                        assert_becomes(&director, &description, &from, &to);
                    }
                    for flags in [SYN | ACK, ACK, ACK, ACK] {
                        let segment = segment.clone().flagged(flags);
                        let [from, to] = [segment.by_server(), segment.to_client()];
                        let (from, to) = (within(server, &from), within(clients, &to));
                        assert_becomes(&director, &description, &from, &to);
                    }
                }
            }
        }
        director.assert_counts_are_true();
    }
}

#[test]
fn what_comes_from_another_vlan_is_dropped() {
    let elsewhere = [Vlan::single(121), Vlan::double(120, 120)];
    let director = director(None, Some(SERVERS));
    for kind in SEGMENTS {
        let segment = Segment::new(kind, ACK);
        for flags in [SYN, ACK, ACK] {
            director.send_bytes(&segment.clone().flagged(flags).to_vip());
        }
        let answer = segment.by_server();
        assert_becomes(&director, "its own", &within(SERVERS, &answer), &segment.to_client());
        for vlan in elsewhere.into_iter().chain([Vlan::UNTAGGED]) {
            for _ in 0..3 {
                assert_foreign(&director, &format!("{kind:?} from {vlan}"), &within(vlan, &answer));
            }
        }
        for vlan in elsewhere.into_iter().chain([SERVERS]) {
            assert_foreign(&director, &format!("{kind:?} in {vlan}"), &within(vlan, &segment.to_vip()));
        }
    }
    // Of one in the clients' VLAN, which the file names.
    let director = self::director(Some(Vlan::single(10)), None);
    for kind in SEGMENTS {
        let segment = Segment::new(kind, SYN);
        let ten = |frame: &[u8]| within(Vlan::single(10), frame);
        assert_becomes(&director, "to it", &ten(&segment.to_vip()), &ten(&segment.to_server()));
        assert_becomes(&director, "back", &ten(&segment.by_server()), &ten(&segment.to_client()));
        assert_foreign(&director, "untagged", &segment.by_server());
    }
}

#[test]
fn errors_and_fragments_change_vlans_too() {
    let director = director(None, Some(SERVERS));
    for kind in SEGMENTS {
        let segment = Segment::new(kind, ACK).with(64, vec![7; 99]);
        for flags in [SYN, ACK] {
            director.send_bytes(&segment.clone().flagged(flags).to_vip());
        }
        let ip = if kind.0 == 4 { 20 } else { 40 };
        let router: IpAddr = match kind.0 {
            4 => Ipv4Addr::new(10, 9, 9, 9).into(),
            _ => Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 9).into(),
        };
        let code = if kind.0 == 4 { [3, 4] } else { [2, 0] };
        let spent = segment.clone().with(63, vec![7; 99]);
        let quote = |frame: &[u8]| frame[14..][..ip + 20].to_vec();
        let description = format!("{kind:?}");
        let arrived = quote(&segment.to_client());
        let to_vip = error(code, [MAC, ROUTER], [router, segment.vip], &arrived, 64);
        let sent = quote(&spent.by_server());
        let to_server = error(code, [mac(1), MAC], [router, segment.server()], &sent, 63);
        assert_becomes(&director, &description, &to_vip, &within(SERVERS, &to_server));
        let arrived = quote(&segment.to_server());
        let from = error(code, [MAC, mac(1)], [segment.server(), segment.client], &arrived, 64);
        let sent = quote(&spent.to_vip());
        let to_client = error(code, [ROUTER, MAC], [segment.vip, segment.client], &sent, 63);
        assert_becomes(&director, &description, &within(SERVERS, &from), &to_client);
        assert_foreign(&director, &description, &from);
    }
    for kind in [(4, UDP), (6, UDP)] {
        let datagram = Segment::new(kind, 0).with(64, vec![3; 1000]);
        for range in [0..40, 80..126, 40..80] {
            let part = |whole: &[u8]| match kind.0 {
                4 => cut(whole, range.clone()),
                _ => fragment6(whole, 9, range.clone()),
            };
            let to_server = within(SERVERS, &part(&datagram.to_server()));
            assert_becomes(&director, "to the server", &part(&datagram.to_vip()), &to_server);
            let from = part(&datagram.by_server());
            assert_foreign(&director, "untagged", &from);
            assert_becomes(&director, "back", &within(SERVERS, &from), &part(&datagram.to_client()));
        }
    }
}

/// On an interface that servers are behind, and that packets come in by.
#[test]
fn a_vlan_of_another_interface_is_known_there() {
    let exit = Exit { vlan: Some(SERVERS), ..THERE };
    let services = services().into_iter().map(|(key, service)| (key, leaving(service, exit)));
    let director = with(services.collect());
    for kind in SEGMENTS {
        let segment = Segment::new(kind, SYN);
        let (outcome, reasons) = director.explain(&segment.to_vip());
        assert_eq!((outcome.verdict, reasons), (Verdict::Redirect, vec![]), "{kind:?}");
        let to_server = segment.to_server();
        let expected = within(SERVERS, &[&to_server[..6], &OTHER.octets(), &to_server[12..]].concat());
        assert_eq!(outcome.frame, expected, "{kind:?}");
    }
    let mut director = with_ingress(director);
    for kind in SEGMENTS {
        let segment = Segment::new(kind, SYN | ACK);
        for _ in 0..3 {
            let (outcome, reasons) = director.explain_ingress(&here(&within(SERVERS, &segment.by_server())));
            assert_eq!((outcome.verdict, reasons), (Verdict::Redirect, vec![]), "{kind:?}");
            assert_eq!(outcome.frame, segment.to_client(), "{kind:?}");
            for vlan in [Vlan::UNTAGGED, Vlan::single(121)] {
                let (_, reasons) = director.explain_ingress(&here(&within(vlan, &segment.by_server())));
                assert_eq!(reasons, [Reason::ForeignVlan], "{kind:?} from {vlan}");
            }
        }
    }
}
