//! Which server a packet comes from, if it is one that is reached by address translation.

use lb_common::addr::{V4, V6};
use lb_common::forward::nat::{self, ANY_PORT, Backend, LONGEST_RING};
use lb_common::packet::frame::Flow;
use lb_common::server::ServerId;
use lb_common::service::Protocol;
use lb_common::table::connection::Entry;
use lb_common::table::{self, Page as _, Place, Seen};

use super::source;
use super::table::MapPage;
use crate::family::Family;
use crate::maps::{self, BACKENDS, GUESSES, TRANSLATIONS};
use crate::schedule::tournament::owe;

/// A server that has a connection with a client.
#[derive(Clone, Copy)]
pub struct Found {
    pub server: ServerId,
    /// The connection is not over.
    pub is_live: bool,
}

/// Whose a server's packet is.
#[derive(Clone, Copy)]
pub struct Answer<A> {
    pub server: ServerId,
    pub client: A,
    /// As it stands in a packet.
    pub client_port: u16,
    /// The port that the server has sent from, as it stands in a packet.
    pub server_port: u16,
    pub protocol: Protocol,
    /// The packet has an address of ours in the client's place.
    pub is_sourced: bool,
}

/// The server whose packet comes from this address and port, and the client that it is for. Of
/// several servers the one that has a connection with the client.
#[inline(always)]
pub fn find<A: Family>(sent: &Flow<A>) -> Option<Answer<A>> {
    let (V6([high, low]), V6([to_high, to_low])) = (sent.source.mapped(), sent.destination.mapped());
    let ports = u64::from(sent.source_port) | u64::from(sent.destination_port) << 16;
    let rest = ports | u64::from(sent.protocol.number()) << 32;
    let mut found = lb_answer_of(high, low, to_high, to_low, rest);
    if found & (SOURCED | LIVE) == 0 {
        // Perhaps one of a service with several ports.
        let other = lb_answer_of(high, low, to_high, to_low, rest | BY_ANY_PORT);
        if found == 0 || other & (SOURCED | LIVE) != 0 {
            found = other;
        }
    }
    let (server, is_sourced) = (ServerId(found as u16), found & SOURCED != 0);
    let (mut client, mut client_port) = (sent.destination, sent.destination_port);
    if is_sourced {
        let behind = source::found()?;
        (client, client_port) = (A::of_this(&behind.address), behind.port);
    } else if TRANSLATIONS.get(u32::from(server.0)).is_some_and(|known| known.is_alone(server.0))
        && let Some(guess) = GUESSES.get_ptr_mut(nat::guess(sent.source, sent.source_port))
    {
        // SAFETY: a map's value, aligned; whichever CPU writes last, it is such a server.
        unsafe { guess.write_volatile(server.0.into()) };
    }
    let (server_port, protocol) = (sent.source_port, sent.protocol);
    (found != 0).then_some(Answer { server, client, client_port, server_port, protocol, is_sourced })
}

/// In what [`lb_answer_of`] returns: [`source::found`] returns the client.
const SOURCED: u32 = 1 << 17;

/// For [`lb_answer_of`]: of servers with [`ANY_PORT`].
const BY_ANY_PORT: u64 = 1 << 40;

/// [`find`] in numbers; global for the verifier's sake, see [`crate::schedule::lb_pick`]. `rest`:
/// the ports as they stand in the packet, and the protocol's number. 0: it is none's. [`LIVE`]
/// where no other server can be meant.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_answer_of(high: u64, low: u64, to_high: u64, to_low: u64, rest: u64) -> u32 {
    let Some(protocol) = Protocol::from_number((rest >> 32) as u8) else { return 0 };
    let own_port = if rest & BY_ANY_PORT == 0 { rest as u16 } else { ANY_PORT };
    // As `lb_server_among` and `lb_client_of` take them: the client's, and the server's above.
    let ports = (rest as u32).rotate_left(16);
    let key = Backend::new(V6([high, low]), own_port, protocol);
    // SAFETY: the value is a word, which is read whole.
    let Some(first) = (unsafe { BACKENDS.get(&key) }).map(|first| *first as u16) else { return 0 };
    let Some(translation) = TRANSLATIONS.get(u32::from(first)) else { return 0 };
    if translation.ring_has_pools != 0 {
        let server = source::lb_client_of(first.into(), to_high, to_low, ports);
        if server != 0 {
            return server | SOURCED;
        }
    }
    match translation.next == first && translation.beside == 0 {
        // What has an address of ours in a client's place gets its answers there alone.
        true if translation.has_pool() => 0,
        true => u32::from(first) | LIVE,
        false => lb_server_among(first.into(), to_high, to_low, ports),
    }
}

/// As [`find`], if the last packet that came from about there was of the same server, and no other
/// server uses that address and port; without a hash to look into. The protocol remains to be
/// compared.
#[inline(always)]
pub fn guessed<A: Family>(sent: &Flow<A>) -> Option<ServerId> {
    let guess = GUESSES.get_ptr_mut(nat::guess(sent.source, sent.source_port))?;
    // SAFETY: as above.
    let guess = unsafe { guess.read_volatile() } as u16;
    let translation = TRANSLATIONS.get(u32::from(guess))?;
    let is_its = translation.address == sent.source.mapped() && translation.port == sent.source_port;
    (is_its && translation.is_alone(guess)).then_some(ServerId(guess))
}

/// Ports of a connection as they stand in a packet.
#[derive(Clone, Copy)]
pub struct Ports {
    pub client: u16,
    /// Of a service with several ports that which the connection has.
    pub service: u16,
}

impl Ports {
    /// As global functions take them.
    #[inline(always)]
    const fn word(self) -> u32 {
        self.client as u32 | (self.service as u32) << 16
    }
}

/// The first server of the other ring that may send from the same address and port as this one, see
/// [`Translation::beside`]; 0: there is none.
///
/// [`Translation::beside`]: nat::Translation::beside
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_first_beside(server: u32, port: u32) -> u32 {
    let Some(translation) = TRANSLATIONS.get(server).filter(|translation| translation.beside != 0) else {
        return 0;
    };
    // SAFETY: the value is a word, which is read whole.
    unsafe { BACKENDS.get(&translation.other_backend(port as u16)) }.map_or(0, |first| *first & 0xffff)
}

/// The server of this ring that has a connection with the client and port and sees the client's own
/// address; one that is not over, if there is such a one, and one that needs none
/// ([`Translation::each_datagram`]) if there is no other. `besides` is none of them.
///
/// [`Translation::each_datagram`]: nat::Translation::each_datagram
#[inline(always)]
pub fn among(first: u16, besides: u16, client: V6, ports: Ports) -> Option<Found> {
    let servers = u32::from(first) | u32::from(besides) << 16;
    match lb_server_among(servers, client.0[0], client.0[1], ports.word()) {
        0 => None,
        found => Some(Found { server: ServerId(found as u16), is_live: found & LIVE != 0 }),
    }
}

/// In what [`lb_server_among`] returns.
const LIVE: u32 = 1 << 16;

/// [`among`] in numbers; global for the verifier's sake, see [`crate::schedule::lb_pick`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_server_among(servers: u32, high: u64, low: u64, ports: u32) -> u32 {
    let (first, besides) = (servers & 0xffff, servers >> 16);
    let client = V6([high, low]);
    let (mut server, mut found, mut index) = (first, 0, 0);
    while index < LONGEST_RING {
        let Some(translation) = TRANSLATIONS.get(server) else { break };
        // Who sees an address of ours in the client's place answers that one.
        if server != besides && !translation.has_pool() {
            let has = match client.is_mapped() {
                true => lb_has_connection_v4(server, V4::of_this(&client).0, ports),
                false => lb_has_connection_v6(server, high, low, ports),
            };
            if has == IN_USE {
                return server | LIVE;
            }
            if has == OVER || translation.each_datagram != 0 {
                found = server;
            }
        }
        server = translation.next.into();
        if server == first {
            break;
        }
        index += 1;
    }
    found
}

/// What becomes of the question whether a server has a connection with a client; 0: it has none.
const OVER: u32 = 1;
const IN_USE: u32 = 2;

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_has_connection_v4(server: u32, client: u32, ports: u32) -> u32 {
    has_connection(server, V4(client), ports)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_has_connection_v6(server: u32, high: u64, low: u64, ports: u32) -> u32 {
    has_connection(server, V6([high, low]), ports)
}

/// Whether the server has a connection with this client and port.
#[inline(always)]
pub fn is_connected(server: ServerId, client: V6, ports: Ports) -> bool {
    let (server, ports) = (u32::from(server.0), ports.word());
    let has = match client.is_mapped() {
        true => lb_has_connection_v4(server, V4::of_this(&client).0, ports),
        false => lb_has_connection_v6(server, client.0[0], client.0[1], ports),
    };
    has != 0
}

/// Forgets the connection of the server with this client and port.
#[inline(always)]
pub fn forget(server: ServerId, client: V6, ports: Ports) {
    lb_forget_connection(server.0.into(), client.0[0], client.0[1], ports.word());
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_forget_connection(server: u32, high: u64, low: u64, ports: u32) -> u32 {
    let client = V6([high, low]);
    let forgotten = match client.is_mapped() {
        true => forget_of(server, V4::of_this(&client), ports),
        false => forget_of(server, client, ports),
    };
    u32::from(forgotten.is_some())
}

#[inline(always)]
fn forget_of<A: Family>(server: u32, client: A, ports: u32) -> Option<()> {
    let (page, seen) = connection(server, client, ports)?;
    if page.swap_entry(seen.slot, seen.entry, Entry::EMPTY) {
        owe(seen.entry.server(), seen.entry.counts().wrapping_neg());
    }
    Some(())
}

#[inline(always)]
fn has_connection<A: Family>(server: u32, client: A, ports: u32) -> u32 {
    match connection(server, client, ports).and_then(|(_, seen)| seen.entry.state()) {
        Some(state) if state.is_over_for_both() => OVER,
        Some(_) => IN_USE,
        None => 0,
    }
}

/// `ports` as of [`Ports::word`].
#[inline(always)]
fn connection<A: Family>(server: u32, client: A, ports: u32) -> Option<(MapPage<A>, Seen)> {
    let (entry, control) = (maps::server(ServerId(server as u16)), maps::control());
    let flow = Flow {
        source: client,
        destination: A::of_this(&entry.service.address),
        source_port: ports as u16,
        destination_port: entry.service.port_of((ports >> 16) as u16),
        protocol: Protocol::from_number((entry.service.port_and_protocol >> 16) as u8)?,
        ttl: 0,
        network: 0,
        transport: 0,
        total_length: 0,
    };
    let place = Place::of(&flow, control.hash_keys, A::page_mask(control));
    let page = MapPage::<A>::get(place.page)?;
    let own = |entry: Entry| (u32::from(entry.server().0) == server).then_some(());
    let (seen, ()) = table::find(&page, &place, flow.key(), own)?;
    Some((page, seen))
}
