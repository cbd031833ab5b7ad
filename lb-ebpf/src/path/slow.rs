//! The slow way, for packets of every kind. [`serve`] is its table of contents.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::V4;
use lb_common::frame::{self, Flow, Parsed};
use lb_common::lease::Decides;
use lb_common::peer::Sender;
use lb_common::reason::Reason;
use lb_common::stage::Stage;

use super::call;
use crate::context::Context;
use crate::forward::{self, Action, direct, handover};
use crate::guard::{lease, neighbour, partial_checksum, peer, probe};
use crate::lookup::connection;
use crate::maps::CONTROL;
use crate::sys::clock::lb_now;
use crate::sys::packet::Packet;
use crate::sys::{forgotten, log};
use crate::{refuse, stats};

/// Returns the XDP action.
#[inline(always)]
pub fn take(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let flow = match frame::parse(&packet) {
        Parsed::Flow(flow) => with_offsets_forgotten(flow),
        Parsed::WhoHas(address) => return neighbour::who_has(&address),
        Parsed::Ipv6(address) => return neighbour::ipv6(direct::destination_mac(&packet), &address),
        Parsed::NotOurs => return xdp_action::XDP_PASS,
        Parsed::Malformed(reason) => return stats::refuse(reason),
    };
    let Some(control) = CONTROL.get(0) else { return xdp_action::XDP_PASS };
    if !control.vips.may_contain(flow.destination) {
        return stats::finish(probe::pass(&packet, control, &flow));
    }
    // Before anything is looked up: the verifier has few states to follow it in.
    partial_checksum::look(&packet, &flow);
    let context = &Context { packet, control, flow, now_ns: lb_now() };
    match serve(context) {
        Err(reason @ (Reason::NoServer | Reason::Stray)) => {
            refuse::leave_reason(reason);
            call(context.packet.context(), Stage::Refuse)
        }
        result => stats::finish(result),
    }
}

/// The same flow, of whose offsets the verifier knows no more than their bounds, instead of one number
/// for each number of VLAN tags.
#[inline(always)]
pub fn with_offsets_forgotten<A>(flow: Flow<A>) -> Flow<A> {
    let unknown = flow.total_length;
    let network = forgotten(flow.network, unknown) & 31;
    Flow { network, transport: forgotten(flow.transport, unknown) & 127, ..flow }
}

/// Sends a packet to a VIP on its way, or says why not.
#[inline(always)]
fn serve(context: &Context<V4>) -> Result<Action, Reason> {
    let Context { packet, control, flow, now_ns } = context;
    let Some(found) = connection::look_up(context)? else {
        return probe::pass(packet, control, flow);
    };
    if direct::destination_mac(packet) != Some(control.mac.get()) {
        return Err(Reason::NotOurMac);
    }
    let group = found.group();
    if found.is_served_by_a_director() && peer::sender(context, &found) == Sender::Balancer {
        found.forget();
        return Ok(Action::Deliver(Reason::PeerBalanced));
    }
    if !lease::balances(control, group, *now_ns) {
        return Err(lease::read(control, group).refusal(*now_ns));
    }
    let flags = frame::check(packet, flow)?;
    let generation = lease::generation(control, group);
    if found.is_doubtful(flow, flags, generation) {
        match handover::relay(context, &found)? {
            Decides::This => {}
            Decides::Other => {
                found.dispute(generation);
                return Ok(Action::Transmit);
            }
            Decides::Sender => return Ok(Action::Transmit),
        }
    }
    let decision = connection::decide(context, &found, flags, generation)?;
    if decision.without_entry {
        log::table_full(packet.context(), flow.source, *now_ns);
    }
    forward::send(context, &decision)
}
