//! Direct routing: the destination MAC becomes the server's, the source MAC ours, and nothing else
//! changes.

use lb_common::mac::Mac;
use lb_tests::harness::*;

fn director() -> Director {
    Director::new([(WEB, rr([1])), (WEB_UDP, rr([2]))])
}

/// The frame as the server must get it.
fn rewritten(frame: &[u8], server: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&mac(server).octets());
    frame[6..12].copy_from_slice(&MAC.octets());
    frame
}

fn tcp_with_options() -> Packet {
    Packet { transport: Transport::Tcp { flags: SYN, options: 10 }, ..Packet::syn(client(1)) }
}

#[test]
fn only_the_macs_change() {
    let syn = Packet::syn(client(1));
    let ack = Packet::ack(client(1));
    let udp = Packet::udp(client(1));
    let cases = [
        ("a bare SYN", syn.clone()),
        ("a SYN with TCP options", tcp_with_options()),
        ("data", Packet { payload: 1460, ..ack.clone() }),
        ("a datagram", udp.clone()),
        ("an empty datagram", Packet { payload: 0, ..udp.clone() }),
        ("an 802.1Q tag", Packet { tags: vec![DOT1Q], ..ack.clone() }),
        ("an 802.1ad and an 802.1Q tag", Packet { tags: vec![DOT1AD, DOT1Q], ..ack.clone() }),
        ("a datagram with two tags", Packet { tags: vec![DOT1Q, DOT1Q], ..udp.clone() }),
        ("one word of IP options", Packet { ip_options: 1, ..ack.clone() }),
        ("all IP options there can be", Packet { ip_options: 10, payload: 5, ..ack.clone() }),
        ("a datagram with IP options and a tag", Packet { ip_options: 10, tags: vec![DOT1Q], ..udp.clone() }),
        ("padding to the least frame", Packet { padding: 6, ..ack.clone() }),
        ("padding behind a datagram", Packet { payload: 1, padding: 17, ..udp.clone() }),
        ("the last hop", Packet { ttl: 1, ..ack.clone() }),
        ("a first fragment", Packet { fragment: MORE_FRAGMENTS, payload: 1000, ..udp.clone() }),
        ("no fragments, please", Packet { fragment: 0x4000, ..ack.clone() }),
    ];
    let director = director();
    for (description, packet) in cases {
        assert_is_rewritten(&director, description, &packet);
    }
}

/// The fast way compares a part of a MAC alone, to see whether a server has sent the packet.
#[test]
fn a_client_whose_mac_ends_as_the_servers_is_no_server() {
    let director = director();
    let octets = mac(1).octets();
    let source = Mac::new([0x0a, 0x0b, octets[2], octets[3], octets[4], octets[5]]);
    for packet in [Packet::syn(client(1)), Packet::ack(client(1)), Packet::ack(client(1))] {
        assert_is_rewritten(&director, "a MAC of the same end", &Packet { source, ..packet });
    }
    assert_eq!((director.stats(WEB, 1).connections, director.stats(WEB, 1).packets), (1, 3));
}

/// Ports and flags are read behind the options, whatever stands in these.
#[test]
fn headers_of_every_length_are_read_to_their_end() {
    let director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([2]))]);
    for ip_options in 0..=10 {
        for tags in [vec![], vec![DOT1Q], vec![DOT1AD, DOT1Q]] {
            let from = client(ip_options as u32 * 4 + tags.len() as u32);
            let with = |packet: Packet| Packet { ip_options, tags: tags.clone(), payload: 3, ..packet };
            for packet in [Packet::syn(from), Packet::ack(from), Packet::udp(from), Packet::udp(from)] {
                assert_is_rewritten(&director, &format!("{ip_options} words"), &with(packet));
            }
            let at_port_of_nobody = with(Packet::udp(from).to(VIP, 81));
            assert_eq!(director.send(&at_port_of_nobody).verdict, Verdict::Pass);
        }
    }
    assert_eq!((director.counts(WEB, 1), director.counts(WEB_UDP, 2)), ((33, 0), (0, 33)));
}

/// From about 3.5 KiB on the kernel hands a frame to the program in several buffers.
#[test]
fn jumbo_frames_pass_through_in_one_piece() {
    let director = director();
    assert_is_rewritten(&director, "SYN", &Packet::syn(client(1)));
    for payload in [3000, 3400, 3500, 4096, 8960, 9000] {
        let packet = Packet { payload, ..Packet::ack(client(1)) };
        assert_is_rewritten(&director, &format!("{payload} bytes"), &packet);
        let packet = Packet { payload, padding: 4, tags: vec![DOT1Q], ..Packet::udp(client(1)) };
        assert_is_rewritten(&director, &format!("a datagram of {payload} bytes"), &packet);
    }
}

#[test]
fn jumbo_frames_of_ipv6_too() {
    let director = Director::new([(DNS6, rr([1]))]);
    for payload in [3000, 4096, 8952, 9000] {
        for frame in [udp6_of(1, payload), tagged(&[DOT1Q], &udp6_of(1, payload))] {
            let (outcome, reasons) = director.explain(&frame);
            assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{payload} bytes");
            assert_eq!(outcome.frame, rewritten(&frame, 1), "{payload} bytes");
        }
    }
}

#[track_caller]
fn assert_is_rewritten(director: &Director, description: &str, packet: &Packet) {
    let frame = packet.bytes();
    let (outcome, reasons) = director.explain(&frame);
    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{description}");
    let server = match packet.transport {
        Transport::Tcp { .. } => 1,
        Transport::Udp => 2,
    };
    assert_eq!(outcome.frame, rewritten(&frame, server), "{description}");
}

#[test]
fn a_new_mac_counts_from_the_next_packet_on() {
    let mut director = director();
    director.open(client(1));
    director.change_service(WEB, |service| service.servers[0].mac = Some(mac(99)));
    assert_eq!(director.send(&Packet::ack(client(1))).server(), 99);

    let ours = Mac::new([0x02, 0, 0, 0, 0, 0x77]);
    director.data_path.executor.set_mac(ours);
    assert_eq!(director.send(&Packet::ack(client(1))).verdict, Verdict::Pass, "to the old MAC");
    let outcome = director.send(&Packet { destination: ours, ..Packet::ack(client(1)) });
    assert_eq!((outcome.server(), &outcome.frame[6..12]), (99, &ours.octets()[..]));
}

#[test]
fn packets_bytes_and_connections_are_counted_per_server() {
    let director = director();
    director.open(client(1));
    director.open(client(2));
    // Padding is not the client's.
    director.send(&Packet { payload: 1000, padding: 6, tags: vec![DOT1Q], ..Packet::ack(client(1)) });
    let stats = director.stats(WEB, 1);
    assert_eq!((stats.connections, stats.packets, stats.bytes), (2, 5, 4 * 54 + 58 + 1000));
    assert_eq!(director.stats(WEB_UDP, 2).packets, 0);

    let datagram = Packet::udp(client(1));
    director.send(&datagram);
    director.send(&datagram);
    let stats = director.stats(WEB_UDP, 2);
    assert_eq!((stats.connections, stats.packets, stats.bytes), (1, 2, 2 * (42 + 32)));
}
