//! A director without a service of IPv6, as the product begins: one program stands in for those of
//! IPv6, and the host gets whatever comes by it, until the first service of IPv6 is there.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

use lb_common::addr::V6;
use lb_common::control::{Control, Vips};
use lb_common::mac::Mac;
use lb_common::program::stage::Stage;
use lb_common::program::trace::Settings;
use lb_common::service::admission::Admission;
use lb_common::shared::Shared;
use lb_datapath::plan::Service;
use lb_tests::harness::*;

use crate::admission::{NONE, limited, only};
use crate::nat;

/// Protocols, and what says which header comes next.
const UDP: u8 = 17;
const ESP: u8 = 50;
const NO_NEXT_HEADER: u8 = 59;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

const NOTHING: [u8; 7] = [0; 7];
const TAGS: [&[u16]; 3] = [&[], &[DOT1Q], &[DOT1AD, DOT1Q]];

/// A server behind address translation.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// An address of the host's that is no VIP.
const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
const MULTICAST: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// The only interface that is there wherever tests run, and its MAC as the test has it.
const LOOPBACK: u32 = 1;
const OTHER: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x99]);

/// Directors with services of IPv4 alone, whose packets of IPv6 come to all stages that have a
/// stand-in; a group has a VIP of IPv6.
fn directors() -> [(&'static str, Director); 3] {
    let guarded = limited(rr([1]), Admission { client_new: only(1), ..NONE });
    let translated = Service { servers: vec![nat::masq(SERVER.into())], ..rr([]) };
    let services = [("plain", rr([1])), ("with rules", guarded), ("with masq", translated)];
    services.map(|(kind, service)| {
        let mut director = Director::started([(WEB, service)]);
        director.data_path.executor.set_vips(&[(VIP6.into(), GROUP)]).expect("there is room");
        (kind, director)
    })
}

fn is_loaded(director: &Director, stage: Stage) -> bool {
    director.data_path.ebpf.program(stage.program()).expect("it is in the object").fd().is_ok()
}

/// An address of IPv6 that the program's filters take for this one of IPv4.
fn mistaken_for(address: Ipv4Addr) -> Ipv6Addr {
    let mut filter = Vips::default();
    filter.insert(V6::from(IpAddr::from(address)));
    let filter = Shared::new(filter);
    let mut others = (1..=u16::MAX).map(|host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0xd, 0, 0, 0, host));
    let found = others.find(|other| filter.may_contain(V6::from(IpAddr::from(*other))));
    found.expect("65,535 addresses, 512 bits")
}

/// Every kind of packet that may come by IPv6, most of them to the VIP.
fn packets() -> Vec<(&'static str, Vec<u8>)> {
    let long = udp6_of(1, 3000);
    let fragment = |range| fragment6(&long, 7, range);
    let error = |kind, protocol| icmp6_error([kind, 0], &sent_to_v6(1, protocol));
    let headers = [DESTINATION_OPTIONS, HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS];
    let behind = |number: usize| {
        headers[..number].iter().fold(tcp6(1, SYN), |frame, kind| extended(frame, *kind, NOTHING))
    };
    let mut without_hops = tcp6(1, SYN);
    without_hops[IP + 7] = 0;
    let listener = ipv6(ICMPV6, MULTICAST, &[&[143][..], &[0; 27]].concat());
    vec![
        ("a SYN", tcp6(1, SYN)),
        ("an ACK", tcp6(1, ACK)),
        ("data", tcp6_data(1)),
        ("a FIN", tcp6(1, FIN | ACK)),
        ("a RST", tcp6(1, RST)),
        ("flags that do not go together", tcp6(1, SYN | FIN)),
        ("no hops left", without_hops),
        ("a datagram", udp6(1)),
        ("a long datagram", long.clone()),
        ("unreachable, about TCP", error(1, TCP)),
        ("too big, about TCP", error(2, TCP)),
        ("time exceeded, about UDP", error(3, UDP)),
        ("a wrong parameter, about UDP", error(4, UDP)),
        ("an error about nothing", icmp6_error([1, 4], &[])),
        ("an error behind a header", extended(error(2, TCP), DESTINATION_OPTIONS, NOTHING)),
        ("a first fragment", fragment(0..185)),
        ("a later fragment", fragment(185..370)),
        ("a last fragment", fragment(370..376)),
        ("a later fragment behind a header", extended(fragment(185..370), HOP_BY_HOP, NOTHING)),
        ("one header", behind(1)),
        ("two headers", behind(2)),
        ("four headers, one of a fragment", behind(4)),
        ("more headers than are looked through", behind(5)),
        ("more stations on its way", extended(tcp6(1, SYN), ROUTING, [0, 0, 1, 0, 0, 0, 0])),
        ("a solicitation for the VIP", solicitation(VIP6)),
        ("a solicitation for another address", solicitation(OWN)),
        ("a neighbour advertisement", ipv6(ICMPV6, VIP6, &[&[136][..], &[0; 23]].concat())),
        ("a router advertisement", ipv6(ICMPV6, VIP6, &[&[134][..], &[0; 15]].concat())),
        ("a listener's report", extended(listener, HOP_BY_HOP, [0, 5, 2, 0, 0, 1, 0])),
        ("a ping", ipv6(ICMPV6, VIP6, &[128, 0, 0, 0, 0, 1, 0, 1])),
        ("ESP", ipv6(ESP, VIP6, &[0; 16])),
        ("nothing behind the header", ipv6(NO_NEXT_HEADER, VIP6, &[])),
        ("ports that are missing", ipv6(TCP, VIP6, &[])),
        ("the VIP of IPv4, mapped", ipv6(TCP, VIP.to_ipv6_mapped(), &tcp6(1, SYN)[SEGMENT..])),
        ("half of a header", tcp6(1, SYN)[..IP + 20].to_vec()),
    ]
}

/// The same, with other addresses too that lead to other stages, and with up to two tags.
fn frames() -> Vec<(String, Vec<u8>)> {
    let (vip, server) = (mistaken_for(VIP), mistaken_for(SERVER));
    let ends = [
        ("", None, None),
        (" to what seems to be a VIP", None, Some(vip)),
        (" from what seems to be a server", Some(server), Some(OWN)),
    ];
    let mut frames = Vec::new();
    for (what, packet) in packets() {
        for (whose, source, destination) in ends {
            let mut frame = packet.clone();
            for (at, address) in [(IP + 8, source), (IP + 24, destination)] {
                if let (Some(address), Some(place)) = (address, frame.get_mut(at..at + 16)) {
                    place.copy_from_slice(&address.octets());
                }
            }
            let with = |tags: &[u16]| (format!("{what}{whose}, {} tags", tags.len()), tagged(tags, &frame));
            frames.extend(TAGS.map(with));
        }
    }
    frames
}

#[track_caller]
fn assert_nothing_is_counted(director: &Director, kind: &str) {
    assert!(director.reasons().iter().all(|count| *count == 0), "{kind}: {:?}", director.reasons());
    assert!(director.events().iter().all(|count| *count == 0), "{kind}: {:?}", director.events());
    let stats = director.stats(WEB, 1);
    assert_eq!((stats.packets, director.entries()), (0, 0), "{kind}");
}

#[test]
fn the_host_gets_every_kind_of_packet_unchanged_and_nothing_is_counted() {
    let frames = frames();
    for (kind, director) in directors() {
        let mut of_ipv6 = Stage::ALL.into_iter().filter(|stage| stage.is_for_ipv6());
        assert!(of_ipv6.all(|stage| !is_loaded(&director, stage)), "{kind}: one stands in for them");
        for (description, frame) in &frames {
            let (outcome, reasons) = director.explain(frame);
            assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "{kind}: {description}");
            assert_eq!(outcome.frame, *frame, "{kind}: {description}");
        }
        assert_nothing_is_counted(&director, kind);
    }
}

#[test]
fn so_it_is_while_somebody_traces() {
    let frames = frames();
    for (kind, mut director) in directors() {
        director.trace(Settings::OFF);
        for (description, frame) in &frames {
            let outcome = director.send_traced(frame);
            assert_eq!(outcome.verdict, Verdict::Pass, "{kind}: {description}");
            assert_eq!(outcome.frame, *frame, "{kind}: {description}");
        }
        assert_nothing_is_counted(&director, kind);
    }
}

/// The loopback is both interfaces, by a word that names it and is no index for whoever compares.
#[test]
fn so_it_is_of_what_comes_in_by_another_interface() {
    let frames = frames();
    for (kind, mut director) in directors() {
        director.data_path.executor.set_ingresses(LOOPBACK, &[(LOOPBACK, OTHER)]).expect("room");
        let main = director.data_path.executor.maps().control.word(0, offset_of!(Control, main));
        main.store(1 << 32 | u64::from(LOOPBACK), Ordering::Release);
        for (description, frame) in &frames {
            let here = [&OTHER.octets()[..], &frame[6..]].concat();
            let (outcome, reasons) = director.explain_ingress(&here);
            assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "{kind}: {description}");
            assert_eq!(outcome.frame, here, "{kind}: {description}");
        }
        assert_nothing_is_counted(&director, kind);
    }
}

/// Nothing is attached anew: other programs are behind the same stages.
#[test]
fn the_first_service_of_ipv6_has_its_packets_forwarded() {
    for (kind, mut director) in directors() {
        let syn = tcp6(1, SYN);
        assert_eq!(director.send_bytes(&syn).verdict, Verdict::Pass, "{kind}: nobody serves it");
        director.change(|state| state.services.extend([WEB6, DNS6].map(|key| (key, rr([1, 2, 3])))));
        let needed: Vec<Stage> = director.data_path.applied().stages().collect();
        assert!(needed.contains(&Stage::SlowIpv6) && needed.contains(&Stage::RelatedIpv6), "{kind}");
        assert!(needed.into_iter().all(|stage| is_loaded(&director, stage)), "{kind}");

        let tcp = director.send_bytes(&syn).server();
        let udp = director.send_bytes(&udp6(2)).server();
        for (id, tags) in (1..).zip(TAGS) {
            for (what, packet, server) in [
                ("an ACK", tcp6(1, ACK), tcp),
                ("data", tcp6_data(1), tcp),
                ("a datagram", udp6(2), udp),
                ("a header before it", extended(tcp6(1, ACK), DESTINATION_OPTIONS, NOTHING), tcp),
                ("all in one fragment", extended(tcp6(1, ACK), FRAGMENT, NOTHING), tcp),
                ("an error about TCP", icmp6_error([2, 0], &sent_to_v6(1, TCP)), tcp),
                ("an error about UDP", icmp6_error([1, 4], &sent_to_v6(2, UDP)), udp),
                ("a first fragment", fragment6(&udp6_of(2, 3000), id, 0..185), udp),
                ("a later fragment", fragment6(&udp6_of(2, 3000), id, 185..370), udp),
                ("the last fragment", fragment6(&udp6_of(2, 3000), id, 370..376), udp),
            ] {
                let description = format!("{kind}: {what}, {} tags", tags.len());
                assert_goes_to(&director, &description, &tagged(tags, &packet), server);
            }
        }
        let ping = ipv6(ICMPV6, VIP6, &[128, 0, 0, 0, 0, 1, 0, 1]);
        for frame in [solicitation(VIP6), ping, ipv6(TCP, OWN, &syn[SEGMENT..])] {
            let (outcome, reasons) = director.explain(&frame);
            assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "{kind}: the host's");
            assert_eq!(outcome.frame, frame, "{kind}: the host's");
        }
        director.assert_counts_are_true();
    }
}
