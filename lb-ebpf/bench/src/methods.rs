//! The real program with packets of every method and family, and a floor for connections of IPv6.
//!
//! Tunnels make the frame longer and address translation changes more of it than MACs, so the entry
//! puts back what the packet before has changed. That is part of what is timed.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_TX};
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::packet::frame::Frame as _;
use lb_common::table::connection::tcp_flags;
use lb_ebpf::path;
use lb_ebpf::sys::opaque;
use lb_ebpf::sys::packet::Packet;

use crate::{SPREAD, Walk, rewrite, verdict, walk};

const _: () = assert!((core::mem::offset_of!(Given, words) + size_of::<u32>()).is_multiple_of(8));

/// What a frame begins with, as the benchmark has made it.
#[repr(C)]
pub struct Given {
    /// Bytes of the frame.
    pub length: u32,
    /// The frame's word of four bytes from byte 12: EtherType, and two bytes of the IP header.
    pub kind: u32,
    /// What is put back besides MACs and that word: nothing, or the headers of a family.
    pub headers: u32,
    /// Where the client's address stands, its last four bytes; 0: it is always the same client.
    pub client: u32,
    /// Where its port stands.
    pub client_port: u32,
    /// Not 0: where the TCP header's length and flags stand; a SYN and an ACK of each client in
    /// turn.
    pub flags: u32,
    /// The TCP checksum.
    pub checksum: u32,
    /// The frame's words of four bytes from byte 18 (IPv4: fragment word, time to live and checksum
    /// from 20, addresses, ports; IPv6: lengths and hop limit, addresses, ports).
    pub words: [u32; 12],
    pub reserved: u32,
}

const V4_HEADERS: u32 = 1;
const V6_HEADERS: u32 = 2;

/// EtherType of IPv6, as it stands in a frame.
const IPV6: u16 = 0x86dd_u16.to_be();

/// Puts the frame back to what it was, but for the next client: what is read again in pieces of the
/// same size, because a processor waits where a read takes of two writes, or of one and of what was
/// there before. `None`: the benchmark's mistake.
#[inline(always)]
fn put_back(packet: &Packet, walk: &Walk) -> Option<()> {
    let given = &walk.given;
    let frame = match given.headers {
        V4_HEADERS => packet.at::<[u8; 52]>(0)?.cast::<u8>(),
        V6_HEADERS => packet.at::<[u8; 72]>(0)?.cast::<u8>(),
        _ => packet.at::<[u8; 16]>(0)?.cast::<u8>(),
    };
    let halves = |word: u32| (word as u16, (word >> 16) as u16);
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`. Walks are aligned so that
    // words 1 to 8 are those of four numbers.
    unsafe {
        *frame.cast::<u64>() = walk.macs[0];
        *frame.add(8).cast::<u32>() = walk.macs[1] as u32;
        *frame.add(12).cast::<u32>() = given.kind;
        match given.headers {
            V4_HEADERS => {
                let ((_, fragment), (hops, sum)) = (halves(given.words[0]), halves(given.words[1]));
                let (source_port, destination_port) = halves(given.words[4]);
                *frame.add(20).cast::<u32>() = u32::from(fragment) | u32::from(hops) << 16;
                *frame.add(24).cast::<u16>() = sum;
                *frame.add(26).cast::<u32>() = given.words[2];
                *frame.add(30).cast::<u32>() = given.words[3];
                *frame.add(34).cast::<u16>() = source_port;
                *frame.add(36).cast::<u16>() = destination_port;
                *frame.add(50).cast::<u16>() = given.checksum as u16;
            }
            V6_HEADERS => {
                let addresses = (&raw const given.words[1]).cast::<[u64; 4]>().read();
                let (source_port, destination_port) = halves(given.words[9]);
                *frame.add(21) = (given.words[0] >> 24) as u8;
                *frame.add(22).cast::<u64>() = addresses[0];
                *frame.add(30).cast::<u64>() = addresses[1];
                *frame.add(38).cast::<u64>() = addresses[2];
                *frame.add(46).cast::<u64>() = addresses[3];
                *frame.add(54).cast::<u16>() = source_port;
                *frame.add(56).cast::<u16>() = destination_port;
                *frame.add(70).cast::<u16>() = given.checksum as u16;
            }
            _ => {}
        }
    }
    Some(())
}

/// Writes the next client of the walk. `None`: as above.
#[inline(always)]
fn next(packet: &Packet, walk: &mut Walk) -> Option<()> {
    let given = &walk.given;
    let number = match given.flags {
        0 => walk.next,
        at => {
            let flags = if walk.next & 3 == 0 { tcp_flags::SYN } else { tcp_flags::ACK };
            // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
            unsafe { *packet.at::<[u8; 2]>(opaque(at as usize) & MASK)? = [5 << 4, flags] };
            walk.next >> 2
        }
    };
    let client = (number & walk.mask) + walk.base;
    walk.next = walk.next.wrapping_add(walk.stride);
    if given.client != 0 {
        let address = (client as u32).wrapping_mul(SPREAD);
        // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
        unsafe {
            if given.kind as u16 == IPV6 {
                let half = packet.at::<u64>(opaque(given.client.wrapping_sub(4) as usize) & MASK)?;
                *half = *half & 0xffff_ffff | u64::from(address) << 32;
            } else {
                *packet.at::<u32>(opaque(given.client as usize) & MASK)? = address;
            }
            *packet.at::<u16>(opaque(given.client_port as usize) & MASK)? =
                (1024 + (client >> 32) as u16).to_be();
        }
    }
    Some(())
}

/// No offset in a frame exceeds this, which is the bound that the verifier sees.
const MASK: usize = 127;

#[inline(always)]
fn prepared(context: &XdpContext) -> Option<&'static mut Walk> {
    let walk = walk(0)?;
    // Whole pointers: the verifier subtracts no halves of them.
    let length = opaque(context.data_end().wrapping_sub(context.data()));
    let grown = length as i32 - walk.given.length as i32;
    // SAFETY: the context is the one that the kernel handed to this program.
    if grown != 0 && unsafe { bpf_xdp_adjust_head(context.ctx, grown) } != 0 {
        return None;
    }
    let packet = Packet::new(context);
    put_back(&packet, walk)?;
    next(&packet, walk)?;
    Some(walk)
}

/// The real program behind the walk.
#[xdp(frags)]
#[inline(always)]
fn director_prepared(context: XdpContext) -> u32 {
    let Some(walk) = prepared(&context) else { return XDP_DROP };
    verdict(walk, path::enter(&context))
}

/// What it costs to put back what a tunnel has done: room is made and taken away again, twice as
/// often as the real program and this entry do it for one packet.
#[xdp(frags)]
fn floor_room(context: XdpContext) -> u32 {
    let Some(walk) = prepared(&context) else { return XDP_DROP };
    let mut action = XDP_TX;
    let mut number = 0;
    while number < 4 {
        let grows = if number % 2 == 0 { -ROOM } else { ROOM };
        // SAFETY: the context is the one that the kernel handed to this program.
        if unsafe { bpf_xdp_adjust_head(context.ctx, grows) } != 0 {
            action = XDP_DROP;
        }
        number += 1;
    }
    verdict(walk, action)
}

/// The same without any.
#[xdp(frags)]
fn floor_prepared(context: XdpContext) -> u32 {
    let Some(walk) = prepared(&context) else { return XDP_DROP };
    verdict(walk, XDP_TX)
}

/// Bytes before a packet of ipip.
const ROOM: i32 = 20;

/// As `FLOOR_CONNECTIONS`, with keys of IPv6.
#[btf_map]
pub static FLOOR_CONNECTIONS_V6: LruHashMap<[u64; 5], u64, 2_097_152> = LruHashMap::new();

/// Client, ports and protocol of the frame.
#[inline(always)]
fn floor_key(packet: &Packet) -> Option<[u64; 5]> {
    let [a, b, c, d] = packet.read::<[u64; 4]>(22)?;
    let (ports, protocol) = (packet.read::<u32>(54)?, packet.read::<u8>(20)?);
    Some([a, b, c, d, u64::from(ports) << 8 | u64::from(protocol)])
}

#[inline(always)]
fn floor(context: &XdpContext, act: impl FnOnce(&Packet, &[u64; 5], &Walk) -> Option<u32>) -> u32 {
    let Some(walk) = prepared(context) else { return XDP_DROP };
    let packet = Packet::new(context);
    let action = floor_key(&packet).and_then(|key| act(&packet, &key, walk)).unwrap_or(XDP_DROP);
    verdict(walk, action)
}

/// As `floor_lru`.
#[xdp(frags)]
fn floor_lru_ipv6(context: XdpContext) -> u32 {
    floor(&context, |packet, key, _| {
        // SAFETY: the value is a plain word that nobody else writes during the benchmark.
        unsafe { FLOOR_CONNECTIONS_V6.get(key) }.and_then(|server| rewrite(packet, *server))
    })
}

/// As `floor_lru_insert`.
#[xdp(frags)]
fn floor_lru_insert_ipv6(context: XdpContext) -> u32 {
    floor(&context, |packet, key, walk| {
        let server = walk.next & 15;
        FLOOR_CONNECTIONS_V6.insert(key, server, 0).ok().and_then(|()| rewrite(packet, server))
    })
}

/// As `floor_lru_delete`.
#[xdp(frags)]
fn floor_lru_delete_ipv6(context: XdpContext) -> u32 {
    floor(&context, |packet, key, _| FLOOR_CONNECTIONS_V6.remove(key).ok().and_then(|()| rewrite(packet, 0)))
}
