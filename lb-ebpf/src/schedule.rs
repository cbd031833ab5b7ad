//! The pick among a service's servers: rules from `lb_common::schedule` and
//! `lb_common::tournament`, lists from the maps.

use lb_common::reason::Reason;
use lb_common::schedule::{self, Cells, Member, Plan, Walk};
use lb_common::server::ServerId;
use lb_common::service::ServiceId;
use lb_common::tournament;

use crate::atomic;
use crate::counts::MapPairs;
use crate::maps::{CELLS, CHOICES, PLANS, TURNS};

struct MapCells;

impl Cells for MapCells {
    #[inline(always)]
    fn cell(&self, index: u32) -> Option<u32> {
        CELLS.get(index).copied()
    }
}

/// The plan in force.
#[inline(always)]
fn plan(service: ServiceId) -> Option<&'static Plan> {
    let choice = *CHOICES.get(u32::from(service.0))?;
    PLANS.get(u32::from(service.0) * 2 + (choice & 1))
}

/// The server for a new connection, or why there is none.
#[inline(always)]
pub fn pick(service: ServiceId) -> Result<ServerId, Reason> {
    match lb_pick(u32::from(service.0)) {
        NO_SERVER => Err(Reason::NoServer),
        UNKNOWN_SCHEDULER => Err(Reason::UnknownScheduler),
        server => Ok(ServerId(server as u16)),
    }
}

/// What [`lb_pick`] returns instead of a server's number.
const NO_SERVER: u32 = 0;
const UNKNOWN_SCHEDULER: u32 = 1 << 16;

/// [`pick`] in numbers: the verifier looks at a function that is global, of numbers alone, once and
/// by itself, and not again wherever it is called.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_pick(service: u32) -> u32 {
    let service = ServiceId(service as u16);
    let Some(plan) = plan(service) else { return NO_SERVER };
    if plan.member_count == 0 {
        return NO_SERVER;
    }
    let server = match plan.scheduler().map(|scheduler| scheduler.walk()) {
        Some(Walk::Cursor) => by_cursor(service, plan),
        Some(Walk::Least) => least_loaded(plan),
        None => return UNKNOWN_SCHEDULER,
    };
    server.map_or(NO_SERVER, |server| u32::from(server.0))
}

#[inline(always)]
fn by_cursor(service: ServiceId, plan: &Plan) -> Option<ServerId> {
    let turn = TURNS.get_ptr_mut(u32::from(service.0))?;
    // SAFETY: `turn` points into a map's value, which is aligned to 64 bytes.
    let turn = unsafe { atomic::fetch_add(&raw mut (*turn).0[0], 1) };
    schedule::by_turn(&MapCells, plan, turn)
}

#[inline(always)]
fn least_loaded(plan: &Plan) -> Option<ServerId> {
    let winner = tournament::winner(&MapPairs, plan.tree)?;
    MapCells.cell(plan.members.wrapping_add(winner)).map(|cell| Member(cell).server())
}

/// Whether no server takes new connections of the service.
#[inline(always)]
pub fn has_no_server(service: ServiceId) -> bool {
    plan(service).is_none_or(|plan| plan.member_count == 0)
}

/// The server for a packet that gets no entry: the same one for a client while the servers are the
/// same.
#[inline(always)]
pub fn by_hash(service: ServiceId, client: u32) -> Option<ServerId> {
    schedule::by_hash(&MapCells, plan(service)?, client)
}
