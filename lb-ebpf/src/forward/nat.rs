//! Address translation: the packet goes to its server with the server's address and port as its
//! destination; what the server sends goes to the client with the VIP and the service's port as its
//! source ([`crate::path::back`]). The rules are `lb_common::nat`.
//!
//! Programs of their own, so that packets of direct routing know nothing of it.

pub mod expired;
mod partial;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::addr::{V4, V6};
use lb_common::frame::Head;
use lb_common::mac::Mac;
use lb_common::nat::{Delta, Hop, MOST_ROUTES, Translation};
use lb_common::partial_checksum::offset;
use lb_common::reason::Reason;
use lb_common::server::ServerId;
use lb_common::service::Protocol;

use super::{Action, direct, parcel};
use crate::family::Family;
use crate::lookup::{backend, source};
use crate::maps::{CONTROL, ROUTES, STATIONS, TRANSLATIONS};
use crate::path::related::{QUOTE_MASK, with_forgotten};
use crate::sys::opaque;
use crate::sys::packet::{self, Packet};
use crate::{stats, trace};

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
    trace::finish(send::<A>(context))
}

#[inline(always)]
fn send<A: Family>(context: &XdpContext) -> Result<Action, Reason> {
    let Some(parcel) = parcel::left() else { return Err(Reason::MapInconsistency) };
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
        lb_learn_station(client.0[0], client.0[1], station.word());
    }
    let new = New { address: A::of_this(&translation.address), port: translation.port };
    let quoted = if is_error { Some(quoted(&packet, &head).ok_or(Reason::BadLength)?) } else { None };
    if translation.has_pool() {
        // An error is about a packet to the client.
        let client = if let Some(quoted) = &quoted { quoted.destination } else { head.source };
        if !source::find(ServerId(parcel.server), client.mapped(), parcel.client_port, !is_error) {
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
    stats::forwarded(ServerId(parcel.server), network + parcel.length as usize, parcel.opens != 0);
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

/// Rewrites one end of the packet, takes a hop from it, and writes the MACs. Of an ICMP error the
/// other end of the packet that it quotes is rewritten too: that one has gone the other way.
#[inline(always)]
pub fn forward<A: Family>(
    packet: &Packet,
    head: &Head<A>,
    quoted: Option<&Quoted<A>>,
    end: End,
    new: &New<A>,
    to: Mac,
) -> Result<(), Reason> {
    rewritten(packet, quoted, Shape::of(head, end), to, new)
}

/// [`forward`] of the other end, which takes no hop.
#[inline(always)]
pub fn forward_again<A: Family>(
    packet: &Packet,
    head: &Head<A>,
    quoted: Option<&Quoted<A>>,
    end: End,
    new: &New<A>,
    to: Mac,
) -> Result<(), Reason> {
    rewritten(packet, quoted, Shape::of(head, end).again(), to, new)
}

#[inline(always)]
fn rewritten<A: Family>(
    packet: &Packet,
    quoted: Option<&Quoted<A>>,
    shape: Shape,
    to: Mac,
    new: &New<A>,
) -> Result<(), Reason> {
    let context = packet.context().ctx;
    let (V6([high, low]), to) = (new.address.mapped(), to.word() | u64::from(new.port) << 48);
    // What a function does not use must not be among its arguments: the compiler would set none.
    let written = match (quoted, size_of::<A>() == size_of::<V4>()) {
        (None, true) => lb_rewrite_v4(context, shape.0, to, low),
        (None, false) => lb_rewrite_v6(context, shape.0, to, high, low),
        (Some(quoted), true) => lb_rewrite_error_v4(context, shape.with(quoted).0, to, low),
        (Some(quoted), false) => lb_rewrite_error_v6(context, shape.with(quoted).0, to, high, low),
    };
    if written != 0 { Ok(()) } else { Err(Reason::BadLength) }
}

/// [`forward`] of a later fragment, and [`forward_again`] if `again`.
#[inline(always)]
pub fn forward_later<A: Family>(
    packet: &Packet,
    head: &Head<A>,
    end: End,
    new: &New<A>,
    to: Mac,
    again: bool,
) -> Result<(), Reason> {
    let shape = Shape::new(head.network, head.upper, LATER_FRAGMENT, end, 0);
    rewritten(packet, None, if again { shape.again() } else { shape }, to, new)
}

/// What is known of a packet that is rewritten, in one word: offsets of its headers (8 and 12
/// bits), its kind (2), which end, whether [`forward_again`], the length of the IP packet (17), and
/// of an ICMP error the same of the packet that it quotes: offsets (10 and 11 bits), kind (1).
#[derive(Clone, Copy)]
struct Shape(u64);

/// The protocol of the packet does not matter: an ICMP error.
const OTHER: u64 = 0;
const OF_TCP: u64 = 1;
const OF_UDP: u64 = 2;
const LATER_FRAGMENT: u64 = 3;

/// No offset in a packet that is written to exceeds this, which is the bound that the verifier
/// sees.
const OFFSET_MASK: usize = 0x7ff;

impl Shape {
    /// `length` in bytes; 0: a fragment's.
    #[inline(always)]
    const fn new(network: usize, transport: usize, kind: u64, end: End, length: usize) -> Self {
        let offsets = (network as u64 & 0xff) | (transport as u64 & 0xfff) << 8;
        Self(offsets | kind << 20 | (end as u64) << 22 | (length as u64 & 0x1_ffff) << 24)
    }

    #[inline(always)]
    fn of<A: Family>(head: &Head<A>, end: End) -> Self {
        let kind = match Protocol::from_number(head.protocol) {
            _ if head.is_later_fragment() => LATER_FRAGMENT,
            Some(Protocol::Tcp) => OF_TCP,
            Some(Protocol::Udp) => OF_UDP,
            None => OTHER,
        };
        // A fragment's checksum covers others, too, and none is left to hardware.
        let length = if head.fragment != 0 { 0 } else { head.total_length };
        Self::new(head.network, head.upper, kind, end, length)
    }

    #[inline(always)]
    const fn again(self) -> Self {
        Self(self.0 | 1 << 23)
    }

    #[inline(always)]
    const fn with<A>(self, quoted: &Quoted<A>) -> Self {
        let offsets = (quoted.network as u64 & 0x3ff) << 41 | (quoted.transport as u64 & 0x7ff) << 51;
        let kind = (quoted.protocol == Protocol::Udp as u32) as u64;
        Self(self.0 | offsets | kind << 62)
    }

    #[inline(always)]
    const fn network(self) -> usize {
        self.0 as usize & 0xff
    }
    #[inline(always)]
    const fn transport(self) -> usize {
        (self.0 >> 8) as usize & 0xfff
    }
    #[inline(always)]
    const fn kind(self) -> u64 {
        self.0 >> 20 & 3
    }
    #[inline(always)]
    const fn end(self) -> End {
        if self.0 >> 22 & 1 == 0 { End::Source } else { End::Destination }
    }
    #[inline(always)]
    const fn takes_hop(self) -> bool {
        self.0 >> 23 & 1 == 0
    }
    #[inline(always)]
    const fn length(self) -> usize {
        (self.0 >> 24) as usize & 0x1_ffff
    }
    #[inline(always)]
    const fn protocol(self) -> Option<Protocol> {
        match self.kind() {
            OF_TCP => Some(Protocol::Tcp),
            OF_UDP => Some(Protocol::Udp),
            _ => None,
        }
    }
    /// Of the quoted packet: offsets and protocol.
    #[inline(always)]
    const fn quoted(self) -> (usize, usize, Protocol) {
        let protocol = if self.0 >> 62 & 1 == 0 { Protocol::Tcp } else { Protocol::Udp };
        ((self.0 >> 41) as usize & 0x3ff, (self.0 >> 51) as usize & 0x7ff, protocol)
    }
}

/// [`forward`] in numbers, with the packet looked at anew; global for the verifier's sake, see
/// [`crate::schedule::lb_pick`]. `to`: the MAC of the next hop, and the port above. `low`: the last
/// word of the address in its mapped form. 0: the packet is too short.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_rewrite_v4(context: *mut xdp_md, shape: u64, to: u64, low: u64) -> u32 {
    rewrite::<V4>(context, Shape(shape), to, V6([0, low]))
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_rewrite_v6(context: *mut xdp_md, shape: u64, to: u64, high: u64, low: u64) -> u32 {
    rewrite::<V6>(context, Shape(shape), to, V6([high, low]))
}

/// As [`lb_rewrite_v4`], of an ICMP error.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_rewrite_error_v4(context: *mut xdp_md, shape: u64, to: u64, low: u64) -> u32 {
    rewrite_error::<V4>(context, Shape(shape), to, V6([0, low]))
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_rewrite_error_v6(context: *mut xdp_md, shape: u64, to: u64, high: u64, low: u64) -> u32 {
    rewrite_error::<V6>(context, Shape(shape), to, V6([high, low]))
}

#[inline(always)]
fn rewrite<A: Family>(context: *mut xdp_md, shape: Shape, to: u64, address: V6) -> u32 {
    let context = &packet::context(context);
    let new = New { address: A::of_this(&address), port: (to >> 48) as u16 };
    u32::from(try_rewrite(&Packet::new(context), Mac::from_word(to), shape, &new).is_some())
}

#[inline(always)]
fn rewrite_error<A: Family>(context: *mut xdp_md, shape: Shape, to: u64, address: V6) -> u32 {
    let context = &packet::context(context);
    let new = New { address: A::of_this(&address), port: (to >> 48) as u16 };
    u32::from(try_rewrite_error(&Packet::new(context), Mac::from_word(to), shape, &new).is_some())
}

#[inline(always)]
fn try_rewrite<A: Family>(packet: &Packet, to: Mac, shape: Shape, new: &New<A>) -> Option<()> {
    let partial = partial::is_left_to_hardware::<A>(packet.context().ctx, shape.0) != 0;
    direct::write(packet, CONTROL.get(0)?, to).ok()?;
    let addresses = write_address(packet, shape.network(), shape.end(), new.address, shape.takes_hop())?;
    if shape.kind() == LATER_FRAGMENT {
        return Some(());
    }
    let protocol = shape.protocol()?;
    let port = mend(packet, shape.transport() + shape.end().port(), |_| new.port)?;
    let change = |sum| match partial {
        true => addresses.mend_partial(sum),
        false => addresses.and(port).mend_transport(protocol, sum),
    };
    mend(packet, shape.transport() + offset(protocol), change)?;
    Some(())
}

#[inline(always)]
fn try_rewrite_error<A: Family>(packet: &Packet, to: Mac, shape: Shape, new: &New<A>) -> Option<()> {
    direct::write(packet, CONTROL.get(0)?, to).ok()?;
    let (network, transport, protocol) = shape.quoted();
    let end = shape.end();
    let outer = write_address(packet, shape.network(), end, new.address, shape.takes_hop())?;
    let inner = write_address(packet, network, end.other(), new.address, false)?;
    let port = mend(packet, transport + end.other().port(), |_| new.port)?;
    // What an IPv4 header's checksum loses its address gains: together they add up to the same.
    // That of ICMPv6 covers the outer addresses, too.
    let mut delta = match A::IP_CHECKSUM {
        Some(_) => port,
        None => port.and(outer).and(inner),
    };
    let at = transport + offset(protocol);
    if at + 2 <= shape.network() + shape.length() {
        let change = |sum| inner.and(port).mend_transport(protocol, sum);
        // It may be cut off there.
        delta = delta.and(mend(packet, at, change).unwrap_or_default());
    }
    mend(packet, shape.transport() + 2, |sum| delta.mend(sum))?;
    Some(())
}

/// Writes an address and mends the IP header's checksum, if there is one; takes a hop from the
/// packet if `hop`. Returns what has changed in the addresses.
#[inline(always)]
fn write_address<A: Family>(packet: &Packet, network: usize, end: End, new: A, hop: bool) -> Option<Delta> {
    let place = place::<A>(packet, network + end.address::<A>())?;
    // SAFETY: bounds checked by `place`; for alignment see `Packet::read`.
    let old = unsafe { *place };
    // SAFETY: as above.
    unsafe { *place = new };
    let delta = Delta::of_address(old, new);
    let hops = if hop { A::take_hop(packet, opaque(network) & OFFSET_MASK)? } else { Delta::default() };
    if let Some(checksum) = A::IP_CHECKSUM {
        mend(packet, network + checksum, |sum| delta.and(hops).mend(sum))?;
    }
    Some(delta)
}

/// Changes the word at `at`.
#[inline(always)]
fn mend(packet: &Packet, at: usize, change: impl FnOnce(u16) -> u16) -> Option<Delta> {
    let word = place::<u16>(packet, at)?;
    // SAFETY: bounds checked by `place`; for alignment see `Packet::read`.
    unsafe {
        let old = *word;
        let new = change(old);
        *word = new;
        Some(Delta::of_word(old, new))
    }
}

/// The value at an offset of which the compiler knows nothing, so that it leaves every check of
/// bounds in.
#[inline(always)]
fn place<T>(packet: &Packet, at: usize) -> Option<*mut T> {
    packet.at::<T>(opaque(at) & OFFSET_MASK)
}

/// Whether another connection of the same client and port goes to the same server by another
/// service.
#[inline(always)]
fn clashes<A: Family>(server: u16, translation: &Translation, packet: &Packet, head: &Head<A>) -> bool {
    if translation.next == server {
        return false;
    }
    let Some(flow) = head.own_flow(packet) else { return false };
    let found = backend::among(translation.next, server, flow.source.mapped(), flow.source_port);
    found.is_some_and(|found| found.is_live)
}

/// Forgets the packet's connection, because nothing can come of it. Returns the reason.
#[inline(always)]
fn unlearnt<A: Family>(server: u16, packet: &Packet, head: &Head<A>, reason: Reason) -> Reason {
    if let Some(flow) = head.own_flow(packet) {
        backend::forget(ServerId(server), flow.source.mapped(), flow.source_port);
    }
    reason
}

/// Remembers the MAC that the packets of a client on the segment come from; global for the
/// verifier's sake, see [`crate::schedule::lb_pick`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_learn_station(high: u64, low: u64, station: u64) -> u32 {
    if lb_route(high, low) != Hop::ON_LINK.0 {
        return 0;
    }
    let (client, station) = (V6([high, low]), Mac::from_word(station));
    // SAFETY: a map's value, aligned, whose only word is read whole.
    let known = STATIONS.get_ptr_mut(&client).map(|known| unsafe { known.read_volatile() });
    if known != Some(station) {
        // Where there is no room, its server's packets find no way back, which is counted.
        let _ = STATIONS.insert(&client, &station, 0);
    }
    0
}

/// The MAC of the next hop to a client.
#[inline(always)]
pub fn way_to(client: V6) -> Result<Mac, Reason> {
    match lb_way_to(client.0[0], client.0[1]) {
        0 => Err(Reason::NoWayBack),
        mac => Ok(Mac::from_word(mac)),
    }
}

/// [`way_to`] in numbers, as [`lb_learn_station`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_way_to(high: u64, low: u64) -> u64 {
    let hop = Hop(lb_route(high, low));
    if hop == Hop::ON_LINK {
        // SAFETY: as in `lb_learn_station`.
        let station = STATIONS.get_ptr_mut(&V6([high, low])).map(|known| unsafe { known.read_volatile() });
        return station.map_or(0, Mac::word);
    }
    hop.mac().map_or(0, Mac::word)
}

/// The [`Hop`] of a client's route; global for the verifier's sake, see
/// [`crate::schedule::lb_pick`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_route(high: u64, low: u64) -> u64 {
    let Some(control) = CONTROL.get(0) else { return Hop::NONE.0 };
    let (routes, client) = (control.routes.get(), V6([high, low]));
    let mut index = 0;
    while index < MOST_ROUTES {
        if index >= routes.count() {
            break;
        }
        let Some(route) = ROUTES.get(routes.first().wrapping_add(index)) else { break };
        if route.leads_to(client) {
            return route.hop.0;
        }
        index += 1;
    }
    Hop::NONE.0
}
