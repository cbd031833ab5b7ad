//! Statistics: totals per server, packets not forwarded by reason, what the table did. All per CPU.

use aya_ebpf::bindings::xdp_action;
use lb_common::reason::{Fate, Reason, TableEvent};
use lb_common::server::ServerId;

use crate::forward::Action;
use crate::maps::{REASONS, STATS, TABLE_EVENTS};

/// Counts a packet that is refused and returns what XDP shall do with it.
#[inline(always)]
pub fn refuse(reason: Reason) -> u32 {
    count(reason);
    match reason.fate() {
        Fate::Drop | Fate::Hold => xdp_action::XDP_DROP,
        Fate::Pass => xdp_action::XDP_PASS,
        Fate::Answer => xdp_action::XDP_TX,
    }
}

/// Counts a packet that is refused, or delivered to the host, and returns what XDP shall do with
/// it.
#[inline(always)]
pub fn finish(result: Result<Action, Reason>) -> u32 {
    match result {
        Err(reason) => refuse(reason),
        Ok(action) => {
            if let Action::Deliver(reason) = action {
                count(reason);
            }
            action.xdp()
        }
    }
}

#[inline(always)]
fn count(reason: Reason) {
    if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
        unsafe { *count += 1 };
    }
}

/// Counts a packet that goes to `server`, and the connection that it opens.
#[inline(always)]
pub fn forwarded(server: ServerId, bytes: usize, opens: bool) {
    if let Some(stats) = STATS.get_ptr_mut(u32::from(server.0)) {
        // SAFETY: as above.
        unsafe {
            (*stats).packets += 1;
            (*stats).bytes += bytes as u64;
            if opens {
                (*stats).connections += 1;
            }
        }
    }
}

#[inline(always)]
pub fn table(event: TableEvent) {
    if let Some(count) = TABLE_EVENTS.get_ptr_mut(event as u32) {
        // SAFETY: as above.
        unsafe { *count += 1 };
    }
}
