//! The fast way of nearly every packet: a plain frame of a connection that is established, stands
//! in its first line and needs no write, to a server without exceptions. For a server whose
//! packets another program sends the decision is made here, too, and a service with several ports
//! has its packets sent from here. Whatever else comes is left to the slow way, untouched.
//!
//! A packet that opens a connection has one of its own, [`super::open`].
//!
//! The fast way exists for speed alone: few values are alive at a time, so fewer are spilled. It
//! took a known connection from 60 to 49 ns here (MAC swap: 23).

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use lb_common::connection::{self, Entry, Tick};
use lb_common::control::Control;
use lb_common::frame::{Flow, Plain};
use lb_common::server::{Forwarding, ServerEntry};
use lb_common::service::Protocol;
use lb_common::stage::Stage;
use lb_common::table::{self, Place};

use super::{call, open};
use crate::family::Family;
use crate::forward::{direct, parcel};
use crate::guard::{lease, probe};
use crate::lookup::table::MapPage;
use crate::maps::{CONTROL, SERVERS};
use crate::stats;
use crate::sys::clock::now_ns;
use crate::sys::packet::{self, Packet};

/// The packet's XDP action; `None`: nothing was done, take the slow way.
#[inline(always)]
pub fn take<A: Family>(context: &XdpContext) -> Option<u32> {
    let packet = Packet::new(context);
    let plain = A::plain(&packet)?;
    let control = CONTROL.get(0)?;
    let flow = match plain {
        Plain::GoesOn(flow) => flow,
        Plain::Opens(flow) if control.vips.may_contain(flow.destination) => {
            return open::take(packet, control, flow);
        }
        Plain::Opens(flow) => return to_no_vip(&packet, control, &flow),
    };
    if !control.vips.may_contain(flow.destination) {
        return to_no_vip(&packet, control, &flow);
    }
    // Twice the same, so that each protocol's constants are none of the other's.
    match flow.protocol {
        Protocol::Tcp => known(&packet, control, Flow { protocol: Protocol::Tcp, ..flow }),
        Protocol::Udp => known(&packet, control, Flow { protocol: Protocol::Udp, ..flow }),
    }
}

/// What no service is for; a server may have sent it that is reached by address translation.
#[inline(always)]
fn to_no_vip<A: Family>(packet: &Packet, control: &Control, flow: &Flow<A>) -> Option<u32> {
    if control.translated.may_contain(flow.source) {
        return Some(call(packet.context(), A::TRANSLATE_BACK));
    }
    let pass = !A::GUARDS_HOST && !probe::ports(control).contain(flow.destination_port);
    pass.then_some(xdp_action::XDP_PASS)
}

/// A packet whose connection is perhaps known.
#[inline(always)]
fn known<A: Family>(packet: &Packet, control: &'static Control, flow: Flow<A>) -> Option<u32> {
    let context = packet.context();
    let place = Place::of(&flow, control.hash_keys, A::page_mask(control));
    let entry = table::find_in_first_line(&MapPage::<A>::get(place.page)?, &place, flow.key())?;

    let server = SERVERS.get(u32::from(entry.server().0))?;
    let next_hop = server.next_hop.get();
    let ours = direct::destination_mac(packet) == Some(control.mac.get());
    if !ours || !next_hop.is_plain() || !server.service.serves(&flow.service()) {
        return match exceptional::<A>(context.ctx, server, entry.0) {
            SLOW_WAY => None,
            HANDED_ON => Some(call(context, Stage::Encapsulate)),
            TRANSLATED => Some(call(context, A::TRANSLATE)),
            action => Some(action),
        };
    }
    if !needs_no_write(control, server, entry, flow.protocol) {
        return None;
    }
    if !direct::rewrite_plain(packet, control, next_hop.mac()) {
        return None;
    }
    stats::forwarded(entry.server(), flow.network + flow.total_length, false);
    Some(xdp_action::XDP_TX)
}

/// Whether the lease holds and the packet leaves its connection's entry as it is.
#[inline(always)]
fn needs_no_write(control: &Control, server: &ServerEntry, entry: Entry, protocol: Protocol) -> bool {
    let now = now_ns(control);
    let state = connection::steady(protocol);
    let timeout = server.service.timeouts[state.timeout_index()];
    let group = server.service.group;
    lease::balances(control, group, now)
        && entry.is_settled(state, lease::generation(control, group), Tick::from_ns(now), timeout)
}

/// What [`exceptional`] returns besides an XDP action.
const SLOW_WAY: u32 = xdp_action::XDP_ABORTED;
const HANDED_ON: u32 = u32::MAX;
const TRANSLATED: u32 = u32::MAX - 1;

/// As [`take`] for a service with several ports, and for a server whose packets another program
/// sends, as far as the decision. A function of its own that asks all of it anew, so that packets
/// of other services do not know of it.
#[inline(never)]
fn exceptional<A: Family>(context: *mut xdp_md, server: &ServerEntry, entry: u64) -> u32 {
    let context = &packet::context(context);
    let entry = Entry(entry);
    let packet = &Packet::new(context);
    let (Some(control), Some(plain)) = (CONTROL.get(0), A::plain(packet)) else { return SLOW_WAY };
    let Some(flow) = plain.going_on() else { return SLOW_WAY };
    let next_hop = server.next_hop.get();
    let ours = direct::destination_mac(packet) == Some(control.mac.get());
    let handed_on = next_hop.is_plain_but_handed_on();
    if !ours || !(handed_on || next_hop.is_plain()) || !server.service.knows(&flow.service()) {
        return SLOW_WAY;
    }
    if !needs_no_write(control, server, entry, flow.protocol) {
        return SLOW_WAY;
    }
    if handed_on {
        parcel::leave(&flow, entry.server(), next_hop, false, false);
        let is_masq = matches!(next_hop.forwarding(), Forwarding::Masq);
        return if is_masq { TRANSLATED } else { HANDED_ON };
    }
    if !direct::rewrite_plain(packet, control, next_hop.mac()) {
        return SLOW_WAY;
    }
    stats::forwarded(entry.server(), flow.network + flow.total_length, false);
    xdp_action::XDP_TX
}
