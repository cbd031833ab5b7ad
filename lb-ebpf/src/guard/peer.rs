//! Packets of services that directors of the cluster serve themselves: which of them another director has sent, and why.
//! The rule is `lb_common::peer`.

use aya_ebpf::bindings::xdp_md;
use lb_common::lease::GroupIndex;
use lb_common::peer::{self, Facts, Sender};
use lb_common::probe;

use super::lease;
use crate::context::Context;
use crate::family::Family;
use crate::forward::direct;
use crate::lookup::connection::Found;
use crate::maps::{CONTROL, DIRECTORS};
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};

/// Whose the packet is. The mark is gone then.
#[inline(always)]
pub fn sender<A: Family>(context: &Context<A>, found: &Found<A>) -> Sender {
    let Context { packet, flow, now_ns, .. } = context;
    let probe = flow.ttl == probe::TTL;
    let flags = u64::from(found.is_served_here()) << 1 | u64::from(probe);
    let port = u64::from(flow.source_port);
    let offsets = (flow.network as u64) << 16 | flow.transport as u64;
    let group = u64::from(found.group().number());
    match judge::<A>(packet.context().ctx, offsets << 32 | port << 16 | flags, group, *now_ns) {
        1 => Sender::Relay,
        2 => Sender::Balancer,
        _ => Sender::Client,
    }
}

/// A function of its own, so that the verifier forgets on return what was looked at. `what` is as packed above.
#[inline(never)]
fn judge<A: Family>(context: *mut xdp_md, what: u64, group: u64, now_ns: u64) -> u32 {
    let context = &packet::context(context);
    let packet = &Packet::new(context);
    // The compiler knows the bound from the caller and would leave the mask out; the verifier of 6.1 has lost it by then.
    let network = opaque((what >> 48) as usize) & 31;
    let transport = opaque((what >> 32) as usize) & A::TRANSPORT_MASK;
    let (Some(control), Ok(source)) = (CONTROL.get(0), direct::source_mac(packet)) else { return 0 };
    let group = GroupIndex::from_number(group as u8);
    let from_partner = lease::relay(control, group, now_ns) == Some(source);
    let Some(marked) = A::is_marked(packet, network, transport) else { return 0 };
    let facts = Facts {
        from_partner,
        // SAFETY: the value is not looked at.
        from_director: from_partner || unsafe { DIRECTORS.get(&source) }.is_some(),
        balances: lease::balances(control, group, now_ns),
        ungrouped: group == GroupIndex::UNGROUPED,
        probe: what & 1 != 0 && super::probe::ports(control).contain((what >> 16) as u16),
        marked,
        host_serves: what & 2 != 0,
    };
    let sender = peer::sender(facts);
    if facts.marked && sender != Sender::Client {
        A::set_mark(packet, network, transport, false);
    }
    sender as u32
}
