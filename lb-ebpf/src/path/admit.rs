//! What stands before the slow way where services have rules about their clients
//! (`lb_common::service::admission`): does the packet's service take this client, and so much of
//! it?
//!
//! A program of its own, because the slow way of IPv6 has no stack left. Only where some service
//! has rules it is called at all ([`super::slow_way`]); a packet of another service, or one that is
//! no flow, goes on at once. What is not plain, and what a connection's later packets need, the
//! slow way looks at as if nothing had been asked.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::packet::frame::{self, Flow};
use lb_common::program::stage::Stage;
use lb_common::reason::Reason;
use lb_common::service::admission;

use super::call;
use super::slow::with_offsets_forgotten;
use crate::context::Context;
use crate::family::Family;
use crate::forward::direct;
use crate::guard;
use crate::guard::lease;
use crate::lookup::connection;
use crate::maps::control;
use crate::sys::clock::lb_now;
use crate::sys::packet::Packet;
use crate::trace;

/// Returns the XDP action.
#[inline(always)]
pub fn take(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return xdp_action::XDP_PASS };
    let found = |flow| ask(context, flow);
    frame::parse_ipv4(&packet, &link, found, |_| {
        // One with VLAN tags; the entry has not known it for one.
        call(context, if link.is_ipv6() { Stage::AdmitIpv6 } else { Stage::Slow })
    })
}

/// As [`take`], for IPv6.
#[inline(always)]
pub fn take_ipv6(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return xdp_action::XDP_PASS };
    frame::parse_ipv6(&packet, &link, |flow| ask(context, flow), |_| call(context, Stage::SlowIpv6))
}

#[inline(always)]
fn ask<A: Family>(context: &XdpContext, flow: Flow<A>) -> u32 {
    let packet = Packet::new(context);
    let flow = with_offsets_forgotten(flow);
    let control = control();
    if !control.vips.may_contain(flow.destination) {
        return call(context, A::SLOW);
    }
    let asked = Context { packet, control, flow, now_ns: lb_now() };
    match refusal(&asked) {
        Ok(()) => call(context, A::SLOW),
        Err(reason) => {
            trace::begin(&asked.packet, &asked.flow);
            trace::finish(Err(reason))
        }
    }
}

/// Whatever the slow way refuses for another reason uses nothing up here.
#[inline(always)]
fn refusal<A: Family>(context: &Context<A>) -> Result<(), Reason> {
    let Context { packet, control, flow, now_ns } = context;
    let Ok(Some(found)) = connection::look_up(context) else { return Ok(()) };
    let ours = direct::destination_mac(packet) == Some(control.mac.get());
    if !ours || !found.is_guarded() || !lease::balances(control, found.group(), *now_ns) {
        return Ok(());
    }
    let Ok(flags) = frame::check(packet, flow) else { return Ok(()) };
    let known = found.entry().and_then(|entry| entry.state());
    let opens = admission::opens(flow.protocol, flags, known);
    guard::admission::ask(found.service_id().0, flow.source, opens)
}
