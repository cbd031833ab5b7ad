//! The XDP program `lb`: see the library for its stages.
#![no_std]
#![no_main]

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Entry point. `frags`: jumbo frames in several buffers are welcome; headers are always in the first one.
#[xdp(frags)]
pub fn lb(context: XdpContext) -> u32 {
    lb_ebpf::balance::balance(&context)
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
