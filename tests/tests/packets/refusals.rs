//! `fallback: refuse`: clients of a service without a server get an answer from the VIP at once.

use lb_common::reason::Reason;
use lb_datapath::plan::Service;
use lb_model::Stray;
use lb_tests::harness::*;

pub(crate) fn refusing(servers: impl IntoIterator<Item = u16>) -> Service {
    let mut service = rr(servers);
    service.settings.refuses = true;
    service
}

pub(crate) fn director() -> Director {
    Director::new([(WEB, refusing([])), (WEB_UDP, refusing([]))])
}

/// The frame's length up to its IP header.
fn network(packet: &Packet) -> usize {
    14 + 4 * packet.tags.len()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// What must hold of any answer: from the VIP to the client, by the station that the packet came
/// by. Returns the IP packet.
#[track_caller]
fn answer(director: &Director, packet: &Packet) -> Vec<u8> {
    let (outcome, reasons) = director.explain(&packet.bytes());
    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::Refused]), "{packet:?}");
    let at = network(packet);
    let frame = outcome.frame;
    assert_eq!((&frame[..6], &frame[6..12]), (&packet.source.octets()[..], &MAC.octets()[..]), "{packet:?}");
    assert_eq!(frame[12..at], packet.bytes()[12..at], "tags stay");
    let ip = &frame[at..];
    let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    assert!(
        frame.len() == (at + length).max(60).min(packet.bytes().len().max(at + length)),
        "{}",
        frame.len()
    );
    assert_eq!((ip[0], ip[8]), (0x45, 64));
    assert_eq!((&ip[12..16], &ip[16..20]), (&VIP.octets()[..], &packet.from.ip().octets()[..]));
    assert_eq!(ip_sum(ip), 0, "the header's checksum");
    ip[..length].to_vec()
}

/// The ones' complement sum of a TCP segment with its pseudo header; 0 if its checksum fits.
fn tcp_sum(ip: &[u8]) -> u32 {
    let segment = &ip[20..];
    let words = ip[12..20].chunks(2).chain(segment.chunks(2));
    let sum: u32 = words.map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    (sum + 6 + segment.len() as u32) % 0xffff
}

#[test]
fn c7_a_syn_gets_a_reset_that_is_no_longer_than_it() {
    let director = director();
    let syn = Packet::syn(client(1));
    for packet in [
        syn.clone(),
        Packet { tags: vec![DOT1Q], ..syn.clone() },
        Packet { tags: vec![DOT1AD, DOT1Q], ..syn.clone() },
        Packet { ip_options: 3, ..syn.clone() },
        Packet { transport: Transport::Tcp { flags: SYN, options: 5 }, ..syn.clone() },
        Packet { payload: 1200, ..syn.clone() },
        Packet { padding: 6, ..syn },
    ] {
        let ip = answer(&director, &packet);
        assert_eq!((ip.len(), ip[9]), (40, 6));
        assert_eq!(ip[20..24], [[0, 80], packet.from.port().to_be_bytes()].concat()[..], "ports");
        let acknowledged = 2 + packet.payload as u32;
        assert_eq!((word(&ip, 24), word(&ip, 28)), (0, acknowledged), "numbers for {packet:?}");
        assert_eq!((ip[32], ip[33]), (0x50, RST | ACK));
        assert_eq!(tcp_sum(&ip), 0, "the checksum of the answer to {packet:?}");
    }
    assert_eq!(director.entries(), 0);
}

/// Its connection's server is gone, and so is its entry.
#[test]
fn c7_a_packet_in_mid_connection_gets_a_reset() {
    for stray in [Stray::Pass, Stray::Hash] {
        let mut director = Director::new([(WEB, refusing([1]))]);
        director.change_service(WEB, |service| service.settings.stray = stray);
        director.open(client(1));
        let leaving = director.change_service(WEB, |service| service.servers.clear());
        director.purge(&leaving);
        for flags in [ACK, FIN | ACK, SYN | ACK] {
            let ip = answer(&director, &Packet { payload: 9, ..Packet::tcp(client(1), flags) });
            assert_eq!((word(&ip, 24), word(&ip, 28), ip[33]), (2, 0, RST), "flags {flags:#x}");
            assert_eq!(tcp_sum(&ip), 0);
        }
        let reset = Packet::rst(client(1)).bytes();
        let (outcome, reasons) = director.explain(&reset);
        assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::RefusedSilently]));
        assert_eq!(outcome.frame, reset);
    }
}

#[test]
fn c7_a_datagram_gets_an_icmp_error_that_quotes_it() {
    let director = director();
    let udp = Packet::udp(client(1));
    for packet in [
        udp.clone(),
        Packet { tags: vec![DOT1Q], ..udp.clone() },
        Packet { tags: vec![DOT1AD, DOT1Q], ..udp.clone() },
        Packet { payload: 0, ..udp.clone() },
        Packet { payload: 5000, ..udp },
    ] {
        let ip = answer(&director, &packet);
        assert_eq!((ip.len(), ip[9]), (56, 1));
        assert_eq!(ip[20..22], [3, 3], "port unreachable");
        assert_eq!(word(&ip, 24), 0);
        let at = network(&packet);
        assert_eq!(ip[28..], packet.bytes()[at..at + 28], "the quote");
        let sum: u32 = ip[20..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        assert_eq!(sum % 0xffff, 0, "the checksum of the answer to {packet:?}");
    }
}

#[test]
fn c7_icmp_errors_are_limited() {
    let director = director();
    let packet = Packet::udp(client(1)).bytes();
    let (mut answered, mut silent) = (0, 0);
    let begin = std::time::Instant::now();
    const PACKETS: u128 = 2000;
    for _ in 0..PACKETS {
        match director.explain(&packet).1[..] {
            [Reason::Refused] => answered += 1,
            [Reason::RefusedSilently] => silent += 1,
            ref other => panic!("{other:?}"),
        }
    }
    let cpus = std::thread::available_parallelism().unwrap().get() as u128;
    let allowed = cpus * (50 + begin.elapsed().as_millis() + 5);
    assert!(answered <= allowed, "{answered} answers, {silent} dropped, {allowed} allowed");
    // An emulated machine takes a millisecond for each, and then there is nothing to limit.
    assert!(silent > 0 || allowed >= PACKETS, "{answered} answers, {allowed} allowed");
    assert_eq!(director.reason(Reason::RefusedSilently), silent);
}

#[test]
fn c7_what_must_not_be_answered_is_dropped() {
    let director = director();
    let from = |address: [u8; 4]| Client::new(address.into(), 40_000);
    let silent = Some(Reason::RefusedSilently);
    for address in [[0; 4], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
        let (syn, udp) = (Packet::syn(from(address)).bytes(), Packet::udp(from(address)).bytes());
        for frame in [syn, udp] {
            let (outcome, reasons) = director.explain(&frame);
            assert_eq!((outcome.verdict, reasons), (Verdict::Drop, Vec::from_iter(silent)), "{address:?}");
        }
    }
    let options = Packet { ip_options: 1, ..Packet::udp(client(1)) };
    assert_eq!(director.explain(&options.bytes()).1, [Reason::RefusedSilently], "a datagram with IP options");
}

/// With a server nothing is refused, and without `refuse` nothing is answered.
#[test]
fn c7_only_a_service_without_a_server_refuses_and_only_if_it_shall() {
    let mut director = Director::new([(WEB, refusing([1])), (WEB_UDP, rr([]))]);
    assert_eq!(director.open(client(1)), 1);
    assert_eq!(director.explain(&Packet::ack(client(2)).bytes()).1, [Reason::Stray]);
    assert_eq!(director.explain(&Packet::udp(client(1)).bytes()).1, [Reason::NoServer]);
    director.change_service(WEB, |service| service.servers[0].usable = false);
    assert_eq!(director.send(&Packet::ack(client(1))).server(), 1, "it keeps what it has");
    assert_eq!(director.explain(&Packet::syn(client(2)).bytes()).1, [Reason::Refused]);
    director.change_service(WEB, |service| service.servers[0].usable = true);
    assert_eq!(director.open(client(2)), 1);
}

/// As [`answer`], of IPv6. Returns the IP packet.
#[track_caller]
fn answer6(director: &Director, number: u32, frame: &[u8]) -> Vec<u8> {
    let (outcome, reasons) = director.explain(frame);
    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![Reason::Refused]), "client {number}");
    let at = IP + frame[12..].chunks(4).take_while(|tag| tag[0] == 0x81 || tag[0] == 0x88).count() * 4;
    let answer = outcome.frame;
    assert_eq!((&answer[..6], &answer[6..12]), (&frame[6..12], &MAC.octets()[..]), "back to the station");
    assert_eq!(answer[12..at], frame[12..at], "tags stay");
    let ip = &answer[at..];
    assert_eq!((word(ip, 0), ip[7]), (6 << 28, 64));
    assert_eq!(ip[8..40], [VIP6.octets(), client6(number).octets()].concat()[..], "addresses");
    let carried = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    let ip = &ip[..40 + carried];
    let words = ip[8..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.sum::<u32>() + carried as u32 + u32::from(ip[6]);
    assert_eq!(sum % 0xffff, 0, "the checksum");
    ip.to_vec()
}

#[test]
fn c7_clients_of_ipv6_are_refused_too() {
    let director = Director::new([(WEB6, refusing([])), (DNS6, refusing([]))]);
    let syn = tcp6(1, SYN);
    let with_options = extended(syn.clone(), 60, [0; 7]);
    for frame in [syn.clone(), tagged(&[DOT1Q], &syn), tagged(&[DOT1AD, DOT1Q], &syn), with_options] {
        let ip = answer6(&director, 1, &frame);
        assert_eq!((ip.len(), ip[6]), (60, 6));
        assert_eq!(ip[40..44], [PORT.to_be_bytes(), 40_000_u16.to_be_bytes()].concat()[..], "ports");
        assert_eq!((word(&ip, 44), word(&ip, 48)), (0, 2), "numbers");
        assert_eq!((ip[52], ip[53]), (0x50, RST | ACK));
    }
    let datagram = udp6(2);
    for frame in [datagram.clone(), tagged(&[DOT1Q], &datagram), udp6_of(2, 0), udp6_of(2, 5000)] {
        let ip = answer6(&director, 2, &frame);
        assert_eq!((ip.len(), ip[6]), (96, 58));
        assert_eq!((ip[40..42].to_vec(), word(&ip, 44)), (vec![1, 4], 0), "port unreachable");
        let quoted = if frame[12] == 0x81 { &frame[18..66] } else { &frame[14..62] };
        assert_eq!(ip[48..], *quoted, "the quote");
    }
    assert_eq!(director.entries(), 0);

    let silent = |frame: &[u8]| {
        let (outcome, reasons) = director.explain(frame);
        assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::RefusedSilently]));
    };
    silent(&tcp6(3, RST));
    silent(&extended(udp6(3), 60, [0; 7]));
    for address in ["::", "::1", "ff02::1"] {
        let address: std::net::Ipv6Addr = address.parse().unwrap();
        for mut frame in [tcp6(3, SYN), udp6(3)] {
            frame[IP + 8..IP + 24].copy_from_slice(&address.octets());
            silent(&frame);
        }
    }
    // A server that comes ends it.
    let mut director = Director::new([(WEB6, refusing([1])), (DNS6, rr([]))]);
    assert_eq!(director.send_bytes(&tcp6(1, SYN)).server(), 1);
    assert_eq!(director.explain(&udp6(1)).1, [Reason::NoServer], "it shall not refuse");
    director.change_service(WEB6, |service| service.servers[0].usable = false);
    answer6(&director, 2, &tcp6(2, SYN));
}
