use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::packet::frame::{self, Parsed};

/// Bytes of the outer headers.
fn headers(tunnel: &Tunnel, kind: Kind, inner: &Inner) -> Vec<u8> {
    let mut bytes = vec![0xaa; kind.overhead(tunnel.is_ipv4())];
    let mut written = vec![false; bytes.len() / 4];
    let put = |number: usize, word: u32| {
        assert!(!std::mem::replace(&mut written[number], true), "word {number} twice");
        bytes[number * 4..][..4].copy_from_slice(&word.to_ne_bytes());
    };
    match tunnel.is_ipv4() {
        true => write::<true>(tunnel, kind, inner, put),
        false => write::<false>(tunnel, kind, inner, put),
    }
    assert!(written.iter().all(|written| *written), "{kind:?}: {written:?}");
    bytes
}

fn v4(octets: [u8; 4]) -> V6 {
    V4::from_octets(octets).mapped()
}

fn tunnel(kind: Kind, ipv4: bool) -> Tunnel {
    let (source, destination) = match ipv4 {
        true => (v4([192, 0, 2, 5]), v4([198, 51, 100, 7])),
        false => (
            V6::from_octets([0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5]),
            V6::from_octets([0x20, 1, 0xd, 0xb8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]),
        ),
    };
    Tunnel { source, destination, mtu: 1500, port: GUE_PORT.to_be(), kind: kind as u8, ..Tunnel::UNSET }
}

/// The ones' complement sum of these bytes as words; 0 if a checksum in them fits.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    words.sum::<u32>() % 0xffff
}

const INNER: Inner = Inner { is_ipv4: true, class: 0x2b, length: 100, hash: 0x1234_5678, sum: None };

#[test]
fn ipip_byte_by_byte() {
    let head = [0x45, 0x2b, 0, 120, 0, 0, 0x40, 0, 64, 4];
    let bytes = headers(&tunnel(Kind::Ipip, true), Kind::Ipip, &INNER);
    assert_eq!((&bytes[..10], &bytes[12..]), (&head[..], &[192, 0, 2, 5, 198, 51, 100, 7][..]));
    assert_eq!(sum(&bytes), 0);
    let inner = Inner { is_ipv4: false, ..INNER };
    assert_eq!(headers(&tunnel(Kind::Ipip, true), Kind::Ipip, &inner)[9], 41);
    let bytes = headers(&tunnel(Kind::Ipip, false), Kind::Ipip, &inner);
    assert_eq!(bytes[..8], [0x62, 0xb1, 0x23, 0x45, 0, 100, 41, 64], "class and label, length, next, hops");
    assert_eq!((bytes[8..24].last(), bytes[24..].last()), (Some(&5), Some(&7)));
    assert_eq!(headers(&tunnel(Kind::Ipip, false), Kind::Ipip, &INNER)[6], 4);
}

#[test]
fn gre_and_gue_byte_by_byte() {
    let bytes = headers(&tunnel(Kind::Gre, true), Kind::Gre, &INNER);
    assert_eq!((&bytes[2..4], bytes[9], &bytes[20..]), (&[0, 124][..], 47, &[0, 0, 8, 0][..]));
    let inner = Inner { is_ipv4: false, ..INNER };
    let bytes = headers(&tunnel(Kind::Gre, false), Kind::Gre, &inner);
    assert_eq!((&bytes[4..7], &bytes[40..]), (&[0, 104, 47][..], &[0, 0, 0x86, 0xdd][..]));
    let bytes = headers(&tunnel(Kind::Gue, true), Kind::Gue, &INNER);
    assert_eq!((&bytes[2..4], bytes[9]), (&[0, 132][..], 17));
    let port = 0xc000 | 0x5678_u16;
    let [high, low] = port.to_be_bytes();
    assert_eq!(bytes[20..], [high, low, 0x17, 0xc0, 0, 112, 0, 0, 0, 4, 0, 0], "6080; no checksum");
    let bytes = headers(&tunnel(Kind::Gue, false), Kind::Gue, &inner);
    assert_eq!(bytes[46..], [0, 0, 0, 41, 0, 0], "no inner sum, no checksum");
}

#[test]
fn what_fits_leaves_room_for_the_headers() {
    let room = |kind, ipv4| tunnel(kind, ipv4).room(kind);
    assert_eq!(Kind::ALL.map(|kind| room(kind, true)), [1480, 1468, 1476]);
    assert_eq!(Kind::ALL.map(|kind| room(kind, false)), [1460, 1448, 1456]);
    let narrow = Tunnel { mtu: 1280, ..tunnel(Kind::Ipip, true) };
    assert_eq!([true, false].map(|ipv4| narrow.told_mtu(Kind::Ipip, ipv4)), [1260, 1280]);
    assert_eq!(Tunnel::UNSET.room(Kind::Gue), 0);
}

/// A frame with a TCP segment or UDP datagram whose checksums are right.
fn inner_frame(ipv4: bool, tcp: bool, data: &[u8]) -> Vec<u8> {
    let (header, checksum_at): (&[u8], usize) = if tcp {
        (&[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 1, 0, 0, 0, 0], 16)
    } else {
        (&[], 6)
    };
    let mut segment = header.to_vec();
    if !tcp {
        segment.extend([0x9c, 0x40, 0, 53]);
        segment.extend((8 + data.len() as u16).to_be_bytes());
        segment.extend([0, 0]);
    }
    segment.extend(data);
    let protocol = if tcp { 6 } else { 17 };
    let addresses: Vec<u8> = (1..=if ipv4 { 8 } else { 32 }).map(|index| index * 7).collect();
    let pseudo = [&addresses[..], &(segment.len() as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat();
    let checksum = !((sum(&pseudo) + sum(&segment)) % 0xffff) as u16;
    segment[checksum_at..][..2].copy_from_slice(&checksum.to_be_bytes());
    let length = segment.len() as u16;
    let mut ip = match ipv4 {
        true => [&[0x45, 0][..], &(length + 20).to_be_bytes(), &[0, 9, 0x40, 0, 60, protocol, 0, 0]].concat(),
        false => [&[0x60, 0, 0x12, 0x34][..], &length.to_be_bytes(), &[protocol, 60]].concat(),
    };
    ip.extend(addresses);
    if ipv4 {
        let checksum = !(sum(&ip) as u16);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    let ethertype = if ipv4 { [8, 0] } else { [0x86, 0xdd] };
    [&[2; 12][..], &ethertype, &ip, &segment].concat()
}

proptest! {
    /// A receiver that adds up all of the outer datagram finds nothing wrong.
    #[test]
    fn the_udp_checksum_fits_without_a_look_at_the_data(
        ipv4: bool,
        tcp: bool,
        data in proptest::collection::vec(any::<u8>(), 0..200),
        hash: u32,
        class: u8,
    ) {
        let frame = inner_frame(ipv4, tcp, &data);
        let length = frame.len() as u32 - 14;
        let transport = 14 + if ipv4 { 20 } else { 40 };
        let sum_of_inner = inner_sum(&frame[..], ipv4, 14, transport, length);
        prop_assert!(sum_of_inner.is_some());
        let inner = Inner { is_ipv4: ipv4, class, length, hash, sum: sum_of_inner };
        let outer = headers(&tunnel(Kind::Gue, false), Kind::Gue, &inner);
        let datagram = [&outer[40..], &frame[14..]].concat();
        let pseudo = [&outer[8..40], &(datagram.len() as u32).to_be_bytes(), &[0, 0, 0, 17]].concat();
        prop_assert_eq!((sum(&pseudo) + sum(&datagram)) % 0xffff, 0);
        prop_assert_ne!(&outer[46..48], &[0, 0]);
    }

    #[test]
    fn outer_headers_are_whole(ipv4: bool, inner_ipv4: bool, length in 20u32..1400, hash: u32, class: u8, which in 0usize..3) {
        let kind = Kind::ALL[which];
        let tunnel = Tunnel { source_mask: 0xffff, ..tunnel(kind, ipv4) };
        let inner = Inner { is_ipv4: inner_ipv4, class, length, hash, sum: None };
        let bytes = headers(&tunnel, kind, &inner);
        let whole = bytes.len() as u32 + length;
        if ipv4 {
            prop_assert_eq!(sum(&bytes[..20]), 0);
            prop_assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]) as u32, whole);
            prop_assert_eq!(&bytes[12..14], &[192, 0]);
            prop_assert_eq!(&bytes[14..16], &(hash as u16 | 0x0205).to_be_bytes());
        } else {
            prop_assert_eq!(u16::from_be_bytes([bytes[4], bytes[5]]) as u32, whole - 40);
            prop_assert_eq!((bytes[0] << 4) | (bytes[1] >> 4), class);
            prop_assert_eq!(&bytes[22..24], &(hash as u16 | 5).to_be_bytes());
        }
    }

    /// Whether a client has many connections or many clients have one each: they land in all of a
    /// server's queues, whichever bits those are told by.
    #[test]
    fn flows_spread(client: u32, one_client: bool, shift in 0u32..29) {
        let mut queues = [0; 8];
        for number in 0u16..512 {
            let (client, port) =
                if one_client { (client, 40_000 + number) } else { (client.wrapping_add(number.into()), 40_000) };
            let mut frame = inner_frame(true, true, &[]);
            frame[26..30].copy_from_slice(&client.to_be_bytes());
            frame[34..36].copy_from_slice(&port.to_be_bytes());
            let Parsed::Flow(flow) = frame::parse(&frame[..]) else { panic!("a flow") };
            queues[(flow_hash(&flow) >> shift) as usize % 8] += 1;
        }
        prop_assert!(queues.iter().all(|flows| (28..=104).contains(flows)), "{:?}", queues);
    }
}

#[test]
fn an_inner_packet_may_not_tell_its_sum() {
    let mut datagram = inner_frame(true, false, &[1; 9]);
    let sum_of = |frame: &[u8]| inner_sum(frame, true, 14, 34, frame.len() as u32 - 14);
    assert!(sum_of(&datagram).is_some());
    datagram[20] = 0x20;
    assert_eq!(sum_of(&datagram), None, "a first fragment");
    datagram[20] = 0;
    datagram[40..42].fill(0);
    assert_eq!(sum_of(&datagram), None, "no checksum");
    let ipv6 = inner_frame(false, true, &[1; 9]);
    let length = ipv6.len() as u32 - 14;
    assert_eq!(inner_sum(&ipv6[..], false, 14, 62, length), None, "an extension header");
    let mut later = ipv6;
    later[14 + 6] = 44;
    assert_eq!(inner_sum(&later[..], false, 14, 54, length), None, "a later fragment");
    let mut unsummed = inner_frame(false, false, &[1; 9]);
    unsummed[60..62].fill(0);
    assert_eq!(inner_sum(&unsummed[..], false, 14, 54, unsummed.len() as u32 - 14), None, "no checksum");
}

#[test]
fn an_icmp_message_adds_up_to_nothing_and_a_fragment_tells_nothing() {
    let mut frame = [0_u8; 14 + 20 + 8];
    frame[14] = 0x45;
    frame[14 + 3] = 28;
    frame[14 + 9] = 1;
    frame[14 + 12..14 + 20].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    frame[34..42].copy_from_slice(&[3, 4, 0, 0, 0, 0, 5, 120]);
    for (range, at) in [(14..34, 24), (34..42, 36)] {
        let checksum = !(sum(&frame[range]) as u16);
        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    assert_eq!(sum(&frame[14..]), 0);
    assert_eq!(inner_sum(&frame[..], true, 14, 34, 28).map(|sum| sum % 0xffff), Some(0));
    for fragment in [[0x20, 0], [0, 1]] {
        frame[14 + 6..14 + 8].copy_from_slice(&fragment);
        assert_eq!(inner_sum(&frame[..], true, 14, 34, 28), None, "{fragment:?}");
    }
}
