//! Fragments that came too early: the controller gets a copy, and has it looked at again once what
//! it waits for has come.

use aya_ebpf::helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use lb_common::packet::fragment::{self, AGAIN, Held, JUMBO, ORDINARY};
use lb_common::packet::frame;
use lb_common::reason::Reason;

use crate::forward::direct;
use crate::maps::{HELD, HOLDER, HOLDS, control};
use crate::sys::clock::lb_now;
use crate::sys::one_to;
use crate::sys::packet::Packet;
use crate::{ingress, path, trace};

/// Returns the XDP action.
#[inline(always)]
pub fn take(context: &XdpContext) -> u32 {
    if hold(context) {
        return trace::finish(Err(Reason::FragmentHeld));
    }
    let scattered = path::was_refused_for(Reason::FragmentScattered);
    trace::finish(Err(if scattered { Reason::FragmentScattered } else { Reason::FragmentUnknown }))
}

/// Whether the controller has it now.
#[inline(always)]
fn hold(context: &XdpContext) -> bool {
    let now_ns = lb_now();
    let taken = HOLDER.get(0).is_some_and(|until| now_ns < until.get());
    let ours = Some(control().mac.get());
    if !taken || is_again(context) || direct::destination_mac(&Packet::new(context)) != ours {
        return false;
    }
    // The controller has it looked at as one of the main interface.
    let Some(link) = frame::link(&Packet::new(context)) else { return false };
    if ingress::is_foreign(context, link.network()) {
        return false;
    }
    let Some(due) = HOLDS.get_ptr_mut(0) else { return false };
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    if !fragment::may_hold(unsafe { &mut *due }, now_ns) {
        return false;
    }
    // SAFETY: the context is the one that the kernel handed to this program (kernel 5.18 and
    // later).
    let length = unsafe { bpf_xdp_get_buff_len(context.ctx) } as usize;
    if length <= ORDINARY { copy::<ORDINARY>(context, length) } else { copy::<JUMBO>(context, length) }
}

/// Whether the controller has had it before.
#[inline(always)]
fn is_again(context: &XdpContext) -> bool {
    // SAFETY: bounds checked by `mark`; for alignment see `Packet::read`.
    mark(context).is_some_and(|mark| unsafe { *mark == AGAIN })
}

/// Tells the controller, if it has the frame looked at again, which device that leaves by: nothing
/// is redirected then.
#[inline(always)]
pub fn tell_exit(context: &XdpContext, device: u32) {
    if let Some(mark) = mark(context) {
        // SAFETY: as above.
        unsafe {
            if *mark == AGAIN {
                *mark = device.into();
            }
        }
    }
}

/// What may stand before the frame.
#[inline(always)]
fn mark(context: &XdpContext) -> Option<*mut u64> {
    let before = context.metadata();
    (before + size_of::<u64>() <= context.metadata_end()).then_some(before as *mut u64)
}

/// Hands a frame of at most `N` bytes over.
#[inline(always)]
fn copy<const N: usize>(context: &XdpContext, length: usize) -> bool {
    let Some(length) = one_to(N, length) else { return false };
    let Some(mut entry) = HELD.reserve_untyped::<Held<N>>(0) else { return false };
    let held = entry.as_mut_ptr();
    // SAFETY: the entry has room for a `Held`, and so for `length` bytes of a frame; the context is
    // the one that the kernel handed to this program.
    let copied = unsafe {
        (&raw mut (*held).length).write(length as u32);
        (&raw mut (*held).reserved).write(0);
        bpf_xdp_load_bytes(context.ctx, 0, (&raw mut (*held).frame).cast(), length as u32)
    };
    if copied != 0 {
        entry.discard(0);
        return false;
    }
    entry.submit(0);
    true
}
