//! The XDP programs: the entry `lb`, which is attached, and those it calls by tail call. See the
//! library for what they do.
//!
//! Each that may be a packet's last one ends by [`capture::leave`].
//!
//! `frags`: jumbo frames in several buffers are welcome; headers are always in the first one.
//!
//! `inline(always)`: what `xdp` makes of a function is a program that calls it, and the compiler
//! leaves that call in a program that is long. It costs each packet about 8 ns where the kernel
//! guards returns, and 16 to 32 bytes of the stack.
#![no_std]
#![no_main]

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{V4, V6};
use lb_ebpf::capture;

/// The entry.
#[xdp(frags)]
#[inline(always)]
fn lb(context: XdpContext) -> u32 {
    lb_ebpf::path::enter(&context)
}

/// The entry while somebody traces.
#[xdp(frags)]
#[inline(always)]
fn lb_trace(context: XdpContext) -> u32 {
    lb_ebpf::path::enter_traced(&context)
}

/// The entry of the other interfaces that packets come in by.
#[xdp(frags)]
#[inline(always)]
fn lb_ingress(context: XdpContext) -> u32 {
    lb_ebpf::ingress::enter(&context)
}

/// `Stage::Slow`.
#[xdp(frags)]
#[inline(always)]
fn lb_slow(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::slow::take(&context))
}

/// `Stage::Refuse`.
#[xdp(frags)]
#[inline(always)]
fn lb_refuse(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::refuse::take::<V4>(&context))
}

/// `Stage::RefuseIpv6`.
#[xdp(frags)]
#[inline(always)]
fn lb_refuse_ipv6(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::refuse::take::<V6>(&context))
}

/// `Stage::SlowIpv6`.
#[xdp(frags)]
#[inline(always)]
fn lb_slow_ipv6(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::slow::take_ipv6(&context))
}

/// In the place of `Stage::SlowIpv6` and others where no service is of IPv6.
#[xdp(frags)]
#[inline(always)]
fn lb_host_ipv6(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::host::take_ipv6(&context))
}

/// `Stage::Encapsulate`.
#[xdp(frags)]
#[inline(always)]
fn lb_encapsulate(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::forward::tunnel::take(&context))
}

/// `Stage::Egress`.
#[xdp(frags)]
#[inline(always)]
fn lb_egress(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::forward::egress::take(&context))
}

/// `Stage::Related`.
#[xdp(frags)]
#[inline(always)]
fn lb_related(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::related::take::<V4>(&context))
}

/// `Stage::RelatedIpv6`.
#[xdp(frags)]
#[inline(always)]
fn lb_related_ipv6(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::related::take::<V6>(&context))
}

/// `Stage::Hold`.
#[xdp(frags)]
#[inline(always)]
fn lb_hold(context: XdpContext) -> u32 {
    lb_ebpf::ingress::leave(&context, lb_ebpf::path::hold::take(&context))
}

/// `Stage::Translate`.
#[xdp(frags)]
#[inline(always)]
fn lb_translate(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::forward::nat::take::<V4>(&context))
}

/// `Stage::TranslateIpv6`.
#[xdp(frags)]
#[inline(always)]
fn lb_translate_ipv6(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::forward::nat::take::<V6>(&context))
}

/// `Stage::TranslateBack`.
#[xdp(frags)]
#[inline(always)]
fn lb_translate_back(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::back::take::<V4>(&context))
}

/// `Stage::TranslateBackIpv6`.
#[xdp(frags)]
#[inline(always)]
fn lb_translate_back_ipv6(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::back::take::<V6>(&context))
}

/// `Stage::RelatedBack`.
#[xdp(frags)]
#[inline(always)]
fn lb_related_back(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::back::take_related::<V4>(&context))
}

/// `Stage::RelatedBackIpv6`.
#[xdp(frags)]
#[inline(always)]
fn lb_related_back_ipv6(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::back::take_related::<V6>(&context))
}

/// `Stage::Known`.
#[xdp(frags)]
#[inline(always)]
fn lb_known(context: XdpContext) -> u32 {
    lb_ebpf::path::known::take::<V4>(&context)
}

/// `Stage::KnownIpv6`.
#[xdp(frags)]
#[inline(always)]
fn lb_known_ipv6(context: XdpContext) -> u32 {
    lb_ebpf::path::known::take::<V6>(&context)
}

/// `Stage::Admit`.
#[xdp(frags)]
#[inline(always)]
fn lb_admit(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::admit::take(&context))
}

/// `Stage::AdmitIpv6`.
#[xdp(frags)]
#[inline(always)]
fn lb_admit_ipv6(context: XdpContext) -> u32 {
    capture::leave(&context, lb_ebpf::path::admit::take_ipv6(&context))
}

/// The kernel lets helpers like bpf_loop be used by GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
