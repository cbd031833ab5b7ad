//! What becomes of a packet's bytes, and what its checksums tell.

use std::net::IpAddr;

use lb_common::addr::{Address as _, V4, V6};
use lb_common::forward::tunnel::{Kind, Tunnel, flow_hash, inner_sum};
use lb_common::mac::Mac;
use lb_common::packet::frame::Flow;
use lb_common::reason::Reason;
use lb_common::service::refusal::{may_answer, may_answer_v6};
use lb_model::Protocol;

use super::walk::Seen;
use crate::harness::{ACK, FIN, RST, SYN};

/// The ones' complement sum of RFC 1071.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub(super) fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

pub(super) fn put(frame: &mut [u8], at: usize, word: u16) {
    frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// Changes a word that a checksum covers (RFC 1624, equation 3).
fn change(frame: &mut [u8], at: usize, checksum: usize, new: u16) {
    let old = word(frame, at);
    put(frame, at, new);
    let words = [!word(frame, checksum), !old, new].map(u16::to_be_bytes).concat();
    let mended = !sum(&[&words]);
    put(frame, checksum, mended);
}

pub(super) fn set_macs(frame: &mut [u8], to: Mac, from: Mac) {
    frame[..6].copy_from_slice(&to.octets());
    frame[6..12].copy_from_slice(&from.octets());
}

pub(super) fn hops(frame: &[u8], seen: &Seen) -> u8 {
    frame[seen.network + if seen.is_ipv4 { 8 } else { 7 }]
}

pub(super) fn set_hops(frame: &mut [u8], seen: &Seen, hops: u8) {
    if seen.is_ipv4 {
        let at = seen.network + 8;
        let rest = word(frame, at) & 0xff;
        change(frame, at, seen.network + 10, u16::from(hops) << 8 | rest);
    } else {
        frame[seen.network + 7] = hops;
    }
}

/// The reserved flag of an IPv4 header, the first reserved bit of a TCP header behind IPv6. Only
/// TCP packets are relayed. `None`: the packet ends before the mark.
pub(super) fn is_marked(frame: &[u8], seen: &Seen) -> Option<bool> {
    match (seen.protocol, seen.is_ipv4) {
        (Protocol::Udp, _) => Some(false),
        (Protocol::Tcp, true) => frame.get(seen.network + 6).map(|byte| byte & 0x80 != 0),
        // It is looked for in the word of data offset and flags.
        (Protocol::Tcp, false) => {
            frame.get(seen.transport + 12..seen.transport + 14).map(|word| word[0] & 8 != 0)
        }
    }
}

pub(super) fn set_mark(frame: &mut [u8], seen: &Seen, set: bool) {
    let (at, checksum, mark) = match seen.is_ipv4 {
        true => (seen.network + 6, seen.network + 10, 0x8000),
        false => (seen.transport + 12, seen.transport + 16, 0x0800),
    };
    if frame.len() < checksum + 2 {
        return;
    }
    let word = word(frame, at);
    change(frame, at, checksum, if set { word | mark } else { word & !mark });
}

/// The addresses as they stand in a packet.
fn addresses(seen: &Seen) -> (Vec<u8>, Vec<u8>) {
    let octets = |address: V6| match IpAddr::from(address) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    (octets(seen.client), octets(seen.destination))
}

fn pseudo(from: &[u8], to: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    [from, to, &(length as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat()
}

/// Whether a short packet that opens a connection has the sum of the pseudo header alone where its
/// checksum should stand.
pub(super) fn has_partial_checksum(frame: &[u8], seen: &Seen) -> bool {
    let (checksum, least) = if seen.protocol == Protocol::Tcp { (16, 20) } else { (6, 8) };
    let Some(length) = seen.end().checked_sub(seen.transport) else { return false };
    let Some(segment) = frame.get(seen.transport..seen.end()) else { return false };
    if length > 64 || length < least {
        return false;
    }
    if seen.protocol == Protocol::Tcp && segment[13] & (SYN | ACK) != SYN {
        return false;
    }
    let (from, to) = addresses(seen);
    let pseudo = pseudo(&from, &to, seen.protocol.number(), length);
    word(segment, checksum) == sum(&[&pseudo]) && sum(&[&pseudo, segment]) != 0xffff
}

/// The same of any segment whose end is in the frame, by the addresses that stand there now.
pub(super) fn has_sum_of_pseudo_header(frame: &[u8], seen: &Seen) -> bool {
    // The program adds up no more.
    const MOST: usize = 10_240;
    let (segment, at) = (&frame[seen.transport..seen.end()], seen.network);
    let addresses = if seen.is_ipv4 { &frame[at + 12..at + 20] } else { &frame[at + 8..at + 40] };
    let pseudo = pseudo(addresses, &[], seen.protocol.number(), segment.len());
    let checksum = if seen.protocol == Protocol::Tcp { 16 } else { 6 };
    word(segment, checksum) == sum(&[&pseudo]) && segment.len() <= MOST && sum(&[&pseudo, segment]) != 0xffff
}

/// The source address as it stands in a packet with headers at the same places.
pub(super) fn source(frame: &[u8], seen: &Seen) -> V6 {
    let at = seen.network;
    match seen.is_ipv4 {
        true => v4_of(&frame[at + 12..at + 16]).mapped(),
        false => v6_of(&frame[at + 8..at + 24]),
    }
}

/// Wraps a packet, or says why not: the packet may be its own answer then, which is limited.
pub(super) fn into_tunnel(
    frame: &mut Vec<u8>,
    seen: &Seen,
    tunnel: &Tunnel,
    next_hop: Mac,
    own: Mac,
) -> Result<(), (Reason, bool)> {
    let kind = tunnel.kind().expect("a tunnel has a kind");
    let (source, destination) = (IpAddr::from(tunnel.source), IpAddr::from(tunnel.destination));
    let outer_ipv4 = destination.is_ipv4();
    let shim = match kind {
        Kind::Ipip => 0,
        Kind::Gre => 4,
        Kind::Gue => 12,
    };
    let room = tunnel.mtu as usize - shim - if outer_ipv4 { 20 } else { 40 };
    if seen.length > room {
        return Err(too_big(frame, seen, room, own));
    }
    let inner = &frame[seen.network..];
    let hash = hash(seen);
    let class = if seen.is_ipv4 { inner[1] } else { inner[0] << 4 | inner[1] >> 4 };
    let protocol = if seen.is_ipv4 { 4 } else { 41 };
    let payload = (shim + seen.length) as u16;
    let mut shim = match kind {
        Kind::Ipip => vec![],
        Kind::Gre => [[0, 0], if seen.is_ipv4 { [8, 0] } else { [0x86, 0xdd] }].concat(),
        Kind::Gue => {
            let ports = [(0xc000 | hash as u16).to_be_bytes(), 6080_u16.to_be_bytes()].concat();
            [&ports[..], &payload.to_be_bytes(), &[0, 0, 0, protocol, 0, 0]].concat()
        }
    };
    let number = match kind {
        Kind::Ipip => protocol,
        Kind::Gre => 47,
        Kind::Gue => 17,
    };
    let header = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = (payload + 20).to_be_bytes();
            let mut header = [&[0x45, class][..], &length, &[0, 0, 0x40, 0, 64, number, 0, 0]].concat();
            header.extend([source.octets(), destination.octets()].concat());
            let checksum = !sum(&[&header]);
            put(&mut header, 10, checksum);
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let first = 6_u32 << 28 | u32::from(class) << 20 | hash >> 12;
            let head = [&first.to_be_bytes()[..], &payload.to_be_bytes(), &[number, 64]].concat();
            let addresses = [source.octets(), destination.octets()].concat();
            if kind == Kind::Gue {
                let checksum = gue_checksum(frame, seen, &addresses, &shim);
                put(&mut shim, 6, checksum);
            }
            [head, addresses].concat()
        }
        _ => panic!("a tunnel has one family"),
    };
    let ethertype = if outer_ipv4 { [8, 0] } else { [0x86, 0xdd] };
    let link = [&frame[..seen.network - 2], &ethertype].concat();
    *frame = [&link[..], &header, &shim, &frame[seen.network..]].concat();
    set_macs(frame, next_hop, own);
    Ok(())
}

/// The rule adds up what a right inner checksum makes of the data. Where it is right, the outer one
/// must be what anybody finds who adds up everything.
fn gue_checksum(frame: &[u8], seen: &Seen, outer: &[u8], shim: &[u8]) -> u16 {
    let told = inner_sum(frame, seen.is_ipv4, seen.network, seen.transport, seen.length as u32);
    let Some(told) = told else { return 0 };
    let length = (shim.len() + seen.length) as u32;
    let pseudo = [outer, &length.to_be_bytes(), &[0, 0, 0, 17]].concat();
    // Its words are as they stand in the packet.
    let inner = [(told & 0xffff) as u16, (told >> 16) as u16].map(u16::to_ne_bytes).concat();
    let checksum = match !sum(&[&pseudo, shim, &inner]) {
        0 => 0xffff,
        checksum => checksum,
    };
    let whole = &frame[seen.network..seen.end()];
    if is_right(frame, seen) {
        let found = sum(&[&pseudo, shim, &checksum.to_be_bytes(), whole]);
        assert_eq!(found, 0xffff, "the outer checksum of a right packet: {frame:02x?}");
    }
    checksum
}

/// Whether all of an unfragmented packet's own checksums are right.
fn is_right(frame: &[u8], seen: &Seen) -> bool {
    let segment = &frame[seen.transport..seen.end()];
    let (from, to) = addresses(seen);
    let number = if seen.is_ipv4 { frame[seen.network + 9] } else { frame[seen.network + 6] };
    let header = &frame[seen.network..seen.transport];
    if seen.is_ipv4 && sum(&[header]) != 0xffff {
        return false;
    }
    match (number, seen.is_ipv4) {
        (1, true) => sum(&[segment]) == 0xffff,
        (6 | 17, _) | (58, false) => sum(&[&pseudo(&from, &to, number, segment.len()), segment]) == 0xffff,
        _ => false,
    }
}

/// By which a server's queues are told apart.
fn hash(seen: &Seen) -> u32 {
    let [source_port, destination_port] = [seen.client_port, seen.port].map(u16::to_be);
    let (protocol, ttl, network, transport, total_length) = (seen.protocol, 0, 0, 0, 0);
    let ipv4 = |address: V6| match IpAddr::from(address) {
        IpAddr::V4(address) => V4::from_octets(address.octets()),
        IpAddr::V6(_) => V4(0),
    };
    match seen.is_ipv4 {
        true => {
            let (source, destination) = (ipv4(seen.client), ipv4(seen.destination));
            flow_hash(&Flow {
                source,
                destination,
                source_port,
                destination_port,
                protocol,
                ttl,
                network,
                transport,
                total_length,
            })
        }
        false => {
            let (source, destination) = (seen.client, seen.destination);
            flow_hash(&Flow {
                source,
                destination,
                source_port,
                destination_port,
                protocol,
                ttl,
                network,
                transport,
                total_length,
            })
        }
    }
}

fn v4_of(bytes: &[u8]) -> V4 {
    V4::from_octets(bytes.try_into().expect("four bytes"))
}

fn v6_of(bytes: &[u8]) -> V6 {
    V6::from_octets(bytes.try_into().expect("sixteen bytes"))
}

/// Makes the packet an ICMP error that says what fits.
fn too_big(frame: &mut Vec<u8>, seen: &Seen, room: usize, own: Mac) -> (Reason, bool) {
    let at = seen.network;
    // Whom to tell stands in the packet: an error about a connection comes from elsewhere.
    let (source, quote) = match seen.is_ipv4 {
        true => (frame[at + 12..at + 16].to_vec(), 68),
        false => (frame[at + 8..at + 24].to_vec(), 128),
    };
    let answers = match seen.is_ipv4 {
        true => may_answer(v4_of(&source)),
        false => may_answer_v6(v6_of(&source)),
    };
    if !answers {
        return (Reason::TooBigSilently, false);
    }
    let quoted = frame[at..at + quote].to_vec();
    let message = match seen.is_ipv4 {
        true => icmp([3, 4], room as u32, &quoted, &[]),
        false => {
            let pseudo = pseudo(&frame[at + 24..at + 40], &source, 58, 8 + quote);
            icmp([2, 0], room.max(1280) as u32, &quoted, &pseudo)
        }
    };
    answer(frame, seen, if seen.is_ipv4 { 1 } else { 58 }, &message, own);
    (Reason::TooBig, true)
}

/// Makes a packet that has no hop left an ICMP error from the VIP, if its sender may be told and
/// has not set options.
pub(super) fn time_exceeded(frame: &mut Vec<u8>, seen: &Seen, vip: IpAddr, own: Mac) -> bool {
    let at = seen.network;
    let header = if seen.is_ipv4 { 20 } else { 40 };
    let sender = source(frame, seen);
    let answers = match IpAddr::from(sender) {
        IpAddr::V4(sender) => may_answer(V4::from_octets(sender.octets())),
        IpAddr::V6(_) => may_answer_v6(sender),
    };
    if !answers || seen.transport != at + header {
        return false;
    }
    let quoted = frame[at..at + header + 8].to_vec();
    // It comes from the VIP, whoever the packet was for.
    let (message, protocol) = match vip {
        IpAddr::V4(vip) => {
            frame[at + 16..at + 20].copy_from_slice(&vip.octets());
            (icmp([11, 0], 0, &quoted, &[]), 1)
        }
        IpAddr::V6(vip) => {
            let pseudo = pseudo(&vip.octets(), &frame[at + 8..at + 24], 58, 8 + quoted.len());
            frame[at + 24..at + 40].copy_from_slice(&vip.octets());
            (icmp([3, 0], 0, &quoted, &pseudo), 58)
        }
    };
    answer(frame, seen, protocol, &message, own);
    true
}

fn icmp(kind: [u8; 2], rest: u32, quoted: &[u8], pseudo: &[u8]) -> Vec<u8> {
    let mut message = [&kind[..], &[0, 0], &rest.to_be_bytes(), quoted].concat();
    let checksum = !sum(&[pseudo, &message]);
    put(&mut message, 2, checksum);
    message
}

/// Puts an IP packet from the VIP to the sender in the packet's place; what is behind it in a short
/// frame stays.
fn answer(frame: &mut Vec<u8>, seen: &Seen, protocol: u8, carried: &[u8], own: Mac) {
    let at = seen.network;
    let header = match seen.is_ipv4 {
        true => {
            let length = (20 + carried.len() as u16).to_be_bytes();
            let head = [&[0x45, 0][..], &length, &[0, 0, 0x40, 0, 64, protocol, 0, 0]].concat();
            let mut header = [&head[..], &frame[at + 16..at + 20], &frame[at + 12..at + 16]].concat();
            let checksum = !sum(&[&header]);
            put(&mut header, 10, checksum);
            header
        }
        false => {
            let length = (carried.len() as u16).to_be_bytes();
            let head = [&[0x60, 0, 0, 0][..], &length, &[protocol, 64]].concat();
            [&head[..], &frame[at + 24..at + 40], &frame[at + 8..at + 24]].concat()
        }
    };
    // An ICMP error is written before the packet, a reset over it.
    let grown = if protocol == 6 { 0 } else { header.len() + 8 };
    let whole = [&frame[..at], &header, carried].concat();
    let behind = frame.get((whole.len()).saturating_sub(grown)..).unwrap_or(&[]).to_vec();
    let length = (frame.len() + grown).min(whole.len().max(60));
    let station = Mac::new(frame[6..12].try_into().expect("six bytes"));
    *frame = [whole, behind].concat();
    frame.truncate(length);
    set_macs(frame, station, own);
}

/// Makes the packet its own answer. `None`: it must not be answered; else whether the answer is an
/// ICMP error, of which there are so many a second at most.
pub(super) fn refusal(frame: &mut Vec<u8>, seen: &Seen, own: Mac) -> Option<bool> {
    let at = seen.network;
    let answers = match seen.is_ipv4 {
        true => may_answer(v4_of(&frame[at + 12..at + 16])),
        false => may_answer_v6(v6_of(&frame[at + 8..at + 24])),
    };
    if !answers {
        return None;
    }
    let header = if seen.is_ipv4 { 20 } else { 40 };
    if seen.protocol == Protocol::Udp {
        if seen.transport != at + header {
            return None;
        }
        let quoted = frame[at..at + header + 8].to_vec();
        let (protocol, message) = match seen.is_ipv4 {
            true => (1, icmp([3, 3], 0, &quoted, &[])),
            false => {
                let pseudo = pseudo(&frame[at + 24..at + 40], &frame[at + 8..at + 24], 58, 8 + quoted.len());
                (58, icmp([1, 4], 0, &quoted, &pseudo))
            }
        };
        answer(frame, seen, protocol, &message, own);
        return Some(true);
    }
    let segment = &frame[seen.transport..seen.end()];
    let number = |at: usize| u32::from(word(segment, at)) << 16 | u32::from(word(segment, at + 2));
    let (sequence, acknowledgement, flags) = (number(4), number(8), segment[13]);
    let data = (segment.len() - usize::from(segment[12] >> 4) * 4) as u32;
    // RFC 9293, section 3.10.7.1.
    let (sequence, acknowledgement, flags) = match flags {
        _ if flags & RST != 0 => return None,
        _ if flags & ACK != 0 => (acknowledgement, 0, RST),
        _ => {
            let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            (0, sequence.wrapping_add(data).wrapping_add(controls), RST | ACK)
        }
    };
    let mut reset =
        [&segment[2..4], &segment[..2], &sequence.to_be_bytes(), &acknowledgement.to_be_bytes()].concat();
    reset.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    let (client, vip) = addresses(seen);
    let checksum = !sum(&[&pseudo(&vip, &client, 6, 20), &reset]);
    put(&mut reset, 16, checksum);
    answer(frame, seen, 6, &reset, own);
    Some(false)
}
