//! Tunnels: the packet goes to its server inside another one. The rules and the headers are
//! `lb_common::forward::tunnel`; here room is made for them.
//!
//! A program of its own, so that packets of direct routing know nothing of it.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::V4;
use lb_common::forward::tunnel::{self, Inner, Kind, MAX_WORDS, MAX_WORDS_V4, Tunnel};
use lb_common::mac::Mac;
use lb_common::packet::frame::{Flow, Frame as _};
use lb_common::program::stage::Stage;
use lb_common::reason::Reason;
use lb_common::server::{Forwarding, ServerId};

use super::parcel::{self, NETWORK_MASK, PLAIN_NETWORK as NETWORK, Parcel};
use super::{Action, direct};
use crate::family::Family;
use crate::maps::{TUNNELS, control};
use crate::sys::opaque;
use crate::sys::packet::Packet;
use crate::{answer, path, stats, trace};

/// What the verifier may know of the offset.
const TRANSPORT_MASK: usize = 0x1ff;

/// Sends the packet that [`parcel::leave`] has told of. Returns the XDP action.
#[inline(always)]
pub fn take(context: &XdpContext) -> u32 {
    match send(context) {
        Ok(Action::Egress) => path::call(context, Stage::Egress),
        result => trace::finish(result),
    }
}

#[inline(always)]
fn send(context: &XdpContext) -> Result<Action, Reason> {
    let Some(parcel) = parcel::left() else { return Err(Reason::MapInconsistency) };
    if parcel.next_hop.forwarding() != Forwarding::Tunnel {
        return Ok(Action::Egress);
    }
    let Some(tunnel) = TUNNELS.get(u32::from(parcel.server)) else { return Err(Reason::MapInconsistency) };
    let Some(kind) = tunnel.kind() else { return Err(Reason::MapInconsistency) };
    if parcel.length > tunnel.room(kind) {
        return Err(parcel::too_big(context.ctx, parcel, tunnel.told_mtu(kind, parcel.is_ipv4 != 0)));
    }
    let network = opaque(parcel.network as usize) & NETWORK_MASK;
    let inner = inner(&Packet::new(context), parcel, network, kind == Kind::Gue && !tunnel.is_ipv4());
    let Some(inner) = inner else { return Err(Reason::BadLength) };
    let bytes = network + parcel.length as usize;
    let mac = parcel.next_hop.mac();
    let sent = match tunnel.is_ipv4() {
        true => wrap::<true>(context.ctx, network, tunnel, kind, &inner, mac),
        false => wrap::<false>(context.ctx, network, tunnel, kind, &inner, mac),
    };
    sent?;
    if parcel.next_hop.has_egress() {
        return Ok(Action::Egress);
    }
    stats::forwarded(ServerId(parcel.server), bytes, parcel.opens != 0);
    Ok(Action::Transmit)
}

/// Sends a plain packet of a known connection to its server. `macs`: its own, and the next hop's.
/// Returns the packet's length from its IP header on; 0: nothing was done.
#[inline(always)]
pub fn send_plain<A: Family>(context: &XdpContext, server: ServerId, macs: [Mac; 2]) -> usize {
    let Some(tunnel) = TUNNELS.get(u32::from(server.0)) else { return 0 };
    // Not before the lookup, or all of it would be stored meanwhile.
    let packet = &Packet::new(context);
    let Some(flow) = &A::of_plain(packet) else { return 0 };
    let sent = match (tunnel.kind(), tunnel.is_ipv4()) {
        (Some(Kind::Ipip), true) => wrap_plain::<A, true>(packet, flow, tunnel, Kind::Ipip, macs),
        (Some(Kind::Gue), true) => wrap_plain::<A, true>(packet, flow, tunnel, Kind::Gue, macs),
        (Some(Kind::Ipip), false) => wrap_plain::<A, false>(packet, flow, tunnel, Kind::Ipip, macs),
        (Some(Kind::Gue), false) => wrap_plain::<A, false>(packet, flow, tunnel, Kind::Gue, macs),
        (Some(Kind::Gre), true) => wrap_plain::<A, true>(packet, flow, tunnel, Kind::Gre, macs),
        (Some(Kind::Gre), false) => wrap_plain::<A, false>(packet, flow, tunnel, Kind::Gre, macs),
        _ => None,
    };
    match sent {
        Some(()) => flow.total_length,
        None => 0,
    }
}

/// `kind` and `OUTER_IPV4` are the tunnel's. `None`: nothing was done.
#[inline(always)]
fn wrap_plain<A: Family, const OUTER_IPV4: bool>(
    packet: &Packet,
    flow: &Flow<A>,
    tunnel: &Tunnel,
    kind: Kind,
    [own, to]: [Mac; 2],
) -> Option<()> {
    let (length, is_ipv4) = (flow.total_length as u32, size_of::<A>() == size_of::<V4>());
    let room = kind.overhead(OUTER_IPV4);
    if length + room as u32 > tunnel.mtu {
        return None;
    }
    let word = u16::from_be(packet.read::<u16>(NETWORK)?);
    let sum = match kind {
        Kind::Gue if !OUTER_IPV4 => tunnel::inner_sum(packet, is_ipv4, NETWORK, NETWORK + A::LENGTH, length),
        _ => None,
    };
    let class = if is_ipv4 { word as u8 } else { (word >> 4) as u8 };
    // The flow label, a port, or some bits of the source have it.
    let is_hashed = !OUTER_IPV4 || kind == Kind::Gue || tunnel.source_mask != 0;
    // Before room is made: what it is made of would be stored meanwhile.
    let hash = if is_hashed { opaque(tunnel::flow_hash(flow) as usize) as u32 } else { 0 };
    let inner = Inner { is_ipv4, class, length, hash, sum };
    let context = packet.context().ctx;
    // SAFETY: the context is the one that the kernel handed to this program.
    if unsafe { bpf_xdp_adjust_head(context, -(room as i32)) } != 0 {
        return None;
    }
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    // So much is there whatever the kind: the inner packet's headers are behind the outer ones.
    let frame = match OUTER_IPV4 {
        true => packet.at::<[u16; NETWORK / 2 + MAX_WORDS_V4 * 2]>(0)?.cast::<u16>(),
        false => packet.at::<[u16; NETWORK / 2 + MAX_WORDS * 2]>(0)?.cast::<u16>(),
    };
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    let words = unsafe {
        direct::write_at((frame.cast(), frame.add(4).cast()), own, to);
        *frame.add(6) = if OUTER_IPV4 { 0x0800u16 } else { 0x86dd }.to_be();
        frame.add(7).cast::<u32>()
    };
    tunnel::write::<OUTER_IPV4>(tunnel, kind, &inner, |number, word| {
        // SAFETY: `write` numbers no more words than `at` has checked.
        unsafe { *words.add(number) = word };
    });
    Some(())
}

/// What the outer headers tell of the packet.
#[inline(always)]
fn inner(packet: &Packet, parcel: &Parcel, network: usize, summed: bool) -> Option<Inner> {
    let is_ipv4 = parcel.is_ipv4 != 0;
    let word = u16::from_be(packet.read::<u16>(network)?);
    let transport = opaque(parcel.transport as usize) & TRANSPORT_MASK;
    let sum = match summed {
        true => tunnel::inner_sum(packet, is_ipv4, network, transport, parcel.length),
        false => None,
    };
    let class = if is_ipv4 { word as u8 } else { (word >> 4) as u8 };
    Some(Inner { is_ipv4, class, length: parcel.length, hash: parcel.hash, sum })
}

/// Makes room before the packet and writes the outer headers there.
#[inline(always)]
fn wrap<const OUTER_IPV4: bool>(
    context: *mut xdp_md,
    network: usize,
    tunnel: &Tunnel,
    kind: Kind,
    inner: &Inner,
    mac: Mac,
) -> Result<(), Reason> {
    let room = kind.overhead(OUTER_IPV4);
    // SAFETY: the context is the one that the kernel handed to this program.
    if unsafe { bpf_xdp_adjust_head(context, -(room as i32)) } != 0 {
        return Err(Reason::TooBigSilently);
    }
    written::<OUTER_IPV4>(context, network, tunnel, kind, inner, mac).ok_or(Reason::BadLength)
}

#[inline(always)]
fn written<const OUTER_IPV4: bool>(
    context: *mut xdp_md,
    network: usize,
    tunnel: &Tunnel,
    kind: Kind,
    inner: &Inner,
    mac: Mac,
) -> Option<()> {
    let seen = XdpContext::new(context);
    let packet = Packet::new(&seen);
    let room = opaque(kind.overhead(OUTER_IPV4)) & 63;
    direct::write(&packet, control(), mac).ok()?;
    if network > 14 {
        answer::move_tags(&packet, network, room)?;
    }
    // The EtherType and the outer headers. The inner packet's are behind them: so much is there
    // whatever the kind.
    let at = opaque(network - 2) & NETWORK_MASK;
    let ethertype = match OUTER_IPV4 {
        true => packet.at::<[u16; 1 + MAX_WORDS_V4 * 2]>(at)?.cast::<u16>(),
        false => packet.at::<[u16; 1 + MAX_WORDS * 2]>(at)?.cast::<u16>(),
    };
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    let words = unsafe {
        *ethertype = if OUTER_IPV4 { 0x0800u16 } else { 0x86dd }.to_be();
        ethertype.add(1).cast::<u32>()
    };
    tunnel::write::<OUTER_IPV4>(tunnel, kind, inner, |number, word| {
        // SAFETY: `write` numbers no more words than `at` has checked.
        unsafe { *words.add(number) = word };
    });
    Some(())
}
