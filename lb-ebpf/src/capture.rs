//! Frames for `lb capture`: each packet that a trace tells, as it came in and as it went out.
//!
//! A frame is kept as it comes, before anybody knows whether it is asked for; [`tell`] tells it
//! with what was decided, and [`leave`] once more as it leaves. Layouts are
//! `lb_common::program::capture`.

use aya_ebpf::bindings::{BPF_RB_NO_WAKEUP, xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use lb_common::program::capture::{Direction, Frame, Head, MOST};
use lb_common::program::trace::Event;

use crate::ingress;
use crate::maps::{CAPTURE, CAPTURED, TRACE};
use crate::sys::{one_to, opaque};
use crate::trace;

#[inline(always)]
fn snaplen() -> usize {
    TRACE.get(0).map_or(0, |settings| settings.snaplen.get() as usize)
}

#[inline(always)]
fn frame() -> Option<&'static mut Frame> {
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    CAPTURE.get_ptr_mut(0).map(|frame| unsafe { &mut *frame })
}

/// A packet comes in.
#[inline(always)]
pub fn come(context: &XdpContext) {
    let snaplen = snaplen();
    if snaplen != 0 {
        keep(context.ctx, snaplen, Direction::In);
    }
}

/// Tells of the packet as it came in, if frames are asked for. `None`: they are not.
#[inline(always)]
pub fn tell(event: &Event) -> Option<bool> {
    if snaplen() == 0 {
        return None;
    }
    let frame = frame()?;
    frame.head.event = *event;
    let told = put(frame);
    frame.head.told = told.into();
    Some(told)
}

/// The end of a program that may be a packet's last one: returns its XDP action. A packet that was
/// told is told again as it leaves; one that came in by another interface than the main one leaves
/// as [`ingress`] says.
#[inline(always)]
pub fn leave(context: &XdpContext, action: u32) -> u32 {
    let action = ingress::leave(context, action);
    let is_sent = action == xdp_action::XDP_TX || action == xdp_action::XDP_REDIRECT;
    if is_sent && trace::is_asked() {
        lb_capture_leave(context.ctx);
    }
    action
}

/// [`leave`], which the verifier looks at once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_capture_leave(context: *mut xdp_md) -> u32 {
    let snaplen = snaplen();
    let Some(frame) = frame() else { return 0 };
    if snaplen == 0 || frame.head.told == 0 {
        return 0;
    }
    if keep(context, snaplen, Direction::Out) && !put(frame) {
        trace::lost();
    }
    0
}

/// Copies so many bytes of the frame as it is now.
#[inline(always)]
fn keep(context: *mut xdp_md, snaplen: usize, direction: Direction) -> bool {
    let Some(frame) = frame() else { return false };
    // SAFETY: the context is the one that the kernel handed to this program (kernel 5.18 and
    // later).
    let length = unsafe { bpf_xdp_get_buff_len(context) } as usize;
    // A frame has 14 bytes at least.
    let Some(captured) = one_to(MOST, if length < snaplen { length } else { snaplen }) else { return false };
    // SAFETY: the buffer has room for the most; the helper checks the frame's bounds.
    let copied = unsafe { bpf_xdp_load_bytes(context, 0, frame.bytes.as_mut_ptr().cast(), captured as u32) };
    let captured = if copied < 0 { 0 } else { captured };
    frame.head = Head {
        event: frame.head.event,
        // SAFETY: the helper takes no arguments and reads a clock.
        time_ns: unsafe { bpf_ktime_get_ns() },
        length: length as u32,
        captured: captured as u32,
        direction: direction as u32,
        told: 0,
    };
    true
}

/// `false`: there was no room.
#[inline(always)]
fn put(frame: &mut Frame) -> bool {
    let captured = opaque(frame.head.captured as usize);
    if captured > MOST {
        return false;
    }
    // SAFETY: so many bytes are there, and nobody else writes them meanwhile.
    let bytes = unsafe {
        core::slice::from_raw_parts((&raw const *frame).cast::<u8>(), size_of::<Head>() + captured)
    };
    CAPTURED.output_untyped::<[u8]>(bytes, u64::from(BPF_RB_NO_WAKEUP)).is_ok()
}
