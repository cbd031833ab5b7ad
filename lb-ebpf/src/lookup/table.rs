//! The connection table in the maps: its pages, and a new connection's way into one. The rules are
//! `lb_common::table`.

use core::marker::PhantomData;

use lb_common::addr::{V4, V6};
use lb_common::reason::TableEvent;
use lb_common::table::connection::{Entry, Key as _, KeyV4, KeyV6, Tick};
use lb_common::table::spills::{Pressed, RawSpills, Spills};
use lb_common::table::{self, Layout as _, Page, Place, RawPage, Seen, WORDS_PER_PAGE};

use crate::family::Family;
use crate::maps::{OVERFLOW_GROUPS, OVERFLOWS, control};
use crate::schedule::tournament::{add, lb_replay_both, owe_one};
use crate::stats;
use crate::sys::clock::now_ns;
use crate::sys::{atomic, forgotten};

/// A page of the map, shared with other CPUs and with the controller.
pub struct MapPage<A> {
    page: *mut RawPage,
    index: u32,
    family: PhantomData<A>,
}

impl<A: Family> MapPage<A> {
    #[inline(always)]
    pub fn get(index: u32) -> Option<Self> {
        A::page(index).map(|page| Self { page, index, family: PhantomData })
    }

    #[inline(always)]
    fn word(&self, word: u32) -> *mut u64 {
        let index = (word & (WORDS_PER_PAGE - 1)) as usize;
        // SAFETY: the mask keeps the index within the page's words.
        unsafe { (&raw mut (*self.page).0).cast::<u64>().add(index) }
    }

    #[inline(always)]
    fn spills(&self) -> Option<*mut RawSpills> {
        A::spills(self.index)
    }

    /// Notes for the controller that a connection of this page was established or has ended.
    #[inline(always)]
    pub fn note_change(&self) {
        const PAGES_PER_WORD: u32 = u64::BITS / u8::BITS;
        if let Some(word) = A::changed(self.index / PAGES_PER_WORD) {
            let byte = (self.index % PAGES_PER_WORD) as usize;
            // SAFETY: within a map's value; volatile, because others write there. Whoever comes
            // last, it is a 1.
            unsafe { word.cast::<u8>().add(byte).write_volatile(1) };
        }
    }
}

// SAFETY of the three accesses: `word` points into a map's value and is aligned; volatile, because
// others write there.
impl<A: Family> Page for MapPage<A> {
    type Key = A::Key;
    #[inline(always)]
    fn read(&self, word: u32) -> u64 {
        // SAFETY: see above.
        unsafe { self.word(word).read_volatile() }
    }
    /// By the slot's address, so that its words stand at fixed distances from one register.
    #[inline(always)]
    fn word_of(&self, slot: u32, word: u32) -> u64 {
        let slot = self.word((slot & (A::Key::SLOTS_PER_PAGE - 1)) * A::Key::WORDS_PER_SLOT);
        // SAFETY: see above; the mask keeps the word within its slot.
        unsafe { slot.add((word & (A::Key::WORDS_PER_SLOT - 1)) as usize).read_volatile() }
    }
    #[inline(always)]
    fn write(&self, word: u32, value: u64) {
        // SAFETY: see above.
        unsafe { self.word(word).write_volatile(value) };
    }
    #[inline(always)]
    fn forgotten(number: u32, unknown: u64) -> u32 {
        forgotten(number as usize, unknown as usize) as u32
    }
    #[inline(always)]
    fn swap(&self, word: u32, from: u64, to: u64) -> bool {
        // SAFETY: see above.
        unsafe { atomic::compare_and_swap(self.word(word), from, to) }
    }
}

// SAFETY of the accesses: a map's value, aligned; volatile, because others write there. Where the
// map ends too early, every line is taken to be spilled.
impl<A: Family> Spills for MapPage<A> {
    #[inline(always)]
    fn recent(&self) -> u64 {
        // SAFETY: see above.
        self.spills().map_or(0, |spills| unsafe { (&raw const (*spills).recent).read_volatile() })
    }
    #[inline(always)]
    fn lines(&self) -> u64 {
        let Some(spills) = self.spills() else { return u64::MAX };
        // SAFETY: see above.
        let recent = unsafe { (&raw const (*spills).recent).read_volatile() };
        // SAFETY: see above.
        recent | unsafe { (&raw const (*spills).settled).read_volatile() }
    }
    #[inline(always)]
    fn add_recent(&self, bits: u64) {
        if let Some(spills) = self.spills() {
            // SAFETY: see above.
            unsafe { atomic::or(&raw mut (*spills).recent, bits) };
        }
    }
    #[inline(always)]
    fn pressed(&self) -> Pressed {
        // SAFETY: see above.
        let pressed =
            self.spills().map_or(0, |spills| unsafe { (&raw const (*spills).pressed).read_volatile() });
        Pressed(pressed)
    }
    #[inline(always)]
    fn set_pressed(&self, pressed: Pressed) {
        if let Some(spills) = self.spills() {
            // SAFETY: see above.
            unsafe { (&raw mut (*spills).pressed).write_volatile(pressed.0) };
        }
    }
}

/// Gives a new connection its entry in a slot of its first line that was empty a moment ago.
/// `false`: another CPU was faster.
#[inline(always)]
pub fn settle_in<A: Family>(
    page: &MapPage<A>,
    place: &Place,
    slot: u32,
    key: A::Key,
    entry: Entry,
    now: Tick,
) -> bool {
    let taken = table::take(page, place, Seen { slot, entry: Entry::EMPTY }, key, entry, now);
    if taken {
        owe_one(entry.server(), entry.counts());
    }
    taken
}

/// Gives a new connection its entry. `false`: no slot could be had.
#[inline(always)]
pub fn learn<A: Family>(place: &Place, key: A::Key, entry: Entry, now_ns: u64) -> bool {
    // Twice: if another CPU takes the slot first, there is another one.
    let mut tries = 0;
    while tries < 2 {
        let result = A::learn(place.packed(), key, entry.0);
        match result & STATUS {
            LEARNT => {
                if result != LEARNT {
                    lb_replay_both(result >> TO_REPLAY);
                }
                return true;
            }
            CONTENDED => tries += 1,
            _ => break,
        }
    }
    stats::table(TableEvent::Full);
    if let Some(last) = OVERFLOWS.get_ptr_mut(place.page % OVERFLOW_GROUPS) {
        // SAFETY: a map's value, aligned; whichever CPU writes last, the time is right.
        unsafe { last.cast::<u64>().write_volatile(now_ns) };
    }
    false
}

/// What one try of [`learn`] returns; 0 if every slot is in use. Above, with [`LEARNT`]: two
/// servers for [`lb_replay_both`].
const STATUS: u64 = 3;
const LEARNT: u64 = 1;
const CONTENDED: u64 = 2;
const TO_REPLAY: u32 = 16;

/// One try of [`learn`] in numbers; global for the verifier's sake, see
/// [`crate::schedule::lb_choose`]. It calls nothing: of those who call it some have no stack left,
/// and where a table is full each return counts.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_learn_v4(place: u64, key: u64, entry: u64) -> u64 {
    try_to_learn::<V4>(&Place::from_packed(place), KeyV4(key), Entry(entry)).unwrap_or(0)
}

/// The same for IPv6, with the key's three words.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_learn_v6(place: u64, first: u64, second: u64, third: u64, entry: u64) -> u64 {
    let key = KeyV6::from_words(|number| match number {
        0 => first,
        1 => second,
        _ => third,
    });
    try_to_learn::<V6>(&Place::from_packed(place), key, Entry(entry)).unwrap_or(0)
}

/// `None`: every slot is in use.
#[inline(always)]
fn try_to_learn<A: Family>(place: &Place, key: A::Key, entry: Entry) -> Option<u64> {
    let now = Tick::from_ns(now_ns(control()));
    let page = MapPage::<A>::get(place.page)?;
    let seen = table::victim(&page, place, now)?;
    if !table::take(&page, place, seen, key, entry, now) {
        stats::table(TableEvent::Contended);
        return Some(CONTENDED);
    }
    let mut gone = 0;
    if seen.entry != Entry::EMPTY {
        if !seen.entry.expires().is_past(now) {
            stats::table(TableEvent::Evicted);
        }
        gone = add(seen.entry.server(), seen.entry.counts().wrapping_neg());
    }
    let new = add(entry.server(), entry.counts());
    Some(LEARNT | (u64::from(gone) | u64::from(new) << 16) << TO_REPLAY)
}
