//! Packets of services that directors of the cluster serve themselves: which of them another director has sent, and why.
//! The rule is `lb_common::peer`.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::frame::Flow;
use lb_common::lease::Slot;
use lb_common::peer::{self, Facts, MARK, Sender};
use lb_common::probe;

use crate::maps::{CONTROL, DIRECTORS};
use crate::packet::Packet;
use crate::{forward, header, lease, unknown_to_the_compiler};

/// Whose the packet is. The mark is gone then.
#[inline(always)]
pub fn sender(packet: &Packet, flow: &Flow, slot: Slot, host_serves: bool, now_ns: u64) -> Sender {
    let probe = flow.ttl == probe::TTL;
    let flags = u64::from(host_serves) << 1 | u64::from(probe);
    let port = u64::from(flow.source_port);
    let network = flow.network as u64;
    match judge(packet.context(), network << 32 | port << 16 | flags, u64::from(slot.number()), now_ns) {
        1 => Sender::Relay,
        2 => Sender::Balancer,
        _ => Sender::Client,
    }
}

/// A function of its own, so that the verifier forgets on return what was looked at. `what` is as packed above.
#[inline(never)]
fn judge(context: *mut xdp_md, what: u64, slot: u64, now_ns: u64) -> u32 {
    let context = &XdpContext::new(context);
    let packet = &Packet::new(context);
    // The compiler knows the bound from the caller and would leave the mask out; the verifier of 6.1 has lost it by then.
    let network = unknown_to_the_compiler((what >> 32) as usize) & 31;
    let (Some(control), Ok(source)) = (CONTROL.get(0), forward::source(packet)) else { return 0 };
    let slot = Slot::from_number(slot as u8);
    let from_partner = lease::relay(control, slot, now_ns) == Some(source);
    let Some(fragment) = header::word(packet, network, header::FRAGMENT) else { return 0 };
    let facts = Facts {
        from_partner,
        from_director: from_partner || is_director(source),
        balances: lease::balances(control, slot, now_ns),
        serves_on: lease::serves_on(control, slot, now_ns),
        ungrouped: slot == Slot::UNGROUPED,
        probe: what & 1 != 0 && crate::probe::ports(control).contain((what >> 16) as u16),
        marked: fragment & MARK != 0,
        host_serves: what & 2 != 0,
    };
    let sender = peer::sender(facts);
    if facts.marked && sender != Sender::Client {
        mark(packet, network, false);
    }
    sender as u32
}

#[inline(always)]
fn is_director(mac: u64) -> bool {
    // SAFETY: the value is not looked at.
    unsafe { DIRECTORS.get(&mac) }.is_some()
}

/// Whether another director relays the packet, and this one serves on although its lease is over.
/// For services whose servers are no directors, where relayed packets bear no mark.
#[inline(always)]
pub fn relays(packet: &Packet, slot: Slot, now_ns: u64) -> bool {
    forward::source(packet).is_ok_and(|source| relays_from(source, u64::from(slot.number()), now_ns) != 0)
}

/// A function of its own, and of numbers alone, so that the verifier forgets on return what was
/// looked at.
#[inline(never)]
fn relays_from(source: u64, slot: u64, now_ns: u64) -> u32 {
    let Some(control) = CONTROL.get(0) else { return 0 };
    u32::from(lease::serves_on(control, Slot::from_number(slot as u8), now_ns) && is_director(source))
}

/// Sets the mark of packets for the other director of a hand-over, or takes it away.
#[inline(always)]
pub fn mark(packet: &Packet, network: usize, set: bool) {
    let Some(word) = header::word(packet, network, header::FRAGMENT) else { return };
    header::set_word(packet, network, header::FRAGMENT, if set { word | MARK } else { word & !MARK });
}
