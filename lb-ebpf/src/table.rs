//! The connection table in the maps: its pages, and a new connection's way into one. The rules are
//! `lb_common::table`.

use lb_common::connection::{Entry, Key, Tick};
use lb_common::reason::TableEvent;
use lb_common::spills::{Pressed, RawSpills, Spills};
use lb_common::table::{self, Page, Place, RawPage, SLOTS_PER_PAGE};

use crate::counts::owe;
use crate::maps::{CONNECTIONS_V4, OVERFLOW_GROUPS, OVERFLOWS, SPILLS};
use crate::{atomic, count};

/// A page of the map, shared with other CPUs and with the controller.
pub struct MapPage {
    page: *mut RawPage,
    index: u32,
}

impl MapPage {
    #[inline(always)]
    pub fn get(index: u32) -> Option<Self> {
        CONNECTIONS_V4.get_ptr_mut(index).map(|page| Self { page, index })
    }

    #[inline(always)]
    fn word(&self, slot: u32, word: usize) -> *mut u64 {
        let index = (slot & (SLOTS_PER_PAGE - 1)) as usize * 2 + word;
        // SAFETY: the mask keeps the index within the page's words.
        unsafe { (&raw mut (*self.page).0).cast::<u64>().add(index) }
    }

    #[inline(always)]
    fn spills(&self) -> Option<*mut RawSpills> {
        SPILLS.get_ptr_mut(self.index)
    }
}

// SAFETY of the four accesses: `word` points into a map's value and is aligned; volatile, because
// others write there.
impl Page for MapPage {
    #[inline(always)]
    fn key(&self, slot: u32) -> Key {
        // SAFETY: see above.
        Key(unsafe { self.word(slot, 0).read_volatile() })
    }
    #[inline(always)]
    fn set_key(&self, slot: u32, key: Key) {
        // SAFETY: see above.
        unsafe { self.word(slot, 0).write_volatile(key.0) };
    }
    #[inline(always)]
    fn entry(&self, slot: u32) -> Entry {
        // SAFETY: see above.
        Entry(unsafe { self.word(slot, 1).read_volatile() })
    }
    #[inline(always)]
    fn set_entry(&self, slot: u32, entry: Entry) {
        // SAFETY: see above.
        unsafe { self.word(slot, 1).write_volatile(entry.0) };
    }
    #[inline(always)]
    fn swap_entry(&self, slot: u32, from: Entry, to: Entry) -> bool {
        // SAFETY: see above.
        unsafe { atomic::compare_and_swap(self.word(slot, 1), from.0, to.0) }
    }
}

// SAFETY of the accesses: a map's value, aligned; volatile, because others write there. Where the
// map ends too early, which is a hole, every line is taken to be spilled.
impl Spills for MapPage {
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

/// Gives a new connection its entry. `false`: no slot could be had.
#[inline(always)]
pub fn learn(place: &Place, key: Key, entry: Entry, now_ns: u64) -> bool {
    // Twice: if another CPU takes the slot first, there is another one.
    for _ in 0..2 {
        match lb_learn(place.page, place.packed(), key.0, entry.0, now_ns) {
            LEARNT => return true,
            CONTENDED => count::table(TableEvent::Contended),
            _ => break,
        }
    }
    count::table(TableEvent::Full);
    if let Some(last) = OVERFLOWS.get_ptr_mut(place.page % OVERFLOW_GROUPS) {
        // SAFETY: a map's value, aligned; whichever CPU writes last, the time is right.
        unsafe { last.write_volatile(now_ns) };
    }
    false
}

/// What [`lb_learn`] returns; 0 if every slot is in use.
const LEARNT: u32 = 1;
const CONTENDED: u32 = 2;

/// One try of [`learn`] in numbers; global for the verifier's sake, see
/// [`crate::schedule::lb_pick`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lb_learn(page: u32, lines: u32, key: u64, entry: u64, now_ns: u64) -> u32 {
    let (place, entry) = (Place::from_packed(page, lines), Entry(entry));
    let Some(page) = MapPage::get(page) else { return 0 };
    let now = Tick::from_ns(now_ns);
    let Some(seen) = table::victim(&page, &place, now) else { return 0 };
    if !table::take(&page, &place, seen, Key(key), entry, now) {
        return CONTENDED;
    }
    if seen.entry != Entry::EMPTY {
        if !seen.entry.expires().is_past(now) {
            count::table(TableEvent::Evicted);
        }
        owe(seen.entry.server(), seen.entry.counts().wrapping_neg());
    }
    owe(entry.server(), entry.counts());
    LEARNT
}
