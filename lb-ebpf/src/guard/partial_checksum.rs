//! Packets that open connections and have a checksum that was left to hardware: counted, and the
//! last one remembered for the controller to tell of.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_xdp_load_bytes};
use lb_common::packet::frame::{Flow, Frame as _};
use lb_common::packet::partial_checksum::{LONGEST_SEGMENT, Seen, folded, offset, pseudo_sum};
use lb_common::reason::TableEvent;
use lb_common::service::Protocol;
use lb_common::table::connection;

use crate::family::Family;
use crate::maps::PARTIAL_CHECKSUM;
use crate::stats;
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};

/// Looks at a packet to an address that may be a VIP.
#[inline(always)]
pub fn look<A: Family>(packet: &Packet, flow: &Flow<A>) {
    // Numbers, so that the flow stays in registers.
    let length = (flow.network + flow.total_length).wrapping_sub(flow.transport);
    let rest = length << 8 | flow.protocol as usize;
    let sum = flow.source.sum() + flow.destination.sum();
    if !is_partial(packet.context().ctx, sum, flow.transport, rest, A::TRANSPORT_MASK) {
        return;
    }
    stats::table(TableEvent::PartialChecksum);
    if let Some(last) = PARTIAL_CHECKSUM.get_ptr_mut(0) {
        let seen = Seen {
            source: flow.source.mapped(),
            destination: flow.destination.mapped(),
            destination_port: flow.destination_port,
            protocol: flow.protocol.number().into(),
            reserved: 0,
        };
        // SAFETY: a map's value, aligned; two CPUs may mix two packets up, both of which are true.
        unsafe { last.write_volatile(seen) };
    }
}

/// Whether [`look`] must look at a plain segment that opens a TCP connection.
#[inline(always)]
pub fn may_be<A: Family>(packet: &Packet, flow: &Flow<A>) -> bool {
    let length = (flow.network + flow.total_length).wrapping_sub(flow.transport);
    let sum = pseudo_sum(flow.source.sum() + flow.destination.sum(), Protocol::Tcp.number(), length as u16);
    packet.read::<u16>(flow.transport + offset(Protocol::Tcp)).is_none_or(|there| there == sum)
}

/// `addresses` is the sum of both.
#[inline(never)]
fn is_partial(context: *mut xdp_md, addresses: u32, transport: usize, rest: usize, mask: usize) -> bool {
    let (length, is_udp) = (rest >> 8, rest & 0xff == Protocol::Udp as usize);
    let protocol = if is_udp { Protocol::Udp } else { Protocol::Tcp };
    // The mask is for the verifier: a frame's headers are shorter.
    let transport = opaque(transport) & mask;
    let context = packet::context(context);
    let packet = Packet::new(&context);
    let opens = is_udp || packet.read::<u8>(transport + 13).is_some_and(connection::opens);
    if !opens || length > LONGEST_SEGMENT {
        return false;
    }
    let sum = pseudo_sum(addresses, protocol.number(), length as u16);
    // One right checksum in 65536 is the same number.
    packet.read::<u16>(transport + offset(protocol)) == Some(sum)
        && !is_right(context.ctx, transport, length, sum)
}

/// Adds the whole segment up. `true` also if that cannot be done.
#[inline(always)]
fn is_right(context: *mut xdp_md, transport: usize, length: usize, sum: u16) -> bool {
    // A zero that the compiler knows it would write by a call of memset. For each function that is
    // called the verifier of 6.1 counts 32 bytes of stack at least, and with this one's callers
    // that is more than the 512 it allows.
    let zero = opaque(0) as u64;
    let mut segment = [zero; LONGEST_SEGMENT / size_of::<u64>()];
    // 1 to 64, as the verifier sees it.
    let length = (opaque(length.wrapping_sub(1)) & (LONGEST_SEGMENT - 1)) + 1;
    // SAFETY: the segment has room for the longest; the helper checks the frame's bounds.
    let read =
        unsafe { bpf_xdp_load_bytes(context, transport as u32, (&raw mut segment).cast(), length as u32) };
    if read < 0 {
        return true;
    }
    // SAFETY: zeros behind the segment's end add nothing.
    let whole = unsafe {
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            (&raw mut segment).cast(),
            LONGEST_SEGMENT as u32,
            u32::from(sum),
        )
    };
    whole < 0 || folded(whole as u32) == 0xffff
}
