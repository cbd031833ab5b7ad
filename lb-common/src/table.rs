//! The connection table: where an entry may be, how a slot is claimed, what is evicted.
//!
//! An array of pages of 4 KiB. A page holds 64 lines of 64 bytes (a cache line), a line four slots of 16 bytes
//! {key, entry}. A connection has one page, and in it four different candidate lines. One page means one TLB miss at
//! most; four lines mean that at half load fewer than 1 connection in 10,000 finds all its slots taken, while 96 %
//! stand in their first line (the test `at_half_load_…` holds this to it). Whether any stands in another one is told by
//! [`crate::spills`], so the first line is nearly always the only one that is looked at.
//!
//! Rules of access, on which the program and the controller's sweep rely:
//! - whoever changes a slot's entry does so by compare-and-swap and then owes the difference to the server's counts;
//! - to take a slot outside the first line, mark that line as spilled before;
//! - to take a slot, swap a claim in, write the key, then store the entry; only the claim's owner writes the key;
//! - a reader takes key, entry, and key again: if both keys agree the entry belonged to it.

use crate::connection::{Entry, Key, Tick};
use crate::frame::Flow;
use crate::spills::{self, Pressed, Spills};

pub const SLOTS_PER_LINE: u32 = 4;
pub const LINES_PER_PAGE: u32 = 64;
pub const SLOTS_PER_PAGE: u32 = SLOTS_PER_LINE * LINES_PER_PAGE;
/// Slots that a connection may be in: four lines of them.
pub const CANDIDATES: u32 = 4 * SLOTS_PER_LINE;

/// Ticks after which a claim that was never completed is free again: its CPU is gone.
pub const CLAIM_TICKS: u32 = 8;

/// Value of the map `CONNECTIONS_V4`: slot i has its key in word 2i and its entry in word 2i + 1.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct RawPage(pub [u64; SLOTS_PER_PAGE as usize * 2]);

const _: () = assert!(size_of::<RawPage>() == 4096);

/// Pages for so many connections: twice as many slots, rounded up to a power of two of pages.
pub const fn pages_for(connections: u32) -> u32 {
    let slots = connections as u64 * 2;
    let pages = slots.div_ceil(SLOTS_PER_PAGE as u64);
    (pages as u32).next_power_of_two()
}

/// One page in memory that others write at the same time. `slot` is below [`SLOTS_PER_PAGE`].
pub trait Page: Spills {
    fn key(&self, slot: u32) -> Key;
    fn set_key(&self, slot: u32, key: Key);
    fn entry(&self, slot: u32) -> Entry;
    /// Stores without comparing: only for the owner of a claim.
    fn set_entry(&self, slot: u32, entry: Entry);
    /// Compare-and-swap with full ordering; true if `from` was there.
    fn swap_entry(&self, slot: u32, from: Entry, to: Entry) -> bool;
}

/// Where a connection may be: its page, the first of its lines, and how far it is from one line to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub page: u32,
    line: u32,
    /// Odd, so that the four lines differ.
    stride: u32,
}

impl Place {
    /// `keys` are secret, so that nobody outside can aim many connections at one line.
    #[inline(always)]
    pub const fn of(flow: &Flow, keys: [u64; 2], page_mask: u32) -> Self {
        let key = Key::new(flow.source, flow.source_port, flow.destination_port);
        let service = (flow.destination as u64) << 8 | flow.protocol as u64;
        let hash = (key.0 ^ keys[0]).wrapping_mul(keys[1] | 1).wrapping_add(service);
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let hash = hash ^ (hash >> 29);
        Self { page: hash as u32 & page_mask, line: (hash >> 58) as u32, stride: (hash >> 52) as u32 | 1 }
    }

    /// Number of the first line in the page.
    #[inline(always)]
    pub const fn home(&self) -> u32 {
        self.line & (LINES_PER_PAGE - 1)
    }

    /// The lines in one word, for [`Self::from_packed`].
    #[inline(always)]
    pub const fn packed(&self) -> u32 {
        self.stride << 8 | self.line
    }

    #[inline(always)]
    pub const fn from_packed(page: u32, packed: u32) -> Self {
        Self { page, line: packed & 0xff, stride: packed >> 8 }
    }

    /// First slot of candidate line `index` (0 to 3).
    #[inline(always)]
    const fn line(&self, index: u32) -> u32 {
        let line = self.line.wrapping_add(index.wrapping_mul(self.stride));
        (line * SLOTS_PER_LINE) & (SLOTS_PER_PAGE - 1)
    }

    /// Candidate `index` (below [`CANDIDATES`]), in the order they are tried.
    #[inline(always)]
    pub const fn slot(&self, index: u32) -> u32 {
        self.line(index / SLOTS_PER_LINE) + index % SLOTS_PER_LINE
    }
}

/// A slot and the entry that was seen in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub slot: u32,
    pub entry: Entry,
}

/// The connection's slot, if the table knows it, and what `accept` made of its entry. `accept` says whether the entry
/// belongs to this packet's VIP and protocol, which the key does not tell.
#[inline(always)]
pub fn find<P: Page, T>(
    page: &P,
    place: &Place,
    key: Key,
    accept: impl Fn(Entry) -> Option<T>,
) -> Option<(Seen, T)> {
    let found = look_through(page, place.line(0), key, &accept);
    if found.is_some() || !spills::spilled(page, place.home()) {
        return found;
    }
    let mut line = 1;
    while line < CANDIDATES / SLOTS_PER_LINE {
        let found = look_through(page, place.line(line), key, &accept);
        if found.is_some() {
            return found;
        }
        line += 1;
    }
    None
}

/// The line whose first slot is `slot`.
#[inline(always)]
fn look_through<P: Page, T>(
    page: &P,
    slot: u32,
    key: Key,
    accept: impl Fn(Entry) -> Option<T>,
) -> Option<(Seen, T)> {
    // Written out: the compiler keeps a loop here, which costs a known connection a tenth of its time.
    if let Some(found) = look(page, slot, key, &accept) {
        return Some(found);
    }
    if let Some(found) = look(page, slot + 1, key, &accept) {
        return Some(found);
    }
    if let Some(found) = look(page, slot + 2, key, &accept) {
        return Some(found);
    }
    look(page, slot + 3, key, &accept)
}

/// As [`find`], in the first line alone, where nearly all connections are, and without asking whether the entry belongs
/// to the packet's VIP and protocol: a slot that might be the connection's.
#[inline(always)]
pub fn find_in_first_line<P: Page>(page: &P, place: &Place, key: Key) -> Option<Entry> {
    let first = place.line(0);
    let mut slot = first;
    while slot < first + SLOTS_PER_LINE {
        if page.key(slot) == key {
            let entry = page.entry(slot);
            return if page.key(slot) == key { Some(entry) } else { None };
        }
        slot += 1;
    }
    None
}

/// The slot, if it holds the connection.
#[inline(always)]
fn look<P: Page, T>(page: &P, slot: u32, key: Key, accept: impl Fn(Entry) -> Option<T>) -> Option<(Seen, T)> {
    if page.key(slot) != key {
        return None;
    }
    let entry = page.entry(slot);
    // The key again: the slot may have changed hands between the two reads.
    if entry.state().is_none() || page.key(slot) != key {
        return None;
    }
    Some((Seen { slot, entry }, accept(entry)?))
}

/// The best slot to take for a new connection: an empty one, an expired one, an evictable one that expires first.
/// `None`: every candidate is in use by a connection that somebody would miss.
///
/// While the page is full, four connections in the first line that nobody would miss are enough to choose from: a flood costs
/// one line a packet, and a newcomer is pushed out by the fourth that comes after it at the earliest.
#[inline(always)]
pub fn victim<P: Page>(page: &P, place: &Place, now: Tick) -> Option<Seen> {
    let mut best = Best { seen: Seen { slot: 0, entry: Entry::EMPTY }, rank: NEVER };
    let mut line = 0;
    while line < CANDIDATES / SLOTS_PER_LINE {
        let mut worst = 0;
        let slot = place.line(line);
        let mut index = 0;
        while index < SLOTS_PER_LINE {
            let rank = best.or(page, slot + index, now);
            if rank == EMPTY {
                return Some(best.seen);
            }
            worst = if rank > worst { rank } else { worst };
            index += 1;
        }
        if best.rank == EXPIRED || line == 0 && worst < NEVER && page.pressed().is_recent(now) {
            return Some(best.seen);
        }
        line += 1;
    }
    let pressed = Pressed::at(now);
    if page.pressed() != pressed {
        page.set_pressed(pressed);
    }
    if best.rank == NEVER { None } else { Some(best.seen) }
}

/// The best slot so far.
struct Best {
    seen: Seen,
    rank: u32,
}

impl Best {
    /// Takes `slot` in its place if that is better. Returns its rank.
    #[inline(always)]
    fn or<P: Page>(&mut self, page: &P, slot: u32, now: Tick) -> u32 {
        let entry = page.entry(slot);
        let rank = rank(entry, now);
        if rank < self.rank {
            *self = Self { seen: Seen { slot, entry }, rank };
        }
        rank
    }
}

const NEVER: u32 = u32::MAX;
const EXPIRED: u32 = 1;
const EMPTY: u32 = 0;

/// How willingly an entry is given up: 0 at once (empty), 1 expired, then by the time left, `NEVER`.
#[inline(always)]
const fn rank(entry: Entry, now: Tick) -> u32 {
    if entry.0 == 0 {
        return EMPTY;
    }
    if entry.expires().is_past(now) {
        return EXPIRED;
    }
    match entry.state() {
        Some(state) if state.is_evictable() => 2 + entry.expires().ticks_after(now),
        _ => NEVER,
    }
}

/// Takes `seen`'s slot for `key`. `false`: another CPU was faster, nothing has changed.
/// On success the caller owes `seen.entry`'s and `entry`'s counts.
#[inline(always)]
pub fn take<P: Page>(page: &P, place: &Place, seen: Seen, key: Key, entry: Entry, now: Tick) -> bool {
    let home = place.home();
    let entry = if seen.slot / SLOTS_PER_LINE == home {
        entry.at_home()
    } else {
        // Before anybody can find it there.
        spills::spill(page, home);
        entry.away_from(home)
    };
    if !page.swap_entry(seen.slot, seen.entry, Entry::claim(now.plus(CLAIM_TICKS))) {
        return false;
    }
    page.set_key(seen.slot, key);
    page.set_entry(seen.slot, entry);
    true
}

#[cfg(test)]
mod tests;
