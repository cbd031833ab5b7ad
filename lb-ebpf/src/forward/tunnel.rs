//! Tunnels: the packet goes to its server inside another one. The rules and the headers are
//! `lb_common::tunnel`; here room is made for them.
//!
//! A program of its own, so that packets of direct routing know nothing of it.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Address, V4, V6};
use lb_common::frame::{Flow, Frame as _};
use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_common::refusal;
use lb_common::server::ServerId;
use lb_common::tunnel::{self, Inner, Kind, MAX_WORDS, MAX_WORDS_V4, Tunnel};

use super::{Action, direct};
use crate::maps::{CONTROL, PARCELS, TUNNELS};
use crate::sys::opaque;
use crate::sys::packet::Packet;
use crate::{answer, stats, trace};

/// A packet that goes into a tunnel, or to a server that is reached by address translation.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Parcel {
    /// Of the next hop.
    pub(super) mac: Mac,
    hash: u32,
    pub(super) server: u16,
    is_ipv4: u16,
    pub(super) network: u16,
    transport: u16,
    /// Of the IP packet, bytes.
    pub(super) length: u32,
    pub(super) opens: u32,
    /// It has come by the slow way.
    pub(super) is_slow: u32,
}

/// Offsets in the frame, and the numbers that the verifier may know of them.
pub(super) const NETWORK_MASK: usize = 31;
const TRANSPORT_MASK: usize = 0x1ff;

/// Destination unreachable, fragmentation needed.
const FRAGMENTATION_NEEDED: u16 = 0x0304;
/// Packet too big.
const PACKET_TOO_BIG: u16 = 0x0200;
/// What these errors are made of, words: their own headers, and so much of the packet that its
/// ports are in it whatever options it has.
const ERROR: usize = (20 + 8 + 60 + 8) / 4;
const ERROR_V6: usize = (40 + 8 + 128) / 4;

/// Tells [`take`], which is another program, what becomes of the packet.
#[inline(always)]
pub fn leave<A: Address>(flow: &Flow<A>, server: ServerId, mac: Mac, opens: bool, is_slow: bool) {
    let Some(parcel) = PARCELS.get_ptr_mut(0) else { return };
    let is_ipv4 = size_of::<A>() == size_of::<V4>();
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    unsafe {
        *parcel = Parcel {
            mac,
            hash: tunnel::flow_hash(flow),
            server: server.0,
            is_ipv4: u16::from(is_ipv4),
            network: flow.network as u16,
            transport: flow.transport as u16,
            length: flow.total_length as u32,
            opens: u32::from(opens),
            is_slow: u32::from(is_slow),
        };
    }
}

/// What [`leave`] has told.
#[inline(always)]
pub(super) fn left() -> Option<&'static Parcel> {
    // SAFETY: as in `leave`; nothing writes there before the packet's way ends.
    PARCELS.get_ptr_mut(0).map(|parcel| unsafe { &*parcel })
}

/// Sends the packet that [`leave`] has told of. Returns the XDP action.
#[inline(always)]
pub fn take(context: &XdpContext) -> u32 {
    trace::finish(send(context))
}

#[inline(always)]
fn send(context: &XdpContext) -> Result<Action, Reason> {
    let Some(parcel) = left() else { return Err(Reason::MapInconsistency) };
    let Some(tunnel) = TUNNELS.get(u32::from(parcel.server)) else { return Err(Reason::MapInconsistency) };
    let Some(kind) = tunnel.kind() else { return Err(Reason::MapInconsistency) };
    if parcel.length > tunnel.room(kind) {
        return Err(too_big(context.ctx, parcel, tunnel.told_mtu(kind, parcel.is_ipv4 != 0)));
    }
    let network = opaque(parcel.network as usize) & NETWORK_MASK;
    let inner = inner(&Packet::new(context), parcel, network, kind == Kind::Gue && !tunnel.is_ipv4());
    let Some(inner) = inner else { return Err(Reason::BadLength) };
    let bytes = network + parcel.length as usize;
    let sent = match tunnel.is_ipv4() {
        true => wrap::<true>(context.ctx, network, tunnel, kind, &inner, parcel.mac),
        false => wrap::<false>(context.ctx, network, tunnel, kind, &inner, parcel.mac),
    };
    sent?;
    stats::forwarded(ServerId(parcel.server), bytes, parcel.opens != 0);
    Ok(Action::Transmit)
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
    direct::write(&packet, CONTROL.get(0)?, mac).ok()?;
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

/// Tells the client what fits into the tunnel, as a router before it would: the packet is its own
/// answer then, if the reason is [`Reason::TooBig`]. So does a client that allows fragments hear of
/// it: none are made here.
#[inline(never)]
fn too_big(context: *mut xdp_md, parcel: &Parcel, mtu: u32) -> Reason {
    let network = opaque(parcel.network as usize) & NETWORK_MASK;
    let answered = match parcel.is_ipv4 != 0 {
        true => {
            may_answer(context, network)
                && answer::icmp::<ERROR>(context, network, FRAGMENTATION_NEEDED, mtu).is_some()
        }
        false => {
            may_answer_v6(context, network)
                && answer::icmpv6::<ERROR_V6>(context, network, PACKET_TOO_BIG, mtu).is_some()
        }
    };
    if answered { Reason::TooBig } else { Reason::TooBigSilently }
}

#[inline(always)]
fn may_answer(context: *mut xdp_md, network: usize) -> bool {
    let source = Packet::new(&XdpContext::new(context)).read::<V4>(network + 12);
    source.is_some_and(refusal::may_answer) && answer::is_due()
}

#[inline(always)]
fn may_answer_v6(context: *mut xdp_md, network: usize) -> bool {
    let source = Packet::new(&XdpContext::new(context)).read::<V6>(network + 8);
    source.is_some_and(refusal::may_answer_v6) && answer::is_due()
}
