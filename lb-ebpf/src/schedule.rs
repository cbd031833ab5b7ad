//! The pick among a service's servers: rules from `lb_common::schedule` and
//! `lb_common::tournament`, lists from the maps.

pub mod tournament;

use lb_common::addr::Address;
use lb_common::reason::Reason;
use lb_common::schedule::{self, Member, Schedule, Walk, Words};
use lb_common::server::ServerId;
use lb_common::service::ServiceId;
use lb_common::tournament::winner;

use self::tournament::MapPairs;
use crate::maps::{ACTIVE_SCHEDULES, CURSORS, SCHEDULE_WORDS, SCHEDULES};
use crate::sys::atomic;

/// What a scheduler may go by.
#[derive(Clone, Copy)]
pub struct Request<A> {
    pub service: ServiceId,
    pub client: A,
}

struct MapWords;

impl Words for MapWords {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u32> {
        SCHEDULE_WORDS.get(index).copied()
    }
}

/// The schedule in force.
#[inline(always)]
fn schedule(service: ServiceId) -> Option<&'static Schedule> {
    let active = ACTIVE_SCHEDULES.get(u32::from(service.0))?.get();
    SCHEDULES.get(u32::from(service.0) * 2 + (active & 1))
}

/// The server for a new connection, or why there is none.
#[inline(always)]
pub fn pick<A: Address>(request: &Request<A>) -> Result<ServerId, Reason> {
    let [high, low] = request.client.mapped().0;
    match lb_pick(u32::from(request.service.0), high, low) {
        NO_SERVER => Err(Reason::NoServer),
        UNKNOWN_SCHEDULER => Err(Reason::UnknownScheduler),
        server => Ok(ServerId(server as u16)),
    }
}

/// What [`lb_pick`] returns instead of a server's number.
const NO_SERVER: u32 = 0;
const UNKNOWN_SCHEDULER: u32 = 1 << 16;

/// [`pick`] in numbers, the client's address in two: the verifier looks at a function that is
/// global, of numbers alone, once and by itself, and not again wherever it is called.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_pick(service: u32, _client_high: u64, _client_low: u64) -> u32 {
    let service = ServiceId(service as u16);
    let Some(schedule) = schedule(service) else { return NO_SERVER };
    if schedule.member_count == 0 {
        return NO_SERVER;
    }
    let server = match schedule.scheduler().map(|scheduler| scheduler.walk()) {
        Some(Walk::Cursor) => by_cursor(service, schedule),
        Some(Walk::Least) => least_loaded(schedule),
        None => return UNKNOWN_SCHEDULER,
    };
    server.map_or(NO_SERVER, |server| u32::from(server.0))
}

#[inline(always)]
fn by_cursor(service: ServiceId, schedule: &Schedule) -> Option<ServerId> {
    let cursor = CURSORS.get_ptr_mut(u32::from(service.0))?;
    // SAFETY: `cursor` points into a map's value, which is aligned to 64 bytes.
    let cursor = unsafe { atomic::fetch_add(&raw mut (*cursor).0[0], 1) };
    schedule::by_cursor(&MapWords, schedule, cursor)
}

#[inline(always)]
fn least_loaded(schedule: &Schedule) -> Option<ServerId> {
    let winner = winner(&MapPairs, schedule.tree)?;
    MapWords.word(schedule.members.wrapping_add(winner)).map(|word| Member(word).server())
}

/// Whether no server takes new connections of the service.
#[inline(always)]
pub fn has_no_server(service: ServiceId) -> bool {
    schedule(service).is_none_or(|schedule| schedule.member_count == 0)
}

/// The server for a packet that gets no entry: the same one for a client while the servers are the
/// same.
#[inline(always)]
pub fn by_hash<A: Address>(request: &Request<A>) -> Option<ServerId> {
    schedule::by_hash(&MapWords, schedule(request.service)?, request.client.folded())
}
