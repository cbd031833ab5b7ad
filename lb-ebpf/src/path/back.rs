//! What servers send that are reached by address translation: it goes to the client with the VIP
//! and the service's port as its source, and the connection takes its step. ICMP errors about
//! packets to such servers, and fragments, belong to it.
//!
//! What is none of all this is the host's, which may be a router, too.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use lb_common::connection::Tick;
use lb_common::control::Control;
use lb_common::frame::{self, Flow, Head};
use lb_common::reason::Reason;
use lb_common::server::{ServerEntry, ServerId};
use lb_common::service::{Protocol, ServiceInfo};

use super::related::{QUOTE_MASK, by_lease, check, host, with_forgotten};
use super::slow::the_hosts;
use crate::context::Context;
use crate::family::Family;
use crate::forward::Action;
use crate::forward::nat::{self, End, New};
use crate::guard::lease;
use crate::lookup::connection::{self, Decision, Found};
use crate::lookup::{backend, fragment};
use crate::maps::{CONTROL, SERVERS, TRANSLATIONS};
use crate::sys::clock::lb_now;
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};
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
            trace::finish(send(packet, control, head))
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
    nat::forward(packet, &head, false, End::Source, &vip, to)?;
    Ok(Action::Transmit)
}

/// Sends an ICMP error about a packet of a client to that client. Nothing is learnt from it, because
/// anybody can send one.
#[inline(always)]
fn send_error<A: Family>(packet: Packet, control: &'static Control, head: Head<A>) -> Result<Action, Reason> {
    let Some(sent) = about(&packet, &head) else { return host(&packet, head.destination) };
    let Some((id, server)) = server_of(&sent) else { return host(&packet, head.destination) };
    let context = &Context { packet, control, flow: turned(&sent, server, &head), now_ns: lb_now() };
    let Context { packet, flow, .. } = context;
    let Some((found, decision)) = connection_of(context, id)? else {
        return host(packet, head.destination);
    };
    trace::begin_related(&head);
    trace::answered(&decision);
    check(context)?;
    if let Some(action) = by_lease(context, &found)? {
        return Ok(action);
    }
    let to = way(&head)?;
    let vip = New { address: flow.destination, port: flow.destination_port };
    nat::forward(packet, &head, true, End::Source, &vip, to)?;
    Ok(Action::Transmit)
}

/// Addresses and ports of the packet that an ICMP error quotes, which a client has sent.
#[repr(C)]
struct Quoted<A> {
    client: A,
    server: A,
    client_port: u16,
    server_port: u16,
    protocol: u32,
}

/// What an ICMP error is about, as if the server had sent it: a packet of the client that the error
/// goes to.
#[inline(always)]
fn about<A: Family>(packet: &Packet, head: &Head<A>) -> Option<Flow<A>> {
    let (client, server) = (head.destination, head.source);
    let mut quoted = Quoted { client, server, client_port: 0, server_port: 0, protocol: 0 };
    if read_quoted(packet.context().ctx, head.network, &mut quoted) == 0 {
        return None;
    }
    Some(Flow {
        source: quoted.server,
        destination: client,
        source_port: quoted.server_port,
        destination_port: quoted.client_port,
        protocol: if quoted.protocol == Protocol::Udp as u32 { Protocol::Udp } else { Protocol::Tcp },
        ttl: head.ttl,
        network: head.network,
        transport: head.upper,
        total_length: head.total_length,
    })
}

/// A function of its own, so that the verifier forgets what was looked at. 0: the error quotes no
/// packet of the client that it goes to.
#[inline(never)]
fn read_quoted<A: Family>(context: *mut xdp_md, network: usize, quoted: &mut Quoted<A>) -> u32 {
    let context = &packet::context(context);
    let packet = &Packet::new(context);
    let head = A::head(packet, opaque(network) & 31).map(|head| with_forgotten(head, A::TRANSPORT_MASK));
    let Some(head) = head else { return 0 };
    let quote = A::head(packet, head.quote()).map(|quote| with_forgotten(quote, QUOTE_MASK));
    let Some(flow) = quote.and_then(|quote| quote.own_flow(packet)) else { return 0 };
    if flow.transport + 4 > head.network + head.total_length || flow.source != head.destination {
        return 0;
    }
    *quoted = Quoted {
        client: flow.source,
        server: flow.destination,
        client_port: flow.source_port,
        server_port: flow.destination_port,
        protocol: flow.protocol as u32,
    };
    1
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
    let others = |packet: &Packet| host(packet, head.destination);
    let Some((trail, datagram)) = fragment::trail(&head.key(), now_ns) else { return others(&packet) };
    let id = datagram.server();
    let (Some(server), Some(translation)) = (SERVERS.get(id.0.into()), TRANSLATIONS.get(id.0.into())) else {
        return others(&packet);
    };
    if translation.address != head.source.mapped() {
        // The server's number has become another one's.
        return others(&packet);
    }
    let context = &Context { packet, control, flow: head.flow_of(datagram), now_ns };
    let Context { packet, .. } = context;
    trace::begin_related(&head);
    let decision =
        Decision { server: id, next_hop: server.next_hop.get(), opens: false, without_entry: false };
    trace::answered(&decision);
    check(context)?;
    // What is left of a datagram goes on like the connections that outlive a lease.
    let group = server.service.group;
    if !lease::balances(control, group, now_ns) {
        let refusal = lease::read(control, group).refusal(now_ns);
        if refusal != Reason::LeaseLapsed || server.service.has(ServiceInfo::DIRECTOR_SERVES) {
            return Err(refusal);
        }
    }
    fragment::note(trail, head.piece()?)?;
    let to = way(&head)?;
    nat::forward(packet, &head, false, End::Source, &vip(server), to)?;
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
