//! A packet that has no hop left where the director is one: its sender is told, as by any router,
//! so that routes through the director can be traced.

use aya_ebpf::bindings::xdp_md;
use lb_common::addr::{V4, V6};
use lb_common::packet::frame::Head;
use lb_common::reason::Reason;
use lb_common::server::ServerId;
use lb_common::service::refusal;

use crate::answer::{self, From, FromV6, ICMP, IP, IPV6};
use crate::family::Family;
use crate::forward::parcel::NETWORK_MASK;
use crate::maps;
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};

/// Time exceeded, in transit.
const TIME_EXCEEDED: u16 = 0x0b00;
const TIME_EXCEEDED_V6: u16 = 0x0300;
/// What is quoted: the IP header, and 8 bytes behind it.
const WORDS: usize = (IP + ICMP + IP + 8) / 4;
const WORDS_V6: usize = (IPV6 + ICMP + IPV6 + 8) / 4;

/// Why a packet from or to this server that has no hop left is not sent on. The answer is the
/// packet itself then, in the name of the server's VIP.
#[inline(always)]
pub fn refuse<A: Family>(packet: &Packet, head: &Head<A>, server: ServerId) -> Reason {
    let length = if size_of::<A>() == size_of::<V4>() { IP } else { IPV6 };
    // Options are rare enough to leave their senders without an answer; a later fragment and an
    // error must not be answered (RFC 1122, section 3.2.2), and nobody sends a packet without hops.
    if head.ttl == 0
        || head.upper != head.network + length
        || head.is_later_fragment()
        || head.is_error(packet)
    {
        return Reason::TtlExpired;
    }
    let told = match length {
        IP => lb_time_exceeded(packet.context().ctx, head.network as u32, server.0.into()),
        _ => lb_time_exceeded_v6(packet.context().ctx, head.network as u32, server.0.into()),
    };
    if told == 0 { Reason::TtlExpired } else { Reason::TtlAnswered }
}

/// 0: nothing is sent. Global for the verifier's sake, see [`crate::schedule::lb_pick`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_time_exceeded(context: *mut xdp_md, network: u32, server: u32) -> u32 {
    u32::from(tell_v4(context, network as usize, server).is_some())
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_time_exceeded_v6(context: *mut xdp_md, network: u32, server: u32) -> u32 {
    u32::from(tell_v6(context, network as usize, server).is_some())
}

#[inline(always)]
fn tell_v4(context: *mut xdp_md, network: usize, server: u32) -> Option<()> {
    let vip = V4::of_this(&maps::server(ServerId(server as u16)).service.address);
    let network = opaque(network) & NETWORK_MASK;
    let mut from = From::of(&Packet::new(&packet::context(context)), network)?;
    if !refusal::may_answer(from.client) || !answer::is_due() {
        return None;
    }
    from.vip = vip;
    answer::icmp_from::<WORDS>(&from, context, network, TIME_EXCEEDED, 0)
}

#[inline(always)]
fn tell_v6(context: *mut xdp_md, network: usize, server: u32) -> Option<()> {
    let vip: V6 = maps::server(ServerId(server as u16)).service.address;
    let network = opaque(network) & NETWORK_MASK;
    let mut from = FromV6::of(&Packet::new(&packet::context(context)), network)?;
    if !refusal::may_answer_v6(from.client) || !answer::is_due() {
        return None;
    }
    from.vip = vip;
    answer::icmpv6_from::<WORDS_V6>(&from, context, network, TIME_EXCEEDED_V6, 0)
}
