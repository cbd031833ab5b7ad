//! The host is heard only for VIPs whose group is served here.

use aya_ebpf::bindings::xdp_action;
use lb_common::addr::V6;
use lb_common::mac::Mac;
use lb_common::reason::Reason;

use super::lease;
use crate::maps::CONTROL;
use crate::stats;
use crate::sys::clock::now_ns;

/// The host answers whoever asks for a MAC, unless the address is a VIP that is not served here.
/// Returns the XDP action.
#[inline(never)]
pub fn who_has(address: &V6) -> u32 {
    match CONTROL.get(0) {
        Some(control) if lease::silences(control, address, now_ns()) => stats::refuse(Reason::ArpSilenced),
        _ => xdp_action::XDP_PASS,
    }
}

/// The host has what comes by IPv6, unless it is for a VIP whose lease has run out: another director
/// may have that by now. `station` is the frame's destination MAC. Returns the XDP action.
#[inline(never)]
pub fn ipv6(station: Option<Mac>, address: &V6) -> u32 {
    let Some(control) = CONTROL.get(0) else { return xdp_action::XDP_PASS };
    let Some(group) = lease::group_of(address) else { return xdp_action::XDP_PASS };
    if station != Some(control.mac.get()) {
        return stats::refuse(Reason::NotOurMac);
    }
    let now = now_ns();
    match lease::balances(control, group, now) {
        true => xdp_action::XDP_PASS,
        false => stats::refuse(lease::read(control, group).refusal(now)),
    }
}
