//! What is none of our business: passed to the host unchanged, and not counted.

use std::net::Ipv4Addr;

use lb_common::addr::V4;
use lb_common::shared::Shared;
use lb_tests::harness::*;

/// A packet of another IP protocol to the VIP.
fn protocol(number: u8) -> Vec<u8> {
    Packet { payload: 32, ..Packet::udp(client(1)) }.bytes_with(|frame| frame[14 + 9] = number)
}

fn three_tags() -> Vec<u8> {
    Packet { tags: vec![DOT1AD, DOT1Q, DOT1Q], ..Packet::syn(client(1)) }.bytes()
}

/// The addresses of an IPv6 packet whose ports and bytes could be mistaken for the VIP's.
fn ipv6_with_the_vip() -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    packet.extend([0; 10].iter().chain(&[0xff, 0xff]).chain(&[10, 128, 0, 1]));
    packet.extend([0; 10].iter().chain(&[0xff, 0xff]).chain(&VIP.octets()));
    packet.extend(&Packet::syn(client(1)).bytes()[34..]);
    frame(IPV6, &packet)
}

#[test]
fn what_is_not_ours_passes_unchanged_and_uncounted() {
    let syn = Packet::syn(client(1));
    let udp = Packet::udp(client(1));
    let cases = [
        ("ARP", frame(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 211, 58])),
        ("IPv6 with TCP", ipv6_with_the_vip()),
        ("LLDP", frame(0x88cc, &[2, 7, 4])),
        ("no EtherType at all, an 802.3 length", frame(0x0026, &[0x42, 0x42, 3])),
        ("nothing but an Ethernet header", frame(0x0800, &[])[..14].to_vec()),
        ("a tag cut short", frame(DOT1Q, &[0, 5])),
        ("three tags", three_tags()),
        ("ICMP to the VIP", protocol(1)),
        ("IGMP", protocol(2)),
        ("VRRP", protocol(112)),
        ("ESP", protocol(50)),
        ("SCTP", protocol(132)),
        ("another port of the VIP", syn.clone().to(VIP, 22).bytes()),
        ("the service's port with its bytes swapped", syn.clone().to(VIP, PORT.swap_bytes()).bytes()),
        ("UDP to a port that only TCP serves", udp.clone().to(VIP, 443).bytes()),
        ("another host", syn.clone().to(Ipv4Addr::new(211, 58, 250, 5), PORT).bytes()),
        ("another host by UDP", udp.to(Ipv4Addr::new(10, 0, 0, 1), PORT).bytes()),
        ("a packet from the VIP", Packet { from: syn.to, ..syn.clone() }.to(*client(1).ip(), 40_000).bytes()),
        ("broadcast", syn.to(Ipv4Addr::BROADCAST, PORT).bytes()),
    ];
    let director = Director::new([(WEB, rr([1, 2])), (WEB_UDP, rr([1, 2])), (tcp(VIP, 443), rr([1, 2]))]);
    for (description, frame) in cases {
        let (outcome, reasons) = director.explain(&frame);
        // An Ethernet header that promises IPv4 and holds none is the one that is counted.
        if description.starts_with("nothing but") {
            assert_eq!(reasons, [lb_common::reason::Reason::TruncatedIp], "{description}");
        } else {
            assert_eq!(reasons, [], "{description}");
        }
        assert_eq!(outcome, Outcome { verdict: Verdict::Pass, frame }, "{description}");
    }
    assert_eq!(director.entries(), 0);
}

#[test]
fn without_services_everything_passes() {
    let director = Director::new([]);
    for packet in [Packet::syn(client(1)), Packet::ack(client(1)), Packet::udp(client(1))] {
        let (outcome, reasons) = director.explain(&packet.bytes());
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]));
    }
}

/// The filter of VIPs has 512 bits: some other address shares the VIP's, and must pass all the
/// same.
#[test]
fn an_address_that_the_filter_takes_for_a_vip_passes() {
    let director = Director::new([(WEB, rr([1]))]);
    let mut vips = lb_common::control::Vips::default();
    vips.insert(V4::from(VIP));
    let vips = Shared::new(vips);
    let mistaken: Vec<Ipv4Addr> = (0..4096)
        .map(|host| Ipv4Addr::from(0x0a00_0000 + host))
        .filter(|address| vips.may_contain(V4::from(*address)))
        .collect();
    assert!(!mistaken.is_empty(), "4096 addresses, 512 bits");
    for address in mistaken {
        let (outcome, reasons) = director.explain(&Packet::syn(client(1)).to(address, PORT).bytes());
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "{address}");
    }
}
