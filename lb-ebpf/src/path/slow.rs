//! The slow way, for packets of every kind. [`serve`] is its table of contents.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::control::Control;
use lb_common::forward::peer::Sender;
use lb_common::lease::{Decides, RETURNED_TTL};
use lb_common::packet::frame::{self, Flow, Parsed};
use lb_common::program::stage::Stage;
use lb_common::reason::Reason;
use lb_common::service::Protocol;
use lb_common::table::connection::{Generation, first};

use super::host::to_host;
use super::{call, call_for};
use crate::context::Context;
use crate::family::Family;
use crate::forward::{self, Action, direct, handover};
use crate::guard::{lease, neighbour, partial_checksum, peer, probe};
use crate::ingress;
use crate::lookup::connection::{self, Decision, Found};
use crate::lookup::fragment;
use crate::maps::control;
use crate::sys::clock::lb_now;
use crate::sys::packet::Packet;
use crate::sys::{forgotten, log};
use crate::trace;

/// Returns the XDP action.
#[inline(always)]
pub fn take(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return xdp_action::XDP_PASS };
    let found = |flow| balance(context, flow);
    frame::parse_ipv4(&packet, &link, found, |other| match other {
        Parsed::WhoHas(address) => neighbour::who_has(&address),
        Parsed::Malformed(reason) => trace::malformed(context.ctx, link.network(), reason),
        Parsed::Related => call(context, Stage::Related),
        // One with VLAN tags; the entry has not known it for one.
        _ if link.is_ipv6() => call(context, Stage::SlowIpv6),
        _ => xdp_action::XDP_PASS,
    })
}

/// As [`take`], for IPv6.
#[inline(always)]
pub fn take_ipv6(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return xdp_action::XDP_PASS };
    let found = |flow| balance(context, flow);
    frame::parse_ipv6(&packet, &link, found, |other| match other {
        Parsed::WhoHas(address) => neighbour::who_has(&address),
        Parsed::Related => call(context, Stage::RelatedIpv6),
        Parsed::Ipv6(address) => to_host(&packet, &address),
        _ => xdp_action::XDP_PASS,
    })
}

#[inline(always)]
fn balance<A: Family>(context: &XdpContext, flow: Flow<A>) -> u32 {
    let packet = Packet::new(context);
    let flow = with_offsets_forgotten(flow);
    let control = control();
    trace::begin(&packet, &flow);
    if !control.vips.may_contain(flow.destination) {
        return super::finish::<A>(packet.context(), unserved(&packet, control, &flow));
    }
    // Before anything is looked up: the verifier has few states to follow it in.
    partial_checksum::look(&packet, &flow);
    let context = &Context { packet, control, flow, now_ns: lb_now() };
    finish(context, serve(context))
}

/// What XDP does with the packet, which may go on in another program.
#[inline(always)]
pub(super) fn finish<A: Family>(context: &Context<A>, result: Result<Action, Reason>) -> u32 {
    match result {
        Err(reason @ (Reason::NoServer | Reason::Stray | Reason::ServerDead)) => {
            call_for(context.packet.context(), A::REFUSE, reason)
        }
        Ok(Action::Remember) => call(context.packet.context(), A::RELATED),
        result => super::finish::<A>(context.packet.context(), result),
    }
}

/// What becomes of a packet that is for none of our services.
#[inline(always)]
fn unserved<A: Family>(packet: &Packet, control: &Control, flow: &Flow<A>) -> Result<Action, Reason> {
    match control.translated.may_contain(flow.source) {
        true => Ok(Action::TranslateBack),
        false => the_hosts(packet, control, flow),
    }
}

/// The same of one that no server has sent that is reached by address translation, or not to a
/// client.
#[inline(always)]
pub(super) fn the_hosts<A: Family>(
    packet: &Packet,
    control: &Control,
    flow: &Flow<A>,
) -> Result<Action, Reason> {
    match probe::pass(packet, control, flow)? {
        Action::Pass if A::GUARDS_HOST => neighbour::host(packet, &flow.destination.mapped()),
        action => Ok(action),
    }
}

/// Returns the flow with offsets of which the verifier knows no more than their bounds, instead of
/// one number for each number of VLAN tags.
#[inline(always)]
pub fn with_offsets_forgotten<A: Family>(flow: Flow<A>) -> Flow<A> {
    let unknown = flow.total_length;
    let network = forgotten(flow.network, unknown) & 31;
    Flow { network, transport: forgotten(flow.transport, unknown) & A::TRANSPORT_MASK, ..flow }
}

/// Sends a packet to a VIP on its way, or says why not.
#[inline(always)]
fn serve<A: Family>(context: &Context<A>) -> Result<Action, Reason> {
    let Context { packet, control, flow, now_ns } = context;
    let Some(found) = connection::look_up(context)? else {
        return match unserved(packet, control, flow)? {
            Action::Pass if A::may_be_fragment(packet, flow) => {
                fragment::leave(&Decision::HOST);
                Ok(Action::Remember)
            }
            action => Ok(action),
        };
    };
    trace::found(&found);
    if direct::destination_mac(packet) != Some(control.mac.get()) {
        return Err(Reason::NotOurMac);
    }
    if ingress::is_foreign(packet.context(), flow.network) {
        return Err(Reason::ForeignVlan);
    }
    let group = found.group();
    let shared = found.is_served_by_a_director();
    let sender = if shared { peer::sender(context, &found) } else { Sender::Client };
    if sender == Sender::Balancer {
        found.forget();
        return Ok(Action::Deliver(Reason::PeerBalanced));
    }
    let over = !lease::balances(control, group, *now_ns);
    let outlived = over && !shared && lease::is_outlived(control, group, found.entry(), *now_ns);
    if over && !outlived && sender != Sender::Relay && (shared || !peer::relays(packet, group, *now_ns)) {
        return Err(lease::read(control, group).refusal(*now_ns));
    }
    let flags = frame::check(packet, flow)?;
    let generation = lease::generation(control, group);
    let goes_on = outlived && flow.protocol == Protocol::Udp;
    if over && !goes_on && first(flow.protocol, flags).is_some() {
        return Err(lease::read(control, group).refusal(*now_ns));
    }
    if found.is_doubtful(flow, flags, generation) {
        match handover::relay(context, &found, over, shared, RETURNED_TTL)? {
            Decides::This => {}
            Decides::Other => {
                found.dispute(generation);
                return Ok(Action::Transmit);
            }
            Decides::Sender => return Ok(Action::Transmit),
        }
    }
    let decision = decided(context, &found, flags, generation)?;
    trace::decided(&decision);
    if A::may_be_fragment(packet, flow) {
        fragment::leave(&decision);
        return Ok(Action::Remember);
    }
    forward::send(context, &decision)
}

/// The server of a packet that is balanced here.
#[inline(always)]
pub(super) fn decided<A: Family>(
    context: &Context<A>,
    found: &Found<A>,
    flags: u8,
    generation: Generation,
) -> Result<Decision, Reason> {
    let decision = connection::decide(context, found, flags, generation)?;
    if decision.without_entry {
        log::table_full(context.packet.context(), context.flow.source, context.now_ns);
    }
    Ok(decision)
}
