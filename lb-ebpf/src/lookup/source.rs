//! What stands in the place of a client at a server with `source_nat`, and the client behind it.
//! The rules are `lb_common::forward::nat::source`.

use lb_common::addr::V6;
use lb_common::forward::nat::source::{ATTEMPTS, Client, Endpoint, Reply};
use lb_common::server::ServerId;

use crate::maps::{ENDPOINT, POOLS, REPLIES, SOURCES, TRANSLATIONS, control};

/// BPF_NOEXIST: the insertion fails where the key is there.
const ONLY_NEW: u64 = 1;
/// Beside a port: one of ours may be taken for the connection.
const BEGINS: u32 = 1 << 16;

/// Looks for what stands in the place of this client at the server, and takes a port for it if
/// there is nothing yet and `begins`. Whether there is something, which [`found`] returns then.
/// `service_port`: 0 where the service has one port.
#[inline(always)]
pub fn find(server: ServerId, service_port: u16, client: V6, port: u16, begins: bool) -> bool {
    let port = u32::from(port) | if begins { BEGINS } else { 0 };
    let server = u32::from(server.0) | u32::from(service_port) << 16;
    lb_source_of(server, client.0[0], client.0[1], port) != 0
}

/// What [`find`] or [`lb_client_of`] has found.
#[inline(always)]
pub fn found() -> Option<&'static Endpoint> {
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    ENDPOINT.get_ptr_mut(0).map(|found| unsafe { &*found })
}

#[inline(always)]
fn leave(endpoint: Endpoint) -> u32 {
    let Some(left) = ENDPOINT.get_ptr_mut(0) else { return 0 };
    // SAFETY: as above.
    unsafe { *left = endpoint };
    1
}

/// [`find`] in numbers, the service's port above the server's; global for the verifier's sake, see
/// [`crate::schedule::lb_pick`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_source_of(server: u32, high: u64, low: u64, port: u32) -> u32 {
    let client = Client::new(V6([high, low]), port as u16, server as u16, (server >> 16) as u16);
    // SAFETY: what is there never changes.
    if let Some(known) = unsafe { SOURCES.get(&client) } {
        return leave(*known);
    }
    if port & BEGINS == 0 {
        return 0;
    }
    lb_take_source(server, high, low, port)
}

/// Takes a port for the connection.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_take_source(server: u32, high: u64, low: u64, port: u32) -> u32 {
    let client = Client::new(V6([high, low]), port as u16, server as u16, (server >> 16) as u16);
    try_to_take(&client).unwrap_or(0)
}

#[inline(always)]
fn try_to_take(client: &Client) -> Option<u32> {
    let translation = TRANSLATIONS.get(client.server.into())?;
    let pool = POOLS.get(translation.pool.into())?;
    let hash = client.hash(control().hash_keys);
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        let endpoint = pool.candidate(hash, attempt)?;
        let reply = Reply::new(translation, translation.port_of(client.service_port), &endpoint);
        if REPLIES.insert(&reply, client, ONLY_NEW).is_ok() {
            return Some(keep(client, endpoint, &reply));
        }
        attempt += 1;
    }
    None
}

/// The port is the connection's, unless another CPU has taken one meanwhile.
#[inline(always)]
fn keep(client: &Client, endpoint: Endpoint, reply: &Reply) -> u32 {
    if SOURCES.insert(client, &endpoint, ONLY_NEW).is_ok() {
        return leave(endpoint);
    }
    // It has just been inserted, and nobody knows of it.
    let _ = REPLIES.remove(reply);
    // SAFETY: as above.
    match unsafe { SOURCES.get(client) } {
        Some(known) => leave(*known),
        None => 0,
    }
}

/// The server that has sent a packet to this address and port of ours; the client that it is for is
/// left for [`found`]. `first` is one of the server's ring, `ports` are this port of ours and the
/// server's above. 0: it belongs to no connection. In numbers, as [`lb_source_of`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_client_of(first: u32, high: u64, low: u64, ports: u32) -> u32 {
    let Some(translation) = TRANSLATIONS.get(first) else { return 0 };
    let endpoint = Endpoint { address: V6([high, low]), port: ports as u16, reserved: [0; 3] };
    let reply = Reply::new(translation, (ports >> 16) as u16, &endpoint);
    // SAFETY: what is there never changes.
    let Some(client) = (unsafe { REPLIES.get(&reply) }) else { return 0 };
    // The number has become another one's if the backend is not the same.
    if TRANSLATIONS.get(client.server.into()).is_none_or(|server| !server.is_same_backend(translation)) {
        return 0;
    }
    leave(Endpoint { address: client.address, port: client.port, reserved: [0; 3] });
    client.server.into()
}
