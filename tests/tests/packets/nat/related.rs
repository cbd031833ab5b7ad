//! What belongs to translated packets: ICMP errors, fragments.

use std::net::{IpAddr, Ipv6Addr};

use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_tests::harness::*;

use super::{SEGMENTS, Segment, UDP, assert_becomes, assert_passes, director};
use crate::tunnels::sum;

/// An ICMP error with right checksums, which quotes so many bytes of this packet.
pub(super) fn error(
    kind: [u8; 2],
    macs: [Mac; 2],
    [source, destination]: [IpAddr; 2],
    quote: &[u8],
    ttl: u8,
) -> Vec<u8> {
    let message = [&kind[..], &[0, 0, 0, 0, 5, 120], quote].concat();
    let outer =
        Segment { client: source, ttl, ..Segment::new((if source.is_ipv4() { 4 } else { 6 }, UDP), 0) };
    // The header of a datagram is overwritten.
    let outer = Segment { data: message[8..].to_vec(), ..outer };
    let mut frame = outer.frame((source, 0), (destination, 0), macs);
    let at = if source.is_ipv4() { 34 } else { 54 };
    frame[at..at + message.len()].copy_from_slice(&message);
    let pseudo = match source.is_ipv4() {
        true => {
            frame[14 + 9] = 1;
            frame = with_ip_checksum(frame);
            vec![]
        }
        false => {
            frame[14 + 6] = ICMPV6;
            [&frame[22..54], &(message.len() as u32).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat()
        }
    };
    let checksum = !sum(&[pseudo, message].concat());
    frame[at + 2..at + 4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

pub(super) fn with_ip_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    frame[24..26].fill(0);
    let checksum = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The fragment of an IPv4 packet that has these units of 8 bytes.
pub(super) fn cut(whole: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    let end = 34 + (range.end * 8).min(whole.len() - 34);
    let mut frame = [&whole[..34], &whole[34 + range.start * 8..end]].concat();
    let more = if end < whole.len() { MORE_FRAGMENTS } else { 0 };
    let length = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame[20..22].copy_from_slice(&(range.start as u16 | more).to_be_bytes());
    with_ip_checksum(frame)
}

#[test]
fn errors_are_translated_within() {
    let director = director();
    for kind in SEGMENTS {
        let segment = Segment { data: vec![7; 99], ..Segment::new(kind, ACK) };
        segment.open(&director);
        let ip = if kind.0 == 4 { 20 } else { 40 };
        let router: IpAddr = match kind.0 {
            4 => [10, 9, 9, 9].into(),
            _ => Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 9).into(),
        };
        let types = if kind.0 == 4 { [[3, 4], [3, 3], [11, 0]] } else { [[2, 0], [1, 4], [3, 0]] };
        // As little as there may be of the segment, its checksum, all of it.
        for quoted in [8, 16, 18, 20, 60] {
            for code in types {
                let description = format!("{kind:?} {code:?} {quoted}");
                // About what the server has sent, to the server.
                let arrived = segment.to_client()[14..][..ip + quoted].to_vec();
                let sent = Segment { ttl: 63, ..segment.clone() }.by_server()[14..][..ip + quoted].to_vec();
                let to_vip = error(code, [MAC, ROUTER], [router, segment.vip], &arrived, 64);
                let to_server = error(code, [mac(1), MAC], [router, segment.server()], &sent, 63);
                assert_becomes(&director, &description, &to_vip, &to_server);
                // About what the client has sent, to the client: from the server, or from a router.
                let arrived = segment.to_server()[14..][..ip + quoted].to_vec();
                let sent = Segment { ttl: 63, ..segment.clone() }.to_vip()[14..][..ip + quoted].to_vec();
                for by in [segment.server(), router] {
                    let from = error(code, [MAC, mac(1)], [by, segment.client], &arrived, 64);
                    let to_client = error(code, [ROUTER, MAC], [segment.vip, segment.client], &sent, 63);
                    assert_becomes(&director, &description, &from, &to_client);
                }
            }
        }
        let unknown = Segment { client: router, ..segment.clone() };
        let about = unknown.to_server()[14..][..ip + 8].to_vec();
        let frame = error(types[0], [MAC, mac(1)], [segment.server(), router], &about, 64);
        assert_passes(&director, "about an unknown connection", &frame);
        let frame = error(types[0], [MAC, mac(1)], [segment.server(), segment.client], &about, 64);
        assert_passes(&director, "to another one than it is about", &frame);
    }
    director.assert_counts_are_true();
}

/// What a first fragment's checksum covers is in the others, too: mended, it fits the whole
/// datagram.
#[test]
fn fragments_follow_in_both_directions() {
    let director = director();
    let datagram =
        Segment { data: (0..1000_u32).map(|index| (index * 7) as u8).collect(), ..Segment::new((4, UDP), 0) };
    for (from, to) in
        [(datagram.to_vip(), datagram.to_server()), (datagram.by_server(), datagram.to_client())]
    {
        assert!(director.send_bytes(&cut(&from, 40..80)).verdict == Verdict::Pass, "before the first one");
        for (range, twice) in [(0..40, false), (80..126, true), (40..80, false)] {
            let description = format!("{range:?}");
            assert_becomes(&director, &description, &cut(&from, range.clone()), &cut(&to, range.clone()));
            if twice {
                assert_eq!(director.explain(&cut(&from, range)).1, [Reason::FragmentOverlap]);
            }
        }
    }
    let datagram = Segment { data: vec![3; 1000], ..Segment::new((6, UDP), 0) };
    for (from, to) in
        [(datagram.to_vip(), datagram.to_server()), (datagram.by_server(), datagram.to_client())]
    {
        for range in [0..40, 40..80, 80..126] {
            let description = format!("IPv6, {range:?}");
            let frames = [&from, &to].map(|whole| fragment6(whole, 9, range.clone()));
            assert_becomes(&director, &description, &frames[0], &frames[1]);
        }
    }
}
