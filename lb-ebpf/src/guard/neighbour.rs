//! The host is heard only for VIPs whose group is served here.

use aya_ebpf::bindings::xdp_action;
use lb_common::addr::V6;
use lb_common::mac::Mac;
use lb_common::reason::Reason;

use super::lease;
use crate::forward::{Action, direct};
use crate::maps::control;
use crate::sys::clock::now_ns;
use crate::sys::packet::Packet;
use crate::trace;

/// The host answers whoever asks for a MAC, unless the address is a VIP that is not served here.
/// Returns the XDP action.
#[inline(never)]
pub fn who_has(address: &V6) -> u32 {
    let control = control();
    if lease::silences(control, address, now_ns(control)) {
        trace::begin_to(address);
        return trace::finish(Err(Reason::ArpSilenced));
    }
    xdp_action::XDP_PASS
}

/// The host has what comes by IPv6 and is for none of our services, unless it is for a VIP whose
/// lease has run out: another director may have that by now.
#[inline(always)]
pub fn host(packet: &Packet, address: &V6) -> Result<Action, Reason> {
    let ours = direct::destination_mac(packet);
    match may_have(ours.map_or(0, Mac::word), address) {
        0 => Ok(Action::Pass),
        1 => Err(Reason::NotOurMac),
        2 => Err(Reason::LeaseLapsed),
        _ => Err(Reason::Standby),
    }
}

/// [`host`] in numbers, see above. A function of its own, so that the verifier forgets what was
/// looked at.
#[inline(never)]
fn may_have(station: u64, address: &V6) -> u32 {
    let (control, Some(group)) = (control(), lease::group_of(address)) else { return 0 };
    if station != control.mac.get().word() {
        return 1;
    }
    let now = now_ns(control);
    if lease::balances(control, group, now) {
        return 0;
    }
    if lease::read(control, group).refusal(now) == Reason::LeaseLapsed { 2 } else { 3 }
}
