//! Servers behind another interface than the clients: packets to them leave by it with its MAC, and
//! what they send comes in by it and leaves by the main one.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

use lb_common::control::Control;
use lb_common::forward::egress::TPID;
use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_datapath::plan::egress::{Exit, egress};
use lb_datapath::plan::{Server, Service, Target, nat};
use lb_model::{ServiceKey, Vlan};
use lb_tests::harness::*;

use super::related::{cut, error};
use super::{CLIENT_PORT, SEGMENTS, SERVER_PORT, Segment, UDP, only, services, with};

/// The only interface that is there wherever tests run, and its MAC as the test has it.
pub(super) const LOOPBACK: u32 = 1;
pub(super) const OTHER: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x99]);
pub(super) const THERE: Exit = Exit { other: Some((LOOPBACK, OTHER)), vlan: None, tpid: TPID, mtu: 1500 };

pub(super) fn leaving(service: Service, exit: Exit) -> Service {
    let egress = egress(None, None, exit);
    let servers = service.servers.iter().map(|server| Server { egress, ..*server }).collect();
    Service { servers, ..service }
}

/// Of all services.
fn behind(exit: Exit) -> Director {
    with(services().into_iter().map(|(key, service)| (key, leaving(service, exit))).collect())
}

/// Packets come in by the other interface from now on, whatever program they come to: a word names
/// the loopback as the main interface and is no index for whoever compares.
pub(super) fn with_ingress(mut director: Director) -> Director {
    director.data_path.executor.set_ingresses(LOOPBACK, &[(LOOPBACK, OTHER)]).expect("room");
    let main = director.data_path.executor.maps().control.word(0, offset_of!(Control, main));
    main.store(1 << 32 | u64::from(LOOPBACK), Ordering::Release);
    director
}

fn open(director: &Director, segment: &Segment) {
    for flags in [SYN, ACK, ACK] {
        let segment = Segment { data: vec![], tags: vec![], ..segment.clone() }.flagged(flags);
        assert_eq!(director.send_bytes(&segment.to_vip()).verdict, Verdict::Redirect);
    }
}

/// The frame that `expected` is on the main interface leaves by the other one.
#[track_caller]
fn assert_leaves(director: &Director, description: &str, frame: &[u8], expected: &[u8]) {
    let (outcome, reasons) = director.explain(frame);
    assert_eq!((outcome.verdict, reasons), (Verdict::Redirect, vec![]), "{description}");
    let expected = [&expected[..6], &OTHER.octets(), &expected[12..]].concat();
    assert_eq!(outcome.frame, expected, "{description}");
}

/// The frame comes in by the other interface, and leaves by the main one.
#[track_caller]
fn assert_comes_back(director: &mut Director, description: &str, frame: &[u8], expected: &[u8]) {
    let (outcome, reasons) = director.explain_ingress(&here(frame));
    assert_eq!((outcome.verdict, reasons), (Verdict::Redirect, vec![]), "{description}");
    assert_eq!(outcome.frame, expected, "{description}");
}

pub(super) fn here(frame: &[u8]) -> Vec<u8> {
    [&OTHER.octets()[..], &frame[6..]].concat()
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|index| index as u8 ^ 0x5a).collect()
}

fn key(kind: (u8, u8)) -> ServiceKey {
    match kind {
        (4, TCP) => WEB,
        (4, _) => WEB_UDP,
        (_, TCP) => WEB6,
        _ => DNS6,
    }
}

/// Of the only server.
fn packets(director: &Director, kind: (u8, u8)) -> u64 {
    let id = director.id_of(key(kind), Target::Real(Segment::new(kind, SYN).server()));
    director.data_path.executor.maps().stats.read(id).expect("a server").packets
}

#[test]
fn both_ways_change_addresses_ports_and_interfaces() {
    let director = behind(THERE);
    let mut segments = Vec::new();
    for kind in SEGMENTS {
        for ip_options in if kind.0 == 4 { &[0, 1, 10][..] } else { &[0] } {
            for length in [0, 1, 333, 1400] {
                let segment = Segment::new(kind, ACK);
                segments.push(Segment { data: data(length), ip_options: *ip_options, ..segment });
            }
        }
    }
    for segment in &segments {
        let kind = (segment.family, segment.protocol);
        let before = packets(&director, kind);
        for flags in [SYN, ACK, ACK] {
            let segment = segment.clone().flagged(flags);
            let description = format!("{kind:?} {} {}", segment.ip_options, segment.data.len());
            assert_leaves(&director, &description, &segment.to_vip(), &segment.to_server());
        }
        assert_eq!(packets(&director, kind), before + 3, "each counts once");
    }
    let mut director = with_ingress(director);
    for segment in &segments {
        for flags in [SYN | ACK, ACK, ACK] {
            let segment = Segment { ttl: 2, ..segment.clone() }.flagged(flags);
            let kind = (segment.family, segment.protocol);
            let description = format!("{kind:?} {} {}, back", segment.ip_options, segment.data.len());
            assert_comes_back(&mut director, &description, &segment.by_server(), &segment.to_client());
        }
    }
    director.assert_counts_are_true();
}

#[test]
fn errors_are_translated_within() {
    let director = behind(THERE);
    let mut back = Vec::new();
    for kind in SEGMENTS {
        let segment = Segment { data: data(99), ..Segment::new(kind, ACK) };
        open(&director, &segment);
        let ip = if kind.0 == 4 { 20 } else { 40 };
        let router: IpAddr = match kind.0 {
            4 => Ipv4Addr::new(10, 9, 9, 9).into(),
            _ => Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 9).into(),
        };
        let code = if kind.0 == 4 { [3, 4] } else { [2, 0] };
        let spent = Segment { ttl: 63, ..segment.clone() };
        for quoted in [8, 20, 60] {
            let description = format!("{kind:?} {quoted}");
            let arrived = segment.to_client()[14..][..ip + quoted].to_vec();
            let sent = spent.by_server()[14..][..ip + quoted].to_vec();
            let to_vip = error(code, [MAC, ROUTER], [router, segment.vip], &arrived, 64);
            let to_server = error(code, [mac(1), MAC], [router, segment.server()], &sent, 63);
            assert_leaves(&director, &description, &to_vip, &to_server);
            let arrived = segment.to_server()[14..][..ip + quoted].to_vec();
            let sent = spent.to_vip()[14..][..ip + quoted].to_vec();
            for by in [segment.server(), router] {
                let from = error(code, [MAC, mac(1)], [by, segment.client], &arrived, 64);
                let to_client = error(code, [ROUTER, MAC], [segment.vip, segment.client], &sent, 63);
                back.push((description.clone(), from, to_client));
            }
        }
    }
    let mut director = with_ingress(director);
    for (description, from, to_client) in back {
        assert_comes_back(&mut director, &description, &from, &to_client);
    }
}

#[test]
fn fragments_follow_in_both_directions() {
    let director = behind(THERE);
    let fragments = |kind: (u8, u8), whole: &[u8]| {
        [0..40, 40..80, 80..126].map(|range| match kind.0 {
            4 => cut(whole, range),
            _ => fragment6(whole, 9, range),
        })
    };
    let kinds = [(4, UDP), (6, UDP)];
    let datagram = |kind| Segment { data: data(1000), ..Segment::new(kind, 0) };
    for kind in kinds {
        let [from, to] = [datagram(kind).to_vip(), datagram(kind).to_server()];
        for (from, to) in fragments(kind, &from).iter().zip(&fragments(kind, &to)) {
            assert_leaves(&director, &format!("{kind:?}"), from, to);
        }
    }
    let mut director = with_ingress(director);
    for kind in kinds {
        let [from, to] = [datagram(kind).by_server(), datagram(kind).to_client()];
        for (from, to) in fragments(kind, &from).iter().zip(&fragments(kind, &to)) {
            assert_comes_back(&mut director, &format!("{kind:?}, back"), from, to);
        }
    }
}

/// Its sender knows nothing of the server: what is quoted is the packet as it came.
#[test]
fn what_is_too_long_for_the_interface_is_told_as_it_came() {
    let director = behind(Exit { mtu: 1400, ..THERE });
    for (kind, headers, quote) in [((4, TCP), 40, 42), ((6, TCP), 60, 62)] {
        let segment = |length| Segment { data: data(length), ..Segment::new(kind, ACK) };
        open(&director, &segment(0));
        let fits = segment(1400 - headers);
        assert_leaves(&director, "it fits", &fits.to_vip(), &fits.to_server());
        let before = packets(&director, kind);
        for flags in [ACK, ACK | FIN] {
            let long = segment(1401 - headers).flagged(flags).to_vip();
            let (outcome, reasons) = director.explain(&long);
            assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::TooBig]), "{kind:?}");
            assert_eq!(outcome.frame[..6], ROUTER.octets(), "{kind:?}");
            let quoted = &outcome.frame[quote..];
            // As far as the ports.
            let end = headers - 20 + 4;
            assert_eq!(quoted[..end], long[14..][..end], "{kind:?}");
        }
        assert_eq!(packets(&director, kind), before, "what was not sent is not counted");
    }
}

#[test]
fn no_packet_leaves_its_vlan_unless_it_is_told_to() {
    let director = behind(Exit { vlan: Some(Vlan::single(120)), ..THERE });
    for kind in SEGMENTS {
        for flags in [SYN, ACK, ACK] {
            let segment = Segment { data: data(20), ..Segment::new(kind, flags) };
            let tag = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0, 120], &frame[12..]].concat();
            assert_leaves(&director, &format!("{kind:?}"), &segment.to_vip(), &tag(&segment.to_server()));
            for tags in [vec![DOT1Q], vec![DOT1AD, DOT1Q]] {
                let (outcome, reasons) = director.explain(&Segment { tags, ..segment.clone() }.to_vip());
                let refused = (Verdict::Drop, vec![Reason::ForeignVlan]);
                assert_eq!((outcome.verdict, reasons), refused, "{kind:?}");
            }
        }
    }
    let mut director = with_ingress(director);
    for kind in SEGMENTS {
        let segment = Segment { tags: vec![DOT1Q], ..Segment::new(kind, ACK) };
        let (outcome, reasons) = director.explain_ingress(&here(&segment.by_server()));
        assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::ForeignVlan]), "{kind:?}");
    }
}

#[test]
fn a_server_hears_of_its_last_hop_where_it_is() {
    let director = behind(THERE);
    SEGMENTS.iter().for_each(|kind| open(&director, &Segment::new(*kind, ACK)));
    let mut director = with_ingress(director);
    for kind in SEGMENTS {
        let last = Segment { ttl: 1, data: data(64), ..Segment::new(kind, ACK) };
        let (outcome, reasons) = director.explain_ingress(&here(&last.by_server()));
        assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::TtlAnswered]), "{kind:?}");
        let macs = [&mac(1).octets()[..], &OTHER.octets()].concat();
        assert_eq!(outcome.frame[..12], macs, "{kind:?}");
    }
}

#[test]
fn an_address_of_ours_stands_in_the_place_of_the_client() {
    let ours: IpAddr = Ipv4Addr::new(10, 1, 200, 1).into();
    let segment = Segment::new((4, TCP), SYN);
    let mut service = leaving(only(segment.server()), THERE);
    service.settings.source_nat = nat::pool(&[ours]);
    let director = with(vec![(WEB, service)]);
    let sent = director.send_bytes(&segment.to_vip());
    assert_eq!((sent.verdict, &sent.frame[26..30]), (Verdict::Redirect, &[10, 1, 200, 1][..]));
    let port = u16::from_be_bytes([sent.frame[34], sent.frame[35]]);
    assert_ne!(port, CLIENT_PORT);
    let mut director = with_ingress(director);
    let segment = segment.flagged(SYN | ACK);
    let reply = segment.frame((segment.server(), SERVER_PORT), (ours, port), [MAC, mac(1)]);
    assert_comes_back(&mut director, "its own port", &reply, &segment.to_client());
}

/// Where the server is, and so the interface, may change while connections go on.
#[test]
fn connections_follow_their_server_to_another_interface() {
    let mut director = with(services());
    let segment = Segment { data: data(40), ..Segment::new((4, TCP), ACK) };
    segment.open(&director);
    director.change_service(WEB, |service| *service = leaving(service.clone(), THERE));
    assert_leaves(&director, "there", &segment.to_vip(), &segment.to_server());
    director.change_service(WEB, |service| service.servers[0].egress = None);
    let (outcome, reasons) = director.explain(&segment.to_vip());
    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]));
    assert_eq!(outcome.frame, segment.to_server());
}
