//! Which server a packet comes from, if it is one that is reached by address translation.

use lb_common::addr::{V4, V6};
use lb_common::connection::Entry;
use lb_common::frame::Flow;
use lb_common::nat::{self, Backend, LONGEST_RING};
use lb_common::server::ServerId;
use lb_common::service::Protocol;
use lb_common::table::{self, Page as _, Place, Seen};

use super::table::MapPage;
use crate::family::Family;
use crate::maps::{BACKENDS, CONTROL, GUESSES, SERVERS, TRANSLATIONS};
use crate::schedule::tournament::owe;

/// A server that has a connection with a client.
#[derive(Clone, Copy)]
pub struct Found {
    pub server: ServerId,
    /// The connection is not over.
    pub is_live: bool,
}

/// The server whose packet to this client comes from this address and port. Of several the one that
/// has a connection with the client.
#[inline(always)]
pub fn find<A: Family>(sent: &Flow<A>) -> Option<ServerId> {
    let key = Backend::new(sent.source.mapped(), sent.source_port, sent.protocol);
    // SAFETY: the value is a word, which is read whole.
    let first = unsafe { BACKENDS.get(&key) }.map(|first| *first as u16)?;
    if TRANSLATIONS.get(u32::from(first))?.next == first {
        if let Some(guess) = GUESSES.get_ptr_mut(nat::guess(sent.source, sent.source_port)) {
            // SAFETY: a map's value, aligned; whichever CPU writes last, it is such a server.
            unsafe { guess.write_volatile(first.into()) };
        }
        return Some(ServerId(first));
    }
    among(first, 0, sent.destination.mapped(), sent.destination_port).map(|found| found.server)
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
    (is_its && translation.next == guess).then_some(ServerId(guess))
}

/// The server of this ring that has a connection with the client and port; one that is not over, if
/// there is such a one. `besides` is none of them.
#[inline(always)]
pub fn among(first: u16, besides: u16, client: V6, port: u16) -> Option<Found> {
    let servers = u32::from(first) | u32::from(besides) << 16;
    match lb_server_among(servers, client.0[0], client.0[1], port.into()) {
        0 => None,
        found => Some(Found { server: ServerId(found as u16), is_live: found & LIVE != 0 }),
    }
}

/// In what [`lb_server_among`] returns.
const LIVE: u32 = 1 << 16;

/// [`among`] in numbers; global for the verifier's sake, see [`crate::schedule::lb_pick`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_server_among(servers: u32, high: u64, low: u64, port: u32) -> u32 {
    let (first, besides) = (servers & 0xffff, servers >> 16);
    let client = V6([high, low]);
    let (mut server, mut found, mut index) = (first, 0, 0);
    while index < LONGEST_RING {
        if server != besides {
            let has = match client.is_mapped() {
                true => lb_has_connection_v4(server, V4::of_this(&client).0, port),
                false => lb_has_connection_v6(server, high, low, port),
            };
            if has == IN_USE {
                return server | LIVE;
            }
            if has == OVER {
                found = server;
            }
        }
        let Some(translation) = TRANSLATIONS.get(server) else { break };
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
pub extern "C" fn lb_has_connection_v4(server: u32, client: u32, port: u32) -> u32 {
    has_connection(server, V4(client), port as u16)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_has_connection_v6(server: u32, high: u64, low: u64, port: u32) -> u32 {
    has_connection(server, V6([high, low]), port as u16)
}

/// Whether the server has a connection with this client and port.
#[inline(always)]
pub fn is_connected(server: ServerId, client: V6, port: u16) -> bool {
    among(server.0, 0, client, port).is_some_and(|found| found.server == server)
}

/// Forgets the connection of the server with this client and port.
#[inline(always)]
pub fn forget(server: ServerId, client: V6, port: u16) {
    lb_forget_connection(server.0.into(), client.0[0], client.0[1], port.into());
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_forget_connection(server: u32, high: u64, low: u64, port: u32) -> u32 {
    let client = V6([high, low]);
    let forgotten = match client.is_mapped() {
        true => forget_of(server, V4::of_this(&client), port as u16),
        false => forget_of(server, client, port as u16),
    };
    u32::from(forgotten.is_some())
}

#[inline(always)]
fn forget_of<A: Family>(server: u32, client: A, port: u16) -> Option<()> {
    let (page, seen) = connection(server, client, port)?;
    if page.swap_entry(seen.slot, seen.entry, Entry::EMPTY) {
        owe(seen.entry.server(), seen.entry.counts().wrapping_neg());
    }
    Some(())
}

#[inline(always)]
fn has_connection<A: Family>(server: u32, client: A, port: u16) -> u32 {
    match connection(server, client, port).and_then(|(_, seen)| seen.entry.state()) {
        Some(state) if state.is_over_for_both() => OVER,
        Some(_) => IN_USE,
        None => 0,
    }
}

#[inline(always)]
fn connection<A: Family>(server: u32, client: A, port: u16) -> Option<(MapPage<A>, Seen)> {
    let (entry, control) = (SERVERS.get(server)?, CONTROL.get(0)?);
    let flow = Flow {
        source: client,
        destination: A::of_this(&entry.service.address),
        source_port: port,
        destination_port: entry.service.port_and_protocol as u16,
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
