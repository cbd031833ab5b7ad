//! Checksums that were left to hardware, in a packet that is rewritten: where the driver keeps the
//! mark (generic XDP), hardware adds the rest to what stands there.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_xdp_load_bytes};
use lb_common::packet::partial_checksum::{folded, offset, pseudo_sum};

use super::rewrite::{Shape, place};
use crate::family::Family;
use crate::maps::SCRATCH;
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};

/// What is added up at a time: as much as the helper takes.
const CHUNK: usize = 512;
/// As many chunks as a jumbo frame has. What is longer the kernel has joined or not yet cut, and
/// leaves its checksum to hardware.
const CHUNKS: usize = 20;

/// Whether the checksum of this packet was left to hardware; `shape` is packed.
#[inline(never)]
pub(super) fn is_left_to_hardware<A: Family>(context: *mut xdp_md, shape: u64) -> u32 {
    let context = &packet::context(context);
    u32::from(is_partial::<A>(&Packet::new(context), Shape(shape)).unwrap_or(false))
}

#[inline(always)]
fn is_partial<A: Family>(packet: &Packet, shape: Shape) -> Option<bool> {
    let protocol = shape.protocol()?;
    if shape.length() == 0 {
        return None;
    }
    // SAFETY: bounds checked by `place`; for alignment see `Packet::read`.
    let source = unsafe { *place::<A>(packet, shape.network() + A::SOURCE)? };
    // SAFETY: as above.
    let destination = unsafe { *place::<A>(packet, shape.network() + A::DESTINATION)? };
    // SAFETY: as above.
    let found = unsafe { *place::<u16>(packet, shape.transport() + offset(protocol))? };
    let length = (shape.network() + shape.length()).wrapping_sub(shape.transport());
    let sum = pseudo_sum(source.sum() + destination.sum(), protocol.number(), length as u16);
    Some(found == sum && !is_right(packet.context().ctx, shape.transport(), length, sum))
}

/// Whether the words of a segment add up as if its checksum were right. `pseudo` is the sum of its
/// pseudo header. True also if that cannot be told.
///
/// Only asked where the checksum is the same number as that sum: of right ones that is one in
/// 65536.
#[inline(always)]
fn is_right(context: *mut xdp_md, transport: usize, length: usize, pseudo: u16) -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return true };
    let buffer = scratch.cast::<u8>();
    let mut sum = pseudo;
    let mut done = 0;
    while done < CHUNKS * CHUNK {
        let left = length.wrapping_sub(done);
        // 1 to 512, as the verifier sees it.
        let size = (opaque(if left < CHUNK { left } else { CHUNK }.wrapping_sub(1)) & (CHUNK - 1)) + 1;
        // SAFETY: the scratch area has room for a chunk and four bytes; what is behind the last
        // byte adds nothing. The helpers check the frame's bounds.
        let added = unsafe {
            buffer.add(size & !3).cast::<u32>().write(0);
            if bpf_xdp_load_bytes(context, (transport + done) as u32, buffer.cast(), size as u32) < 0 {
                return true;
            }
            let words = (size + 3) & !3;
            bpf_csum_diff(core::ptr::null_mut(), 0, buffer.cast(), words as u32, u32::from(sum))
        };
        if added < 0 {
            return true;
        }
        sum = folded(added as u32);
        if left <= CHUNK {
            return sum == 0xffff;
        }
        done += CHUNK;
    }
    false
}
