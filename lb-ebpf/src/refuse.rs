//! Answers in the VIP's name to clients of a service that nobody serves, or whose server is dead: a
//! TCP reset, an ICMP "port unreachable". The rules are `lb_common::service::refusal`;
//! [`crate::answer`] makes the packet its own answer, which differs between IPv4 and IPv6.

mod v4;
mod v6;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::packet::frame::{self, Flow, Frame as _, Link};
use lb_common::reason::Reason;
use lb_common::service::refusal::{self, Reset};
use lb_common::service::{Protocol, ServiceInfo};

use crate::family::Family;
use crate::lookup::service;
use crate::maps::control;
use crate::path;
use crate::path::slow::with_offsets_forgotten;
use crate::sys::packet::Packet;
use crate::{schedule, trace};

const TCP: usize = 20;

/// A family whose clients get an answer. Answers return whether there is one.
pub trait Refuses: Family {
    fn parse(packet: &Packet, link: &Link) -> Option<Flow<Self>>;

    /// Whether an answer may go to this source address.
    fn may_answer(source: Self) -> bool;

    /// Makes the packet a TCP reset.
    fn reset(context: *mut xdp_md, network: usize, transport: usize, total_length: usize) -> bool;

    /// Makes the packet an ICMP error, "port unreachable".
    fn unreachable(context: *mut xdp_md, network: usize, transport: usize) -> bool;
}

/// Answers a packet that no server gets, if its service is one that refuses. Returns the XDP
/// action.
///
/// The answer reads the packet and looks for the service once more: this happens seldom.
#[inline(always)]
pub fn take<A: Refuses>(context: &XdpContext) -> u32 {
    let reason = match () {
        () if path::was_refused_for(Reason::Stray) => Reason::Stray,
        () if path::was_refused_for(Reason::ServerDead) => Reason::ServerDead,
        () => Reason::NoServer,
    };
    trace::finish(Err(outcome::<A>(context, reason)))
}

/// The reason to count: the packet is its own answer then, if that is [`Reason::Refused`] or
/// [`Reason::ServerDead`].
#[inline(always)]
fn outcome<A: Refuses>(context: &XdpContext, reason: Reason) -> Reason {
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return reason };
    let Some(flow) = A::parse(&packet, &link).map(with_offsets_forgotten) else { return reason };
    let Some(service) = service::find(control(), &flow.service()) else { return reason };
    let unserved = reason == Reason::NoServer || schedule::has_no_server(service.service());
    let dead = reason == Reason::ServerDead;
    if !dead && (!service.has(ServiceInfo::REFUSES) || !unserved) {
        return reason;
    }
    if !A::may_answer(flow.source) {
        return Reason::RefusedSilently;
    }
    let answered = match flow.protocol {
        Protocol::Tcp => A::reset(context.ctx, flow.network, flow.transport, flow.total_length),
        Protocol::Udp => A::unreachable(context.ctx, flow.network, flow.transport),
    };
    match (answered, dead) {
        (true, true) => Reason::ServerDead,
        (true, false) => Reason::Refused,
        (false, _) => Reason::RefusedSilently,
    }
}

/// The ports of the packet as they stand in it, and the numbers of the reset that answers it.
#[inline(always)]
fn reset_for(
    packet: &Packet,
    network: usize,
    transport: usize,
    total_length: usize,
) -> Option<([u16; 2], Reset)> {
    let ports = packet.read::<[u16; 2]>(transport)?;
    let [sequence, acknowledgement] = packet.read::<[u32; 2]>(transport + 4)?;
    let [offset, flags] = packet.read::<[u8; 2]>(transport + 12)?;
    let headers = transport - network + (offset >> 4) as usize * 4;
    let data = total_length.wrapping_sub(headers) as u32;
    let reset = refusal::reset(u32::from_be(sequence), u32::from_be(acknowledgement), flags, data)?;
    Some((ports, reset))
}
