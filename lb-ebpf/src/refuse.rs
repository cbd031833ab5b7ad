//! Answers in the VIP's name to clients of a service that nobody serves: a TCP reset, an ICMP "port
//! unreachable". The rules are `lb_common::refusal`; here the packet becomes its own answer.
//!
//! Packets of IPv4 alone: the configuration has no `fallback: refuse` for IPv6.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use lb_common::addr::V4;
use lb_common::frame::{self, Frame as _};
use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_common::service::{Protocol, ServiceInfo};
use lb_common::{checksum, refusal};

use crate::forward::direct;
use crate::lookup::service;
use crate::maps::{CONTROL, REFUSALS, REFUSED};
use crate::path::slow::with_offsets_forgotten;
use crate::sys::clock::now_ns;
use crate::sys::packet::Packet;
use crate::{schedule, trace};

const IP: usize = 20;
const TCP: usize = 20;
const ICMP: usize = 8;
/// What an ICMP error quotes of the packet: its IP header and 8 bytes (RFC 792).
const QUOTE: usize = IP + 8;
/// The least that Ethernet carries, without the frame check: an answer is not made shorter than
/// this, because not every driver fills up what XDP sends.
const LEAST_FRAME: usize = 60;
const DONT_FRAGMENT: u16 = 0x4000;
const TTL: u8 = 64;
const NUMBER_OF_ICMP: u8 = 1;
/// Destination unreachable, port unreachable.
const PORT_UNREACHABLE: u16 = 0x0303;

/// Tells [`answer`], which is another program, why the packet is refused.
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
/// It reads the packet and looks for the service once more: this happens seldom.
#[inline(always)]
pub fn answer(context: &XdpContext) -> u32 {
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

/// What stays of the packet: who sent it by which station, and where to.
struct From {
    station: Mac,
    client: V4,
    vip: V4,
}

impl From {
    #[inline(always)]
    fn of(packet: &Packet, network: usize) -> Option<Self> {
        // The MACs first: a check of bounds further on makes the compiler drop the one here, which
        // the verifier wants.
        let station = direct::source_mac(packet).ok()?;
        let [client, vip] = packet.read::<[V4; 2]>(network + 12)?;
        Some(Self { station, client, vip })
    }

    /// Writes the MACs, and an IP header for so many bytes behind it. Returns where it stands, with
    /// room for `T`; one check of bounds for all of it, because the compiler makes one of several
    /// and the verifier wants that of the pointer used.
    #[inline(always)]
    fn begin<T>(&self, packet: &Packet, network: usize, protocol: u8, carried: usize) -> Option<*mut T> {
        direct::write(packet, CONTROL.get(0)?, self.station).ok()?;
        let whole = packet.at::<T>(network)?;
        let length = (IP + carried) as u16;
        let words = [0x4500, length, 0, DONT_FRAGMENT, u16::from(TTL) << 8 | u16::from(protocol)];
        let own = words[0] as u32 + u32::from(length) + u32::from(DONT_FRAGMENT) + u32::from(words[4]);
        let sum = checksum::of(own + folded(self.vip.0) + folded(self.client.0));
        let pair = |high: u16, low: u16| (u32::from(high) << 16 | u32::from(low)).to_be();
        // SAFETY: bounds checked by `at`, and T begins with an IP header; for alignment see
        // `Packet::read`.
        unsafe {
            *whole.cast::<[u32; IP / 4]>() =
                [pair(words[0], length), pair(0, words[3]), pair(words[4], sum), self.vip.0, self.client.0];
        }
        Some(whole)
    }
}

/// The sum of both words of an address as it stands in a packet.
#[inline(always)]
fn folded(address: u32) -> u32 {
    let address = u32::from_be(address);
    (address >> 16) + (address & 0xffff)
}

/// Cuts off what the answer does not need. The packet must be looked at anew afterwards.
#[inline(always)]
fn cut(context: *mut xdp_md, length: usize) -> bool {
    let wanted = if length < LEAST_FRAME { LEAST_FRAME } else { length };
    // SAFETY: the context is the one that the kernel handed to this program (kernel 5.18 and
    // later).
    let has = unsafe { bpf_xdp_get_buff_len(context) } as usize;
    // SAFETY: as above.
    has <= wanted || unsafe { bpf_xdp_adjust_tail(context, wanted as i32 - has as i32) } == 0
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
    let pseudo = folded(from.vip.0) + folded(from.client.0) + u32::from(Protocol::Tcp.number()) + TCP as u32;
    let numbers = folded(reset.sequence.to_be()) + folded(reset.acknowledgement.to_be());
    let sum = checksum::of(pseudo + folded(ports) + numbers + kind);
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
    let Some(due) = REFUSALS.get_ptr_mut(0) else { return false };
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    if !refusal::is_due(unsafe { &mut *due }, now_ns()) {
        return false;
    }
    try_unreachable(context, network).is_some()
}

#[inline(always)]
fn try_unreachable(context: *mut xdp_md, network: usize) -> Option<()> {
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    let from = From::of(&packet, network)?;
    // The quote stays where it is; room is made before it.
    const ROOM: usize = IP + ICMP;
    // SAFETY: the context is the one that the kernel handed to this program.
    if unsafe { bpf_xdp_adjust_head(context, -(ROOM as i32)) } != 0 || !cut(context, network + ROOM + QUOTE) {
        return None;
    }
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    // EtherType and VLAN tags; the MACs are written below.
    let mut at = 12;
    while at < 22 {
        if at < network {
            let word = packet.read::<u16>(ROOM + at)?;
            // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
            unsafe { *packet.at::<u16>(at)? = word };
        }
        at += 2;
    }
    type Whole = [u32; (ROOM + QUOTE) / 4];
    let whole = from.begin::<Whole>(&packet, network, NUMBER_OF_ICMP, ICMP + QUOTE)?;
    let mut sum = u32::from(PORT_UNREACHABLE);
    let mut word = ROOM / 4;
    while word < (ROOM + QUOTE) / 4 {
        // SAFETY: bounds checked by `begin`; for alignment see `Packet::read`.
        sum += folded(unsafe { (*whole)[word] });
        word += 1;
    }
    let kind = u32::from(PORT_UNREACHABLE) << 16 | u32::from(checksum::of(sum));
    // SAFETY: as above.
    unsafe {
        (*whole)[IP / 4] = kind.to_be();
        (*whole)[IP / 4 + 1] = 0;
    }
    Some(())
}
