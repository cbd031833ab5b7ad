//! The fast way of nearly every packet that opens a TCP connection: a plain SYN to a service
//! without exceptions, of which the table knows nothing. Whatever else comes is left to the slow
//! way, untouched; from the scheduler's pick on both do the same.
//!
//! What the slow way does besides is parse once more, after a tail call, and ask for things that
//! the service, or a plain frame, does not have.

use aya_ebpf::bindings::xdp_action;
use lb_common::control::Control;
use lb_common::packet::frame::Flow;
use lb_common::service::ServiceInfo;
use lb_common::table::connection::tcp_flags;

use super::slow;
use crate::context::Context;
use crate::family::Family;
use crate::forward::{self, direct};
use crate::guard::{lease, partial_checksum};
use crate::lookup::connection::{Decision, Newcomer};
use crate::stats;
use crate::sys::clock::now_ns;
use crate::sys::packet::Packet;

/// The packet's XDP action; `None`: nothing was done, take the slow way.
#[inline(always)]
pub fn take<A: Family>(packet: Packet, control: &'static Control, flow: Flow<A>) -> Option<u32> {
    let ours = direct::destination_mac(&packet) == Some(control.mac.get());
    if !ours || partial_checksum::may_be(&packet, &flow) {
        return None;
    }
    let newcomer = Newcomer::to_service(control, &flow)?;
    let (service, now_ns) = (newcomer.service, now_ns(control));
    let others = service.has(ServiceInfo::DIRECTOR_SERVES) || service.group.is_guarded();
    if others || !lease::balances(control, service.group, now_ns) {
        return None;
    }
    let generation = lease::generation(control, service.group);
    let found = newcomer.unknown(&flow)?;
    let context = &Context { packet, control, flow, now_ns };
    let decision = slow::decided(context, &found, tcp_flags::SYN, generation);
    if let Ok(Decision { server, next_hop, .. }) = decision
        && next_hop.is_plain()
        && direct::rewrite_plain(&context.packet, control, next_hop.mac())
    {
        stats::forwarded(server, context.flow.network + context.flow.total_length, true);
        return Some(xdp_action::XDP_TX);
    }
    Some(slow::finish(context, decision.and_then(|decision| forward::send(context, &decision))))
}
