//! Servers that are reached by tunnels: the outer packets, byte by byte, and what does not fit.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::reason::Reason;
use lb_datapath::plan::{Server, Service, Target, tunnel};
use lb_model::{Protocol, ServiceKey, SourcePrefix, Tunnel, TunnelKind};
use lb_tests::harness::*;

const WEB6: ServiceKey = ServiceKey { vip: IpAddr::V6(VIP6), port: PORT, protocol: Protocol::Tcp };
const DNS6: ServiceKey = ServiceKey { vip: IpAddr::V6(VIP6), port: PORT, protocol: Protocol::Udp };
const OWN: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 5);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 5);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 7);
const MTU: u32 = 1500;

/// The server at the other end of a tunnel, behind the router that clients are behind, too.
pub(crate) fn far(config: &Tunnel, outer_ipv4: bool, mtu: u32) -> Server {
    let (address, own): (IpAddr, IpAddr) = match outer_ipv4 {
        true => (FAR.into(), OWN.into()),
        false => (FAR6.into(), OWN6.into()),
    };
    Server {
        target: Target::Real(address),
        mac: Some(ROUTER),
        tunnel: Some(tunnel::tunnel(address, config, own, mtu)),
        ..server(1, 1)
    }
}

fn only(server: Server) -> Service {
    Service { servers: vec![server], ..rr([]) }
}

pub(crate) fn with(config: &Tunnel, outer_ipv4: bool) -> Director {
    let service = only(far(config, outer_ipv4, MTU));
    Director::new([WEB, WEB_UDP, WEB6, DNS6].map(|key| (key, service.clone())))
}

pub(crate) fn director() -> Director {
    with(&Tunnel::new(TunnelKind::Ipip), true)
}

/// One byte more than an IPIP tunnel takes.
pub(crate) fn too_big(packet: Packet) -> Packet {
    Packet { payload: 1481 - 40, ..packet }
}

/// The same from a source that must not be answered.
pub(crate) fn too_big_of_nobody(packet: Packet) -> Packet {
    too_big(Packet { from: Client::new([127, 0, 0, 1].into(), 40_000), ..packet })
}

/// The sum of words as in RFC 1071, not complemented.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// The frame with right checksums, and this DSCP and ECN; `at` is where its IP header stands.
pub(crate) fn finished(mut frame: Vec<u8>, at: usize, class: u8) -> Vec<u8> {
    let ip = &mut frame[at..];
    let (header, protocol, addresses) = match ip[0] >> 4 {
        4 => {
            ip[1] = class;
            ip[10..12].fill(0);
            let header = usize::from(ip[0] & 15) * 4;
            let checksum = !sum(&ip[..header]);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            (header, ip[9], ip[12..20].to_vec())
        }
        _ => {
            ip[0] = 0x60 | class >> 4;
            ip[1] = class << 4;
            (40, ip[6], ip[8..40].to_vec())
        }
    };
    let segment = &mut ip[header..];
    let checksum = if protocol == TCP { 16 } else { 6 };
    segment[checksum..][..2].fill(0);
    let length = (segment.len() as u32).to_be_bytes();
    let found = !sum(&[&addresses[..], &length, &[0, 0, 0, protocol], segment].concat());
    segment[checksum..][..2].copy_from_slice(&found.to_be_bytes());
    frame
}

pub(crate) fn v4(flags: Option<u8>, payload: usize) -> Vec<u8> {
    let packet = match flags {
        Some(flags) => Packet::tcp(client(1), flags),
        None => Packet::udp(client(1)),
    };
    Packet { payload, ..packet }.bytes()
}

pub(crate) fn v6(flags: Option<u8>, payload: usize) -> Vec<u8> {
    let ports = [40_000_u16.to_be_bytes(), PORT.to_be_bytes()].concat();
    let data = vec![0x5a; payload];
    match flags {
        Some(flags) => {
            let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
            from6(ipv6(TCP, VIP6, &[&ports[..], &rest, &data].concat()))
        }
        None => {
            let length = (8 + payload as u16).to_be_bytes();
            from6(ipv6(17, VIP6, &[&ports[..], &length, &[0, 0], &data].concat()))
        }
    }
}

/// A client that may be answered.
fn from6(mut frame: Vec<u8>) -> Vec<u8> {
    frame[22..38].copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1).octets());
    frame
}

/// What the server must get around `inner`, of which the flow's hash is read from `found`.
fn outer(kind: TunnelKind, outer_ipv4: bool, inner: &[u8], found: &[u8]) -> Vec<u8> {
    let inner_ipv4 = inner[0] >> 4 == 4;
    let class = if inner_ipv4 { inner[1] } else { inner[0] << 4 | inner[1] >> 4 };
    let protocol = if inner_ipv4 { 4 } else { 41 };
    let header = if outer_ipv4 { 20 } else { 40 };
    let (number, mut shim) = match kind {
        TunnelKind::Ipip => (protocol, vec![]),
        TunnelKind::Gre if inner_ipv4 => (47, vec![0, 0, 8, 0]),
        TunnelKind::Gre => (47, vec![0, 0, 0x86, 0xdd]),
        TunnelKind::Gue => {
            let length = (inner.len() as u16 + 12).to_be_bytes();
            let head = [&found[header..header + 2], &[0x17, 0xc0], &length, &[0, 0, 0, protocol, 0, 0]];
            (17, head.concat())
        }
    };
    let length = (shim.len() + inner.len()) as u16;
    let ip = if outer_ipv4 {
        let head = [&[0x45, class], &(length + 20).to_be_bytes()[..], &[0, 0, 0x40, 0, 64, number, 0, 0]];
        let mut ip = [&head.concat()[..], &OWN.octets(), &FAR.octets()].concat();
        let checksum = !sum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        ip
    } else {
        let label = [class << 4 | found[1] & 15, found[2], found[3]];
        let head = [&[0x60 | class >> 4][..], &label, &length.to_be_bytes(), &[number, 64]].concat();
        let ip = [&head[..], &OWN6.octets(), &FAR6.octets()].concat();
        if kind == TunnelKind::Gue {
            let datagram = [&shim, inner].concat();
            let pseudo = [&ip[8..40], &u32::from(length).to_be_bytes(), &[0, 0, 0, 17]].concat();
            let checksum = !sum(&[pseudo, datagram].concat());
            shim[6..8].copy_from_slice(&checksum.to_be_bytes());
        }
        ip
    };
    [&ip[..], &shim, inner].concat()
}

#[test]
fn every_kind_carries_either_family_in_either_family() {
    for kind in TunnelKind::ALL {
        for outer_ipv4 in [true, false] {
            let director = with(&Tunnel::new(kind), outer_ipv4);
            for (index, inner_ipv4) in [true, false].into_iter().enumerate() {
                let build = if inner_ipv4 { v4 } else { v6 };
                for (turn, tags) in [&[][..], &[DOT1Q], &[DOT1AD, DOT1Q]].into_iter().enumerate() {
                    // SYN, then the fast way's packets, and datagrams.
                    for flags in [Some(SYN), Some(ACK), Some(ACK), None, None] {
                        let class = (0x21 + 86 * turn + index) as u8;
                        let inner = finished(build(flags, 100 + turn), 14, class)[14..].to_vec();
                        let frame = tagged(tags, &finished(build(flags, 100 + turn), 14, class));
                        let (outcome, reasons) = director.explain(&frame);
                        let what = format!(
                            "{kind:?}, outer 4 {outer_ipv4}, inner 4 {inner_ipv4}, {tags:x?}, {flags:?}"
                        );
                        assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{what}");
                        let at = 14 + 4 * tags.len();
                        let expected = outer(kind, outer_ipv4, &inner, &outcome.frame[at..]);
                        let ethertype = if outer_ipv4 { [8, 0] } else { [0x86, 0xdd] };
                        let link =
                            [&ROUTER.octets()[..], &MAC.octets(), &frame[12..at - 2], &ethertype].concat();
                        assert_eq!(outcome.frame[..at], link, "{what}");
                        assert_eq!(outcome.frame[at..], expected, "{what}");
                    }
                }
            }
            let stats =
                director.data_path.executor.maps().stats.read(
                    director.id_of(WEB, Target::Real(if outer_ipv4 { FAR.into() } else { FAR6.into() })),
                );
            let stats = stats.expect("statistics");
            assert_eq!((stats.connections, stats.packets), (1, 9), "SYN again is the same connection");
        }
    }
}

/// Without its own checksum a datagram does not tell its sum, and the outer one has none either.
#[test]
fn a_datagram_without_a_checksum_gets_none_around_it() {
    let director = with(&Tunnel::new(TunnelKind::Gue), false);
    let mut frame = v4(None, 20);
    frame[40..42].fill(0);
    assert_eq!(director.send_bytes(&frame).frame[60..62], [0, 0]);
    let director = with(&Tunnel::new(TunnelKind::Gue), true);
    let frame = finished(v4(None, 20), 14, 0);
    assert_eq!(director.send_bytes(&frame).frame[40..42], [0, 0], "none over IPv4");
}

#[test]
fn what_does_not_fit_is_told_what_does() {
    for kind in TunnelKind::ALL {
        for outer_ipv4 in [true, false] {
            let director = with(&Tunnel::new(kind), outer_ipv4);
            let room = MTU as usize - kind.overhead(outer_ipv4);
            for fragment in [0, 0x4000] {
                let syn = Packet { fragment, ..Packet::syn(client(1)) };
                for tags in [vec![], vec![DOT1Q]] {
                    let packet = Packet { payload: room - 40, tags, ..syn.clone() };
                    let (outcome, reasons) = director.explain(&packet.bytes());
                    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{kind:?}");
                    let at = 14 + 4 * packet.tags.len();
                    assert_eq!(outcome.frame.len(), at + MTU as usize, "as long as may be");
                    let packet = Packet { payload: room - 39, ..packet };
                    let (outcome, reasons) = director.explain(&packet.bytes());
                    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::TooBig]));
                    assert_is_too_big_v4(&packet.bytes(), &outcome.frame, at, room);
                }
            }
            let frame = v6(Some(SYN), room - 60);
            assert_eq!(director.explain(&frame).1, []);
            let frame = v6(Some(SYN), room - 59);
            let (outcome, reasons) = director.explain(&frame);
            assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::TooBig]));
            assert_is_too_big_v6(&frame, &outcome.frame, room);
            director.assert_counts_are_true();
        }
    }
}

/// RFC 792 and RFC 1191: from the VIP to the client, with the MTU and a quote.
#[track_caller]
fn assert_is_too_big_v4(frame: &[u8], answer: &[u8], at: usize, room: usize) {
    assert_eq!((&answer[..6], &answer[6..12]), (&ROUTER.octets()[..], &MAC.octets()[..]));
    assert_eq!(answer[12..at], frame[12..at]);
    let ip = &answer[at..];
    assert_eq!((ip[0], ip[9], ip_sum(ip)), (0x45, 1, 0));
    assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
    assert_eq!((&ip[12..16], &ip[16..20]), (&frame[at + 16..at + 20], &frame[at + 12..at + 16]));
    assert_eq!((&ip[20..22], &ip[24..26], sum(&ip[20..])), (&[3, 4][..], &[0, 0][..], 0xffff));
    assert_eq!(ip[26..28], (room as u16).to_be_bytes());
    assert_eq!(ip[28..], frame[at..][..68], "the quote");
}

/// RFC 4443, section 3.2.
#[track_caller]
fn assert_is_too_big_v6(frame: &[u8], answer: &[u8], room: usize) {
    assert_eq!((&answer[..6], &answer[6..12]), (&ROUTER.octets()[..], &MAC.octets()[..]));
    let ip = &answer[14..];
    assert_eq!((ip[0], ip[6], ip[7]), (0x60, ICMPV6, 64));
    assert_eq!(usize::from(u16::from_be_bytes([ip[4], ip[5]])) + 40, ip.len());
    assert_eq!((&ip[8..24], &ip[24..40]), (&frame[14 + 24..14 + 40], &frame[14 + 8..14 + 24]));
    assert_eq!(ip[40..42], [2, 0]);
    assert_eq!(ip[44..48], (room as u32).to_be_bytes());
    assert_eq!(ip[48..], frame[14..][..128], "the quote");
    let length = (ip.len() as u32 - 40).to_be_bytes();
    assert_eq!(sum(&[&ip[8..40], &length, &[0, 0, 0, ICMPV6], &ip[40..]].concat()), 0xffff);
}

#[test]
fn errors_are_limited_and_an_ipv6_client_hears_of_1280_at_least() {
    let server = far(&Tunnel::new(TunnelKind::Gre), true, 1290);
    let director = Director::new([(WEB6, only(server))]);
    let frame = v6(Some(SYN), 1270 - 60);
    let (outcome, reasons) = director.explain(&frame);
    assert_eq!(reasons, [Reason::TooBig]);
    assert_eq!(outcome.frame[14 + 44..14 + 48], 1280_u32.to_be_bytes());
    let begin = std::time::Instant::now();
    const PACKETS: u128 = 2000;
    (0..PACKETS).for_each(|_| drop(director.send_bytes(&frame)));
    let cpus = std::thread::available_parallelism().expect("a number").get() as u128;
    let allowed = cpus * (50 + begin.elapsed().as_millis() + 5);
    let answered = u128::from(director.reason(Reason::TooBig)) - 1;
    assert!(answered <= allowed, "{answered} answers, {allowed} allowed");
    assert_eq!(answered + u128::from(director.reason(Reason::TooBigSilently)), PACKETS);
    let unspecified = [&frame[..22], &[0; 16], &frame[38..]].concat();
    assert_eq!(director.explain(&unspecified).1, [Reason::TooBigSilently], "from nobody");
}

/// One packet of each of so many connections; what `read` sees of the outer packets.
fn seen<T: Ord>(director: &Director, read: impl Fn(&[u8]) -> T) -> BTreeSet<T> {
    let send = |number| {
        let first = director.send(&Packet::syn(client(number)));
        let again = director.send(&Packet::ack(client(number)));
        let (first, again) = (read(&first.frame[14..]), read(&again.frame[14..]));
        assert!(first == again, "a connection's packets must not overtake each other");
        first
    };
    (0..256).map(send).collect()
}

#[test]
fn connections_spread_over_the_servers_queues() {
    let director = with(&Tunnel::new(TunnelKind::Gue), true);
    let ports = seen(&director, |ip| u16::from_be_bytes([ip[20], ip[21]]));
    assert!(ports.len() > 240 && ports.iter().all(|port| *port >= 0xc000), "{} ports", ports.len());
    drop(director);

    let source = SourcePrefix { address: Ipv4Addr::new(172, 16, 0, 0).into(), length: 16 };
    let config = Tunnel { source: Some(source), ..Tunnel::new(TunnelKind::Ipip) };
    let director = with(&config, true);
    let sources = seen(&director, |ip| {
        assert_eq!(ip_sum(ip), 0);
        [ip[12], ip[13], ip[14], ip[15]]
    });
    assert!(
        sources.len() > 240 && sources.iter().all(|source| source[..2] == [172, 16]),
        "{}",
        sources.len()
    );
    drop(director);

    let source =
        SourcePrefix { address: Ipv6Addr::new(0xfd00, 0x6c62, 0, 0, 0, 0, 0, 0).into(), length: 112 };
    let config = Tunnel { source: Some(source), ..Tunnel::new(TunnelKind::Gre) };
    let director = with(&config, false);
    let sources = seen(&director, |ip| ip[8..24].to_vec());
    let prefix = [&[0xfd, 0, 0x6c, 0x62][..], &[0; 10]].concat();
    assert!(sources.len() > 240 && sources.iter().all(|source| source[..14] == prefix), "{}", sources.len());
    let labels = seen(&director, |ip| u32::from_be_bytes([0, ip[1] & 15, ip[2], ip[3]]));
    assert!(labels.len() > 240, "{} flow labels", labels.len());
}

#[test]
fn one_service_has_servers_of_either_method() {
    let mut service = rr([1]);
    service.servers.push(far(&Tunnel::new(TunnelKind::Ipip), true, MTU));
    let mut director = Director::new([(WEB, service)]);
    let protocol = |outcome: &Outcome| outcome.frame[14 + 9];
    let kinds: Vec<u8> =
        (0..6).map(|number| protocol(&director.send(&Packet::syn(client(number))))).collect();
    assert_eq!(kinds, [6, 4, 6, 4, 6, 4], "in turn");
    for number in 0..6 {
        let outcome = director.send(&Packet::ack(client(number)));
        assert_eq!(outcome.frame[14 + 9], kinds[number as usize], "client {number} stays");
    }
    // The next hop, the source and the method may change while connections go on.
    director.change_service(WEB, |service| {
        let server = &mut service.servers[1];
        server.mac = Some(mac(9));
        server.tunnel = far(&Tunnel::new(TunnelKind::Gre), true, MTU).tunnel;
    });
    let outcome = director.send(&Packet::ack(client(1)));
    assert_eq!((outcome.server(), outcome.frame[14 + 9]), (9, 47));
    director.change_service(WEB, |service| service.servers[1].tunnel = None);
    let outcome = director.send(&Packet::ack(client(1)));
    assert_eq!((outcome.server(), outcome.frame[14 + 9]), (9, 6));
    director.change_service(WEB, |service| service.servers[1].mac = None);
    assert_eq!(director.explain(&Packet::ack(client(1)).bytes()).1, [Reason::NoMac]);
    director.assert_counts_are_true();
}

/// The client's router is the next hop, too: no packet is taken for one that came back.
#[test]
fn a_packet_may_leave_by_the_station_it_came_from() {
    let director = director();
    for ttl in [64, 1] {
        let frame = Packet { ttl, ..Packet::syn(client(1)) };
        let outcome = director.send(&frame);
        assert_eq!((outcome.verdict, &outcome.frame[..6]), (Verdict::Tx, &ROUTER.octets()[..]));
        assert_eq!(outcome.frame[34..], frame.bytes()[14..], "the inner packet is as it was, ttl {ttl}");
    }
}

/// From about 3.5 KiB on the kernel hands a frame to the program in several buffers.
#[test]
fn jumbo_frames_go_into_tunnels() {
    let server = far(&Tunnel::new(TunnelKind::Gue), true, 9000);
    let director = Director::new([(WEB, only(server))]);
    director.send(&Packet::syn(client(1)));
    for payload in [1, 3400, 3500, 8900] {
        let packet = Packet { payload, ..Packet::ack(client(1)) };
        let outcome = director.send(&packet);
        assert_eq!(outcome.verdict, Verdict::Tx);
        assert_eq!(outcome.frame[14 + 32..], packet.bytes()[14..], "{payload}");
    }
    let packet = Packet { payload: 8929, ..Packet::ack(client(1)) };
    assert_eq!(director.explain(&packet.bytes()).1, [Reason::TooBig]);
}

/// An ICMP error goes the way of its connection, a fragment the way of the first one.
#[test]
fn errors_and_fragments_go_through_the_tunnel_too() {
    for (kind, outer_ipv4) in TunnelKind::ALL.into_iter().flat_map(|kind| [(kind, true), (kind, false)]) {
        let director = with(&Tunnel::new(kind), outer_ipv4);
        for flags in [SYN, ACK] {
            director.send_bytes(&v4(Some(flags), 0));
        }
        let sent = sent_to(client(1), Transport::Tcp { flags: ACK, options: 0 }, 0);
        let datagram = Packet { payload: 1000, ..Packet::udp(client(2)) };
        let frames = [
            icmp_error(&Packet::udp(client(1)), [3, 4], &sent),
            fragment(&datagram, 7, 0..64),
            fragment(&datagram, 7, 64..126),
        ];
        for frame in frames {
            let (outcome, reasons) = director.explain(&frame);
            let description = format!("{kind:?}, outer IPv4: {outer_ipv4}");
            assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{description}");
            assert_eq!(outcome.frame[..6], ROUTER.octets(), "{description}");
            let inner = outcome.frame.len() - (frame.len() - 14);
            assert_eq!(outcome.frame[inner..], frame[14..], "{description}: as it came");
            assert!(inner > 14, "{description}: with another header");
        }
        director.assert_counts_are_true();
    }
}
