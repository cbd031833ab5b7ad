//! The fast way of known connections whose packets do not just get other MACs: those to servers
//! behind tunnels, behind address translation and other interfaces, those of services with several
//! ports, and what servers behind address translation send.
//!
//! [`super::fast`] has looked at the frame and found the connection, so only what it has not asked
//! is asked here. Whatever is not plain goes on untouched in the program that knows it. All of it
//! is part of the entry, but for services with several ports: a tail call costs 8 ns and more where
//! the kernel guards branches.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use lb_common::control::Control;
use lb_common::mac::Mac;
use lb_common::packet::frame::Flow;
use lb_common::program::stage::Stage;
use lb_common::server::{Forwarding, NextHop, ServerEntry, ServerId};
use lb_common::service::ServiceInfo;
use lb_common::table::connection::Entry;
use lb_common::table::{self, Place};

use super::fast::needs_no_write;
use super::{call, slow_way};
use crate::family::Family;
use crate::forward::nat::{self, End, New};
use crate::forward::{direct, parcel, tunnel};
use crate::lookup::backend;
use crate::lookup::table::MapPage;
use crate::maps::{self, KNOWN};
use crate::stats;
use crate::sys::packet::{self, Packet};

/// Goes on here with a packet whose entry may be that of a service with several ports.
#[inline(always)]
pub fn look<A: Family>(context: &XdpContext, entry: Entry) -> u32 {
    if let Some(left) = KNOWN.get_ptr_mut(0) {
        // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
        unsafe { *left = entry.0 };
    }
    call(context, A::KNOWN)
}

/// A packet that [`look`] has left. Returns the XDP action.
#[inline(always)]
pub fn take<A: Family>(context: &XdpContext) -> u32 {
    looked_at::<A>(context).unwrap_or_else(|| slow_way::<A>(context))
}

/// `None`: it is for the slow way.
#[inline(always)]
fn looked_at<A: Family>(context: &XdpContext) -> Option<u32> {
    // SAFETY: as above.
    let entry = Entry(unsafe { *KNOWN.get_ptr_mut(0)? });
    let packet = &Packet::new(context);
    let (control, server) = (maps::control(), maps::server(entry.server()));
    let flow = &A::of_plain(packet)?;
    let next_hop = server.next_hop.get();
    let handed_on = next_hop.is_plain_but_handed_on();
    let knows = (handed_on || next_hop.is_plain()) && server.service.knows(&flow.service());
    if !knows || !needs_no_write(control, server, entry, flow.protocol) {
        return None;
    }
    if handed_on {
        return Some(send::<A>(context.ctx, control.mac.get(), entry.server(), next_hop));
    }
    if !direct::rewrite(packet, control, next_hop.mac()).unwrap_or(false) {
        return None;
    }
    stats::forwarded(entry.server(), flow.network + flow.total_length, false);
    Some(xdp_action::XDP_TX)
}

/// Sends a plain packet with which nothing is wrong to a server that does not just get other MACs.
/// Returns the XDP action.
///
/// The packet is looked at anew, so that what precedes need not keep what it has read of it.
#[inline(always)]
pub fn send<A: Family>(context: *mut xdp_md, own: Mac, server: ServerId, next_hop: NextHop) -> u32 {
    let context = &packet::context(context);
    let macs = [own, next_hop.mac()];
    let is_masq = matches!(next_hop.forwarding(), Forwarding::Masq);
    let length = match next_hop.has_egress() {
        true => 0,
        false if is_masq => nat::send_plain::<A>(context, server, macs),
        false => tunnel::send_plain::<A>(context, server, macs),
    };
    if length != 0 {
        stats::forwarded(server, parcel::PLAIN_NETWORK + length, false);
        return xdp_action::XDP_TX;
    }
    let Some(flow) = &A::of_plain(&Packet::new(context)) else { return call(context, A::SLOW) };
    parcel::leave(flow, server, next_hop, false, false);
    if is_masq { call(context, A::TRANSLATE) } else { call(context, Stage::Encapsulate) }
}

/// What perhaps a server sends that is reached by address translation. Returns the XDP action.
#[inline(always)]
pub fn take_back<A: Family>(packet: &Packet, control: &Control, sent: &Flow<A>) -> u32 {
    match send_back(packet, control, sent) {
        Some(()) => xdp_action::XDP_TX,
        None => call(packet.context(), A::TRANSLATE_BACK),
    }
}

/// `None`: nothing was done.
#[inline(always)]
fn send_back<A: Family>(packet: &Packet, control: &Control, sent: &Flow<A>) -> Option<()> {
    if direct::destination_mac(packet) != Some(control.mac.get()) {
        return None;
    }
    let id = backend::guessed(sent)?;
    let server = maps::server(id);
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
