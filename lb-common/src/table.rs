//! The connection table: where an entry may be, how a slot is claimed, what is evicted.
//!
//! An array of pages of 4 KiB for each family. A page holds 64 lines of 64 bytes (a cache line), a
//! line four slots of 16 bytes {key, entry} for IPv4, two of 32 for IPv6. A connection has one
//! page, and in it sixteen candidate slots: four different lines for IPv4, eight for IPv6. One page
//! means one TLB miss at most; sixteen slots mean that at half load fewer than 1 connection in
//! 10,000 finds them all taken (the test `at_half_load_…` holds this to it).
//! [`crate::table::spills`] tells whether any stands outside its first line, so that is nearly
//! always the only one that is looked at.
//!
//! Rules of access, on which the program and the controller's sweep rely:
//! - whoever changes a slot's entry does so by compare-and-swap and then owes the difference to the
//!   server's counts;
//! - to take a slot outside the first line, mark that line as spilled before;
//! - to take a slot, swap a claim in, write the key, then store the entry; only the claim's owner
//!   writes the key;
//! - a reader takes key, entry, and key again: if both keys agree the entry belonged to it.

pub mod connection;
pub mod spills;

use crate::addr::Address;
use crate::packet::frame::Flow;
use crate::table::connection::{Entry, Key, State, Tick};
use crate::table::spills::{Pressed, Spills};

pub const LINES_PER_PAGE: u32 = 64;
/// Words of 8 bytes.
const WORDS_PER_LINE: u32 = 8;
pub const WORDS_PER_PAGE: u32 = WORDS_PER_LINE * LINES_PER_PAGE;
/// Slots that a connection may be in.
pub const CANDIDATES: u32 = 16;

/// How a page is cut into slots for connections with this key: a slot is the key and the entry.
pub trait Layout: Key {
    const WORDS_PER_SLOT: u32 = Self::WORDS + 1;
    const SLOTS_PER_LINE: u32 = WORDS_PER_LINE / Self::WORDS_PER_SLOT;
    const SLOTS_PER_PAGE: u32 = Self::SLOTS_PER_LINE * LINES_PER_PAGE;
    /// Lines that a connection may stand in.
    const LINES: u32 = CANDIDATES / Self::SLOTS_PER_LINE;

    /// Pages for so many connections: twice as many slots, rounded up to a power of two of pages.
    fn pages_for(connections: u32) -> u32 {
        let slots = u64::from(connections) * 2;
        let pages = slots.div_ceil(u64::from(Self::SLOTS_PER_PAGE));
        (pages as u32).next_power_of_two()
    }
}

impl<K: Key> Layout for K {}

/// Ticks after which a claim that was never completed is free again: its CPU is gone.
pub const CLAIM_TICKS: u32 = 8;

/// Value of the maps `CONNECTIONS_V4` and `CONNECTIONS_V6`, see [`Layout`].
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct RawPage(pub [u64; WORDS_PER_PAGE as usize]);

const _: () = assert!(size_of::<RawPage>() == 4096);

/// One page in memory that others write at the same time. `word` is below [`WORDS_PER_PAGE`],
/// `slot` below [`Layout::SLOTS_PER_PAGE`].
pub trait Page: Spills {
    type Key: Key;

    fn read(&self, word: u32) -> u64;
    fn write(&self, word: u32, value: u64);
    /// Compare-and-swap with full ordering; true if `from` was there.
    fn swap(&self, word: u32, from: u64, to: u64) -> bool;
    /// Returns `number`. A verifier that follows the code knows nothing of it afterwards, as it
    /// knows nothing of `unknown`: else it looks at a loop once for each thing that it knows.
    #[inline(always)]
    fn forgotten(number: u32, _unknown: u64) -> u32 {
        number
    }

    /// Word number `word`, below [`Layout::WORDS_PER_SLOT`], of a slot.
    #[inline(always)]
    fn word_of(&self, slot: u32, word: u32) -> u64 {
        self.read(slot * Self::Key::WORDS_PER_SLOT + word)
    }

    #[inline(always)]
    fn key(&self, slot: u32) -> Self::Key {
        Self::Key::from_words(|number| self.word_of(slot, number))
    }

    /// Only for the owner of a claim.
    #[inline(always)]
    fn set_key(&self, slot: u32, key: Self::Key) {
        let mut number = 0;
        while number < Self::Key::WORDS {
            self.write(slot * Self::Key::WORDS_PER_SLOT + number, key.word(number));
            number += 1;
        }
    }

    #[inline(always)]
    fn entry(&self, slot: u32) -> Entry {
        Entry(self.word_of(slot, Self::Key::WORDS))
    }

    /// Stores without comparing: only for the owner of a claim.
    #[inline(always)]
    fn set_entry(&self, slot: u32, entry: Entry) {
        self.write(entry_word::<Self::Key>(slot), entry.0);
    }

    #[inline(always)]
    fn swap_entry(&self, slot: u32, from: Entry, to: Entry) -> bool {
        self.swap(entry_word::<Self::Key>(slot), from.0, to.0)
    }
}

#[inline(always)]
const fn entry_word<K: Key>(slot: u32) -> u32 {
    slot * K::WORDS_PER_SLOT + K::WORDS
}

/// Where a connection may be: its page, the slot that it tries first, and how far it is from one
/// line to the next.
///
/// In each line it begins at a slot of its own choice, so that most connections stand where they
/// are looked for first: one comparison, and one that the processor foresees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub page: u32,
    /// The first line in the upper six bits of eight, the slot to begin with in the others.
    first: u32,
    /// Odd, so that the lines differ.
    stride: u32,
}

impl Place {
    /// `keys` are secret, so that nobody outside can aim many connections at one line.
    #[inline(always)]
    pub fn of<A: Address>(flow: &Flow<A>, keys: [u64; 2], page_mask: u32) -> Self {
        let service = u64::from(flow.destination.folded()) << 8 | flow.protocol as u64;
        let hash = flow.key().mixed(keys).wrapping_add(service);
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let hash = hash ^ (hash >> 29);
        Self { page: hash as u32 & page_mask, first: (hash >> 56) as u32, stride: (hash >> 52) as u32 | 1 }
    }

    /// Number of the first line in the page.
    #[inline(always)]
    pub const fn home(&self) -> u32 {
        self.first >> 2 & (LINES_PER_PAGE - 1)
    }

    /// All of it in one word, for [`Self::from_packed`].
    #[inline(always)]
    pub const fn packed(&self) -> u64 {
        (self.page as u64) << 32 | (self.stride as u64) << 8 | self.first as u64
    }

    #[inline(always)]
    pub const fn from_packed(word: u64) -> Self {
        Self { page: (word >> 32) as u32, first: word as u32 & 0xff, stride: (word >> 8) as u32 & 0xfff }
    }

    /// Slot of candidate line `index`, below [`Layout::LINES`], to begin with.
    #[inline(always)]
    const fn line<K: Key>(&self, index: u32) -> u32 {
        let line = self.home().wrapping_add(index.wrapping_mul(self.stride));
        let begin = self.first & (K::SLOTS_PER_LINE - 1);
        ((line & (LINES_PER_PAGE - 1)) * K::SLOTS_PER_LINE) | begin
    }

    /// Candidate `index` (below [`CANDIDATES`]), in the order they are tried.
    #[inline(always)]
    pub const fn slot<K: Key>(&self, index: u32) -> u32 {
        self.line::<K>(index / K::SLOTS_PER_LINE) ^ (index % K::SLOTS_PER_LINE)
    }
}

/// A slot and the entry that was seen in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub slot: u32,
    pub entry: Entry,
}

/// The connection's slot, if the table knows it, and what `accept` made of its entry. `accept` says
/// whether the entry belongs to this packet's VIP and protocol, which the key does not tell.
#[inline(always)]
pub fn find<P: Page, T>(
    page: &P,
    place: &Place,
    key: P::Key,
    accept: impl Fn(Entry) -> Option<T>,
) -> Option<(Seen, T)> {
    let found = look_through(page, place.line::<P::Key>(0), key, &accept);
    if found.is_some() || !spills::spilled(page, place.home()) {
        return found;
    }
    let mut line = 1;
    while line < P::Key::LINES {
        let found = look_through(page, place.line::<P::Key>(line), key, &accept);
        if found.is_some() {
            return found;
        }
        line += 1;
    }
    None
}

/// The line that `slot` stands in, from there on.
#[inline(always)]
fn look_through<P: Page, T>(
    page: &P,
    slot: u32,
    key: P::Key,
    accept: impl Fn(Entry) -> Option<T>,
) -> Option<(Seen, T)> {
    // Written out: the compiler keeps a loop here, which costs a known connection a tenth of its
    // time.
    if let Some(found) = look(page, slot, key, &accept) {
        return Some(found);
    }
    if P::Key::SLOTS_PER_LINE == 2 {
        return look(page, slot ^ 1, key, &accept);
    }
    if let Some(found) = look(page, slot ^ 1, key, &accept) {
        return Some(found);
    }
    if let Some(found) = look(page, slot ^ 2, key, &accept) {
        return Some(found);
    }
    look(page, slot ^ 3, key, &accept)
}

/// As [`find`], in the first line alone, where nearly all connections are, and without asking
/// whether the entry belongs to the packet's VIP and protocol: a slot that might be the
/// connection's.
#[inline(always)]
pub fn find_in_first_line<P: Page>(page: &P, place: &Place, key: P::Key) -> Option<Entry> {
    let mut index = 0;
    while index < P::Key::SLOTS_PER_LINE {
        let slot = place.slot::<P::Key>(index);
        if page.key(slot) == key {
            let entry = page.entry(slot);
            return if page.key(slot) == key { Some(entry) } else { None };
        }
        index += 1;
    }
    None
}

/// The empty slot in its first line that a new connection would get, or [`NO_SLOT`]. `None`: the
/// table may know the connection.
#[inline(always)]
pub fn room_for_newcomer<P: Page>(page: &P, place: &Place, key: P::Key) -> Option<u32> {
    if find(page, place, key, Some).is_some() {
        return None;
    }
    let mut index = 0;
    while index < P::Key::SLOTS_PER_LINE {
        let slot = place.slot::<P::Key>(index);
        if page.entry(slot) == Entry::EMPTY {
            return Some(slot);
        }
        index += 1;
    }
    Some(NO_SLOT)
}

/// No slot has this number.
pub const NO_SLOT: u32 = u32::MAX;

/// The slot, if it holds the connection.
#[inline(always)]
fn look<P: Page, T>(
    page: &P,
    slot: u32,
    key: P::Key,
    accept: impl Fn(Entry) -> Option<T>,
) -> Option<(Seen, T)> {
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

/// The best slot to take for a new connection: an empty one, an expired one, or the oldest of what
/// may be given up. Of that the connections go first that are over, then those of one packet. What
/// is unproven goes last, and so does a first packet that has come just now: whoever sent it may
/// need the time until its second one. `None`: every candidate is in use by a connection that
/// somebody would miss.
///
/// While the page is full, a first line of connections that nobody would miss is enough to choose
/// from: a flood costs one line a packet, and a newcomer is pushed out at the earliest when as many
/// have come after it as a line has slots.
#[inline(always)]
pub fn victim<P: Page>(page: &P, place: &Place, now: Tick) -> Option<Seen> {
    let mut best = Best { seen: Seen { slot: 0, entry: Entry::EMPTY }, rank: NEVER };
    let mut line = 0;
    while line < P::Key::LINES {
        let mut worst = 0;
        let slot = place.line::<P::Key>(line);
        let mut index = 0;
        while index < P::Key::SLOTS_PER_LINE {
            let rank = best.or(page, slot ^ index, now);
            if rank == EMPTY {
                return Some(best.seen);
            }
            let unknown = best.seen.entry.0;
            worst = P::forgotten(if rank > worst { rank } else { worst }, unknown);
            best.rank = P::forgotten(best.rank, unknown);
            best.seen.slot = P::forgotten(best.seen.slot, unknown);
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

/// By state, four bits each: 1 what is over, 2 first packets, 3 what is unproven, 0 never.
const TURNS: u64 = {
    let mut turns = 0;
    let mut bits = 0;
    while bits < 16 {
        let turn = match State::from_bits(bits) {
            Some(State::Closed | State::TimeWait) => 1,
            Some(State::SynRecv | State::UdpNew) => 2,
            Some(state) if state.is_evictable() => 3,
            _ => 0,
        };
        turns |= turn << (4 * bits);
        bits += 1;
    }
    turns
};
/// Whoever's turn is later has a higher rank whatever its age.
const TURN: u32 = 1024;
/// Ticks until a first packet has been there for long: half a second, of which a part has passed.
const YOUNG: u32 = 2;

/// How willingly an entry is given up: 0 at once (empty), 1 expired, then by turns and age,
/// `NEVER`.
#[inline(always)]
const fn rank(entry: Entry, now: Tick) -> u32 {
    if entry.0 == 0 {
        return EMPTY;
    }
    if entry.expires().is_past(now) {
        return EXPIRED;
    }
    let age = entry.age(now);
    let turn = match (TURNS >> (4 * entry.state_bits()) & 0xf) as u32 {
        0 => return NEVER,
        2 if age < YOUNG => 3,
        turn => turn,
    };
    turn * TURN + Entry::MOST_TICKS_OLD - age
}

/// Takes `seen`'s slot for `key`. `false`: another CPU was faster, nothing has changed.
/// On success the caller owes `seen.entry`'s and `entry`'s counts.
#[inline(always)]
pub fn take<P: Page>(page: &P, place: &Place, seen: Seen, key: P::Key, entry: Entry, now: Tick) -> bool {
    let home = place.home();
    let entry = if seen.slot / P::Key::SLOTS_PER_LINE == home {
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
