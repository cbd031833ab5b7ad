//! Packets that belong to another one: an ICMP error goes where the packets of the connection go
//! that it is about.
//!
//! Programs of their own, so that the slow way stays as small as it is.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::connection::tcp_flags;
use lb_common::control::Control;
use lb_common::frame::{self, Frame as _, IcmpError, Link};
use lb_common::lease::Decides;
use lb_common::peer::Sender;
use lb_common::reason::Reason;

use crate::context::Context;
use crate::family::Family;
use crate::forward::{self, Action, direct, handover};
use crate::guard::{lease, neighbour, peer};
use crate::lookup::connection::{self, Found};
use crate::maps::CONTROL;
use crate::stats;
use crate::sys::clock::lb_now;
use crate::sys::forgotten;
use crate::sys::packet::Packet;

/// Returns the XDP action.
#[inline(always)]
pub fn take<A: Family>(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let (Some(link), Some(control)) = (frame::link(&packet), CONTROL.get(0)) else {
        return xdp_action::XDP_PASS;
    };
    stats::finish(send::<A>(packet, &link, control))
}

#[inline(always)]
fn send<A: Family>(packet: Packet, link: &Link, control: &'static Control) -> Result<Action, Reason> {
    match A::icmp_error(&packet, link) {
        Some(error) => follow(packet, control, with_offsets_forgotten(error)),
        None => Ok(Action::Pass),
    }
}

/// As [`super::slow::with_offsets_forgotten`].
#[inline(always)]
fn with_offsets_forgotten<A: Family>(error: IcmpError<A>) -> IcmpError<A> {
    let unknown = error.total_length;
    let network = forgotten(error.network, unknown) & 31;
    IcmpError { network, quote: forgotten(error.quote, unknown) & A::TRANSPORT_MASK, ..error }
}

/// What is for none of our services is the host's.
#[inline(always)]
fn host<A: Family>(packet: &Packet, destination: A) -> Result<Action, Reason> {
    if A::GUARDS_HOST { neighbour::host(packet, &destination.mapped()) } else { Ok(Action::Pass) }
}

/// Sends an ICMP error after the packets of its connection. Nothing is learnt from it, because
/// anybody can send one.
#[inline(always)]
fn follow<A: Family>(
    packet: Packet,
    control: &'static Control,
    error: IcmpError<A>,
) -> Result<Action, Reason> {
    if !control.vips.may_contain(error.destination) {
        return host(&packet, error.destination);
    }
    let Some(flow) = A::quote(&packet, error.quote).and_then(|quote| error.about(&quote)) else {
        return host(&packet, error.destination);
    };
    let context = &Context { packet, control, flow, now_ns: lb_now() };
    let Context { packet, flow, .. } = context;
    let Some(found) = connection::look_up(context)? else {
        return host(packet, flow.destination);
    };
    if direct::destination_mac(packet) != Some(control.mac.get()) {
        return Err(Reason::NotOurMac);
    }
    if flow.ttl == 0 {
        return Err(Reason::TtlExpired);
    }
    if !packet.holds(flow.network + flow.total_length) {
        return Err(Reason::BadLength);
    }
    if let Some(action) = by_lease(context, &found)? {
        return Ok(action);
    }
    match found.known() {
        Some(decision) => forward::send(context, &decision),
        None => Err(Reason::IcmpUnknown),
    }
}

/// The rules of the slow way for a packet in mid-connection. `None`: it goes where the connection
/// table says.
#[inline(always)]
fn by_lease<A: Family>(context: &Context<A>, found: &Found<A>) -> Result<Option<Action>, Reason> {
    let Context { packet, control, flow, now_ns } = context;
    let group = found.group();
    let shared = found.is_served_by_a_director();
    if shared && peer::sender_of_unmarked(context, found) == Sender::Balancer {
        return Ok(Some(Action::Deliver(Reason::PeerBalanced)));
    }
    let over = !lease::balances(control, group, *now_ns);
    let outlived = over && !shared && lease::is_outlived(control, group, found.entry(), *now_ns);
    if over && !outlived && (shared || !peer::relays(packet, group, *now_ns)) {
        return Err(lease::read(control, group).refusal(*now_ns));
    }
    // Where directors are real servers a relayed packet bears a mark, for which an error has no
    // place in IPv6.
    let doubtful = found.is_doubtful(flow, tcp_flags::ACK, lease::generation(control, group));
    if doubtful && !shared && handover::relay(context, found, over, false)? != Decides::This {
        return Ok(Some(Action::Transmit));
    }
    Ok(None)
}
