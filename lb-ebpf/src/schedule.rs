//! The pick among a service's servers: rules from `lb_common::schedule`, lists from the maps.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lb_common::schedule::{self, Cells, Least, MAX_MEMBERS, Member, Plan};
use lb_common::server::{Counts, ServerId};
use lb_common::service::ServiceId;

use crate::maps::{CELLS, CHOICES, COUNTS, PLANS, TURNS};
use crate::{atomic, unknown_to_the_compiler};

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

/// The server for a new connection. `None`: the service has none that takes new connections.
#[inline(always)]
pub fn pick(service: ServiceId) -> Option<ServerId> {
    let plan = plan(service)?;
    if plan.walks_bands() {
        let turn = TURNS.get_ptr_mut(u32::from(service.0))?;
        // SAFETY: `turn` points into a map's value, which is aligned to 64 bytes.
        let turn = unsafe { atomic::fetch_add(&raw mut (*turn).0[0], 1) };
        schedule::by_turn(&MapCells, plan, turn)
    } else {
        least_loaded(plan)
    }
}

/// Whether no server takes new connections of the service.
#[inline(always)]
pub fn has_no_server(service: ServiceId) -> bool {
    plan(service).is_none_or(|plan| plan.member_count == 0)
}

/// The server for a packet that gets no entry: the same one for a client while the servers are the same.
#[inline(always)]
pub fn by_hash(service: ServiceId, client: u32) -> Option<ServerId> {
    schedule::by_hash(&MapCells, plan(service)?, client)
}

/// What the walk over the members hands from one step to the next.
#[repr(C)]
struct Walk {
    least: Least,
    members: u32,
    weighs: u32,
}

#[inline(always)]
fn least_loaded(plan: &Plan) -> Option<ServerId> {
    // The verifier of 6.1 follows one step of the loop only. If it knew that nothing is held before that one, it would cut
    // out of the step what compares with what earlier steps held, and the last member would always win.
    let zero = plan.members as usize ^ unknown_to_the_compiler(plan.members as usize);
    let mut walk = Walk {
        least: Least::from_zero(zero as u64),
        members: plan.members,
        weighs: u32::from(plan.weighs()),
    };
    // SAFETY: `weigh_one` has the signature that bpf_loop calls (kernel 5.17 and later), and `walk` outlives the loop.
    unsafe {
        bpf_loop(
            plan.member_count.min(MAX_MEMBERS),
            weigh_one as *const () as *mut c_void,
            (&raw mut walk).cast(),
            0,
        );
    }
    walk.least.server()
}

/// One step of the walk; 0 goes on, 1 ends it.
extern "C" fn weigh_one(index: u64, walk: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands back the pointer it was given.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    let Some(cell) = CELLS.get(walk.members.wrapping_add(index as u32)) else { return 1 };
    let member = Member(*cell);
    let Some(counts) = COUNTS.get(u32::from(member.server().0)) else { return 1 };
    walk.least.consider(member, Counts(*counts), walk.weighs != 0);
    0
}
