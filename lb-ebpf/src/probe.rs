//! The controller's own probes through a VIP: answers go to its AF_XDP sockets, what a server sends on is not balanced.

use aya_ebpf::bindings::xdp_action;
use lb_common::control::Control;
use lb_common::frame::Flow;
use lb_common::probe::{Answer, Ports};
use lb_common::reason::Reason;

use crate::count;
use crate::maps::{ANSWERS, XSKS};
use crate::packet::Packet;

/// What becomes of a packet that is for none of our services: the host's, if it is no answer to a probe. Returns the XDP
/// action.
#[inline(always)]
pub fn pass(packet: &Packet, control: &Control, flow: &Flow) -> u32 {
    if ports(control).contain(flow.destination_port) { answer(packet, flow) } else { xdp_action::XDP_PASS }
}

#[inline(always)]
pub fn ports(control: &Control) -> Ports {
    // SAFETY: a map's value, aligned; volatile, because the controller writes it at any time.
    unsafe { (&raw const control.probe_ports).read_volatile() }
}

#[inline(never)]
fn answer(packet: &Packet, flow: &Flow) -> u32 {
    // SAFETY: the value is not looked at.
    if unsafe { ANSWERS.get(&Answer::of(flow)) }.is_none() {
        return xdp_action::XDP_PASS;
    }
    XSKS.redirect(packet.queue(), 0).unwrap_or_else(|_| count::refuse(Reason::ProbeUnheard))
}
