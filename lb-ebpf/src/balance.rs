//! The whole way of a packet.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::frame::{self, Flow, Parsed};
use lb_common::reason::Reason;
use lb_common::service::ServiceSlot;

use crate::maps::CONTROL;
use crate::packet::Packet;
use crate::{connection, count, forward, now_ns, service};

/// Reads the frame, finds its service and its server, and forwards it. Returns the XDP action.
#[inline(always)]
pub fn balance(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let flow = match frame::parse(&packet) {
        Parsed::Flow(flow) => flow,
        Parsed::NotOurs => return xdp_action::XDP_PASS,
        Parsed::Malformed(reason) => return count::refuse(reason),
    };
    let Some(control) = CONTROL.get(0) else { return xdp_action::XDP_PASS };
    let Some(service) = service::find(control, &flow) else { return xdp_action::XDP_PASS };
    match serve(&packet, control, service, &flow) {
        Ok(action) => action,
        Err(reason) => count::refuse(reason),
    }
}

/// The rest of the way for a packet of one of our services.
#[inline(always)]
fn serve(
    packet: &Packet,
    control: &lb_common::control::Control,
    service: &ServiceSlot,
    flow: &Flow,
) -> Result<u32, Reason> {
    if forward::destination(packet) != Some(control.mac) {
        return Err(Reason::OtherStation);
    }
    let now = now_ns();
    if !control.is_active(now) {
        return Err(Reason::Standby);
    }
    let flags = frame::check(packet, flow)?;
    let target = connection::target(control, service, flow, flags, now)?;
    forward::direct(packet, control, flow, target)
}
