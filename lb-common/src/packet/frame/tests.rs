use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::table::connection;

/// 211.58.250.100:40000 -> 211.58.250.6:80, a bare SYN.
fn syn() -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend([2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 100, 0x08, 0x00]);
    frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 211, 58, 250, 100, 211, 58, 250, 6]);
    frame.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, tcp_flags::SYN, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

fn flow(frame: &[u8]) -> Flow<V4> {
    match parse(frame) {
        Parsed::Flow(flow) => flow,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_syn_is_read_in_full() {
    let frame = syn();
    let flow = flow(&frame);
    assert_eq!(flow.source.octets(), [211, 58, 250, 100]);
    assert_eq!(flow.destination.octets(), [211, 58, 250, 6]);
    assert_eq!(u16::from_be(flow.source_port), 40_000);
    assert_eq!(u16::from_be(flow.destination_port), 80);
    assert_eq!((flow.network, flow.transport, flow.total_length), (14, 34, 40));
    assert_eq!(check(&frame[..], &flow), Ok(tcp_flags::SYN));
}

#[test]
fn tags_and_options_are_stepped_over() {
    let mut tagged = syn();
    tagged.splice(12..12, [0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6]);
    assert_eq!((flow(&tagged).network, flow(&tagged).transport), (22, 42));
    tagged.splice(12..12, [0x81, 0x00, 0, 7]);
    assert_eq!(parse(&tagged[..]), Parsed::NotOurs, "three tags are somebody else's");

    let mut options = syn();
    options[14] = 0x46;
    options[17] = 44;
    options.splice(34..34, [1, 1, 1, 1]);
    assert_eq!(check(&options[..], &flow(&options)), Ok(tcp_flags::SYN));
}

#[test]
fn what_cannot_be_read_says_why() {
    let cut = |length: usize| parse(&syn()[..length]);
    assert_eq!(cut(10), Parsed::NotOurs);
    assert_eq!(cut(33), Parsed::Malformed(Reason::TruncatedIp));
    assert_eq!(cut(37), Parsed::Malformed(Reason::TruncatedPorts));
    let mut frame = syn();
    frame[14] = 0x44;
    assert_eq!(parse(&frame[..]), Parsed::Malformed(Reason::BadIpHeader));
    let mut frame = syn();
    frame[21] = 1;
    assert_eq!(parse(&frame[..]), Parsed::Related, "a later fragment");
    let mut frame = syn();
    frame[23] = 1;
    assert_eq!(parse(&frame[..]), Parsed::NotOurs, "ICMP");
}

#[test]
fn lengths_and_flags_are_checked() {
    let check_with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = syn();
        change(&mut frame);
        let flow = flow(&frame);
        check(&frame[..], &flow)
    };
    assert_eq!(check_with(&|frame| frame[17] = 41), Err(Reason::BadLength), "IP longer than the frame");
    assert_eq!(check_with(&|frame| frame[17] = 39), Err(Reason::BadLength), "IP shorter than its headers");
    assert_eq!(check_with(&|frame| frame[46] = 0x40), Err(Reason::BadLength), "TCP header of 16 bytes");
    assert_eq!(check_with(&|frame| frame[46] = 0x60), Err(Reason::BadLength), "TCP header past the end");
    assert_eq!(check_with(&|frame| frame.truncate(45)), Err(Reason::BadLength));
    assert_eq!(check_with(&|frame| frame[22] = 0), Err(Reason::TtlExpired));
    assert_eq!(check_with(&|frame| frame[29] = 6), Err(Reason::SourceIsVip));
    assert_eq!(check_with(&|frame| frame[47] = 0x03), Err(Reason::BadTcpFlags), "SYN with FIN");
    assert_eq!(check_with(&|frame| frame[47] = 0x06), Err(Reason::BadTcpFlags), "SYN with RST");
    assert_eq!(check_with(&|frame| frame.extend([0; 18])), Ok(tcp_flags::SYN), "padding is no mistake");
}

/// What the quick look tells is what the full parser and the checks say.
fn is_as_told<A: Address>(
    frame: &[u8],
    plain: Plain<A>,
    parsed: impl FnOnce(Flow<A>) -> Parsed,
) -> Result<(), TestCaseError> {
    let (flow, opens) = match plain {
        Plain::GoesOn(flow) => (flow, false),
        Plain::Opens(flow) => (flow, true),
    };
    let checked = check(frame, &flow);
    prop_assert!(checked.is_ok(), "{:?}", checked);
    let flags = checked.unwrap();
    if flow.protocol == Protocol::Tcp {
        prop_assert_eq!(opens, connection::first(flow.protocol, flags).is_some());
        prop_assert!(opens || connection::goes_on(flags));
    } else {
        prop_assert!(!opens);
    }
    prop_assert_eq!(parse(frame), parsed(flow));
    Ok(())
}

proptest! {
    /// The quick look never says anything else than the thorough one, whatever is wrong with the
    /// packet.
    #[test]
    fn plain_agrees_with_parse_and_check(
        changes in proptest::collection::vec((12usize..54, any::<u8>()), 0..3),
        udp: bool,
        flags: u8,
        length in 30usize..70,
    ) {
        let mut frame = syn();
        frame[47] = flags;
        if udp {
            frame[23] = 17;
            frame[38..40].copy_from_slice(&[0, 20]);
        }
        for (at, byte) in changes {
            frame[at] = byte;
        }
        frame.resize(length, 0);
        if let Some(plain) = plain(&frame[..]) {
            is_as_told(&frame, plain, Parsed::Flow)?;
        }
    }
}

#[test]
fn plain_knows_segments_and_datagrams() {
    let mut frame = syn();
    assert_eq!(plain(&frame[..]), Some(Plain::Opens(flow(&frame))), "a SYN");
    frame[47] = tcp_flags::ACK;
    assert_eq!(plain(&frame[..]), Some(Plain::GoesOn(flow(&frame))));
    assert_eq!(of_plain(&frame[..]), Some(flow(&frame)));
    frame[23] = 17;
    frame[38..40].copy_from_slice(&[0, 20]);
    assert_eq!(plain(&frame[..]), Some(Plain::GoesOn(flow(&frame))));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_within_bounds(mut frame in proptest::collection::vec(any::<u8>(), 0..100), ip: bool) {
        if ip && frame.len() > 14 {
            frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        }
        if let Parsed::Flow(flow) = parse(&frame[..]) {
            prop_assert!(flow.transport + 4 <= frame.len());
            if check(&frame[..], &flow).is_ok() {
                prop_assert!(flow.network + flow.total_length <= frame.len());
                prop_assert!(flow.transport + 8 <= frame.len());
            }
        }
    }
}

/// [fd00::64]:40000 -> [fd00::6]:80, a bare SYN.
fn syn_v6() -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend([2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 100, 0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0, 0, 20, 6, 64]);
    for last in [0x64, 6] {
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    frame.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, tcp_flags::SYN, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// The frame with an extension header of this kind before its segment.
fn extended(mut frame: Vec<u8>, kind: u8, body: [u8; 7]) -> Vec<u8> {
    let next = std::mem::replace(&mut frame[20], kind);
    let length = 8 * (usize::from(body[0]) + 1);
    let length = if kind == 44 { 8 } else { length };
    let mut header = std::vec![0; length];
    header[0] = next;
    header[1..8].copy_from_slice(&body);
    frame[19] += length as u8;
    frame.splice(54..54, header);
    frame
}

fn flow_v6(frame: &[u8]) -> Flow<V6> {
    match parse(frame) {
        Parsed::FlowV6(flow) => flow,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_ipv6_syn_is_read_in_full() {
    let frame = syn_v6();
    let flow = flow_v6(&frame);
    assert_eq!((flow.source.octets()[15], flow.destination.octets()[15]), (0x64, 6));
    assert_eq!((u16::from_be(flow.source_port), u16::from_be(flow.destination_port)), (40_000, 80));
    assert_eq!((flow.network, flow.transport, flow.total_length, flow.ttl), (14, 54, 60, 64));
    assert_eq!(check(&frame[..], &flow), Ok(tcp_flags::SYN));
}

#[test]
fn extension_headers_are_stepped_over_to_a_bounded_depth() {
    const NOTHING: [u8; 7] = [0; 7];
    let mut frame = syn_v6();
    for (kind, transport) in [(60, 62), (0, 70), (44, 78), (43, 86)] {
        frame = extended(frame, kind, NOTHING);
        assert_eq!(flow_v6(&frame).transport, transport, "one more of kind {kind}");
        assert_eq!(check(&frame[..], &flow_v6(&frame)), Ok(tcp_flags::SYN));
    }
    let too_many = extended(frame, 60, NOTHING);
    assert!(matches!(parse(&too_many[..]), Parsed::Ipv6(_)));
    let long = extended(syn_v6(), 60, [32, 0, 0, 0, 0, 0, 0]);
    assert!(matches!(parse(&long[..]), Parsed::Ipv6(_)), "264 bytes");

    let later_fragment = extended(syn_v6(), 44, [0, 0, 8, 0, 0, 0, 1]);
    assert_eq!(parse(&later_fragment[..]), Parsed::Related, "it has no ports");
    let first_fragment = extended(syn_v6(), 44, [0, 0, 1, 0, 0, 0, 1]);
    assert_eq!(flow_v6(&first_fragment).transport, 62, "it has the ports");
    let on_its_way = extended(syn_v6(), 43, [0, 4, 1, 0, 0, 0, 0]);
    assert!(matches!(parse(&on_its_way[..]), Parsed::Ipv6(_)), "another host is its destination yet");
    let mut icmp = syn_v6();
    icmp[20] = 58;
    assert!(matches!(parse(&icmp[..]), Parsed::Ipv6(_)));
    assert!(matches!(parse(&syn_v6()[..56]), Parsed::Ipv6(_)));
    assert_eq!(parse(&syn_v6()[..50]), Parsed::NotOurs);
    let mut mapped = syn_v6();
    mapped[38..54].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 211, 58, 250, 6]);
    assert_eq!(parse(&mapped[..]), Parsed::NotOurs, "an IPv4 address written as IPv6");
}

proptest! {
    #[test]
    fn plain_ipv6_agrees_with_parse_and_check(
        changes in proptest::collection::vec((12usize..74, any::<u8>()), 0..3),
        udp: bool,
        flags: u8,
        length in 50usize..90,
    ) {
        let mut frame = syn_v6();
        frame[67] = flags;
        if udp {
            frame[20] = 17;
            frame[58..60].copy_from_slice(&[0, 20]);
        }
        for (at, byte) in changes {
            frame[at] = byte;
        }
        frame.resize(length, 0);
        if let Some(plain) = plain_ipv6(&frame[..]) {
            is_as_told(&frame, plain, Parsed::FlowV6)?;
        }
    }

    #[test]
    fn arbitrary_ipv6_bytes_are_read_within_bounds(rest in proptest::collection::vec(any::<u8>(), 0..120), next: u8) {
        let mut frame = syn_v6()[..54].to_vec();
        frame[20] = next;
        frame.extend(rest);
        if let Parsed::FlowV6(flow) = parse(&frame[..]) {
            prop_assert!(flow.transport + 4 <= frame.len());
            if check(&frame[..], &flow).is_ok() {
                prop_assert!(flow.network + flow.total_length <= frame.len());
                prop_assert!(flow.transport + 8 <= frame.len());
            }
        }
    }
}

#[test]
fn plain_ipv6_knows_segments_and_datagrams() {
    let mut frame = syn_v6();
    assert_eq!(plain_ipv6(&frame[..]), Some(Plain::Opens(flow_v6(&frame))), "a SYN");
    frame[67] = tcp_flags::ACK;
    assert_eq!(plain_ipv6(&frame[..]), Some(Plain::GoesOn(flow_v6(&frame))));
    frame[20] = 17;
    frame[58..60].copy_from_slice(&[0, 20]);
    assert_eq!(plain_ipv6(&frame[..]), Some(Plain::GoesOn(flow_v6(&frame))));
}

#[test]
fn what_follows_extension_headers_gets_through_a_word() {
    for (kind, at, fragment, later) in [(6, 54, 0, false), (17, 0x3ff, 0x3f7, false), (0, 62, 54, true)] {
        let upper = Upper { kind, at, fragment, later };
        assert_eq!(Upper::from_packed(upper.packed()), Some(upper));
    }
    assert_eq!(Upper::from_packed(0), None);
}
