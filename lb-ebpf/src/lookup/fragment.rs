//! Fragments: where the first one of a datagram went, and what has come of it. The rules are
//! `lb_common::packet::fragment`.

use lb_common::packet::fragment::{Covered, Datagram, Key, Piece, Progress, TIMEOUT_NS, Trail};
use lb_common::packet::frame::Flow;
use lb_common::reason::Reason;

use super::connection::Decision;
use crate::maps::{DECIDED, FRAGMENTS, NEW_TRAIL};
use crate::sys::atomic;

/// Tells `path::related`, which is another program, where the packet goes.
#[inline(always)]
pub fn leave(decision: &Decision) {
    if let Some(left) = DECIDED.get_ptr_mut(0) {
        // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
        unsafe { *left = *decision };
    }
}

/// What [`leave`] has told.
#[inline(always)]
pub fn left() -> Option<Decision> {
    // SAFETY: as above.
    DECIDED.get_ptr_mut(0).map(|left| unsafe { *left })
}

/// Remembers where a first fragment goes. An earlier datagram of the same id is forgotten.
#[inline(always)]
pub fn remember<A>(key: &Key, piece: Piece, flow: &Flow<A>, decision: &Decision, now_ns: u64) {
    let ports = [flow.source_port, flow.destination_port];
    let datagram = Datagram::new(decision.server, ports, flow.protocol);
    let (covered, progress) = (Covered::of(piece), Progress(piece.progress()));
    let trail = Trail { until_ns: now_ns + TIMEOUT_NS, datagram, covered, progress };
    let Some(room) = NEW_TRAIL.get_ptr_mut(0) else { return };
    // SAFETY: a per-CPU value; XDP programs do not interrupt each other on one CPU.
    let (key, trail) = unsafe {
        *room = (*key, trail);
        (&(*room).0, &(*room).1)
    };
    // Where there is no room, the others are fragments of an unknown datagram.
    let _ = FRAGMENTS.insert(key, trail, 0);
}

/// What the first fragment has left.
#[inline(always)]
pub fn trail(key: &Key, now_ns: u64) -> Option<(*mut Trail, Datagram)> {
    let trail = FRAGMENTS.get_ptr_mut(key)?;
    // SAFETY: a map's value, aligned; other CPUs may write there.
    let until_ns = unsafe { (&raw const (*trail).until_ns).read_volatile() };
    // SAFETY: as above, and any words make a `Datagram`.
    let datagram = unsafe { (&raw const (*trail).datagram).read_volatile() };
    (now_ns < until_ns).then_some((trail, datagram))
}

/// Notes that a later fragment has come, or says why it is not sent now. Where nothing is missing
/// any more the trail ends: the id may be used again at once, and the next datagram's fragments may
/// come in another order. By then the key may lead to that one's trail, so nothing is removed by
/// it.
#[inline(always)]
pub fn note(trail: *mut Trail, piece: Piece) -> Result<(), Reason> {
    // SAFETY: a map's value, aligned.
    let words = unsafe { &raw mut (*trail).covered.0 }.cast::<u32>();
    // SAFETY: the array has four words; other CPUs may write there.
    let word = |index: usize| unsafe { words.add(index).read_volatile() };
    let Covered(after) = Covered([word(0), word(1), word(2), word(3)]).with(piece)?;
    let mut index = 0;
    while index < after.len() {
        // SAFETY: as above. Each word is true by itself, see `Covered`.
        unsafe { words.add(index).write_volatile(after[index]) };
        index += 1;
    }
    // SAFETY: as above.
    let progress = unsafe { &raw mut (*trail).progress }.cast::<u64>();
    let added = piece.progress();
    // SAFETY: as above; others add, too.
    let before = unsafe { atomic::fetch_add(progress, added) };
    if Progress(before.wrapping_add(added)).is_whole() {
        // SAFETY: as above.
        unsafe { (&raw mut (*trail).until_ns).write_volatile(0) };
    }
    Ok(())
}
