//! Address translation: the packet goes to its server with the server's address and port as its
//! destination; what the server sends goes to the client with the VIP and the service's port as its
//! source ([`crate::path::back`]). The rules are `lb_common::forward::nat`.
//!
//! Programs of their own, so that packets of direct routing know nothing of it.

pub mod expired;
mod partial;
mod plain;
mod rewrite;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::V6;
use lb_common::forward::nat::{ANY_PORT, Hop, MOST_ROUTES, Translation};
use lb_common::mac::Mac;
use lb_common::packet::frame::Head;
use lb_common::program::stage::Stage;
use lb_common::reason::Reason;
use lb_common::server::ServerId;
use lb_common::service::Protocol;

pub use self::plain::{plain_way_to, readdress, send_plain};
use self::rewrite::OFFSET_MASK;
pub use self::rewrite::{forward, forward_again, forward_later};
use super::{Action, direct, egress, parcel};
use crate::family::Family;
use crate::guard::peer;
use crate::lookup::backend::{self, Ports, lb_first_beside};
use crate::lookup::source;
use crate::maps::{ROUTES, STATIONS, TRANSLATIONS, control};
use crate::path::related::{QUOTE_MASK, with_forgotten};
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};
use crate::{ingress, path, stats, trace};

/// Which of a packet's ends gets another address and port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

impl End {
    const fn address<A: Family>(self) -> usize {
        match self {
            Self::Source => A::SOURCE,
            Self::Destination => A::DESTINATION,
        }
    }

    const fn port(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Destination => 2,
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// What an end becomes, as it stands in a packet.
#[derive(Clone, Copy)]
pub struct New<A> {
    pub address: A,
    pub port: u16,
}

/// Sends the packet that [`parcel::leave`] has told of to its server. Returns the XDP action.
#[inline(always)]
pub fn take<A: Family>(context: &XdpContext) -> u32 {
    match send::<A>(context) {
        Ok(Action::Egress) => path::call(context, Stage::Egress),
        result => trace::finish(result),
    }
}

#[inline(always)]
fn send<A: Family>(context: &XdpContext) -> Result<Action, Reason> {
    let Some(parcel) = parcel::left() else { return Err(Reason::MapInconsistency) };
    if egress::is_too_long(parcel) {
        // It is refused there, as its sender knows it: nothing is rewritten yet.
        return Ok(Action::Egress);
    }
    let Some(translation) = TRANSLATIONS.get(u32::from(parcel.server)).filter(|found| found.is_set()) else {
        return Err(Reason::MapInconsistency);
    };
    let packet = Packet::new(context);
    // The MACs first, see `rewrite`.
    let station = direct::source_mac(&packet)?;
    let network = opaque(parcel.network as usize) & parcel::NETWORK_MASK;
    let Some(head) = A::head(&packet, network).map(|head| with_forgotten(head, A::TRANSPORT_MASK)) else {
        return Err(Reason::BadLength);
    };
    let is_error = head.is_error(&packet);
    // An error may come from a router that the server is beside.
    if !is_error && !translation.has_pool() && translation.is_near(head.source.mapped()) {
        return Err(unlearnt(parcel.server, &packet, &head, Reason::ClientNearServer));
    }
    if parcel.opens != 0 && !translation.has_pool() && clashes(parcel.server, translation, &packet, &head) {
        return Err(unlearnt(parcel.server, &packet, &head, Reason::NatClash));
    }
    if head.ttl < 2 {
        return Err(expired::refuse(&packet, &head, ServerId(parcel.server)));
    }
    if parcel.is_slow != 0 && !is_error {
        let client = head.source.mapped();
        lb_learn_station(context.ctx, client.0[0], client.0[1], station.word(), parcel.server.into());
    }
    let port = translation.port_of(parcel.service_port);
    let new = New { address: A::of_this(&translation.address), port };
    let quoted = if is_error { Some(quoted(&packet, &head).ok_or(Reason::BadLength)?) } else { None };
    if translation.has_pool() {
        // An error is about a packet to the client.
        let client = if let Some(quoted) = &quoted { quoted.destination } else { head.source };
        let service_port = if translation.port == ANY_PORT { parcel.service_port } else { 0 };
        let (server, client) = (ServerId(parcel.server), client.mapped());
        if !source::find(server, service_port, client, parcel.client_port, !is_error) {
            return Err(unlearnt(parcel.server, &packet, &head, Reason::NoSourcePort));
        }
    }
    let to = parcel.next_hop.mac();
    forward(&packet, &head, quoted.as_ref(), End::Destination, &new, to)?;
    if translation.has_pool() {
        let source = source::found().ok_or(Reason::MapInconsistency)?;
        let new = New { address: A::of_this(&source.address), port: source.port };
        forward_again(&packet, &head, quoted.as_ref(), End::Source, &new, to)?;
    }
    sent()
}

/// What becomes of a packet that is rewritten. The parcel is looked up anew, so that none of it is
/// kept meanwhile: there is little of the stack left.
#[inline(always)]
fn sent() -> Result<Action, Reason> {
    let Some(parcel) = parcel::left() else { return Err(Reason::MapInconsistency) };
    if parcel.next_hop.has_egress() {
        return Ok(Action::Egress);
    }
    let bytes = usize::from(parcel.network) + parcel.length as usize;
    stats::forwarded(ServerId(parcel.server), bytes, parcel.opens != 0);
    Ok(Action::Transmit)
}

/// The packet that an ICMP error quotes, as far as it is needed.
#[repr(C)]
pub struct Quoted<A> {
    pub source: A,
    pub destination: A,
    pub source_port: u16,
    pub destination_port: u16,
    protocol: u32,
    network: u32,
    transport: u32,
}

impl<A> Quoted<A> {
    #[inline(always)]
    pub const fn protocol(&self) -> Protocol {
        if self.protocol == Protocol::Udp as u32 { Protocol::Udp } else { Protocol::Tcp }
    }
}

/// What an ICMP error quotes, if that has ports.
#[inline(always)]
pub fn quoted<A: Family>(packet: &Packet, head: &Head<A>) -> Option<Quoted<A>> {
    let mut quoted = Quoted {
        source: head.source,
        destination: head.destination,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        network: 0,
        transport: 0,
    };
    let found = read_quote(packet.context().ctx, head.quote(), &mut quoted) != 0;
    let end = head.network + head.total_length;
    (found && quoted.transport as usize + size_of::<[u16; 2]>() <= end).then_some(quoted)
}

/// A function of its own, so that the verifier forgets what was looked at. 0: there are no ports.
#[inline(never)]
fn read_quote<A: Family>(context: *mut xdp_md, at: usize, quoted: &mut Quoted<A>) -> u32 {
    let context = &packet::context(context);
    let packet = &Packet::new(context);
    let quote = A::head(packet, opaque(at) & OFFSET_MASK).map(|quote| with_forgotten(quote, QUOTE_MASK));
    let Some(flow) = quote.and_then(|quote| quote.own_flow(packet)) else { return 0 };
    *quoted = Quoted {
        source: flow.source,
        destination: flow.destination,
        source_port: flow.source_port,
        destination_port: flow.destination_port,
        protocol: flow.protocol as u32,
        network: flow.network as u32,
        transport: flow.transport as u32,
    };
    1
}

/// Whether another connection of the same client and port goes to the same server by another
/// service.
#[inline(always)]
fn clashes<A: Family>(server: u16, translation: &Translation, packet: &Packet, head: &Head<A>) -> bool {
    if translation.next == server && translation.beside == 0 {
        return false;
    }
    let Some(flow) = head.own_flow(packet) else { return false };
    let client = flow.source.mapped();
    let service = translation.port_of(flow.destination_port);
    let ports = Ports { client: flow.source_port, service };
    let has = |first: u16| backend::among(first, server, client, ports).is_some_and(|found| found.is_live);
    if translation.next != server && has(translation.next) {
        return true;
    }
    match lb_first_beside(server.into(), service.into()) {
        0 => false,
        first => has(first as u16),
    }
}

/// Forgets the packet's connection, because nothing can come of it. Returns the reason.
#[inline(always)]
fn unlearnt<A: Family>(server: u16, packet: &Packet, head: &Head<A>, reason: Reason) -> Reason {
    if let Some(flow) = head.own_flow(packet) {
        let ports = Ports { client: flow.source_port, service: flow.destination_port };
        backend::forget(ServerId(server), flow.source.mapped(), ports);
    }
    reason
}

/// Remembers the MAC that the packets of a client on the segment come from; global for the
/// verifier's sake, see [`crate::schedule::lb_pick`]. `server`: the client's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_learn_station(
    context: *mut xdp_md,
    high: u64,
    low: u64,
    station: u64,
    server: u32,
) -> u32 {
    let Some(route) = ROUTES.get(lb_route(high, low, egress::vlan_of_clients(server).0)) else { return 0 };
    // Where it comes in is where the route leads, or its MAC is another segment's.
    if route.hop != Hop::ON_LINK || route.device != ingress::came_by(&packet::context(context)) {
        return 0;
    }
    let (client, station) = (V6([high, low]), Mac::from_word(station));
    // SAFETY: a map's value, aligned, whose only word is read whole.
    let known = STATIONS.get_ptr_mut(&client).map(|known| unsafe { known.read_volatile() });
    // What another director relays is not where the client is.
    let relayed = known.is_some() && peer::is_director(station);
    if known != Some(station) && !relayed {
        // Where there is no room, its server's packets find no way back, which is counted.
        let _ = STATIONS.insert(&client, &station, 0);
    }
    0
}

/// The way to a client: the MAC of the next hop, and above it, where it leads by another interface
/// than the main one, the number of its route.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Way(u64);

impl Way {
    /// Where the route's number stands.
    const ROUTE: u32 = 48;

    #[inline(always)]
    pub const fn mac(self) -> Mac {
        Mac::from_word(self.0)
    }

    /// The place of its route in the map `ROUTES`, counted from 1; 0: it leads by the main
    /// interface.
    #[inline(always)]
    pub const fn route(self) -> u32 {
        (self.0 >> Self::ROUTE) as u32
    }
}

/// The way to a client of this server.
#[inline(always)]
pub fn way_to(client: V6, server: ServerId) -> Result<Way, Reason> {
    match lb_way_to(client.0[0], client.0[1], server.0.into()) {
        0 => Err(Reason::NoWayBack),
        way => Ok(Way(way)),
    }
}

/// [`way_to`] in numbers, as [`lb_learn_station`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_way_to(high: u64, low: u64, server: u32) -> u64 {
    let place = lb_route(high, low, egress::vlan_of_clients(server).0);
    let Some(route) = ROUTES.get(place) else { return 0 };
    let mac = if route.hop == Hop::ON_LINK {
        // SAFETY: as in `lb_learn_station`.
        STATIONS.get_ptr_mut(&V6([high, low])).map(|known| unsafe { known.read_volatile() })
    } else {
        route.hop.mac()
    };
    let Some(mac) = mac else { return 0 };
    match route.device {
        0 => mac.word(),
        _ => mac.word() | u64::from(place.wrapping_add(1)) << Way::ROUTE,
    }
}

/// No route has this place.
const NO_ROUTE: u32 = u32::MAX;

/// The place of the route to a client in this VLAN; global for the verifier's sake, see
/// [`crate::schedule::lb_pick`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_route(high: u64, low: u64, vlan: u32) -> u32 {
    let (routes, client) = (control().routes.get(), V6([high, low]));
    let mut index = 0;
    while index < MOST_ROUTES {
        if index >= routes.count() {
            break;
        }
        let place = routes.first().wrapping_add(index);
        let Some(route) = ROUTES.get(place) else { break };
        if route.vlan.0 == vlan && route.leads_to(client) {
            return place;
        }
        index += 1;
    }
    NO_ROUTE
}
