//! Whether this director serves a group of VIPs now: rules from `lb_common::lease`, words from the map.

use lb_common::connection::Generation;
use lb_common::control::Control;
use lb_common::lease::{Lease, Slot};

use crate::maps::VIPS;

/// Whether packets of services under this lease are balanced.
#[inline(always)]
pub fn balances(control: &Control, slot: Slot, now_ns: u64) -> bool {
    let until = &raw const control.leases[slot.index()].balance_until;
    // SAFETY: a map's value, aligned; volatile, because the controller renews it at any time.
    now_ns < unsafe { until.read_volatile() }
}

/// As `Lease::serves_on` has it.
#[inline(always)]
pub fn serves_on(control: &Control, slot: Slot, now_ns: u64) -> bool {
    let until = &raw const control.leases[slot.index()].serve_on_until;
    // SAFETY: as above.
    now_ns < unsafe { until.read_volatile() }
}

/// The generation of entries that are written now.
#[inline(always)]
pub fn generation(control: &Control, slot: Slot) -> Generation {
    let generation = &raw const control.leases[slot.index()].generation;
    // SAFETY: as above.
    Generation::from_number(unsafe { generation.read_volatile() })
}

/// The other director of a hand-over, as `Lease::relay` has it: two words instead of all.
#[inline(always)]
pub fn relay(control: &Control, slot: Slot, now_ns: u64) -> Option<u64> {
    let lease = &raw const control.leases[slot.index()];
    // SAFETY: as above.
    let (relay, until) = unsafe {
        ((&raw const (*lease).relay).read_volatile(), (&raw const (*lease).relay_until).read_volatile())
    };
    (now_ns < until && relay != 0).then_some(relay)
}

/// All words of a lease, for what does not happen to every packet. Each of them is whole, but the controller may have
/// written some of them anew and not yet the others; see `lb_model::lease`.
#[inline(always)]
pub fn read(control: &Control, slot: Slot) -> Lease {
    // SAFETY: as above.
    unsafe { (&raw const control.leases[slot.index()]).read_volatile() }
}

/// The lease that a VIP is under; `None`: the address is no VIP, or one of no group.
#[inline(always)]
pub fn slot_of(address: &[u64; 2]) -> Option<Slot> {
    // SAFETY: the value is a plain word, and any word makes a slot.
    unsafe { VIPS.get(address) }.map(|slot| Slot::from_number(*slot as u8))
}

/// Whether the host must not be heard to have `address`: it is a VIP, and its group has no lease.
#[inline(always)]
pub fn silences(control: &Control, address: &[u64; 2], now_ns: u64) -> bool {
    slot_of(address).is_some_and(|slot| !read(control, slot).answers(now_ns))
}
