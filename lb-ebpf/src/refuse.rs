//! Answers in the VIP's name to clients of a service that nobody serves: a TCP reset, an ICMP "port
//! unreachable". The rules are `lb_common::refusal`; [`crate::answer`] makes the packet its own
//! answer.
//!
//! Packets of IPv4 alone: the configuration has no `fallback: refuse` for IPv6.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::frame::{self, Frame as _};
use lb_common::reason::Reason;
use lb_common::service::{Protocol, ServiceInfo};
use lb_common::{checksum, refusal};

use crate::answer::{self, From, ICMP, IP, cut, host_halves};
use crate::lookup::service;
use crate::maps::{CONTROL, REFUSED};
use crate::path::slow::with_offsets_forgotten;
use crate::sys::packet::Packet;
use crate::{schedule, trace};

const TCP: usize = 20;
/// What an ICMP error quotes of the packet: its IP header and 8 bytes (RFC 792).
const QUOTE: usize = IP + 8;
/// Destination unreachable, port unreachable.
const PORT_UNREACHABLE: u16 = 0x0303;

/// Tells [`take`], which is another program, why the packet is refused.
#[inline(always)]
pub fn leave_reason(reason: Reason) {
    if let Some(left) = REFUSED.get_ptr_mut(0) {
        // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
        unsafe { *left = reason as u32 };
    }
}

/// Answers a packet that no server gets, if its service is one that refuses. Returns the XDP
/// action.
///
/// The answer reads the packet and looks for the service once more: this happens seldom.
#[inline(always)]
pub fn take(context: &XdpContext) -> u32 {
    let left = REFUSED.get_ptr_mut(0).map_or(0, |left| {
        // SAFETY: as in `leave_reason`.
        unsafe { *left }
    });
    let reason = if left == Reason::Stray as u32 { Reason::Stray } else { Reason::NoServer };
    trace::finish(Err(outcome(context, reason)))
}

/// The reason to count: the packet is its own answer then, if that is [`Reason::Refused`].
#[inline(always)]
fn outcome(context: &XdpContext, reason: Reason) -> Reason {
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return reason };
    let flow = frame::parse_ipv4(&packet, &link, Some, |_| None);
    let Some(flow) = flow.map(with_offsets_forgotten) else { return reason };
    let found = CONTROL.get(0).and_then(|control| service::find(control, &flow.service()));
    let Some(service) = found else { return reason };
    let unserved = reason == Reason::NoServer || schedule::has_no_server(service.service());
    if !service.has(ServiceInfo::REFUSES) || !unserved {
        return reason;
    }
    if !refusal::may_answer(flow.source) {
        return Reason::RefusedSilently;
    }
    let answered = match flow.protocol {
        Protocol::Tcp => reset(context.ctx, flow.network, flow.transport, flow.total_length),
        Protocol::Udp => unreachable(context.ctx, flow.network, flow.transport),
    };
    if answered { Reason::Refused } else { Reason::RefusedSilently }
}

#[inline(never)]
fn reset(context: *mut xdp_md, network: usize, transport: usize, total_length: usize) -> bool {
    try_reset(context, network, transport, total_length).is_some()
}

#[inline(always)]
fn try_reset(context: *mut xdp_md, network: usize, transport: usize, total_length: usize) -> Option<()> {
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    let from = From::of(&packet, network)?;
    let [client_port, port] = packet.read::<[u16; 2]>(transport)?;
    let [sequence, acknowledgement] = packet.read::<[u32; 2]>(transport + 4)?;
    let [offset, flags] = packet.read::<[u8; 2]>(transport + 12)?;
    let headers = transport - network + (offset >> 4) as usize * 4;
    let data = total_length.wrapping_sub(headers) as u32;
    let reset = refusal::reset(u32::from_be(sequence), u32::from_be(acknowledgement), flags, data)?;

    if !cut(context, network + IP + TCP) {
        return None;
    }
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    type Whole = [[u32; IP / 4]; 2];
    let whole = from.begin::<Whole>(&packet, network, Protocol::Tcp.number(), TCP)?;
    let ports = u32::from(port) | u32::from(client_port) << 16;
    let kind = 0x5000 | u32::from(reset.flags);
    let pseudo =
        host_halves(from.vip.0) + host_halves(from.client.0) + u32::from(Protocol::Tcp.number()) + TCP as u32;
    let numbers = host_halves(reset.sequence.to_be()) + host_halves(reset.acknowledgement.to_be());
    let sum = checksum::of(pseudo + host_halves(ports) + numbers + kind);
    // SAFETY: bounds checked by `begin`; for alignment see `Packet::read`.
    unsafe {
        (*whole)[1] = [
            ports,
            reset.sequence.to_be(),
            reset.acknowledgement.to_be(),
            (kind << 16).to_be(),
            (u32::from(sum) << 16).to_be(),
        ];
    }
    Some(())
}

#[inline(never)]
fn unreachable(context: *mut xdp_md, network: usize, transport: usize) -> bool {
    // Options are rare enough to leave their senders without an answer.
    if transport != network + IP {
        return false;
    }
    answer::is_due()
        && answer::icmp::<{ (IP + ICMP + QUOTE) / 4 }>(context, network, PORT_UNREACHABLE, 0).is_some()
}
