//! A connection table in memory, as the engine sees it.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use lb_common::addr::V6;
use lb_common::binding;
use lb_common::connection::{Entry, Generation, Key, KeyV4, KeyV6, Tick};
use lb_common::server::ServerId;
use lb_common::service::ServiceInfo;
use lb_common::spills::{Pressed, RawSpills, Spills};
use lb_common::table::{Page, WORDS_PER_PAGE};

use super::take;
use crate::message::WireKey;
use crate::table::{Bound, Pages, Table};

/// The pages of a table in memory, without the words for spills that a program would look at.
pub(super) struct MemoryPages<K> {
    words: Vec<AtomicU64>,
    spills: Vec<Mutex<RawSpills>>,
    pub(super) changed: Mutex<Vec<usize>>,
    key: PhantomData<K>,
}

pub(super) struct MemoryPage<'a, K> {
    words: &'a [AtomicU64],
    spills: &'a Mutex<RawSpills>,
    key: PhantomData<K>,
}

impl<K> Spills for MemoryPage<'_, K> {
    fn recent(&self) -> u64 {
        self.spills.lock().expect("spills").recent
    }
    fn lines(&self) -> u64 {
        self.recent()
    }
    fn add_recent(&self, bits: u64) {
        self.spills.lock().expect("spills").recent |= bits;
    }
    fn pressed(&self) -> Pressed {
        Pressed(0)
    }
    fn set_pressed(&self, _: Pressed) {}
}

impl<K: Key> Page for MemoryPage<'_, K> {
    type Key = K;
    fn read(&self, word: u32) -> u64 {
        self.words[word as usize].load(SeqCst)
    }
    fn write(&self, word: u32, value: u64) {
        self.words[word as usize].store(value, SeqCst);
    }
    fn swap(&self, word: u32, from: u64, to: u64) -> bool {
        self.words[word as usize].compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

impl<K: Key> MemoryPages<K> {
    pub(super) fn new(pages: usize) -> Self {
        Self {
            words: (0..pages * WORDS_PER_PAGE as usize).map(|_| AtomicU64::new(0)).collect(),
            spills: (0..pages).map(|_| Mutex::default()).collect(),
            changed: Mutex::default(),
            key: PhantomData,
        }
    }
}

impl<K: Key> Pages<K> for MemoryPages<K> {
    type Page<'a>
        = MemoryPage<'a, K>
    where
        Self: 'a;

    fn count(&self) -> usize {
        self.spills.len()
    }
    fn page(&self, index: usize) -> MemoryPage<'_, K> {
        let words = WORDS_PER_PAGE as usize;
        let words = &self.words[index * words..(index + 1) * words];
        MemoryPage { words, spills: &self.spills[index], key: PhantomData }
    }
    fn take_changed(&self, changed: &mut Vec<usize>) {
        changed.append(&mut self.changed.lock().expect("changes"));
    }
}

/// A director's table, and its lease of the one group.
pub(super) struct MemoryTable {
    pub(super) v4: MemoryPages<KeyV4>,
    pub(super) v6: MemoryPages<KeyV6>,
    pub(super) hash_keys: [u64; 2],
    pub(super) services: Vec<ServiceInfo>,
    pub(super) counts: Mutex<BTreeMap<ServerId, u64>>,
    pub(super) balances: AtomicU32,
    pub(super) generation: AtomicU32,
    pub(super) tick: AtomicU32,
    pub(super) bindings: Mutex<BTreeMap<binding::Key, (binding::Key, Bound)>>,
}

impl Table for MemoryTable {
    type V4 = MemoryPages<KeyV4>;
    type V6 = MemoryPages<KeyV6>;

    fn v4(&self) -> &Self::V4 {
        &self.v4
    }
    fn v6(&self) -> &Self::V6 {
        &self.v6
    }
    fn hash_keys(&self) -> [u64; 2] {
        self.hash_keys
    }
    fn service(&self, server: ServerId) -> ServiceInfo {
        self.services.get(usize::from(server.0)).copied().unwrap_or(ServiceInfo::UNSET)
    }
    fn count(&self, entry: Entry, before: Entry) {
        let mut counts = self.counts.lock().expect("counts");
        let owe = |counts: &mut BTreeMap<ServerId, u64>, server, count: u64| {
            let sum = counts.entry(server).or_default();
            *sum = sum.wrapping_add(count);
        };
        owe(&mut counts, entry.server(), entry.counts());
        owe(&mut counts, before.server(), before.counts().wrapping_neg());
    }
    fn balances(&self, _: u8) -> bool {
        self.balances.load(SeqCst) != 0
    }
    fn holds(&self, group: u8) -> bool {
        self.balances(group)
    }
    fn generation(&self, _: u8) -> Generation {
        Generation::from_number(self.generation.load(SeqCst).into())
    }
    fn bindings(&self) -> Vec<(binding::Key, Bound)> {
        self.bindings.lock().expect("bindings").values().copied().collect()
    }
    fn bind(&self, key: binding::Key, server: V6, until: Duration) {
        let bound = Bound { server, until, timeout: Duration::from_secs(300) };
        self.bindings.lock().expect("bindings").insert(key, (key, bound));
    }
    fn now(&self) -> Tick {
        Tick(self.tick.load(SeqCst))
    }
}

pub(super) trait Kind: WireKey + take::Family<MemoryTable, Pages = MemoryPages<Self>> {}
impl Kind for KeyV4 {}
impl Kind for KeyV6 {}
