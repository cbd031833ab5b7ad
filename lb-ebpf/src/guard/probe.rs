//! The controller's own probes through a VIP: answers go to its AF_XDP sockets, what a server sends
//! on is not balanced.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use lb_common::addr::Address;
use lb_common::control::Control;
use lb_common::packet::frame::Flow;
use lb_common::program::probe::{Answer, Ports};
use lb_common::reason::Reason;

use crate::forward::Action;
use crate::ingress;
use crate::maps::{ANSWERS, XSKS};
use crate::sys::packet::{self, Packet};

/// What becomes of a packet that is for none of our services: the host's, if it is no answer to a
/// probe.
#[inline(always)]
pub fn pass<A: Address>(packet: &Packet, control: &Control, flow: &Flow<A>) -> Result<Action, Reason> {
    if !ports(control).contain(flow.destination_port) {
        return Ok(Action::Pass);
    }
    match answer(packet.context().ctx, &Answer::of(flow)) {
        xdp_action::XDP_REDIRECT => Ok(Action::Redirect),
        xdp_action::XDP_PASS => Ok(Action::Pass),
        _ => Err(Reason::ProbeUnheard),
    }
}

#[inline(always)]
pub fn ports(control: &Control) -> Ports {
    control.probe_ports.get()
}

#[inline(never)]
fn answer(context: *mut xdp_md, answer: &Answer) -> u32 {
    // SAFETY: the value is not looked at.
    if unsafe { ANSWERS.get(answer) }.is_none() {
        return xdp_action::XDP_PASS;
    }
    let context = &packet::context(context);
    let queue = ingress::first_socket(context) + Packet::new(context).queue();
    XSKS.redirect(queue, 0).unwrap_or(xdp_action::XDP_DROP)
}
