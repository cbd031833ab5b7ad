//! Persistence: the server that a client is bound to; see `lb_common::service::binding`. Global
//! functions of numbers, see [`super::lb_choose`].

use lb_common::addr::V6;
use lb_common::reason::TableEvent;
use lb_common::server::ServerId;
use lb_common::service::ServiceInfo;
use lb_common::service::binding::{Binding, BoundServer, Persistence};

use super::{NO_SERVER, UNKNOWN_SCHEDULER, lb_choose};
use crate::maps::{self, BINDINGS, BOUND_SERVERS, PERSISTENCE, TARGETS, TENTATIVE};
use crate::stats;
use crate::sys::clock::lb_now;

/// Beside a service's number: it binds clients.
pub const BINDS: u32 = 1 << 16;

/// For [`super::Request`]: the number of a service, and whether it binds clients.
#[inline(always)]
pub fn numbered(service: &ServiceInfo) -> u32 {
    u32::from(service.id.0) | u32::from(service.flags & ServiceInfo::PERSISTENT) << 10
}

const _: () = assert!((ServiceInfo::PERSISTENT as u32) << 10 == BINDS);

#[inline(always)]
fn persistence(service: u32) -> Option<&'static Persistence> {
    PERSISTENCE.get(service & 0xffff).filter(|persistence| persistence.group != 0)
}

/// What a binding says. Others write there; a server's address that was read half before and half
/// after a change is nobody's.
#[inline(always)]
fn read(binding: *const Binding) -> Binding {
    // SAFETY: a map's value, aligned; volatile, because other CPUs write there.
    unsafe { binding.read_volatile() }
}

/// The number that a server has in a service, if bound clients may go there.
#[inline(always)]
fn number(service: u32, server: V6) -> Option<u32> {
    let key = BoundServer { server, service: u64::from(service & 0xffff) };
    // SAFETY: the value is a number, which is read at once.
    let id = *unsafe { BOUND_SERVERS.get(&key) }?;
    maps::server(ServerId(id as u16)).next_hop.get().is_usable().then_some(id)
}

/// The server that a client is bound to, or [`NO_SERVER`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_bound(service: u32, client_high: u64, client_low: u64) -> u32 {
    let Some(persistence) = persistence(service) else { return NO_SERVER };
    let key = persistence.key(V6([client_high, client_low]));
    let binding = match BINDINGS.get_ptr_mut(&key) {
        Some(binding) => binding,
        None => match TENTATIVE.get_ptr_mut(&key) {
            Some(binding) => binding,
            None => return NO_SERVER,
        },
    };
    let now = lb_now();
    let Binding { server, until_ns } = read(binding);
    if until_ns <= now {
        return NO_SERVER;
    }
    let Some(id) = number(service, server) else { return NO_SERVER };
    if persistence.at_once != 0 {
        // SAFETY: a map's value, aligned; any of several CPUs may be the last.
        unsafe { (&raw mut (*binding).until_ns).write_volatile(now + persistence.timeout_ns) };
    }
    id
}

/// Binds a client to the server that was picked for it, for a start.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_bind(service: u32, client_high: u64, client_low: u64, id: u32) -> u32 {
    let Some(persistence) = persistence(service) else { return 0 };
    let Some(server) = TARGETS.get(id) else { return 0 };
    let binding = Binding { server: *server, until_ns: lb_now() + persistence.tentative_ns };
    // A fallback binds nobody: its clients come back to their servers.
    if number(service, binding.server) != Some(id) {
        return 0;
    }
    let key = persistence.key(V6([client_high, client_low]));
    // The server that the client was bound to is not to be had any more.
    let _ = BINDINGS.remove(&key);
    // Where there is no room, the client is not bound yet.
    let _ = TENTATIVE.insert(&key, &binding, 0);
    0
}

/// Notes that a client's connection to a server is alive: the client is bound to it from now on, or
/// for longer, unless it is bound to another one.
///
/// The first packet has bound it for a start, for as long as it may take to prove the connection.
/// Whoever is bound neither so nor for good was, and has given way to others.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_prolong(service: u32, client_high: u64, client_low: u64, id: u32) -> u32 {
    let Some(persistence) = persistence(service) else { return 0 };
    let Some(server) = TARGETS.get(id) else { return 0 };
    let now = lb_now();
    let binding = Binding { server: *server, until_ns: now + persistence.timeout_ns };
    if number(service, binding.server) != Some(id) {
        return 0;
    }
    let key = persistence.key(V6([client_high, client_low]));
    if let Some(known) = BINDINGS.get_ptr_mut(&key) {
        let Binding { server, until_ns } = read(known);
        if server == binding.server {
            // SAFETY: a map's value, aligned; any of several CPUs may be the last.
            unsafe { (&raw mut (*known).until_ns).write_volatile(binding.until_ns) };
            return 0;
        }
        if until_ns > now && number(service, server).is_some() {
            return 0;
        }
    } else {
        let until = match TENTATIVE.get_ptr_mut(&key) {
            Some(known) => {
                let Binding { server, until_ns } = read(known);
                if until_ns > now && server != binding.server && number(service, server).is_some() {
                    return 0;
                }
                until_ns
            }
            None => 0,
        };
        if until <= now {
            stats::table(TableEvent::BindingLost);
        }
    }
    let _ = BINDINGS.insert(&key, &binding, 0);
    0
}

/// The server for a new connection of a service that binds clients: the client's, or the
/// scheduler's pick, which then is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_pick(
    service: u32,
    client_high: u64,
    client_low: u64,
    client_port: u32,
    destination: u32,
) -> u32 {
    let bound = lb_bound(service, client_high, client_low);
    if bound != NO_SERVER {
        return bound;
    }
    let server = lb_choose(service, client_high, client_low, client_port, destination);
    if server != NO_SERVER && server != UNKNOWN_SCHEDULER {
        lb_bind(service, client_high, client_low, server);
    }
    server
}
