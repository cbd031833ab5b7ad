//! What servers send that are reached by address translation: it goes to the client with the VIP
//! and the service's port as its source, and the connection takes its step. ICMP errors about
//! packets to such servers, and fragments, belong to it.
//!
//! What is none of all this is the host's, which may be a router, too.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::connection::Tick;
use lb_common::control::Control;
use lb_common::frame::{self, Flow, Head};
use lb_common::reason::Reason;
use lb_common::server::{ServerEntry, ServerId};
use lb_common::service::ServiceInfo;
use lb_common::stage::Stage;

use super::call_for;
use super::related::{by_lease, check, host, with_forgotten};
use super::slow::the_hosts;
use crate::context::Context;
use crate::family::Family;
use crate::forward::Action;
use crate::forward::nat::{self, End, New, Quoted};
use crate::guard::lease;
use crate::lookup::connection::{self, Decision, Found};
use crate::lookup::{backend, fragment};
use crate::maps::{CONTROL, SERVERS, TRANSLATIONS};
use crate::sys::clock::lb_now;
use crate::sys::packet::Packet;
use crate::trace;

/// A packet with ports. Returns the XDP action.
#[inline(always)]
pub fn take<A: Family>(context: &XdpContext) -> u32 {
    with_head::<A>(context, send_answer)
}

/// A packet that belongs to another one: an ICMP error, a later fragment. A program of its own, for
/// the verifier's sake. Returns the XDP action.
#[inline(always)]
pub fn take_related<A: Family>(context: &XdpContext) -> u32 {
    with_head::<A>(context, |packet, control, head| match head.is_later_fragment() {
        true => send_fragment(packet, control, head),
        false => send_error(packet, control, head),
    })
}

#[inline(always)]
fn with_head<A: Family>(
    context: &XdpContext,
    send: impl FnOnce(Packet, &'static Control, Head<A>) -> Result<Action, Reason>,
) -> u32 {
    let packet = Packet::new(context);
    let (Some(link), Some(control)) = (frame::link(&packet), CONTROL.get(0)) else {
        return xdp_action::XDP_PASS;
    };
    match A::head(&packet, link.network()) {
        Some(head) => {
            let head = with_forgotten(head, A::TRANSPORT_MASK);
            match send(packet, control, head) {
                Err(Reason::FragmentUnknown) => call_for(context, Stage::Hold, Reason::FragmentUnknown),
                result => trace::finish(result),
            }
        }
        None => xdp_action::XDP_PASS,
    }
}

/// Sends a packet of a server to its client.
#[inline(always)]
fn send_answer<A: Family>(
    packet: Packet,
    control: &'static Control,
    head: Head<A>,
) -> Result<Action, Reason> {
    let Some(sent) = head.own_flow(&packet) else { return host(&packet, head.destination) };
    let Some((id, server)) = server_of(&sent) else { return the_hosts(&packet, control, &sent) };
    let context = &Context { packet, control, flow: turned(&sent, server, &head), now_ns: lb_now() };
    let Context { packet, flow, now_ns, .. } = context;
    let Some((found, decision)) = connection_of(context, id)? else {
        return host(packet, head.destination);
    };
    trace::begin(packet, flow);
    trace::answered(&decision);
    check(context)?;
    let flags = frame::check(packet, flow)?;
    if let Some(action) = by_lease(context, &found)? {
        return Ok(action);
    }
    let to = way(&head)?;
    found.answered(flags, lease::generation(control, found.group()), Tick::from_ns(*now_ns));
    if let Some(piece) = head.first_piece() {
        fragment::remember(&head.key(), piece, flow, &decision, *now_ns);
    }
    let vip = New { address: flow.destination, port: flow.destination_port };
    nat::forward(packet, &head, None, End::Source, &vip, to)?;
    Ok(Action::Transmit)
}

/// Sends an ICMP error about a packet of a client to that client. Nothing is learnt from it,
/// because anybody can send one.
#[inline(always)]
fn send_error<A: Family>(packet: Packet, control: &'static Control, head: Head<A>) -> Result<Action, Reason> {
    let Some((sent, quoted)) = about(&packet, &head) else { return host(&packet, head.destination) };
    let Some((id, server)) = server_of(&sent) else { return host(&packet, head.destination) };
    if !backend::is_connected(id, sent.destination.mapped(), sent.destination_port) {
        return host(&packet, head.destination);
    }
    let context = &Context { packet, control, flow: turned(&sent, server, &head), now_ns: lb_now() };
    may_go_back(context, &head, id, server)?;
    let to = way(&head)?;
    nat::forward(&context.packet, &head, Some(&quoted), End::Source, &vip(server), to)?;
    Ok(Action::Transmit)
}

/// Whether what belongs to a connection goes to the client: under the lease of the service, or
/// while that is lapsing, as connections do that outlive it.
#[inline(always)]
fn may_go_back<A: Family>(
    context: &Context<A>,
    head: &Head<A>,
    id: ServerId,
    server: &ServerEntry,
) -> Result<(), Reason> {
    trace::begin_related(head);
    let next_hop = server.next_hop.get();
    trace::answered(&Decision { server: id, next_hop, opens: false, without_entry: false });
    check(context)?;
    let group = server.service.group;
    if !lease::balances(context.control, group, context.now_ns) {
        let refusal = lease::read(context.control, group).refusal(context.now_ns);
        if refusal != Reason::LeaseLapsed || server.service.has(ServiceInfo::DIRECTOR_SERVES) {
            return Err(refusal);
        }
    }
    Ok(())
}

/// What an ICMP error is about, as if the server had sent it: a packet of the client that the error
/// goes to.
#[inline(always)]
fn about<A: Family>(packet: &Packet, head: &Head<A>) -> Option<(Flow<A>, Quoted<A>)> {
    let quoted = nat::quoted(packet, head)?;
    (quoted.source == head.destination).then_some(())?;
    let sent = Flow {
        source: quoted.destination,
        destination: head.destination,
        source_port: quoted.destination_port,
        destination_port: quoted.source_port,
        protocol: quoted.protocol(),
        ttl: head.ttl,
        network: head.network,
        transport: head.upper,
        total_length: head.total_length,
    };
    Some((sent, quoted))
}

/// The connection, if this server has it.
#[inline(always)]
fn connection_of<A: Family>(
    context: &Context<A>,
    server: ServerId,
) -> Result<Option<(Found<A>, Decision)>, Reason> {
    Ok(connection::look_up(context)?.and_then(|found| {
        let decision = found.known().filter(|decision| decision.server == server)?;
        Some((found, decision))
    }))
}

/// Sends a later fragment of a server after the first one of its datagram.
#[inline(always)]
fn send_fragment<A: Family>(
    packet: Packet,
    control: &'static Control,
    head: Head<A>,
) -> Result<Action, Reason> {
    let now_ns = lb_now();
    let key = head.key();
    // It may be for one of our services, and then its first one may still come.
    let others = |packet: &Packet| {
        let action = host(packet, head.destination)?;
        if control.vips.may_contain(head.destination) { Err(Reason::FragmentUnknown) } else { Ok(action) }
    };
    let Some((trail, datagram)) = fragment::trail(&key, now_ns) else { return others(&packet) };
    let id = datagram.server();
    let (Some(server), Some(translation)) = (SERVERS.get(id.0.into()), TRANSLATIONS.get(id.0.into())) else {
        return others(&packet);
    };
    if translation.address != head.source.mapped() {
        // The server's number has become another one's.
        return others(&packet);
    }
    let context = &Context { packet, control, flow: head.flow_of(datagram), now_ns };
    may_go_back(context, &head, id, server)?;
    fragment::note(trail, head.piece()?)?;
    let to = way(&head)?;
    nat::forward_later(&context.packet, &head, End::Source, &vip(server), to)?;
    Ok(Action::Transmit)
}

/// The server that has sent this, if it is one that is reached by address translation.
#[inline(always)]
fn server_of<A: Family>(sent: &Flow<A>) -> Option<(ServerId, &'static ServerEntry)> {
    let id = backend::find(sent)?;
    SERVERS.get(u32::from(id.0)).map(|server| (id, server))
}

/// What the connection table knows the connection by: what its client sends. The offsets are those
/// of the packet that has come.
#[inline(always)]
fn turned<A: Family>(sent: &Flow<A>, server: &ServerEntry, head: &Head<A>) -> Flow<A> {
    let vip = vip(server);
    Flow {
        source: sent.destination,
        destination: vip.address,
        source_port: sent.destination_port,
        destination_port: vip.port,
        protocol: sent.protocol,
        ttl: head.ttl,
        network: head.network,
        transport: head.upper,
        total_length: head.total_length,
    }
}

/// What becomes the source.
#[inline(always)]
fn vip<A: Family>(server: &ServerEntry) -> New<A> {
    New { address: A::of_this(&server.service.address), port: server.service.port_and_protocol as u16 }
}

/// The MAC of the next hop to the client, if the packet has hops left.
#[inline(always)]
fn way<A: Family>(head: &Head<A>) -> Result<lb_common::mac::Mac, Reason> {
    if head.ttl < 2 {
        return Err(Reason::TtlExpired);
    }
    nat::way_to(head.destination.mapped())
}
