use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::super::{Parsed, link, parse};
use super::*;
use crate::addr::V6;

const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 100];
const VIP: [u8; 4] = [211, 58, 250, 6];
const CLIENT: [u8; 4] = [10, 128, 0, 1];
const ROUTER: [u8; 4] = [10, 0, 0, 1];

/// An IPv4 packet with so many words of options.
fn v4(protocol: u8, from: [u8; 4], to: [u8; 4], options: usize, content: &[u8]) -> Vec<u8> {
    let length = 20 + 4 * options;
    let [high, low] = ((length + content.len()) as u16).to_be_bytes();
    let head = [0x40 | (length / 4) as u8, 0, high, low, 0, 7, 0x40, 0, 64, protocol, 0, 0];
    [&head[..], &from, &to, &[1; 4].repeat(options), content].concat()
}

/// An IPv6 packet from the address that ends in `from` to the one that ends in `to`, with so many
/// extension headers.
fn v6(protocol: u8, from: u8, to: u8, extensions: usize, content: &[u8]) -> Vec<u8> {
    let mut next = protocol;
    let mut headers = Vec::new();
    for _ in 0..extensions {
        headers.splice(0..0, [next, 0, 1, 4, 0, 0, 0, 0]);
        next = 60;
    }
    let address = |last| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let length = (headers.len() + content.len()) as u8;
    [&[0x60, 0, 0, 0, 0, length, next, 64][..], &address(from), &address(to), &headers, content].concat()
}

fn frame(tags: usize, packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&ETHERNET[..], &[0x81, 0, 0, 5].repeat(tags), &kind, packet].concat()
}

/// What a server sends, and no more of its transport header than must be quoted (RFC 792).
const PORTS: [u8; 8] = [0, 80, 0x9c, 0x40, 0, 0, 0, 1];

fn error(kind: u8, code: u8, quote: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0, 0, 0, 5, 120][..], quote].concat()
}

fn about<A: RelatedHeaders>(frame: &[u8]) -> Option<Flow<A>> {
    let error = A::head(frame, link(frame)?.network()).filter(|head| head.is_error(frame))?;
    error.about(frame, &A::head(frame, error.quote())?)
}

#[test]
fn an_error_is_about_the_flow_of_the_connection() {
    for (tags, outer, inner) in [(0, 0, 0), (1, 0, 10), (2, 10, 0), (2, 10, 10)] {
        let sent = v4(6, VIP, CLIENT, inner, &PORTS);
        let frame = frame(tags, &v4(1, ROUTER, VIP, outer, &error(3, 4, &sent)));
        assert_eq!(parse(&frame[..]), Parsed::Related);
        let flow = about::<V4>(&frame).expect("a flow");
        assert_eq!((flow.source.octets(), flow.destination.octets()), (CLIENT, VIP));
        assert_eq!((flow.source_port, flow.destination_port), (40_000_u16.to_be(), 80_u16.to_be()));
        assert_eq!((flow.protocol, flow.ttl, flow.network), (Protocol::Tcp, 64, 14 + 4 * tags));
        assert_eq!(flow.network + flow.total_length, frame.len());
        assert_eq!(flow.transport, flow.network + 20 + 4 * outer);
    }
    for (tags, outer, inner) in [(0, 0, 0), (1, 0, 4), (2, 4, 0), (2, 4, 4)] {
        let sent = v6(17, 6, 1, inner, &PORTS);
        let frame = frame(tags, &v6(58, 9, 6, outer, &error(2, 0, &sent)));
        assert_eq!(parse(&frame[..]), Parsed::Related);
        let flow = about::<V6>(&frame).expect("a flow");
        assert_eq!((flow.source.octets()[15], flow.destination.octets()[15]), (1, 6));
        assert_eq!((flow.source_port, flow.destination_port), (40_000_u16.to_be(), 80_u16.to_be()));
        assert_eq!((flow.protocol, flow.network), (Protocol::Udp, 14 + 4 * tags));
        assert_eq!(flow.network + flow.total_length, frame.len());
    }
}

#[test]
fn only_errors_belong_to_another_packet() {
    let sent = v4(6, VIP, CLIENT, 0, &PORTS);
    let errors: Vec<u8> = (0..=u8::MAX)
        .filter(|kind| {
            parse(&frame(0, &v4(1, ROUTER, VIP, 0, &error(*kind, 0, &sent)))[..]) == Parsed::Related
        })
        .collect();
    assert_eq!(errors, [3, 11, 12]);
    let sent = v6(6, 6, 1, 0, &PORTS);
    let errors: Vec<u8> = (0..=u8::MAX)
        .filter(|kind| parse(&frame(0, &v6(58, 9, 6, 0, &error(*kind, 0, &sent)))[..]) == Parsed::Related)
        .collect();
    assert_eq!(errors, [1, 2, 3, 4]);
}

#[test]
fn what_is_quoted_must_have_been_sent_by_the_receiver_and_have_ports() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = frame(0, &v4(1, ROUTER, VIP, 0, &error(11, 0, &v4(6, VIP, CLIENT, 0, &PORTS))));
        change(&mut frame);
        about::<V4>(&frame)
    };
    assert!(with(&|_| ()).is_some());
    assert_eq!(with(&|frame| frame[57] = 7), None, "another sender");
    assert_eq!(with(&|frame| frame[49] = 1), None, "a later fragment");
    assert_eq!(with(&|frame| frame[51] = 1), None, "ICMP");
    assert_eq!(with(&|frame| frame[42] = 0x65), None, "no IPv4 header");
    assert_eq!(with(&|frame| frame[42] = 0x44), None, "a header of 16 bytes");
    assert_eq!(with(&|frame| frame.truncate(64)), None, "cut before the ports");
    assert_eq!(with(&|frame| frame[17] -= 6), None, "the ports are behind its end");
    assert_eq!(with(&|frame| frame[20] = 0x20), None, "a first fragment");

    let later = v6(44, 6, 1, 0, &[&[6, 0, 0, 8, 0, 0, 0, 1][..], &PORTS].concat());
    assert_eq!(about::<V6>(&frame(0, &v6(58, 9, 6, 0, &error(2, 0, &later)))), None);
    let stranger = v6(6, 7, 1, 0, &PORTS);
    assert_eq!(about::<V6>(&frame(0, &v6(58, 9, 6, 0, &error(2, 0, &stranger)))), None);
}

proptest! {
    /// Whatever is quoted is read as it is read in a frame of its own, with the ends swapped.
    #[test]
    fn a_quote_is_read_like_a_packet(
        is_v6: bool,
        tags in 0usize..=2,
        outer in 0usize..=4,
        inner in 0usize..=4,
        udp: bool,
        content in proptest::collection::vec(any::<u8>(), 4..60),
    ) {
        let protocol = if udp { 17 } else { 6 };
        if is_v6 {
            let sent = v6(protocol, 6, 1, inner, &content);
            let quoting = frame(tags, &v6(58, 9, 6, outer, &error(1, 0, &sent)));
            let Parsed::FlowV6(flow) = parse(&frame(tags, &sent)[..]) else { panic!("no flow") };
            let about = about::<V6>(&quoting).expect("a flow");
            prop_assert_eq!((about.source, about.source_port), (flow.destination, flow.destination_port));
            prop_assert_eq!((about.destination, about.destination_port), (flow.source, flow.source_port));
        } else {
            let sent = v4(protocol, VIP, CLIENT, inner, &content);
            let quoting = frame(tags, &v4(1, ROUTER, VIP, outer, &error(3, 1, &sent)));
            let Parsed::Flow(flow) = parse(&frame(tags, &sent)[..]) else { panic!("no flow") };
            let about = about::<V4>(&quoting).expect("a flow");
            prop_assert_eq!((about.source, about.source_port), (flow.destination, flow.destination_port));
            prop_assert_eq!((about.destination, about.destination_port), (flow.source, flow.source_port));
        }
    }

    #[test]
    fn arbitrary_errors_are_read_within_bounds(
        is_v6: bool,
        changes in proptest::collection::vec((12usize..140, any::<u8>()), 0..4),
        length in 14usize..140,
    ) {
        let mut bytes = if is_v6 {
            frame(0, &v6(58, 9, 6, 1, &error(1, 0, &v6(6, 6, 1, 1, &PORTS))))
        } else {
            frame(0, &v4(1, ROUTER, VIP, 1, &error(3, 1, &v4(6, VIP, CLIENT, 1, &PORTS))))
        };
        bytes.resize(length, 0);
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        let ends = vec![
            about::<V4>(&bytes).map(|flow| flow.transport + ICMP_LENGTH),
            about::<V6>(&bytes).map(|flow| flow.transport + ICMP_LENGTH),
        ];
        for end in ends.into_iter().flatten() {
            prop_assert!(end + 24 <= bytes.len(), "the ports of a quote are behind its header");
        }
    }
}

/// The packet's part of these units of 8 bytes, with the headers that every fragment has.
fn fragment_v4(whole: &[u8], headers: usize, from: usize, to: usize) -> Vec<u8> {
    let end = (headers + to * 8).min(whole.len());
    let mut packet = [&whole[..headers], &whole[headers + from * 8..end]].concat();
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let more = if end < whole.len() { MORE_FRAGMENTS } else { 0 };
    packet[6..8].copy_from_slice(&(from as u16 | more).to_be_bytes());
    packet
}

fn fragment_v6(content: &[u8], protocol: u8, extensions: usize, from: usize, to: usize) -> Vec<u8> {
    let end = (to * 8).min(content.len());
    let [high, low] = ((from as u16) << 3 | u16::from(end < content.len())).to_be_bytes();
    let header = [protocol, 0, high, low, 0xa, 0xb, 0xc, 0xd];
    v6(44, 1, 6, extensions, &[&header[..], &content[from * 8..end]].concat())
}

/// What a fragment's head says, once as a first one and once as a later one.
fn assert_fragments<A: RelatedHeaders + std::fmt::Debug>(tags: usize, first: &[u8], rest: &[u8], cut: u16) {
    let (first, rest) = (frame(tags, first), frame(tags, rest));
    let network = link(&first[..]).expect("a link").network();
    let head = A::head(&first[..], network).expect("a head");
    let flow = head.own_flow(&first[..]).expect("it has ports");
    assert_eq!((flow.source_port, flow.destination_port), (80_u16.to_be(), 40_000_u16.to_be()));
    assert_eq!(head.first_piece(), Some(Piece::new(0, usize::from(cut) * 8, true).expect("a piece")));

    assert_eq!(parse(&rest[..]), Parsed::Related);
    let later = A::head(&rest[..], network).expect("a head");
    assert!(
        later.is_later_fragment() && later.first_piece().is_none() && later.own_flow(&rest[..]).is_none()
    );
    assert_eq!(later.key(), head.key());
    let length = later.network + later.total_length - later.data;
    assert_eq!(later.piece(), Piece::new(cut, length, false));
    let datagram =
        Datagram::new(crate::server::ServerId(7), [flow.source_port, flow.destination_port], flow.protocol);
    let following = later.flow_of(datagram);
    assert_eq!((following.key() == flow.key(), following.service()), (true, flow.service()));
}

proptest! {
    #[test]
    fn fragments_tell_what_they_are(
        tags in 0usize..=2,
        options in 0usize..=10,
        extensions in 0usize..=3,
        udp: bool,
        cut in 1u16..10,
        content in proptest::collection::vec(any::<u8>(), 80..180),
    ) {
        let protocol = if udp { 17 } else { 6 };
        let content = [&PORTS[..], &content].concat();
        let (whole, headers) = (v4(protocol, CLIENT, VIP, options, &content), 20 + 4 * options);
        let at = usize::from(cut);
        let first = fragment_v4(&whole, headers, 0, at);
        assert_fragments::<V4>(tags, &first, &fragment_v4(&whole, headers, at, 1 << 13), cut);
        let first = fragment_v6(&content, protocol, extensions, 0, at);
        let rest = fragment_v6(&content, protocol, extensions, at, 1 << 13);
        assert_fragments::<V6>(tags, &first, &rest, cut);
    }

    #[test]
    fn arbitrary_heads_are_read_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..160), v6: bool) {
        let mut bytes = bytes;
        if let Some(first) = bytes.get_mut(14) {
            *first = if v6 { 0x60 } else { 0x40 | *first & 0xf };
        }
        let v4 = V4::head(&bytes[..], 14).and_then(|head| head.own_flow(&bytes[..]).map(|flow| flow.transport));
        let v6 = V6::head(&bytes[..], 14).and_then(|head| head.own_flow(&bytes[..]).map(|flow| flow.transport));
        for transport in v4.into_iter().chain(v6) {
            prop_assert!(transport + 4 <= bytes.len());
        }
    }
}
