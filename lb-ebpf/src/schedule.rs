//! The pick among a service's servers: rules from `lb_common::schedule` and
//! `lb_common::schedule::tournament`, lists from the maps.

pub mod binding;
pub mod tournament;

use aya_ebpf::helpers::bpf_get_prandom_u32;
use lb_common::addr::{Address, V6};
use lb_common::reason::Reason;
use lb_common::schedule::buckets;
use lb_common::schedule::tournament::winner;
use lb_common::schedule::{self, Hashed, Measure, Member, Schedule, Walk, Words};
use lb_common::server::{Counts, ServerId};
use lb_common::service::ServiceId;

use self::tournament::{MapPairs, has_no_room};
use crate::maps::{ACTIVE_SCHEDULES, COUNTS, CURSORS, SCHEDULE_WORDS, SCHEDULES};
use crate::sys::atomic;

/// What a scheduler may go by.
#[derive(Clone, Copy)]
pub struct Request<A> {
    /// See [`binding::numbered`].
    pub service: u32,
    pub client: A,
    pub client_port: u16,
    pub destination: A,
}

impl<A: Address> Request<A> {
    /// As a global function takes it; the destination, which dh alone goes by, as its hash.
    #[inline(always)]
    fn in_numbers(&self) -> (u32, u64, u64, u32, u32) {
        let [high, low] = self.client.mapped().0;
        let destination = buckets::hash(self.destination.mapped(), 0);
        (self.service, high, low, u32::from(self.client_port), destination)
    }
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
    let (service, high, low, port, destination) = request.in_numbers();
    // One call less for services that bind nobody.
    let picked = match service & binding::BINDS {
        0 => lb_choose(service, high, low, port, destination),
        _ => binding::lb_pick(service, high, low, port, destination),
    };
    match picked {
        NO_SERVER => Err(Reason::NoServer),
        UNKNOWN_SCHEDULER => Err(Reason::UnknownScheduler),
        server => Ok(ServerId(server as u16)),
    }
}

/// What [`lb_choose`] returns instead of a server's number.
const NO_SERVER: u32 = 0;
const UNKNOWN_SCHEDULER: u32 = 1 << 16;

/// The scheduler's pick in numbers, the client's address in two: the verifier looks at a function
/// that is global, of numbers alone, once and by itself, and not again wherever it is called.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_choose(
    service: u32,
    client_high: u64,
    client_low: u64,
    client_port: u32,
    destination: u32,
) -> u32 {
    let service = ServiceId(service as u16);
    let Some(schedule) = schedule(service) else { return NO_SERVER };
    if schedule.member_count == 0 {
        return NO_SERVER;
    }
    let server = match schedule.scheduler().map(|scheduler| scheduler.walk()) {
        Some(Walk::Cursor) => by_cursor(service, schedule),
        Some(Walk::Least(measure)) => least_loaded(schedule, measure),
        Some(Walk::Bucket(hashed)) => {
            let client = V6([client_high, client_low]);
            by_bucket(schedule, hashed, client, client_port as u16, destination)
        }
        Some(Walk::TwoChoices) => of_two(schedule),
        None => return UNKNOWN_SCHEDULER,
    };
    let server = match server {
        Some(server) if schedule.has(Schedule::LIMITED) && has_no_room(server) => {
            least_loaded(schedule, Measure::Load)
        }
        server => server,
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
fn least_loaded(schedule: &Schedule, measure: Measure) -> Option<ServerId> {
    let winner = winner(&MapPairs, schedule.tree, measure)?;
    MapWords.word(schedule.members.wrapping_add(winner)).map(|word| Member(word).server())
}

#[inline(always)]
fn by_bucket(
    schedule: &Schedule,
    hashed: Hashed,
    client: V6,
    client_port: u16,
    destination: u32,
) -> Option<ServerId> {
    let port = if schedule.has(Schedule::HASHES_PORT) { client_port } else { 0 };
    let hash = match hashed {
        Hashed::Client => buckets::hash(client, port),
        Hashed::Destination => destination,
    };
    buckets::by_bucket(&MapWords, schedule, hash)
}

#[inline(always)]
fn of_two(schedule: &Schedule) -> Option<ServerId> {
    let first = by_chance(schedule)?;
    let second = by_chance(schedule)?;
    Some(schedule::less_loaded(first, second).server())
}

/// A member that is drawn by weight, and its connections.
#[inline(always)]
fn by_chance(schedule: &Schedule) -> Option<(Member, Counts)> {
    // SAFETY: the helper takes nothing and returns a number.
    let random = unsafe { bpf_get_prandom_u32() };
    let member = schedule::by_chance(&MapWords, schedule, random)?;
    let counts = COUNTS.get_ptr(u32::from(member.server().0))?;
    // SAFETY: a map's value, aligned to 8 bytes; volatile, because others write there.
    Some((member, Counts(unsafe { counts.read_volatile() })))
}

/// Whether no server takes new connections of the service.
#[inline(always)]
pub fn has_no_server(service: ServiceId) -> bool {
    schedule(service).is_none_or(|schedule| schedule.member_count == 0)
}

/// The server for a packet that gets no entry: the same one for a client while the servers are the
/// same, and the scheduler's own pick if that is so, too.
#[inline(always)]
pub fn by_hash<A: Address>(request: &Request<A>) -> Option<ServerId> {
    let (service, high, low, port, destination) = request.in_numbers();
    match lb_pick_by_hash(service, high, low, port, destination) {
        NO_SERVER => None,
        server => Some(ServerId(server as u16)),
    }
}

/// [`by_hash`] in numbers, as [`lb_choose`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_pick_by_hash(
    service: u32,
    client_high: u64,
    client_low: u64,
    client_port: u32,
    destination: u32,
) -> u32 {
    let Some(schedule) = schedule(ServiceId(service as u16)) else { return NO_SERVER };
    if schedule.member_count == 0 {
        return NO_SERVER;
    }
    let client = V6([client_high, client_low]);
    let server = match schedule.scheduler().map(|scheduler| scheduler.walk()) {
        Some(Walk::Bucket(hashed)) => by_bucket(schedule, hashed, client, client_port as u16, destination),
        _ => schedule::by_hash(&MapWords, schedule, client.folded()),
    };
    server.map_or(NO_SERVER, |server| u32::from(server.0))
}
