//! What servers send that are reached by address translation: it goes to the client with the VIP
//! and the service's port as its source, and the connection takes its step. ICMP errors about
//! packets to such servers, and fragments, belong to it.
//!
//! What is none of all this is the host's, which may be a router, too.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{V4, V6};
use lb_common::control::Control;
use lb_common::forward::egress::Egress;
use lb_common::lease::RETURNED_ANSWER_TTL;
use lb_common::packet::frame::{self, Flow, Head};
use lb_common::program::stage::Stage;
use lb_common::reason::Reason;
use lb_common::server::{ServerEntry, ServerId};
use lb_common::service::{Protocol, ServiceAddress, ServiceInfo};
use lb_common::table::connection::Tick;

use super::related::{self, by_lease, host, with_forgotten};
use super::slow::the_hosts;
use super::{call, call_for};
use crate::context::Context;
use crate::family::Family;
use crate::forward::nat::{self, End, New, Quoted, Way, expired};
use crate::forward::{Action, parcel};
use crate::guard::{lease, neighbour};
use crate::ingress;
use crate::lookup::backend::{self, Answer, Ports};
use crate::lookup::connection::{self, Decision, Found};
use crate::lookup::fragment;
use crate::lookup::service::lb_serves;
use crate::maps::{self, ANSWER, ANSWER_SIZE, EGRESSES};
use crate::sys::clock::lb_now;
use crate::sys::packet::{self, Packet};
use crate::trace;

/// A packet with ports. Returns the XDP action.
///
/// Functions, one after the other: each has the stack for itself.
#[inline(always)]
pub fn take<A: Family>(context: &XdpContext) -> u32 {
    let located = locate::<A>(context.ctx);
    let found = match located {
        GOES_ON => step::<A>(context.ctx),
        ALONE => step_alone::<A>(context.ctx),
        other => other,
    };
    match found {
        GOES_ON => finish(context, send_answer::<A>(context)),
        HOSTS => leave_to_host::<A>(context.ctx),
        action => action,
    }
}

/// What XDP does with the packet, which may go on where its VLAN changes.
#[inline(always)]
fn finish(context: &XdpContext, result: Result<Action, Reason>) -> u32 {
    if matches!(result, Ok(Action::Egress)) {
        return call(context, Stage::Egress);
    }
    trace::finish(result)
}

/// What [`locate`] and [`step`] return instead of an XDP action.
const GOES_ON: u32 = u32::MAX;
/// It belongs to no connection.
const HOSTS: u32 = u32::MAX - 1;
/// Its server's service schedules each datagram by itself, and remembers none.
const ALONE: u32 = u32::MAX - 2;

/// A server's packet on its way, in the per-CPU map `ANSWER`.
#[repr(C)]
struct State<A> {
    head: Head<A>,
    answer: Answer<A>,
    to: Way,
}

const _: () = assert!(size_of::<State<V6>>() <= ANSWER_SIZE * 8 && size_of::<State<V4>>() <= ANSWER_SIZE * 8);

#[inline(always)]
fn state<A: Family>() -> Option<&'static mut State<A>> {
    // SAFETY: a per-CPU value, aligned and large enough, that is written before it is read; XDP
    // programs do not interrupt each other on one CPU.
    ANSWER.get_ptr_mut(0).map(|state| unsafe { &mut *state.cast::<State<A>>() })
}

/// Whose packet it is.
#[inline(never)]
fn locate<A: Family>(context: *mut xdp_md) -> u32 {
    let context = &packet::context(context);
    let packet = Packet::new(context);
    let (Some(link), Some(state)) = (frame::link(&packet), state::<A>()) else {
        return xdp_action::XDP_PASS;
    };
    let Some(head) = A::head(&packet, link.network()) else { return xdp_action::XDP_PASS };
    let head = with_forgotten(head, A::TRANSPORT_MASK);
    let Some(answer) = head.own_flow(&packet).and_then(|sent| backend::find(&sent)) else { return HOSTS };
    (state.head, state.answer) = (head, answer);
    if maps::server(answer.server).service.has(ServiceInfo::EACH_DATAGRAM) { ALONE } else { GOES_ON }
}

/// The packet is the host's, and so is the rest of its datagram.
#[inline(never)]
fn leave_to_host<A: Family>(context: *mut xdp_md) -> u32 {
    let context = &packet::context(context);
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return xdp_action::XDP_PASS };
    let Some(head) = A::head(&packet, link.network()) else { return xdp_action::XDP_PASS };
    let head = with_forgotten(head, A::TRANSPORT_MASK);
    let Some(sent) = head.own_flow(&packet) else { return trace::finish(host(&packet, head.destination)) };
    if let Some(piece) = head.first_piece() {
        fragment::remember(&head.key(), piece, &sent, &Decision::HOST, lb_now());
    }
    trace::finish(the_hosts(&packet, maps::control(), &sent))
}

/// Lets the connection take its step.
#[inline(never)]
fn step<A: Family>(context: *mut xdp_md) -> u32 {
    let context = &packet::context(context);
    let Some(state) = state::<A>() else { return xdp_action::XDP_PASS };
    let result = match try_step::<A>(Packet::new(context), maps::control(), state) {
        Ok(Step::Sends) => return GOES_ON,
        Ok(Step::Hosts) => return HOSTS,
        Ok(Step::Ends(action)) => Ok(action),
        Err(reason) => Err(reason),
    };
    trace::finish(result)
}

/// What comes of a connection's step.
enum Step {
    /// The packet goes to its client.
    Sends,
    /// There is no such connection.
    Hosts,
    Ends(Action),
}

/// As [`step`], of a server whose datagrams belong to no connection.
#[inline(never)]
fn step_alone<A: Family>(context: *mut xdp_md) -> u32 {
    let context = &packet::context(context);
    let Some(state) = state::<A>() else { return xdp_action::XDP_PASS };
    match try_step_alone::<A>(Packet::new(context), maps::control(), state) {
        Ok(true) => GOES_ON,
        Ok(false) => HOSTS,
        Err(reason) => trace::finish(Err(reason)),
    }
}

/// `false`: the packet comes from no port of the service.
#[inline(always)]
fn try_step_alone<A: Family>(
    packet: Packet,
    control: &'static Control,
    state: &mut State<A>,
) -> Result<bool, Reason> {
    let State { head, answer, to } = state;
    let head = &with_forgotten(*head, A::TRANSPORT_MASK);
    let server = maps::server(answer.server);
    let context = &Context { packet, control, flow: turned(answer, server, head), now_ns: lb_now() };
    let Context { packet, flow, now_ns, .. } = context;
    if !is_its_port(flow, server) {
        return Ok(false);
    }
    let next_hop = server.next_hop.get();
    let decision = Decision { server: answer.server, next_hop, opens: false, without_entry: false };
    trace::begin(packet, flow);
    trace::answered(&decision);
    check(context, server, answer.server)?;
    frame::check(packet, flow)?;
    lease::goes_on(control, &server.service, *now_ns)?;
    *to = way(packet, head, answer)?;
    if let (Some(piece), Some(sent)) = (head.first_piece(), head.own_flow(packet)) {
        fragment::remember(&head.key(), piece, &sent, &decision, *now_ns);
    }
    Ok(true)
}

/// Whether the server has its service's packets at the port that this one is from; `flow` is what
/// its client sends.
#[inline(always)]
fn is_its_port<A: Family>(flow: &Flow<A>, server: &ServerEntry) -> bool {
    let ServiceAddress { address: V6([high, low]), port_and_protocol } = flow.service();
    lb_serves(high, low, port_and_protocol, server.service.id.0.into()) != 0
}

/// A packet that belongs to another one: an ICMP error, a later fragment. A program of its own, for
/// the verifier's sake. Returns the XDP action.
#[inline(always)]
pub fn take_related<A: Family>(context: &XdpContext) -> u32 {
    let packet = Packet::new(context);
    let Some(link) = frame::link(&packet) else { return xdp_action::XDP_PASS };
    match A::head(&packet, link.network()) {
        Some(head) => {
            let (head, control) = (with_forgotten(head, A::TRANSPORT_MASK), maps::control());
            let result = match head.is_later_fragment() {
                true => send_fragment(packet, control, head),
                false => send_error(packet, control, head),
            };
            match result {
                Err(reason @ (Reason::FragmentUnknown | Reason::FragmentScattered)) => {
                    call_for(context, Stage::Hold, reason)
                }
                result => finish(context, result),
            }
        }
        None => xdp_action::XDP_PASS,
    }
}

#[inline(always)]
fn try_step<A: Family>(
    packet: Packet,
    control: &'static Control,
    state: &mut State<A>,
) -> Result<Step, Reason> {
    let State { head, answer, to } = state;
    // The verifier knows nothing of what is read from a map.
    let head = &with_forgotten(*head, A::TRANSPORT_MASK);
    let server = maps::server(answer.server);
    let context = &Context { packet, control, flow: turned(answer, server, head), now_ns: lb_now() };
    let Context { packet, flow, now_ns, .. } = context;
    let Some((found, decision)) = connection_of(context, answer.server)? else {
        return Ok(Step::Hosts);
    };
    trace::begin(packet, flow);
    trace::answered(&decision);
    check(context, server, answer.server)?;
    let flags = frame::check(packet, flow)?;
    if let Some(action) = by_lease(context, &found, RETURNED_ANSWER_TTL)? {
        return Ok(Step::Ends(action));
    }
    *to = way(packet, head, answer)?;
    found.answered(flags, lease::generation(control, found.group()), Tick::from_ns(*now_ns));
    if let (Some(piece), Some(sent)) = (head.first_piece(), head.own_flow(packet)) {
        // The ports that the packet has: others of its datagram are looked up by them.
        fragment::remember(&head.key(), piece, &sent, &decision, *now_ns);
    }
    Ok(Step::Sends)
}

/// Sends a packet of a server to its client.
#[inline(always)]
fn send_answer<A: Family>(context: &XdpContext) -> Result<Action, Reason> {
    let Some(State { head, answer, to }) = state::<A>() else { return Err(Reason::MapInconsistency) };
    let server = maps::server(answer.server);
    let packet = &Packet::new(context);
    nat::forward(packet, head, None, End::Source, &vip(server, answer), to.mac())?;
    if answer.is_sourced {
        nat::forward_again(packet, head, None, End::Destination, &client(answer), to.mac())?;
    }
    Ok(leaves(answer.server, *to))
}

/// What becomes of a packet that is rewritten. The server is looked up anew, see
/// `forward::nat::sent`.
#[inline(always)]
fn leaves(id: ServerId, to: Way) -> Action {
    let changes = |egress: &Egress| !egress.is_untagged();
    let has_egress = maps::server(id).next_hop.get().has_egress();
    if to.route() != 0 || has_egress && EGRESSES.get(u32::from(id.0)).is_some_and(changes) {
        parcel::leave_back(id, to);
        return Action::Egress;
    }
    Action::Transmit
}

/// What of a packet of a server must be right.
#[inline(always)]
fn check<A: Family>(context: &Context<A>, server: &ServerEntry, id: ServerId) -> Result<(), Reason> {
    if !server.next_hop.get().has_egress() {
        return related::check(context);
    }
    related::check_but_vlan(context)?;
    match lb_comes_from_its_vlan(context.packet.context().ctx, id.0.into()) {
        0 => Err(Reason::ForeignVlan),
        _ => Ok(()),
    }
}

/// Whether the packet has come from where this server is; global, so that the verifier goes on with
/// one answer.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_comes_from_its_vlan(context: *mut xdp_md, server: u32) -> u32 {
    let context = &packet::context(context);
    let (Some(egress), Some(tags)) = (EGRESSES.get(server), frame::tags(&Packet::new(context))) else {
        return 0;
    };
    egress.admits_answer(tags.vlan, ingress::came_by(context)).into()
}

/// Sends an ICMP error about a packet of a client to that client. Nothing is learnt from it,
/// because anybody can send one.
#[inline(always)]
fn send_error<A: Family>(packet: Packet, control: &'static Control, head: Head<A>) -> Result<Action, Reason> {
    let Some((sent, quoted)) = about(&packet, &head) else { return host(&packet, head.destination) };
    let Some((answer, server)) = answer_of(&sent) else { return host(&packet, head.destination) };
    let context = &Context { packet, control, flow: turned(&answer, server, &head), now_ns: lb_now() };
    if !is_about_ours(context, &answer, server) {
        return host(&context.packet, head.destination);
    }
    may_go_back(context, &head, answer.server, server)?;
    let to = way(&context.packet, &head, &answer)?;
    nat::forward(&context.packet, &head, Some(&quoted), End::Source, &vip(server, &answer), to.mac())?;
    if answer.is_sourced {
        let client = client(&answer);
        nat::forward_again(&context.packet, &head, Some(&quoted), End::Destination, &client, to.mac())?;
    }
    Ok(leaves(answer.server, to))
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
    check(context, server, id)?;
    lease::goes_on(context.control, &server.service, context.now_ns)
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

/// Whether an ICMP error is about something that the server may have got: a packet of a connection,
/// or a datagram of a service that remembers none.
#[inline(always)]
fn is_about_ours<A: Family>(context: &Context<A>, answer: &Answer<A>, server: &ServerEntry) -> bool {
    if server.service.has(ServiceInfo::EACH_DATAGRAM) {
        return is_its_port(&context.flow, server);
    }
    let ports = Ports { client: answer.client_port, service: answer.server_port };
    backend::is_connected(answer.server, answer.client.mapped(), ports)
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
    // It may be for one of our services, or an answer, and then its first one may still come.
    let others = |packet: &Packet, may_be_awaited: bool| {
        if control.vips.may_contain(head.destination) {
            neighbour::host(packet, &key.destination)?;
            return Err(Reason::FragmentUnknown);
        }
        let action = host(packet, head.destination)?;
        if may_be_awaited { Err(Reason::FragmentUnknown) } else { Ok(action) }
    };
    let Some((trail, datagram)) = fragment::trail(&key, now_ns) else {
        // Nobody translates what has no ports.
        return others(&packet, Protocol::from_number(head.protocol).is_some());
    };
    if datagram.is_hosts() {
        // Which of them overlap is the host's affair.
        let _ = head.piece().and_then(|piece| fragment::note(trail, piece));
        return host(&packet, head.destination);
    }
    let sent = head.flow_of(datagram);
    let Some((answer, server)) = answer_of(&sent) else { return others(&packet, false) };
    if answer.server != datagram.server() {
        // The connection is over, or the server's number has become another one's.
        return others(&packet, false);
    }
    let context = &Context { packet, control, flow: sent, now_ns };
    may_go_back(context, &head, answer.server, server)?;
    fragment::note(trail, head.piece()?)?;
    let to = way(&context.packet, &head, &answer)?;
    nat::forward_later(&context.packet, &head, End::Source, &vip(server, &answer), to.mac(), false)?;
    if answer.is_sourced {
        nat::forward_later(&context.packet, &head, End::Destination, &client(&answer), to.mac(), true)?;
    }
    Ok(leaves(answer.server, to))
}

/// Whose this packet of a server is, if the server is one that is reached by address translation.
#[inline(always)]
fn answer_of<A: Family>(sent: &Flow<A>) -> Option<(Answer<A>, &'static ServerEntry)> {
    let answer = backend::find(sent)?;
    Some((answer, maps::server(answer.server)))
}

/// What the connection table knows the connection by: what its client sends. The offsets are those
/// of the packet that has come.
#[inline(always)]
fn turned<A: Family>(answer: &Answer<A>, server: &ServerEntry, head: &Head<A>) -> Flow<A> {
    let vip = vip(server, answer);
    Flow {
        source: answer.client,
        destination: vip.address,
        source_port: answer.client_port,
        destination_port: vip.port,
        protocol: answer.protocol,
        ttl: head.ttl,
        network: head.network,
        transport: head.upper,
        total_length: head.total_length,
    }
}

/// What becomes the source.
#[inline(always)]
fn vip<A: Family>(server: &ServerEntry, answer: &Answer<A>) -> New<A> {
    let service = &server.service;
    New { address: A::of_this(&service.address), port: service.port_of(answer.server_port) }
}

/// What becomes the destination, where that is an address of ours.
#[inline(always)]
fn client<A: Family>(answer: &Answer<A>) -> New<A> {
    New { address: answer.client, port: answer.client_port }
}

/// The way to the client, if the packet has hops left.
#[inline(always)]
fn way<A: Family>(packet: &Packet, head: &Head<A>, answer: &Answer<A>) -> Result<Way, Reason> {
    if head.ttl < 2 {
        return Err(expired::refuse(packet, head, answer.server));
    }
    nat::way_to(answer.client.mapped(), answer.server)
}
