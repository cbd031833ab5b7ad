use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::connection::{Generation, State};
use crate::server::ServerId;
use crate::service::Protocol;
use crate::spills::{RawSpills, Settle, Walk};

struct HostPage(RefCell<Vec<u64>>, Cell<RawSpills>);

impl HostPage {
    fn change(&self, change: impl FnOnce(&mut RawSpills)) {
        let mut spills = self.1.get();
        change(&mut spills);
        self.1.set(spills);
    }

    /// A walk, as the controller's. What is over by then goes.
    fn walk(&self, now: Tick) {
        let walk = Walk::begin(self);
        let mut found = 0;
        for slot in 0..SLOTS_PER_PAGE {
            let entry = self.entry(slot);
            if entry.0 != 0 && entry.expires().is_past(now) {
                self.set_entry(slot, Entry::EMPTY);
            } else if let Some(line) = entry.away() {
                found |= 1 << line;
            }
        }
        walk.end(self, found);
    }

    /// Lines that entries name as theirs.
    fn named(&self) -> u64 {
        let entries = (0..SLOTS_PER_PAGE).map(|slot| self.entry(slot));
        entries.filter_map(Entry::away).fold(0, |lines, line| lines | 1 << line)
    }
}

impl Spills for HostPage {
    fn recent(&self) -> u64 {
        self.1.get().recent
    }
    fn lines(&self) -> u64 {
        self.1.get().recent | self.1.get().settled
    }
    fn add_recent(&self, bits: u64) {
        self.change(|spills| spills.recent |= bits);
    }
    fn pressed(&self) -> Pressed {
        Pressed(self.1.get().pressed)
    }
    fn set_pressed(&self, pressed: Pressed) {
        self.change(|spills| spills.pressed = pressed.0);
    }
}

impl Settle for HostPage {
    fn settled(&self) -> u64 {
        self.1.get().settled
    }
    fn clear_recent(&self, bits: u64) {
        self.change(|spills| spills.recent &= !bits);
    }
    fn add_settled(&self, bits: u64) {
        self.change(|spills| spills.settled |= bits);
    }
    fn swap_settled(&self, from: u64, to: u64) {
        if self.settled() == from {
            self.change(|spills| spills.settled = to);
        }
    }
}

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
    HostPage(RefCell::new(vec![0; SLOTS_PER_PAGE as usize * 2]), Cell::default())
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
                assert!(take(page, &place, seen, key, entry, Tick(0)));
                first += u32::from((0..SLOTS_PER_LINE).any(|index| place.slot(index) == seen.slot));
            }
            None => full += 1,
        }
    }
    assert!(first > connections / 100 * 95, "{first} of {connections} in their first line");
    assert!(full <= connections / 10_000, "{full} of {connections}");
}

/// A packet sets the mark, is overtaken by any steps of walks, and takes its slot before a second walk has begun.
#[test]
fn a_walk_that_overtakes_a_packet_leaves_its_mark() {
    const STEPS: usize = 3; // of a walk: begin, look, end
    let line = 5;
    for marked in 0..3 * STEPS {
        let second_begin = (marked..).filter(|step| step % STEPS == 0).nth(1).unwrap();
        for taken in marked..=second_begin {
            let page = empty_page();
            let (mut walk, mut found) = (None, 0);
            for step in 0..5 * STEPS {
                if step == marked {
                    spills::spill(&page, line);
                }
                if step == taken {
                    page.set_entry(0, Entry(1).away_from(line));
                }
                match step % STEPS {
                    0 => walk = Some(Walk::begin(&page)),
                    1 => found = page.named(),
                    _ => walk.take().unwrap().end(&page, found),
                }
                let told = spills::spilled(&page, line);
                assert!(told || step < taken, "marked {marked}, taken {taken}, step {step}");
            }
        }
    }
}

/// While a page is full, a flood looks at one line; when there is room again, at all of them.
#[test]
fn under_pressure_the_first_line_is_enough() {
    let page = empty_page();
    let now = Tick(1000);
    let new = |state, expires| Entry::new(ServerId(1), state, expires, Generation::default());
    let key = Key::new(1, 80, 80);
    for slot in 0..SLOTS_PER_PAGE {
        // The oldest stand in the other lines.
        let old = u32::from(slot / SLOTS_PER_LINE == place(key).home());
        page.set_entry(slot, new(State::SynRecv, now.plus(10 + 10 * old + slot % SLOTS_PER_LINE)));
    }
    let line_of = |now| victim(&page, &place(key), now).unwrap().slot / SLOTS_PER_LINE;
    assert_ne!(line_of(now), place(key).home(), "the oldest of all");
    for later in [0, 1] {
        let seen = victim(&page, &place(key), now.plus(later)).unwrap();
        assert_eq!(seen.slot, place(key).slot(0), "the oldest of the first line, {later} ticks later");
    }
    assert_ne!(line_of(now.plus(3)), place(key).home(), "a look at all of them from time to time");
    page.set_entry(place(key).slot(3), new(State::Established, now.plus(99)));
    assert_ne!(line_of(now.plus(3)), place(key).home(), "one that stays: three are too few to choose from");
    page.set_entry(place(key).slot(2), Entry::EMPTY);
    assert_eq!(victim(&page, &place(key), now).map(|seen| seen.slot), Some(place(key).slot(2)));
}

#[derive(Debug, Clone)]
enum Operation {
    Open(u32, State),
    Expire(u32),
    Wait(u32),
    Walk,
}

fn operation() -> impl Strategy<Value = Operation> {
    let state = prop_oneof![Just(State::SynRecv), Just(State::Established), Just(State::Closed)];
    prop_oneof![
        8 => (0..2000u32, state).prop_map(|(client, state)| Operation::Open(client, state)),
        2 => (0..2000u32).prop_map(Operation::Expire),
        1 => (1..20u32).prop_map(Operation::Wait),
        1 => Just(Operation::Walk),
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
                        let lost = model.remove(&owner);
                        prop_assert_eq!(lost, Some(seen.entry.at_home()));
                    }
                    prop_assert!(take(&page, &place(key), seen, key, entry, now));
                    model.insert(key, entry);
                }
                Operation::Expire(client) => {
                    let key = Key::new(client, 80, 80);
                    if let Some(seen) = look_up(&page, key) {
                        prop_assert!(page.swap_entry(seen.slot, seen.entry, Entry::EMPTY));
                        prop_assert_eq!(model.remove(&key), Some(seen.entry.at_home()));
                    }
                }
                Operation::Wait(ticks) => now = now.plus(ticks),
                Operation::Walk => {
                    page.walk(now);
                    model.retain(|_, entry| !entry.expires().is_past(now));
                }
            }
            for (key, entry) in &model {
                let seen = look_up(&page, *key);
                prop_assert_eq!(seen.map(|seen| seen.entry.at_home()), Some(*entry));
                let (home, seen) = (place(*key).home(), seen.unwrap());
                let away = (seen.slot / SLOTS_PER_LINE != home).then_some(home);
                prop_assert_eq!(seen.entry.away(), away, "an entry says where it stands");
            }
            prop_assert_eq!(page.named() & !page.lines(), 0, "no spill goes untold");
        }
        page.walk(now);
        page.walk(now);
        prop_assert_eq!(page.lines(), page.named(), "and none is told for ever");
        model.retain(|_, entry| !entry.expires().is_past(now));
        let used = (0..SLOTS_PER_PAGE).filter(|slot| page.entry(*slot).0 != 0).count();
        prop_assert_eq!(used, model.len());
    }
}
