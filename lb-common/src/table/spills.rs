//! Which lines of a page have connections that stand elsewhere: with that a packet whose first line
//! does not know it is known to be new, or nobody's, without a look at the other lines.
//!
//! A page has a bit for each of its lines, in two words. Whoever puts a connection elsewhere sets
//! the line's bit in `recent` first, and writes the line into the entry
//! ([`Entry::away_from`](crate::table::connection::Entry::away_from)). The walk over the table
//! moves `recent` to `settled`, and leaves out of `settled` what neither the entries nor `recent`
//! name any more. So a bit that was set while a walk passed by stays until the next one, half a
//! second later: a packet is done in microseconds, and its entry is found by then.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::table::connection::Tick;

/// Entry of the maps `SPILLS_V4` and `SPILLS_V6`, by page. All zero for an empty page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(32))]
pub struct RawSpills {
    /// Lines that have had a connection put elsewhere since the last walk.
    pub recent: u64,
    /// Lines that have had a connection put elsewhere before that.
    pub settled: u64,
    /// See [`Pressed`].
    pub pressed: u64,
    pub reserved: u64,
}

const _: () = assert!(size_of::<RawSpills>() == 32);

/// When a connection last found all its lines full: a tick and a bit that tells it from never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressed(pub u64);

impl Pressed {
    const EVER: u64 = 1 << 32;

    #[inline(always)]
    pub const fn at(now: Tick) -> Self {
        Self(Self::EVER | now.0 as u64)
    }

    /// Whether that was in this tick or in the one before.
    #[inline(always)]
    pub const fn is_recent(self, now: Tick) -> bool {
        self.0 == Self::at(now).0 || self.0 == Self::EVER | now.before().0 as u64
    }
}

/// The words of a page in memory that others write at the same time.
pub trait Spills {
    fn recent(&self) -> u64;
    /// Bits of both words. `recent` is read first: a walk moves bits from there to `settled`.
    fn lines(&self) -> u64;
    /// Sets bits, as one step with full ordering.
    fn add_recent(&self, bits: u64);
    fn pressed(&self) -> Pressed;
    fn set_pressed(&self, pressed: Pressed);
}

/// Whether connections of this line may stand elsewhere.
#[inline(always)]
pub fn spilled<S: Spills>(spills: &S, line: u32) -> bool {
    spills.lines() >> line & 1 != 0
}

/// Notes that a connection of this line is about to stand elsewhere.
#[inline(always)]
pub fn spill<S: Spills>(spills: &S, line: u32) {
    let bit = 1 << line;
    // Also if `settled` has it: a walk may be about to leave it out.
    if spills.recent() & bit == 0 {
        spills.add_recent(bit);
    }
}

/// What a walk does besides.
pub trait Settle: Spills {
    fn settled(&self) -> u64;
    fn clear_recent(&self, bits: u64);
    fn add_settled(&self, bits: u64);
    /// Stores `to` if `from` is there.
    fn swap_settled(&self, from: u64, to: u64);
}

/// A walk over one page, from before its entries are looked at until after.
pub struct Walk {
    before: u64,
    kept: u64,
}

impl Walk {
    pub fn begin<S: Settle>(spills: &S) -> Self {
        let kept = spills.recent();
        if kept != 0 {
            // First here, then no longer there: no packet misses a bit.
            spills.add_settled(kept);
            spills.clear_recent(kept);
        }
        Self { before: spills.settled(), kept }
    }

    /// `found`: lines that entries name.
    pub fn end<S: Settle>(self, spills: &S, found: u64) {
        let settled = found | self.kept;
        if settled != self.before {
            spills.swap_settled(self.before, settled);
        }
    }
}
