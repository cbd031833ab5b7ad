//! The real program with packets of every method and family, and a floor for connections of IPv6.
//!
//! Tunnels make the frame longer and address translation changes more of it than MACs, so the entry
//! puts back what the packet before has changed. That is part of what is timed.

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_common::connection::tcp_flags;
use lb_common::frame::Frame as _;
use lb_ebpf::path;
use lb_ebpf::sys::opaque;
use lb_ebpf::sys::packet::Packet;

use crate::{SPREAD, Walk, rewrite, verdict, walk, write_macs};

/// What a frame begins with, as the benchmark has made it.
#[repr(C)]
pub struct Given {
    /// Bytes of the frame.
    pub length: u32,
    /// As it stands in the frame.
    pub ethertype: u32,
    /// What is put back besides MACs and EtherType: [`NOTHING`], or the headers of a family.
    pub headers: u32,
    /// Where the client's address stands, its last four bytes; 0: it is always the same client.
    pub client: u32,
    /// Where its port stands.
    pub client_port: u32,
    /// Not 0: where the TCP header's length and flags stand; a SYN and an ACK of each client in turn.
    pub flags: u32,
    /// The frame's words of four bytes from byte 18 (IPv4: time to live and checksum at 22,
    /// addresses, ports; IPv6: lengths and hop limit, addresses, ports).
    pub words: [u32; 12],
    /// The TCP checksum.
    pub checksum: u32,
    pub reserved: u32,
}

const V4_HEADERS: u32 = 1;
const V6_HEADERS: u32 = 2;

/// Puts the frame back to what it was, but for the next client. `None`: the benchmark's mistake.
#[inline(always)]
fn put_back(packet: &Packet, walk: &Walk) -> Option<()> {
    write_macs(packet, &walk.macs)?;
    let given = &walk.given;
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    unsafe {
        *packet.at::<u16>(12)? = given.ethertype as u16;
        match given.headers {
            V4_HEADERS => {
                *packet.at::<u16>(50)? = given.checksum as u16;
                *packet.at::<u16>(22)? = given.words[1] as u16;
                *packet.at::<u16>(24)? = (given.words[1] >> 16) as u16;
                *packet.at::<u32>(26)? = given.words[2];
                *packet.at::<u32>(30)? = given.words[3];
                *packet.at::<u16>(34)? = given.words[4] as u16;
                *packet.at::<u16>(36)? = (given.words[4] >> 16) as u16;
            }
            V6_HEADERS => {
                *packet.at::<u16>(70)? = given.checksum as u16;
                *packet.at::<u8>(21)? = (given.words[0] >> 24) as u8;
                let mut word = 0;
                while word < 4 {
                    *packet.at::<u64>(22 + word * 8)? =
                        u64::from(given.words[1 + word * 2]) | u64::from(given.words[2 + word * 2]) << 32;
                    word += 1;
                }
                *packet.at::<u16>(54)? = given.words[9] as u16;
                *packet.at::<u16>(56)? = (given.words[9] >> 16) as u16;
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
            let flags = if walk.next & 1 == 0 { tcp_flags::SYN } else { tcp_flags::ACK };
            // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
            unsafe { *packet.at::<[u8; 2]>(opaque(at as usize) & MASK)? = [5 << 4, flags] };
            walk.next >> 1
        }
    };
    let client = (number & walk.mask) + walk.base;
    walk.next = walk.next.wrapping_add(walk.stride);
    if given.client != 0 {
        // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
        unsafe {
            *packet.at::<u32>(opaque(given.client as usize) & MASK)? = (client as u32).wrapping_mul(SPREAD);
            *packet.at::<u16>(opaque(given.client_port as usize) & MASK)? = (1024 + (client >> 32) as u16).to_be();
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
fn director_prepared(context: XdpContext) -> u32 {
    let Some(walk) = prepared(&context) else { return XDP_DROP };
    verdict(walk, path::enter(&context))
}

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
    floor(&context, |packet, key, _| {
        FLOOR_CONNECTIONS_V6.remove(key).ok().and_then(|()| rewrite(packet, 0))
    })
}
