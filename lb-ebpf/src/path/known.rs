//! The fast way of known connections whose packets do not just get other MACs: those to servers
//! behind tunnels, behind address translation and other interfaces, those of services with several
//! ports, and what servers behind address translation send.
//!
//! Small programs of their own: what they do costs packets of direct routing nothing, and a tail
//! call costs less than a function that returns. [`super::fast`] has looked at the frame and found
//! the connection, so only what it has not asked is asked here. Whatever is not plain goes on
//! untouched in the program that knows it.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::programs::XdpContext;
use lb_common::connection::Entry;
use lb_common::control::Control;
use lb_common::frame::Flow;
use lb_common::mac::Mac;
use lb_common::server::{Forwarding, NextHop, ServerEntry};
use lb_common::service::ServiceInfo;
use lb_common::stage::Stage;
use lb_common::table::{self, Place};

use super::call;
use super::fast::needs_no_write;
use crate::family::Family;
use crate::forward::nat::{self, End, New};
use crate::forward::{direct, parcel, tunnel};
use crate::lookup::backend;
use crate::lookup::table::MapPage;
use crate::maps::{CONTROL, KNOWN, SERVERS};
use crate::stats;
use crate::sys::packet::Packet;

/// The packet of a CPU that goes on here.
#[repr(C)]
pub struct Known {
    entry: Entry,
    /// Of its server; [`NextHop::UNSET`]: whether it may be sent remains to be looked at.
    next_hop: NextHop,
    own: Mac,
}

/// Goes on here with a packet that [`super::fast`] has found nothing wrong with.
#[inline(always)]
pub fn go_on<A: Family>(context: &XdpContext, control: &Control, entry: Entry, next_hop: NextHop) -> u32 {
    if let Some(known) = KNOWN.get_ptr_mut(0) {
        // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
        unsafe { *known = Known { entry, next_hop, own: control.mac.get() } };
    }
    call(context, A::KNOWN)
}

/// The same of a packet whose entry may be that of a service with several ports.
#[inline(always)]
pub fn look<A: Family>(context: &XdpContext, control: &Control, entry: Entry) -> u32 {
    go_on::<A>(context, control, entry, NextHop::UNSET)
}

/// What becomes of a packet here.
enum Way {
    Sent,
    Encapsulate,
    Translate,
}

/// Returns the XDP action.
#[inline(always)]
pub fn take<A: Family>(context: &XdpContext) -> u32 {
    match send::<A>(context) {
        Some(Way::Sent) => xdp_action::XDP_TX,
        Some(Way::Encapsulate) => call(context, Stage::Encapsulate),
        Some(Way::Translate) => call(context, A::TRANSLATE),
        None => call(context, A::SLOW),
    }
}

/// `None`: it is for the slow way.
#[inline(always)]
fn send<A: Family>(context: &XdpContext) -> Option<Way> {
    let known = KNOWN.get_ptr_mut(0)?;
    // SAFETY: as above.
    let Known { entry, mut next_hop, own } = unsafe { known.read() };
    let (packet, server) = (&Packet::new(context), entry.server());
    let flow = &A::of_plain(packet)?;
    if next_hop == NextHop::UNSET {
        next_hop = looked_at(flow, entry)?;
    }
    let to = next_hop.mac();
    let is_sent = match next_hop.forwarding() {
        _ if next_hop.has_egress() => false,
        Forwarding::Tunnel => tunnel::send_plain(packet, flow, server, [own, to]),
        Forwarding::Masq => nat::send_plain(packet, flow, server, [own, to]),
        // One that came from its server goes back by the slow way.
        _ if direct::source_mac(packet) == Ok(to) => return None,
        _ => direct::write_from(packet, own, to).is_ok(),
    };
    if is_sent {
        stats::forwarded(server, flow.network + flow.total_length, false);
        return Some(Way::Sent);
    }
    parcel::leave(flow, server, next_hop, false, false);
    Some(if is_masq(next_hop) { Way::Translate } else { Way::Encapsulate })
}

/// The next hop of a packet that may be one of this connection. `None`: it is for the slow way.
#[inline(always)]
fn looked_at<A: Family>(flow: &Flow<A>, entry: Entry) -> Option<NextHop> {
    let (control, server) = (CONTROL.get(0)?, SERVERS.get(u32::from(entry.server().0))?);
    let next_hop = server.next_hop.get();
    let is_plain = next_hop.is_plain() || next_hop.is_plain_but_handed_on();
    let knows = is_plain && server.service.knows(&flow.service());
    (knows && needs_no_write(control, server, entry, flow.protocol)).then_some(next_hop)
}

#[inline(always)]
fn is_masq(next_hop: NextHop) -> bool {
    matches!(next_hop.forwarding(), Forwarding::Masq)
}

/// What a server sends that is reached by address translation. Returns the XDP action.
#[inline(always)]
pub fn take_back<A: Family>(context: &XdpContext) -> u32 {
    match send_back::<A>(context) {
        Some(()) => xdp_action::XDP_TX,
        None => call(context, A::TRANSLATE_BACK),
    }
}

/// `None`: nothing was done.
#[inline(always)]
fn send_back<A: Family>(context: &XdpContext) -> Option<()> {
    let packet = &Packet::new(context);
    let control = CONTROL.get(0)?;
    let sent = &A::of_plain(packet)?;
    if direct::destination_mac(packet) != Some(control.mac.get()) {
        return None;
    }
    let id = backend::guessed(sent)?;
    let server = SERVERS.get(u32::from(id.0))?;
    let flow = &turned(sent, server);
    if flow.protocol.number() != (server.service.port_and_protocol >> 16) as u8
        || server.service.has(ServiceInfo::DIRECTOR_SERVES)
    {
        return None;
    }
    let place = Place::of(flow, control.hash_keys, A::page_mask(control));
    let entry = table::find_in_first_line(&MapPage::<A>::get(place.page)?, &place, flow.key())?;
    if entry.server() != id || !needs_no_write(control, server, entry, flow.protocol) {
        return None;
    }
    let to = nat::plain_way_to(control, sent.destination.mapped())?;
    let vip = New { address: flow.destination, port: flow.destination_port };
    nat::readdress(packet, sent, End::Source, &vip, [control.mac.get(), to])
}

/// What the connection table knows the connection by: what its client sends.
#[inline(always)]
fn turned<A: Family>(sent: &Flow<A>, server: &ServerEntry) -> Flow<A> {
    Flow {
        source: sent.destination,
        destination: A::of_this(&server.service.address),
        source_port: sent.destination_port,
        destination_port: server.service.port_and_protocol as u16,
        ..*sent
    }
}
