//! The frame as the verifier lets us see it.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use lb_common::packet::frame::{Frame, Header, Upper};

use super::opaque;

/// A received frame: the part of it that is in one piece, which holds the headers.
pub struct Packet<'a> {
    context: &'a XdpContext,
    start: usize,
    end: usize,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self { context, start: context.data(), end: context.data_end() }
    }

    /// The kernel's own view of the frame, for helpers.
    #[inline(always)]
    pub fn context(&self) -> &'a XdpContext {
        self.context
    }

    /// The queue of the interface that it came in by.
    #[inline(always)]
    pub fn queue(&self) -> u32 {
        // SAFETY: the context is the one the kernel handed to this program.
        unsafe { (*self.context.ctx).rx_queue_index }
    }

    /// The value at `offset` in place, `None` if the frame ends before its last byte.
    #[inline(always)]
    pub fn at<T>(&self, offset: usize) -> Option<*mut T> {
        if self.start + offset + size_of::<T>() > self.end {
            None
        } else {
            Some((self.start + offset) as *mut T)
        }
    }
}

/// The context that a function got as its argument. Without the barrier the compiler has the caller
/// load the frame's bounds and hands them over as numbers, which the verifier does not take for
/// pointers.
#[inline(always)]
pub fn context(argument: *mut xdp_md) -> XdpContext {
    XdpContext::new(opaque(argument as usize) as *mut xdp_md)
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        // SAFETY: `at` has checked the bounds and any bytes make a T. Alignment: BPF loads from
        // packets need none where the processor needs none, and the verifier refuses them
        // elsewhere.
        self.at::<T>(offset).map(|value| unsafe { *value })
    }

    #[inline(always)]
    fn holds(&self, length: usize) -> bool {
        // The helper is asked only when the part in one piece is too short.
        // SAFETY: the context is the one the kernel handed to this program (kernel 5.18 and later).
        self.holds_in_one_piece(length)
            || length <= unsafe { bpf_xdp_get_buff_len(self.context.ctx) as usize }
    }

    #[inline(always)]
    fn holds_in_one_piece(&self, length: usize) -> bool {
        // The verifiers of 6.1 and 6.12 forget the bounds of a number when its bytes are swapped,
        // and add no unbounded number to a packet's start. An offset and an IP length never exceed
        // the mask.
        self.start + (opaque(length) & 0x1_ffff) <= self.end
    }

    #[inline(always)]
    fn kept(number: usize) -> usize {
        opaque(number)
    }

    #[inline(always)]
    fn upper(&self, next_header: u8, first: usize) -> Option<Upper> {
        Upper::from_packed(lb_upper_ipv6(self.context.ctx, next_header.into(), first as u32))
    }
}

/// [`Upper::walk`] in numbers; global, so that the verifier looks at it once, and sees one result
/// in place of one for each chain of headers. 0: there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_upper_ipv6(context: *mut xdp_md, next_header: u32, first: u32) -> u64 {
    let context = &self::context(context);
    let first = opaque(first as usize) & FIRST_MASK;
    Upper::walk(&Packet::new(context), next_header as u8, first).map_or(0, Upper::packed)
}

/// No extension header of a packet, or of one that an ICMP error quotes, begins behind this: the
/// bound that the verifier sees.
const FIRST_MASK: usize = 0x3ff;
