//! Whether this director serves a group of VIPs now: rules from `lb_common::lease`, words from the
//! map.

use lb_common::addr::V6;
use lb_common::control::Control;
use lb_common::lease::{self, GroupIndex, Lease};
use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_common::service::ServiceInfo;
use lb_common::shared_field;
use lb_common::table::connection::{Entry, Generation};

use crate::maps::VIPS;

/// Whether packets of services under this lease are balanced.
#[inline(always)]
pub fn balances(control: &Control, group: GroupIndex, now_ns: u64) -> bool {
    lease::balances(shared_field!(control.leases[group.index()], balance_until), now_ns)
}

/// Whether packets that another director relays go on to their servers, see `Lease::serves_on`.
#[inline(always)]
pub fn serves_on(control: &Control, group: GroupIndex, now_ns: u64) -> bool {
    lease::serves_on(shared_field!(control.leases[group.index()], serve_on_until), now_ns)
}

/// As `Lease::is_outlived_by` has it, of what the table knows.
#[inline(always)]
pub fn is_outlived(control: &Control, group: GroupIndex, entry: Option<Entry>, now_ns: u64) -> bool {
    entry.is_some_and(|entry| read(control, group).is_outlived_by(entry, now_ns))
}

/// The generation of entries that are written now.
#[inline(always)]
pub fn generation(control: &Control, group: GroupIndex) -> Generation {
    Generation::from_number(shared_field!(control.leases[group.index()], generation))
}

/// The other director of a take-over: two words of the lease instead of all.
#[inline(always)]
pub fn relay(control: &Control, group: GroupIndex, now_ns: u64) -> Option<Mac> {
    let lease = &control.leases[group.index()];
    lease::relay(shared_field!(lease, relay), shared_field!(lease, relay_until), now_ns)
}

/// All words of a lease, for what does not happen to every packet. Each of them is whole, but the
/// controller may have written some of them anew and not yet the others; see `lb_model::lease`.
#[inline(always)]
pub fn read(control: &Control, group: GroupIndex) -> Lease {
    let lease = &control.leases[group.index()];
    // Field by field: what nobody asks for is not read, and nothing of it stands on the stack.
    Lease {
        balance_until: shared_field!(lease, balance_until),
        generation: shared_field!(lease, generation),
        answer_until: shared_field!(lease, answer_until),
        relay: shared_field!(lease, relay),
        relay_until: shared_field!(lease, relay_until),
        serve_on_until: shared_field!(lease, serve_on_until),
        reserved: [0; 2],
    }
}

/// The group that a VIP is in; `None`: the address is no VIP, or one of no group.
#[inline(always)]
pub fn group_of(address: &V6) -> Option<GroupIndex> {
    // SAFETY: the value is a plain word, and any word makes an index.
    unsafe { VIPS.get(address) }.map(|group| GroupIndex::from_number(*group as u8))
}

/// Whether the host must not be heard to have `address`: it is a VIP, and its group has no lease.
#[inline(always)]
pub fn silences(control: &Control, address: &V6, now_ns: u64) -> bool {
    group_of(address).is_some_and(|group| !read(control, group).answers(now_ns))
}

/// Whether what belongs to a connection, and is not in the table itself, goes on: under the lease
/// of its service, or while that is lapsing, as connections do that outlive it.
#[inline(always)]
pub fn goes_on(control: &Control, service: &ServiceInfo, now_ns: u64) -> Result<(), Reason> {
    if balances(control, service.group, now_ns) {
        return Ok(());
    }
    let refusal = read(control, service.group).refusal(now_ns);
    let lapses = refusal == Reason::LeaseLapsed && !service.has(ServiceInfo::DIRECTOR_SERVES);
    if lapses { Ok(()) } else { Err(refusal) }
}
