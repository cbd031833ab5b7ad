//! Packets of services that directors of the cluster serve themselves: which of them another
//! director has sent, and why. The rule is `lb_common::forward::peer`.

use aya_ebpf::bindings::xdp_md;
use lb_common::forward::peer::{self, Facts, Sender};
use lb_common::lease::GroupIndex;
use lb_common::mac::Mac;
use lb_common::program::probe;
use lb_common::service::Protocol;

use super::lease;
use crate::context::Context;
use crate::family::Family;
use crate::forward::direct;
use crate::lookup::connection::Found;
use crate::maps::{DIRECTORS, control};
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};

/// Whose the packet is. The mark is gone then. Only TCP packets are relayed, so no other bears one.
#[inline(always)]
pub fn sender<A: Family>(context: &Context<A>, found: &Found<A>) -> Sender {
    let flow = &context.flow;
    let unmarked = u64::from(flow.protocol == Protocol::Udp) * UNMARKED;
    sender_by(context, found, u64::from(flow.ttl == probe::TTL) | unmarked)
}

/// The same of a packet that is never relayed where directors are real servers: no mark is looked
/// for, and it is no probe.
#[inline(always)]
pub fn sender_of_unmarked<A: Family>(context: &Context<A>, found: &Found<A>) -> Sender {
    sender_by(context, found, UNMARKED)
}

/// Flags of [`judge`], besides that of a probe.
const SERVED_HERE: u64 = 2;
const UNMARKED: u64 = 4;

#[inline(always)]
fn sender_by<A: Family>(context: &Context<A>, found: &Found<A>, flags: u64) -> Sender {
    let Context { packet, flow, now_ns, .. } = context;
    let flags = flags | if found.is_served_here() { SERVED_HERE } else { 0 };
    let port = u64::from(flow.source_port);
    let offsets = (flow.network as u64) << 16 | flow.transport as u64;
    let group = u64::from(found.group().number());
    match judge::<A>(packet.context().ctx, offsets << 32 | port << 16 | flags, group, *now_ns) {
        1 => Sender::Relay,
        2 => Sender::Balancer,
        _ => Sender::Client,
    }
}

/// A function of its own, so that the verifier forgets on return what was looked at. `what` is as
/// packed above.
#[inline(never)]
fn judge<A: Family>(context: *mut xdp_md, what: u64, group: u64, now_ns: u64) -> u32 {
    let context = &packet::context(context);
    let packet = &Packet::new(context);
    // The compiler knows the bound from the caller and would leave the mask out; the verifier of
    // 6.1 has lost it by then.
    let network = opaque((what >> 48) as usize) & 31;
    let transport = opaque((what >> 32) as usize) & A::TRANSPORT_MASK;
    let (control, Ok(source)) = (control(), direct::source_mac(packet)) else { return 0 };
    let group = GroupIndex::from_number(group as u8).guarded(false);
    let from_partner = lease::relay(control, group, now_ns) == Some(source);
    let marked = match what & UNMARKED {
        0 => A::is_marked(packet, network, transport),
        _ => Some(false),
    };
    let Some(marked) = marked else { return 0 };
    let facts = Facts {
        from_partner,
        from_director: from_partner || is_director(source),
        balances: lease::balances(control, group, now_ns),
        serves_on: lease::serves_on(control, group, now_ns),
        ungrouped: group == GroupIndex::UNGROUPED,
        probe: what & 1 != 0 && super::probe::ports(control).contain((what >> 16) as u16),
        marked,
        host_serves: what & SERVED_HERE != 0,
    };
    let sender = peer::sender(facts);
    if facts.marked && sender != Sender::Client {
        A::set_mark(packet, network, transport, false);
    }
    sender as u32
}

#[inline(always)]
pub fn is_director(mac: Mac) -> bool {
    // SAFETY: the value is not looked at.
    unsafe { DIRECTORS.get(&mac) }.is_some()
}

/// Whether another director relays the packet, and this one serves on although its lease is over.
/// For services whose servers are no directors, where relayed packets bear no mark.
#[inline(always)]
pub fn relays(packet: &Packet, group: GroupIndex, now_ns: u64) -> bool {
    let source = direct::source_mac(packet);
    source.is_ok_and(|source| relays_from(source, u64::from(group.number()), now_ns) != 0)
}

/// A function of its own, and of numbers alone, so that the verifier forgets on return what was
/// looked at.
#[inline(never)]
fn relays_from(source: Mac, group: u64, now_ns: u64) -> u32 {
    let group = GroupIndex::from_number(group as u8);
    u32::from(lease::serves_on(control(), group, now_ns) && is_director(source))
}
