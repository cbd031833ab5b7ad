//! Rare events, told in the controller's log by aya-log. Nothing here may happen per packet.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use lb_common::addr::{Address, V6};

use crate::maps::LAST_REPORT;

/// From one report to the next, at least.
const EVERY_NS: u64 = 1_000_000_000;

/// A connection of this client found no slot.
#[inline(always)]
pub fn table_full(context: &XdpContext, client: impl Address, now_ns: u64) {
    report(context.ctx, &client.mapped(), now_ns);
}

#[inline(never)]
fn report(context: *mut xdp_md, client: &V6, now_ns: u64) {
    let Some(last) = LAST_REPORT.get_ptr_mut(0) else { return };
    // SAFETY: a map's value, aligned. Two CPUs may both report; nothing depends on it.
    if now_ns.wrapping_sub(unsafe { last.read_volatile() }) < EVERY_NS {
        return;
    }
    // SAFETY: as above.
    unsafe { last.write_volatile(now_ns) };
    let context = XdpContext::new(context);
    warn!(&context, "connection table full: {:i} goes by the hash of its address", client.octets());
}
