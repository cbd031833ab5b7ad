//! Rare events, told in the controller's log by aya-log. Nothing here may happen per packet.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;

/// From one report of a full table to the next, at least.
const EVERY_NS: u64 = 1_000_000_000;

/// A connection found no slot. `last` is when that happened before in its group of pages, 0 for never.
#[inline(never)]
pub fn table_full(context: &XdpContext, client: u32, last: u64, now: u64) {
    if last == 0 || now.wrapping_sub(last) > EVERY_NS {
        warn!(context, "connection table full: {:i} goes by the hash of its address", u32::from_be(client));
    }
}
