//! Packets that belong to another one: an ICMP error goes where the packets of the connection go
//! that it is about, a later fragment where the first one of its datagram went.
//!
//! Programs of their own, so that the slow way stays as small as it is.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::control::Control;
use lb_common::forward::peer::Sender;
use lb_common::lease::{Decides, RETURNED_TTL};
use lb_common::packet::fragment::Datagram;
use lb_common::packet::frame::{self, Frame as _, Head};
use lb_common::program::stage::Stage;
use lb_common::reason::Reason;
use lb_common::server::ServerEntry;
use lb_common::table::connection::tcp_flags;

use crate::context::Context;
use crate::family::Family;
use crate::forward::{self, Action, direct, handover};
use crate::guard::{lease, neighbour, peer};
use crate::ingress;
use crate::lookup::connection::{self, Decision, Found};
use crate::lookup::fragment;
use crate::maps;
use crate::sys::clock::lb_now;
use crate::sys::forgotten;
use crate::sys::packet::Packet;
use crate::trace;

/// Returns the XDP action.
#[inline(always)]
pub fn take<A: Family>(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return xdp_action::XDP_PASS };
    match A::head(&packet, link.network()) {
        Some(head) => {
            let head = with_forgotten(head, A::TRANSPORT_MASK);
            match send::<A>(packet, maps::control(), head) {
                Err(reason @ (Reason::FragmentUnknown | Reason::FragmentScattered)) => {
                    super::call_for(context, Stage::Hold, reason)
                }
                result => super::finish::<A>(context, result),
            }
        }
        None => xdp_action::XDP_PASS,
    }
}

/// No offset in a quote exceeds this, which is the bound that the verifier sees.
pub(crate) const QUOTE_MASK: usize = 0x3ff;

/// As [`super::slow::with_offsets_forgotten`], and whether it is a fragment.
#[inline(always)]
pub(crate) fn with_forgotten<A: Family>(head: Head<A>, mask: usize) -> Head<A> {
    let unknown = head.total_length;
    Head {
        network: forgotten(head.network, unknown) & mask,
        upper: forgotten(head.upper, unknown) & mask,
        data: forgotten(head.data, unknown) & mask,
        fragment: forgotten(head.fragment, unknown),
        id: forgotten(head.id, unknown),
        ..head
    }
}

#[inline(always)]
fn send<A: Family>(packet: Packet, control: &'static Control, head: Head<A>) -> Result<Action, Reason> {
    if !control.vips.may_contain(head.destination) {
        return others(&packet, control, &head);
    }
    if head.is_later_fragment() {
        trace::begin_related(&head);
        send_fragment(packet, control, head)
    } else if head.is_error(&packet) {
        trace::begin_related(&head);
        send_error(packet, control, head)
    } else {
        send_first(packet, control, head)
    }
}

/// What is for none of our services is the host's, unless it belongs to a packet of a server that
/// is reached by address translation.
#[inline(always)]
fn others<A: Family>(packet: &Packet, control: &Control, head: &Head<A>) -> Result<Action, Reason> {
    // An error about a packet to such a server may come from any router.
    let translated = match head.is_later_fragment() {
        true => control.translated.may_contain(head.source),
        false => control.routes.get().count() != 0 && head.is_error(packet),
    };
    if translated { Ok(Action::RelatedBack) } else { host(packet, head.destination) }
}

/// What is for none of our services is the host's.
#[inline(always)]
pub(super) fn host<A: Family>(packet: &Packet, destination: A) -> Result<Action, Reason> {
    if A::GUARDS_HOST { neighbour::host(packet, &destination.mapped()) } else { Ok(Action::Pass) }
}

/// What of a packet of a service must be right.
#[inline(always)]
pub(super) fn check<A: Family>(context: &Context<A>) -> Result<(), Reason> {
    check_but_vlan(context)?;
    match ingress::is_foreign(context.packet.context(), context.flow.network) {
        true => Err(Reason::ForeignVlan),
        false => Ok(()),
    }
}

/// [`check`] of a packet of which more is known than that it may come from no other VLAN.
#[inline(always)]
pub(super) fn check_but_vlan<A: Family>(
    Context { packet, control, flow, .. }: &Context<A>,
) -> Result<(), Reason> {
    if direct::destination_mac(packet) != Some(control.mac.get()) {
        return Err(Reason::NotOurMac);
    }
    if flow.ttl == 0 {
        return Err(Reason::TtlExpired);
    }
    if packet.holds(flow.network + flow.total_length) { Ok(()) } else { Err(Reason::BadLength) }
}

/// Sends a packet that may be a first fragment to the server that the slow way has found.
#[inline(always)]
fn send_first<A: Family>(packet: Packet, control: &'static Control, head: Head<A>) -> Result<Action, Reason> {
    let (Some(flow), Some(decision)) = (head.own_flow(&packet), fragment::left()) else {
        // An ICMP message in fragments.
        return host(&packet, head.destination);
    };
    let context = &Context { packet, control, flow, now_ns: lb_now() };
    if let Some(piece) = head.first_piece() {
        fragment::remember(&head.key(), piece, &context.flow, &decision, context.now_ns);
    }
    if decision.server == Decision::HOST.server {
        return host(&context.packet, context.flow.destination);
    }
    forward::send(context, &decision)
}

/// Sends an ICMP error after the packets of its connection. Nothing is learnt from it, because
/// anybody can send one.
#[inline(always)]
fn send_error<A: Family>(packet: Packet, control: &'static Control, head: Head<A>) -> Result<Action, Reason> {
    let quote = A::head(&packet, head.quote()).map(|quote| with_forgotten(quote, QUOTE_MASK));
    let Some(flow) = quote.and_then(|quote| head.about(&packet, &quote)) else {
        return others(&packet, control, &head);
    };
    let context = &Context { packet, control, flow, now_ns: lb_now() };
    let Context { packet, .. } = context;
    let Some(found) = connection::look_up(context)? else {
        return others(packet, control, &head);
    };
    check(context)?;
    if let Some(action) = by_lease(context, &found, RETURNED_TTL)? {
        return Ok(action);
    }
    match found.known() {
        Some(decision) => {
            trace::found(&found);
            trace::decided(&decision);
            forward::send(context, &decision)
        }
        None => Err(Reason::IcmpUnknown),
    }
}

/// The rules of the slow way for a packet in mid-connection. `None`: it goes where the connection
/// table says. One that goes back to the director that it came from has at most `hops` left.
#[inline(always)]
pub(super) fn by_lease<A: Family>(
    context: &Context<A>,
    found: &Found<A>,
    hops: u8,
) -> Result<Option<Action>, Reason> {
    let Context { packet, control, flow, now_ns } = context;
    let group = found.group();
    let shared = found.is_served_by_a_director();
    if shared && peer::sender_of_unmarked(context, found) == Sender::Balancer {
        return Ok(Some(Action::Deliver(Reason::PeerBalanced)));
    }
    let over = !lease::balances(control, group, *now_ns);
    let outlived = over && !shared && lease::is_outlived(control, group, found.entry(), *now_ns);
    if over && !outlived && (shared || !peer::relays(packet, group, *now_ns)) {
        return Err(lease::read(control, group).refusal(*now_ns));
    }
    // Where directors are real servers a relayed packet bears a mark, for which an error has no
    // place in IPv6.
    let doubtful = found.is_doubtful(flow, tcp_flags::ACK, lease::generation(control, group));
    if doubtful && !shared && handover::relay(context, found, over, false, hops)? != Decides::This {
        return Ok(Some(Action::Transmit));
    }
    Ok(None)
}

/// Sends a later fragment after the first one of its datagram.
#[inline(always)]
fn send_fragment<A: Family>(
    packet: Packet,
    control: &'static Control,
    head: Head<A>,
) -> Result<Action, Reason> {
    let now_ns = lb_now();
    let key = head.key();
    let Some((trail, datagram)) = fragment::trail(&key, now_ns) else {
        if control.translated.may_contain(head.source) {
            return Ok(Action::RelatedBack);
        }
        // Its datagram may be for a port of the host's own.
        neighbour::host(&packet, &key.destination)?;
        return Err(Reason::FragmentUnknown);
    };
    if datagram.is_hosts() {
        // Which of them overlap is the host's affair.
        let _ = head.piece().and_then(|piece| fragment::note(trail, piece));
        return host(&packet, head.destination);
    }
    let Some(server) = server_of(&head, datagram) else {
        if control.translated.may_contain(head.source) {
            return Ok(Action::RelatedBack);
        }
        return host(&packet, head.destination).and(Err(Reason::FragmentUnknown));
    };
    let context = &Context { packet, control, flow: head.flow_of(datagram), now_ns };
    check(context)?;
    lease::goes_on(control, &server.service, now_ns)?;
    fragment::note(trail, head.piece()?)?;
    let next_hop = server.next_hop.get();
    let decision = Decision { server: datagram.server(), next_hop, opens: false, without_entry: false };
    trace::followed(&decision);
    forward::send(context, &decision)
}

/// The server that the first fragment went to. `None`: its number has become another one's.
#[inline(always)]
fn server_of<A: Family>(head: &Head<A>, datagram: Datagram) -> Option<&'static ServerEntry> {
    let server = maps::server(datagram.server());
    let address = head.flow_of(datagram).service();
    server.service.knows(&address).then_some(server)
}
