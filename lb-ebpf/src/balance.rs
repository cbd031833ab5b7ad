//! The whole way of a packet.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use lb_common::control::Control;
use lb_common::frame::{self, Flow, Parsed};
use lb_common::reason::Reason;

use crate::clock::now_ns;
use crate::connection::Target;
use crate::maps::CONTROL;
use crate::packet::Packet;
use crate::{connection, count, forward, report, shortcut};

/// Reads the frame, finds its connection and server, and forwards it. Returns the XDP action.
#[inline(always)]
pub fn balance(context: &XdpContext) -> u32 {
    match shortcut::take(context) {
        Some(action) => action,
        None => whole_way(context.ctx),
    }
}

/// For packets of every kind. A function of its own, so that the short way's registers are not spilled for it.
#[inline(never)]
fn whole_way(context: *mut xdp_md) -> u32 {
    let context = &XdpContext::new(context);
    let packet = Packet::new(context);
    let flow = match frame::parse(&packet) {
        Parsed::Flow(flow) => flow,
        Parsed::NotOurs => return xdp_action::XDP_PASS,
        Parsed::Malformed(reason) => return count::refuse(reason),
    };
    let Some(control) = CONTROL.get(0) else { return xdp_action::XDP_PASS };
    if !control.vips.may_contain(flow.destination) {
        return xdp_action::XDP_PASS;
    }
    match serve(&packet, control, &flow) {
        Ok(Some(target)) => forward::direct(&packet, control, &flow, target).unwrap_or_else(count::refuse),
        Ok(None) => xdp_action::XDP_PASS,
        Err(reason) => count::refuse(reason),
    }
}

/// Where a packet to a VIP goes; `None` if it is for none of the VIP's services.
#[inline(always)]
fn serve(packet: &Packet, control: &Control, flow: &Flow) -> Result<Option<Target>, Reason> {
    let Some(owner) = connection::owner(control, flow)? else { return Ok(None) };
    if forward::destination(packet) != Some(control.mac) {
        return Err(Reason::OtherStation);
    }
    let now = now_ns();
    if !control.is_active(now) {
        return Err(Reason::Standby);
    }
    let flags = frame::check(packet, flow)?;
    let target = connection::target(owner, flow, flags, now)?;
    if target.without_entry {
        report::table_full(packet.context(), flow.source, now);
    }
    Ok(Some(target))
}
