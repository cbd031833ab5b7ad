//! The servers' connections now, and the tournaments: whoever changes the ones settles the
//! others.

use lb_common::schedule::tournament::{self, Contestant, Leaf, Pair, Pairs};
use lb_common::server::{Counts, ServerId};
use lb_common::service::limits::{Standing, Thresholds};

use crate::maps::{COUNTS, LEAVES, LIMITS, PAIRS};
use crate::sys::atomic;

pub struct MapPairs;

/// An element of the map, shared with other CPUs and with the controller.
pub struct MapPair(*mut [u64; 2]);

impl Pairs for MapPairs {
    type Pair = MapPair;
    #[inline(always)]
    fn pair(&self, index: u32) -> Option<MapPair> {
        PAIRS.get_ptr_mut(index).map(MapPair)
    }
}

impl MapPair {
    #[inline(always)]
    fn word(&self, side: u32) -> *mut u64 {
        // SAFETY: the mask keeps the index within the two words.
        unsafe { self.0.cast::<u64>().add(side as usize & 1) }
    }
}

impl Pair for MapPair {
    #[inline(always)]
    fn node(&self, side: u32) -> Contestant {
        // SAFETY: `word` points into a map's value and is aligned; volatile, because others write
        // there.
        Contestant(unsafe { self.word(side).read_volatile() })
    }
    #[inline(always)]
    fn set_node(&self, side: u32, to: Contestant) {
        // SAFETY: as above.
        unsafe { self.word(side).write_volatile(to.0) };
    }
}

/// Whether a server with these connections is full. With `note` that is noted.
#[inline(always)]
fn is_full(server: u32, counts: Counts, note: bool) -> bool {
    let Some(limits) = LIMITS.get_ptr_mut(server) else { return false };
    // SAFETY: a map's value, aligned; volatile, because others write there.
    let (thresholds, was) = unsafe {
        let thresholds = (&raw const (*limits).thresholds).cast::<u64>().read_volatile();
        (thresholds, (&raw const (*limits).full).cast::<u64>().read_volatile() != 0)
    };
    let full = Thresholds(thresholds).is_full(was, counts);
    if note && full != was {
        // SAFETY: as above; whichever CPU is the last, the controller sees to it that it is right.
        unsafe { (&raw mut (*limits).full).cast::<u64>().write_volatile(full as u64) };
    }
    full
}

/// Whether the server takes no new connections because it has as many as it may.
#[inline(always)]
pub fn has_no_room(server: ServerId) -> bool {
    let Some(counts) = COUNTS.get_ptr(u32::from(server.0)) else { return false };
    // SAFETY: a map's value, aligned to 8 bytes; volatile, because others write there.
    is_full(u32::from(server.0), Counts(unsafe { counts.read_volatile() }), false)
}

/// Settles with a server's counts what a change of an entry made of them.
#[inline(always)]
pub fn owe(server: ServerId, difference: u64) {
    if difference != 0 {
        lb_settle(u32::from(server.0), difference);
    }
}

/// [`owe`] in numbers; global for the verifier's sake, see [`super::lb_choose`]. Returns
/// nothing of interest: the verifier of 6.1 wants a number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_settle(server: u32, difference: u64) -> u32 {
    if let Some((leaf, counts)) = count(server, difference) {
        replay(server, leaf, counts);
    }
    0
}

/// Adds to a server's counts. Returns its leaf, and what the counts are now.
#[inline(always)]
fn count(server: u32, difference: u64) -> Option<(Leaf, Counts)> {
    let (counts, leaf) = (COUNTS.get_ptr_mut(server)?, LEAVES.get(server)?);
    // SAFETY: a map's value, aligned to 8 bytes.
    let before = unsafe { atomic::fetch_add(counts, difference) };
    Some((leaf.get(), Counts(before.wrapping_add(difference))))
}

/// Has the tournament of a server with these connections know of them, if there is one.
#[inline(always)]
fn replay(server: u32, leaf: Leaf, counts: Counts) {
    if !leaf.is_none() {
        // A tree that ends too early is the controller's defect; the counts are right nevertheless.
        let full = leaf.is_limited() && is_full(server, counts, true);
        let _ = tournament::replay(&MapPairs, leaf, Standing { counts, full });
    }
}

/// [`owe`] of a new connection, without a call where its server is in no tournament.
#[inline(always)]
pub fn owe_one(server: ServerId, difference: u64) {
    let server = u32::from(server.0);
    if let Some((leaf, counts)) = count(server, difference)
        && !leaf.is_none()
    {
        lb_replay(server, leaf.0, counts.0);
    }
}

/// [`owe`] without any call: returns the server's number if its tournament has still to know of it,
/// by [`lb_replay_both`]; else 0.
#[inline(always)]
pub fn add(server: ServerId, difference: u64) -> u32 {
    let number = u32::from(server.0);
    match count(number, difference) {
        Some((leaf, _)) if !leaf.is_none() => number,
        _ => 0,
    }
}

/// [`replay`] in numbers, as [`lb_settle`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_replay(server: u32, leaf: u64, counts: u64) -> u32 {
    replay(server, Leaf(leaf), Counts(counts));
    0
}

/// Has the tournaments of two servers know what connections these have now. 16 bits each; 0 is
/// none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_replay_both(servers: u64) -> u32 {
    replay_now((servers & 0xffff) as u32);
    replay_now((servers >> 16 & 0xffff) as u32);
    0
}

#[inline(always)]
fn replay_now(server: u32) {
    if server != 0
        && let (Some(counts), Some(leaf)) = (COUNTS.get_ptr(server), LEAVES.get(server))
    {
        // SAFETY: a map's value, aligned to 8 bytes; volatile, because others write there.
        lb_replay(server, leaf.get().0, unsafe { counts.read_volatile() });
    }
}
