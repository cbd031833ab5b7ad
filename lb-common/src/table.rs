//! The connection table: where an entry may be, how a slot is claimed, what is evicted.
//!
//! An array of pages of 4 KiB. A page holds 64 lines of 64 bytes (a cache line), a line four slots of 16 bytes
//! {key, entry}. A connection has one page, and in it four different candidate lines. One page means one TLB miss at
//! most; four lines mean that at half load fewer than 1 connection in 10,000 finds all its slots taken, while 96 %
//! stand in their first line (the test `at_half_load_…` holds this to it).
//!
//! Rules of access, on which the program and the controller's sweep rely:
//! - whoever changes a slot's entry does so by compare-and-swap and then owes the difference to the server's counts;
//! - to take a slot, swap a claim in, write the key, then store the entry; only the claim's owner writes the key;
//! - a reader takes key, entry, and key again: if both keys agree the entry belonged to it.

use crate::connection::{Entry, Key, Tick};
use crate::frame::Flow;

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
pub trait Page {
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
    let mut line = 0;
    while line < CANDIDATES / SLOTS_PER_LINE {
        let slot = place.line(line);
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
        if let Some(found) = look(page, slot + 3, key, &accept) {
            return Some(found);
        }
        line += 1;
    }
    None
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
#[inline(always)]
pub fn victim<P: Page>(page: &P, place: &Place, now: Tick) -> Option<Seen> {
    let mut best = Seen { slot: 0, entry: Entry::EMPTY };
    let mut best_rank = NEVER;
    let mut index = 0;
    while index < CANDIDATES {
        let slot = place.slot(index);
        let entry = page.entry(slot);
        let rank = rank(entry, now);
        if rank < best_rank {
            best_rank = rank;
            best = Seen { slot, entry };
            if rank == 0 {
                break;
            }
        }
        index += 1;
    }
    if best_rank == NEVER { None } else { Some(best) }
}

const NEVER: u32 = u32::MAX;

/// How willingly an entry is given up: 0 at once (empty), 1 expired, then by the time left, `NEVER`.
#[inline(always)]
const fn rank(entry: Entry, now: Tick) -> u32 {
    if entry.0 == 0 {
        return 0;
    }
    if entry.expires().is_past(now) {
        return 1;
    }
    match entry.state() {
        Some(state) if state.is_evictable() => 2 + entry.expires().ticks_after(now),
        _ => NEVER,
    }
}

/// Takes `seen`'s slot for `key`. `false`: another CPU was faster, nothing has changed.
/// On success the caller owes `seen.entry`'s and `entry`'s counts.
#[inline(always)]
pub fn take<P: Page>(page: &P, seen: Seen, key: Key, entry: Entry, now: Tick) -> bool {
    if !page.swap_entry(seen.slot, seen.entry, Entry::claim(now.plus(CLAIM_TICKS))) {
        return false;
    }
    page.set_key(seen.slot, key);
    page.set_entry(seen.slot, entry);
    true
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::connection::{Generation, State};
    use crate::server::ServerId;
    use crate::service::Protocol;

    struct HostPage(RefCell<Vec<u64>>);

    impl Page for HostPage {
        fn key(&self, slot: u32) -> Key {
            Key(self.0.borrow()[slot as usize * 2])
        }
        fn set_key(&self, slot: u32, key: Key) {
            self.0.borrow_mut()[slot as usize * 2] = key.0;
        }
        fn entry(&self, slot: u32) -> Entry {
            Entry(self.0.borrow()[slot as usize * 2 + 1])
        }
        fn set_entry(&self, slot: u32, entry: Entry) {
            self.0.borrow_mut()[slot as usize * 2 + 1] = entry.0;
        }
        fn swap_entry(&self, slot: u32, from: Entry, to: Entry) -> bool {
            let word = &mut self.0.borrow_mut()[slot as usize * 2 + 1];
            let equal = *word == from.0;
            if equal {
                *word = to.0;
            }
            equal
        }
    }

    fn empty_page() -> HostPage {
        HostPage(RefCell::new(vec![0; SLOTS_PER_PAGE as usize * 2]))
    }

    const KEYS: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211];

    fn flow(client: u32) -> Flow {
        Flow {
            source: client,
            destination: 1,
            source_port: 80,
            destination_port: 80,
            protocol: Protocol::Tcp,
            ttl: 64,
            network: 14,
            transport: 34,
            total_length: 40,
        }
    }

    fn look_up(page: &HostPage, key: Key) -> Option<Seen> {
        find(page, &place(key), key, |_| Some(())).map(|(seen, ())| seen)
    }

    fn place(key: Key) -> Place {
        Place::of(&flow(key.client()), KEYS, 0)
    }

    #[test]
    fn a_connection_has_sixteen_different_candidates() {
        for client in 0..1000 {
            let place = place(Key::new(client, 80, 80));
            let mut slots: Vec<_> = (0..CANDIDATES).map(|index| place.slot(index)).collect();
            assert!(slots.iter().all(|slot| *slot < SLOTS_PER_PAGE));
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), CANDIDATES as usize, "{slots:?}");
        }
    }

    #[test]
    fn at_half_load_nearly_every_connection_finds_a_slot() {
        let pages: Vec<_> = (0..256).map(|_| empty_page()).collect();
        let connections = 256 * SLOTS_PER_PAGE / 2;
        let (mut full, mut first) = (0, 0);
        for client in 0..connections {
            let key = Key::new(client, 80, 80);
            let place = Place::of(&flow(client), KEYS, 255);
            let entry = Entry::new(ServerId(1), State::Established, Tick(1000), Generation::default());
            let page = &pages[place.page as usize];
            match victim(page, &place, Tick(0)) {
                Some(seen) => {
                    assert!(take(page, seen, key, entry, Tick(0)));
                    first += u32::from((0..SLOTS_PER_LINE).any(|index| place.slot(index) == seen.slot));
                }
                None => full += 1,
            }
        }
        assert!(first > connections / 100 * 95, "{first} of {connections} in their first line");
        assert!(full <= connections / 10_000, "{full} of {connections}");
    }

    #[derive(Debug, Clone)]
    enum Operation {
        Open(u32, State),
        Expire(u32),
        Wait(u32),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let state = prop_oneof![Just(State::SynRecv), Just(State::Established), Just(State::Closed)];
        prop_oneof![
            8 => (0..2000u32, state).prop_map(|(client, state)| Operation::Open(client, state)),
            2 => (0..2000u32).prop_map(Operation::Expire),
            1 => (1..20u32).prop_map(Operation::Wait),
        ]
    }

    proptest! {
        /// Against a map of all connections: what the table knows is right, nothing that must stay is lost.
        #[test]
        fn behaves_like_a_map_that_may_forget_only_what_may_be_evicted(
            operations in proptest::collection::vec(operation(), 1..800)
        ) {
            let page = empty_page();
            let mut model: BTreeMap<Key, Entry> = BTreeMap::new();
            let mut now = Tick(100);
            for operation in operations {
                match operation {
                    Operation::Open(client, state) => {
                        let key = Key::new(client, 80, 80);
                        let server = ServerId(client as u16 + 1);
                        let entry = Entry::new(server, state, now.plus(15), Generation::default());
                        if look_up(&page, key).is_some() {
                            continue;
                        }
                        let Some(seen) = victim(&page, &place(key), now) else {
                            // Every candidate must be a live connection of the model's that may not be evicted.
                            for index in 0..CANDIDATES {
                                let held = page.entry(place(key).slot(index));
                                prop_assert!(!held.expires().is_past(now));
                                prop_assert!(!held.state().unwrap().is_evictable());
                            }
                            continue;
                        };
                        if let Some(state) = seen.entry.state() {
                            let owner = page.key(seen.slot);
                            prop_assert!(state.is_evictable() || seen.entry.expires().is_past(now));
                            prop_assert_eq!(model.remove(&owner), Some(seen.entry));
                        }
                        prop_assert!(take(&page, seen, key, entry, now));
                        model.insert(key, entry);
                    }
                    Operation::Expire(client) => {
                        let key = Key::new(client, 80, 80);
                        if let Some(seen) = look_up(&page, key) {
                            prop_assert!(page.swap_entry(seen.slot, seen.entry, Entry::EMPTY));
                            prop_assert_eq!(model.remove(&key), Some(seen.entry));
                        }
                    }
                    Operation::Wait(ticks) => now = now.plus(ticks),
                }
                for (key, entry) in &model {
                    prop_assert_eq!(look_up(&page, *key).map(|seen| seen.entry), Some(*entry));
                }
            }
            let used = (0..SLOTS_PER_PAGE).filter(|slot| page.entry(*slot).0 != 0).count();
            prop_assert_eq!(used, model.len());
        }
    }
}
