//! The whole way of a packet.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use lb_common::connection::first;
use lb_common::control::Control;
use lb_common::frame::{self, Flow, Parsed};
use lb_common::lease::Decides;
use lb_common::peer::Sender;
use lb_common::reason::Reason;

use crate::clock::now_ns;
use crate::maps::CONTROL;
use crate::packet::Packet;
use crate::{
    connection, count, forward, lease, peer, probe, refuse, report, shortcut, unfinished,
    unknown_to_the_compiler,
};

/// Reads the frame, finds its connection and server, and forwards it. Returns the XDP action.
#[inline(always)]
pub fn balance(context: &XdpContext) -> u32 {
    let action = match shortcut::take(context) {
        Some(action) => return action,
        None => whole_way(context.ctx),
    };
    // Here, where nothing else is remembered, the verifier follows the answers once.
    if action & refuse::UNSERVED != 0 { refuse::unserved(context.ctx, action) } else { action }
}

/// For packets of every kind. Returns the XDP action, or [`refuse::UNSERVED`] and the reason. A function of its own, so that the short way's registers are not spilled for it.
#[inline(never)]
fn whole_way(context: *mut xdp_md) -> u32 {
    let context = &XdpContext::new(context);
    let packet = Packet::new(context);
    let flow = match frame::parse(&packet) {
        Parsed::Flow(flow) => with_offsets_forgotten(flow),
        Parsed::WhoHas(address) => return who_has(&address),
        Parsed::Ipv6(address) => return ipv6(forward::destination(&packet), &address),
        Parsed::NotOurs => return xdp_action::XDP_PASS,
        Parsed::Malformed(reason) => return count::refuse(reason),
    };
    let Some(control) = CONTROL.get(0) else { return xdp_action::XDP_PASS };
    if !control.vips.may_contain(flow.destination) {
        return probe::pass(&packet, control, &flow);
    }
    // Before anything is looked up: the verifier has few states to follow it in.
    unfinished::look(&packet, &flow);
    match serve(&packet, control, &flow) {
        Ok(action) => action,
        Err(Reason::NoServer) => refuse::UNSERVED | Reason::NoServer as u32,
        Err(Reason::Stray) => refuse::UNSERVED | Reason::Stray as u32,
        Err(reason) => count::refuse(reason),
    }
}

/// The same flow, of whose offsets the verifier knows no more than their bounds. It would follow all that comes after for
/// each number of VLAN tags by itself.
#[inline(always)]
pub fn with_offsets_forgotten(flow: Flow) -> Flow {
    let zero = flow.total_length ^ unknown_to_the_compiler(flow.total_length);
    Flow { network: (flow.network ^ zero) & 31, transport: (flow.transport ^ zero) & 127, ..flow }
}

/// Sends a packet to a VIP on its way, or says why not. Returns the XDP action.
#[inline(always)]
fn serve(packet: &Packet, control: &Control, flow: &Flow) -> Result<u32, Reason> {
    let Some(owner) = connection::owner(control, flow)? else {
        return Ok(probe::pass(packet, control, flow));
    };
    if forward::destination(packet) != Some(control.mac) {
        return Err(Reason::OtherStation);
    }
    let now = now_ns();
    let slot = owner.lease();
    let shared = owner.is_served_by_a_director();
    let sender = match shared {
        true => peer::sender(packet, flow, slot, owner.is_served_here(), now),
        false => Sender::Client,
    };
    if sender == Sender::Balancer {
        owner.forget();
        return Err(Reason::PeerBalanced);
    }
    let over = !lease::balances(control, slot, now);
    if over && sender != Sender::Relay && (shared || !peer::relays(packet, slot, now)) {
        return Err(lease::read(control, slot).refusal(now));
    }
    let flags = frame::check(packet, flow)?;
    let generation = lease::generation(control, slot);
    if over && first(flow.protocol, flags).is_some() {
        return Err(lease::read(control, slot).refusal(now));
    }
    if owner.is_doubtful(flow, flags, generation) {
        match forward::relay(packet, control, flow, &owner, over, now)? {
            Decides::This => {}
            Decides::Other => {
                owner.dispute(generation);
                return Ok(xdp_action::XDP_TX);
            }
            Decides::Sender => return Ok(xdp_action::XDP_TX),
        }
    }
    let target = connection::target(control, owner, flow, flags, generation, now)?;
    if target.without_entry {
        report::table_full(packet.context(), flow.source, now);
    }
    forward::direct(packet, control, flow, target)
}

/// The host answers who asks for a MAC, unless the address is a VIP that is not served here.
#[inline(never)]
fn who_has(address: &[u64; 2]) -> u32 {
    match CONTROL.get(0) {
        Some(control) if lease::silences(control, address, now_ns()) => count::refuse(Reason::ArpSilenced),
        _ => xdp_action::XDP_PASS,
    }
}

/// The host has what comes by IPv6, unless it is for a VIP whose lease has run out: another director may have that by now.
/// `station` is the frame's destination MAC.
#[inline(never)]
fn ipv6(station: Option<u64>, address: &[u64; 2]) -> u32 {
    let Some(control) = CONTROL.get(0) else { return xdp_action::XDP_PASS };
    let Some(slot) = lease::slot_of(address) else { return xdp_action::XDP_PASS };
    if station != Some(control.mac) {
        return count::refuse(Reason::OtherStation);
    }
    let now = now_ns();
    match lease::balances(control, slot, now) {
        true => xdp_action::XDP_PASS,
        false => count::refuse(lease::read(control, slot).refusal(now)),
    }
}
