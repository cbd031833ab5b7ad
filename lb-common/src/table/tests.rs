use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::addr::{V4, V6};
use crate::server::ServerId;
use crate::service::Protocol;
use crate::table::connection::{Generation, KeyV4, KeyV6, State};
use crate::table::spills::{RawSpills, Settle, Walk};

struct HostPage<K>(RefCell<Vec<u64>>, Cell<RawSpills>, PhantomData<K>);

impl<K> HostPage<K> {
    fn change(&self, change: impl FnOnce(&mut RawSpills)) {
        let mut spills = self.1.get();
        change(&mut spills);
        self.1.set(spills);
    }
}

impl<K: Key> HostPage<K> {
    /// A walk, as the controller's. What is over by then goes.
    fn walk(&self, now: Tick) {
        let walk = Walk::begin(self);
        let mut found = 0;
        for slot in 0..K::SLOTS_PER_PAGE {
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
        let entries = (0..K::SLOTS_PER_PAGE).map(|slot| self.entry(slot));
        entries.filter_map(Entry::away).fold(0, |lines, line| lines | 1 << line)
    }
}

impl<K> Spills for HostPage<K> {
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

impl<K> Settle for HostPage<K> {
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

impl<K: Key> Page for HostPage<K> {
    type Key = K;
    fn read(&self, word: u32) -> u64 {
        self.0.borrow()[word as usize]
    }
    fn write(&self, word: u32, value: u64) {
        self.0.borrow_mut()[word as usize] = value;
    }
    fn swap(&self, word: u32, from: u64, to: u64) -> bool {
        let equal = self.read(word) == from;
        if equal {
            self.write(word, to);
        }
        equal
    }
}

fn empty_page<K>() -> HostPage<K> {
    HostPage(RefCell::new(vec![0; WORDS_PER_PAGE as usize]), Cell::default(), PhantomData)
}

const KEYS: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211];

/// An address of either family for a number.
trait Numbered: Address {
    fn numbered(number: u32) -> Self;
}

impl Numbered for V4 {
    fn numbered(number: u32) -> Self {
        Self(number)
    }
}

impl Numbered for V6 {
    /// Neighbours differ in the second word, and every tenth in the first one too.
    fn numbered(number: u32) -> Self {
        Self([u64::from(number / 10), u64::from(number)])
    }
}

fn flow<A: Numbered>(source: A) -> Flow<A> {
    Flow {
        source,
        destination: A::numbered(1),
        source_port: 80,
        destination_port: 80,
        protocol: Protocol::Tcp,
        ttl: 64,
        network: 14,
        transport: 34,
        total_length: 40,
    }
}

fn key<K: Key<Address: Numbered>>(client: u32) -> K {
    K::Address::numbered(client).key(80, 80)
}

fn look_up<K: Key<Address: Numbered>>(page: &HostPage<K>, key: K) -> Option<Seen> {
    find(page, &place(key), key, |_| Some(())).map(|(seen, ())| seen)
}

fn place<K: Key<Address: Numbered>>(key: K) -> Place {
    Place::of(&flow(key.client()), KEYS, 0)
}

fn candidates_differ<K: Key<Address: Numbered>>() {
    for client in 0..1000 {
        let place = place(key::<K>(client));
        let mut slots: Vec<_> = (0..CANDIDATES).map(|index| place.slot::<K>(index)).collect();
        assert!(slots.iter().all(|slot| *slot < K::SLOTS_PER_PAGE));
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), CANDIDATES as usize, "{slots:?}");
    }
}

#[test]
fn a_connection_has_sixteen_different_candidates() {
    candidates_differ::<KeyV4>();
    candidates_differ::<KeyV6>();
}

/// `first_line`: connections of a hundred that must stand in their first line.
fn half_load<K: Key<Address: Numbered>>(first_line: u32) {
    let pages: Vec<_> = (0..256).map(|_| empty_page::<K>()).collect();
    let connections = 256 * K::SLOTS_PER_PAGE / 2;
    let (mut full, mut first) = (0, 0);
    for client in 0..connections {
        let key: K = key(client);
        let place = Place::of(&flow(key.client()), KEYS, 255);
        let entry = Entry::new(ServerId(1), State::Established, Tick(1000), Generation::default());
        let page = &pages[place.page as usize];
        match victim(page, &place, Tick(0)) {
            Some(seen) => {
                assert!(take(page, &place, seen, key, entry, Tick(0)));
                first += u32::from(seen.slot / K::SLOTS_PER_LINE == place.home());
            }
            None => full += 1,
        }
    }
    assert!(first > connections / 100 * first_line, "{first} of {connections} in their first line");
    assert!(full <= connections / 10_000, "{full} of {connections}");
}

#[test]
fn at_half_load_nearly_every_connection_finds_a_slot() {
    half_load::<KeyV4>(95);
    half_load::<KeyV6>(85);
}

/// A packet sets the mark, is overtaken by any steps of walks, and takes its slot before a second
/// walk has begun.
#[test]
fn a_walk_that_overtakes_a_packet_leaves_its_mark() {
    const STEPS: usize = 3; // of a walk: begin, look, end
    let line = 5;
    for marked in 0..3 * STEPS {
        let second_begin = (marked..).filter(|step| step % STEPS == 0).nth(1).unwrap();
        for taken in marked..=second_begin {
            let page = empty_page::<KeyV4>();
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

/// A newcomer is told from a connection that the table knows, wherever that stands, and finds the
/// slot that `victim` would give it.
fn newcomers<K: Key<Address: Numbered>>() {
    let now = Tick(1000);
    let entry = Entry::new(ServerId(1), State::SynRecv, now.plus(10), Generation::default());
    for number in 0..200 {
        let (key, page) = (key::<K>(number), empty_page::<K>());
        let place = place(key);
        for index in 0..K::SLOTS_PER_LINE {
            let slot = place.slot::<K>(index);
            assert_eq!(room_for_newcomer(&page, &place, key), Some(slot));
            assert_eq!(victim(&page, &place, now).map(|seen| seen.slot), Some(slot));
            page.set_key(slot, key);
            assert_eq!(room_for_newcomer(&page, &place, key), Some(slot), "what an empty slot held before");
            page.set_entry(slot, entry);
            assert_eq!(find_in_first_line(&page, &place, key), Some(entry));
            assert_eq!(room_for_newcomer(&page, &place, key), None, "known in slot {index}");
            page.set_key(slot, self::key::<K>(number + 1000));
        }
        assert_eq!(room_for_newcomer(&page, &place, key), Some(NO_SLOT), "no room in the first line");
        page.set_entry(place.slot::<K>(1), Entry::EMPTY);
        assert_eq!(room_for_newcomer(&page, &place, key), Some(place.slot::<K>(1)));
        let elsewhere = place.slot::<K>(K::SLOTS_PER_LINE);
        page.set_key(elsewhere, key);
        page.set_entry(elsewhere, entry.away_from(place.home()));
        spills::spill(&page, place.home());
        assert_eq!(room_for_newcomer(&page, &place, key), None, "known in another line");
    }
}

#[test]
fn a_newcomer_finds_the_first_empty_slot() {
    newcomers::<KeyV4>();
    newcomers::<KeyV6>();
}

/// While a page is full, a flood looks at one line; when there is room again, at all of them.
fn pressure<K: Key<Address: Numbered>>() {
    let page = empty_page::<K>();
    let now = Tick(1000);
    let new = |state, age| {
        let entry = Entry::new(ServerId(1), state, now.plus(200), Generation::default());
        entry.written(Tick(now.0 - age))
    };
    let place = place(key::<K>(1));
    for slot in 0..K::SLOTS_PER_PAGE {
        // The oldest stand in the other lines.
        let old = u32::from(slot / K::SLOTS_PER_LINE != place.home());
        page.set_entry(slot, new(State::SynRecv, 20 + 10 * old - slot % K::SLOTS_PER_LINE));
    }
    let line_of = |now| victim(&page, &place, now).unwrap().slot / K::SLOTS_PER_LINE;
    assert_ne!(line_of(now), place.home(), "the oldest of all");
    for later in [0, 1] {
        let seen = victim(&page, &place, now.plus(later)).unwrap();
        let oldest = place.home() * K::SLOTS_PER_LINE;
        assert_eq!(seen.slot, oldest, "the oldest of the first line, {later} ticks later");
    }
    assert_ne!(line_of(now.plus(3)), place.home(), "a look at all of them from time to time");
    let last = place.slot::<K>(K::SLOTS_PER_LINE - 1);
    page.set_entry(last, new(State::Established, 0));
    assert_ne!(line_of(now.plus(3)), place.home(), "one that stays: the others are too few to choose from");
    let before_last = place.slot::<K>(K::SLOTS_PER_LINE - 2);
    page.set_entry(before_last, Entry::EMPTY);
    assert_eq!(victim(&page, &place, now).map(|seen| seen.slot), Some(before_last));
}

#[test]
fn under_pressure_the_first_line_is_enough() {
    pressure::<KeyV4>();
    pressure::<KeyV6>();
}

/// What somebody would miss stays. What is over goes first, then what is half open, then what is
/// unproven or has come just now; of each the oldest.
fn victims_in_order<K: Key<Address: Numbered>>() {
    let page = empty_page::<K>();
    let now = Tick(1000);
    let new = |state, age: u32| {
        let entry = Entry::new(ServerId(1), state, now.plus(1), Generation::default());
        entry.written(Tick(now.0 - age))
    };
    let place = place(key::<K>(1));
    for slot in 0..K::SLOTS_PER_PAGE {
        page.set_entry(slot, new(State::Established, 500));
    }
    assert_eq!(victim(&page, &place, now), None);
    let order = [
        (State::Closed, 1),
        (State::TimeWait, 0),
        (State::UdpNew, 300),
        (State::SynRecv, 2),
        (State::FinUnproven, 511),
        (State::Unproven, 400),
        (State::UdpUnproven, 3),
        (State::SynRecv, 1),
        (State::Unproven, 0),
    ];
    let slot = |number: usize| place.slot::<K>((number as u32 * 7 + 3) % CANDIDATES);
    for (number, (state, left)) in order.into_iter().enumerate() {
        page.set_entry(slot(number), new(state, left));
    }
    for (number, (state, _)) in order.into_iter().enumerate() {
        let seen = victim(&page, &place, now).unwrap();
        assert_eq!((seen.slot, seen.entry.state()), (slot(number), Some(state)));
        page.set_entry(seen.slot, new(State::Udp, 500));
    }
    assert_eq!(victim(&page, &place, now), None);
}

#[test]
fn what_is_unproven_gives_way_before_what_is_proven() {
    victims_in_order::<KeyV4>();
    victims_in_order::<KeyV6>();
}

#[derive(Debug, Clone)]
enum Operation {
    Open(u32, State),
    Expire(u32),
    Wait(u32),
    Walk,
}

fn operation() -> impl Strategy<Value = Operation> {
    let state = prop_oneof![
        Just(State::SynRecv),
        Just(State::Unproven),
        Just(State::Established),
        Just(State::Closed)
    ];
    prop_oneof![
        8 => (0..2000u32, state).prop_map(|(client, state)| Operation::Open(client, state)),
        2 => (0..2000u32).prop_map(Operation::Expire),
        1 => (1..20u32).prop_map(Operation::Wait),
        1 => Just(Operation::Walk),
    ]
}

/// Against a map of all connections: what the table knows is right, nothing that must stay is lost.
fn behaves_like_a_map<K>(operations: Vec<Operation>) -> Result<(), TestCaseError>
where
    K: Key<Address: Numbered> + Ord + core::fmt::Debug,
{
    let page = empty_page::<K>();
    let mut model: BTreeMap<K, Entry> = BTreeMap::new();
    let mut now = Tick(100);
    for operation in operations {
        match operation {
            Operation::Open(client, state) => {
                let key: K = key(client);
                let server = ServerId(client as u16 + 1);
                let entry = Entry::new(server, state, now.plus(15), Generation::default());
                if look_up(&page, key).is_some() {
                    continue;
                }
                let Some(seen) = victim(&page, &place(key), now) else {
                    // Every candidate must be a live connection of the model's that may not be
                    // evicted.
                    for index in 0..CANDIDATES {
                        let held = page.entry(place(key).slot::<K>(index));
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
                let key: K = key(client);
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
            let away = (seen.slot / K::SLOTS_PER_LINE != home).then_some(home);
            prop_assert_eq!(seen.entry.away(), away, "an entry says where it stands");
        }
        prop_assert_eq!(page.named() & !page.lines(), 0, "no spill goes untold");
    }
    page.walk(now);
    page.walk(now);
    prop_assert_eq!(page.lines(), page.named(), "and none is told for ever");
    model.retain(|_, entry| !entry.expires().is_past(now));
    let used = (0..K::SLOTS_PER_PAGE).filter(|slot| page.entry(*slot).0 != 0).count();
    prop_assert_eq!(used, model.len());
    Ok(())
}

proptest! {
    #[test]
    fn behaves_like_a_map_that_may_forget_only_what_may_be_evicted(
        operations in proptest::collection::vec(operation(), 1..800)
    ) {
        behaves_like_a_map::<KeyV4>(operations.clone())?;
        behaves_like_a_map::<KeyV6>(operations)?;
    }
}
