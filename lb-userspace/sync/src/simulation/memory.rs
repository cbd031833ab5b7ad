//! A connection table in memory, as the engine sees it.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use lb_common::addr::V6;
use lb_common::forward::nat::source::{Client, Endpoint};
use lb_common::packet::frame::Flow;
use lb_common::server::ServerId;
use lb_common::service::binding;
use lb_common::service::{ServiceId, ServiceInfo};
use lb_common::table::connection::{Entry, Generation, Key, KeyV4, KeyV6, State, Tick, slack};
use lb_common::table::spills::{Pressed, Spills};
use lb_common::table::{self, Page, Place, WORDS_PER_PAGE};
use lb_model::ids::GroupNumber;

use super::{BINDINGS, GROUP, GROUP_ID, TIMEOUT, backend, vip};
use crate::directory::{Directory, Known, KnownGroup, SharedDirectory};
use crate::table::{Bound, Entered, Pages, Table};

/// The pages of a table in memory, without the words for spills that a program would look at.
pub struct MemoryPages<K> {
    words: Vec<AtomicU64>,
    /// Lines of each page of which a connection stands elsewhere, a bit each.
    spills: Vec<AtomicU64>,
    changed: Mutex<Vec<usize>>,
    key: PhantomData<K>,
}

pub struct MemoryPage<'a, K> {
    words: &'a [AtomicU64],
    spills: &'a AtomicU64,
    key: PhantomData<K>,
}

impl<K> Spills for MemoryPage<'_, K> {
    fn recent(&self) -> u64 {
        self.spills.load(SeqCst)
    }
    fn lines(&self) -> u64 {
        self.recent()
    }
    fn add_recent(&self, bits: u64) {
        self.spills.fetch_or(bits, SeqCst);
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
    pub fn new(pages: usize) -> Self {
        Self {
            words: (0..pages * WORDS_PER_PAGE as usize).map(|_| AtomicU64::new(0)).collect(),
            spills: (0..pages).map(|_| AtomicU64::new(0)).collect(),
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

/// What stands in the place of clients, and whose each address and port is.
#[derive(Default)]
struct MemorySources {
    of: BTreeMap<Client, Endpoint>,
    holders: BTreeMap<(V6, u16), Client>,
}

/// A director's table, and its lease of the one group.
pub struct MemoryTable {
    pub v4: MemoryPages<KeyV4>,
    pub v6: MemoryPages<KeyV6>,
    hash_keys: [u64; 2],
    /// Of each server, by its number.
    services: Vec<ServiceInfo>,
    /// Of each server, by its number.
    counts: Vec<AtomicU64>,
    balances: AtomicBool,
    generation: AtomicU32,
    /// Ticks until a connection expires.
    timeout: AtomicU32,
    bindings: Mutex<BTreeMap<binding::Key, (binding::Key, Bound)>>,
    sources: Mutex<MemorySources>,
    /// Directors' clocks differ.
    first_tick: Tick,
    tick: AtomicU32,
}

impl MemoryTable {
    /// `order` says which number the servers have here.
    pub fn new(
        [v4, v6]: [usize; 2],
        seed: u64,
        order: &[(u16, bool)],
        anycast: bool,
    ) -> (Self, SharedDirectory) {
        let mut services = vec![ServiceInfo::UNSET];
        let mut known = Vec::new();
        for (index, (number, v6)) in order.iter().enumerate() {
            services.push(ServiceInfo {
                address: vip(*v6),
                port_and_protocol: 6 << 16 | u32::from(80_u16.to_be()),
                id: ServiceId(1 + u16::from(*v6)),
                flags: 0,
                group: GROUP.lease(),
                timeouts: [TIMEOUT; 8],
            });
            let group = KnownGroup::new(GROUP, GROUP_ID, anycast);
            known.push((ServerId(index as u16 + 1), Known { backend: backend(*number, *v6), group }));
        }
        let directory = SharedDirectory::default();
        directory.set(Directory::new(known).with_bindings([(BINDINGS, GROUP)]));
        let table = Self {
            v4: MemoryPages::new(v4),
            v6: MemoryPages::new(v6),
            hash_keys: [seed.wrapping_mul(0x1234_5678_9abc_def1), seed << 1 | 1],
            counts: services.iter().map(|_| AtomicU64::new(0)).collect(),
            services,
            balances: AtomicBool::new(anycast),
            generation: AtomicU32::new(seed as u32),
            timeout: AtomicU32::new(TIMEOUT),
            bindings: Mutex::default(),
            sources: Mutex::default(),
            first_tick: Tick(0).plus((seed as u32).wrapping_mul(0x1_0001)),
            tick: AtomicU32::new(0),
        };
        (table, directory)
    }

    /// Pages of IPv4 and of IPv6.
    pub fn page_counts(&self) -> [usize; 2] {
        [self.v4.count(), self.v6.count()]
    }

    pub(super) fn set_time(&self, now: Duration) {
        let ticks = Tick::from_ns(now.as_nanos() as u64).0;
        self.tick.store(self.first_tick.plus(ticks).0, SeqCst);
    }

    /// From now on connections expire after so many ticks.
    pub fn set_timeout(&self, ticks: u32) {
        self.timeout.store(ticks, SeqCst);
    }

    pub fn set_balances(&self, balances: bool) {
        if self.balances.swap(balances, SeqCst) != balances {
            self.generation.fetch_add(1, SeqCst);
        }
    }

    /// Counts of the servers' connections, by number; those that have none are not there.
    pub fn counts(&self) -> BTreeMap<ServerId, u64> {
        let counts = self.counts.iter().map(|count| count.load(SeqCst));
        (0..).map(ServerId).zip(counts).filter(|(server, count)| server.0 != 0 && *count != 0).collect()
    }

    /// The number that a server of either family has here.
    pub fn number(&self, directory: &SharedDirectory, number: u16, v6: bool) -> ServerId {
        directory.get().number(&backend(number, v6)).expect("a server")
    }

    /// What a packet of the program does.
    pub fn set<K: Kind>(&self, key: K, server: ServerId, state: State) {
        let (page, place, seen) = self.find(key, server);
        let (index, page) = (page, K::pages(self).page(page));
        let now = self.now();
        let timeout = self.timeout.load(SeqCst);
        let expires = now.plus(timeout + slack(timeout));
        let entry = Entry::new(server, state, expires, Table::generation(self, GROUP)).written(now);
        match seen {
            Some(seen) => {
                assert!(page.swap_entry(seen.slot, seen.entry, entry.in_place_of(seen.entry)));
                self.count(entry, seen.entry);
            }
            None => {
                let victim = table::victim(&page, &place, now).expect("room");
                assert!(table::take(&page, &place, victim, key, entry, now));
                self.count(entry, victim.entry);
            }
        }
        if state != State::SynRecv {
            K::pages(self).changed.lock().expect("changes").push(index);
        }
    }

    /// What a packet of the program finds.
    pub fn entry<K: Kind>(&self, key: K, server: ServerId) -> Option<Entry> {
        Some(self.find(key, server).2?.entry)
    }

    /// Page, place and slot of a connection to the server's service.
    fn find<K: Kind>(&self, key: K, server: ServerId) -> (usize, Place, Option<table::Seen>) {
        let flow = Flow::<K::Address>::of_connection(key, &self.service(server)).expect("of the family");
        let pages = K::pages(self);
        let place = Place::of(&flow, self.hash_keys, pages.count() as u32 - 1);
        let page = pages.page(place.page as usize);
        let address = flow.service();
        let is_its = |entry: Entry| self.service(entry.server()).knows(&address).then_some(());
        let found = table::find(&page, &place, key, is_its).map(|(seen, ())| seen);
        (place.page as usize, place, found)
    }
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
        let service = self.services.get(usize::from(server.0)).copied();
        let timeouts = [self.timeout.load(SeqCst); 8];
        service.map_or(ServiceInfo::UNSET, |service| ServiceInfo { timeouts, ..service })
    }
    fn count(&self, entry: Entry, before: Entry) {
        let owe = |server: ServerId, count: u64| {
            if let Some(sum) = self.counts.get(usize::from(server.0)) {
                sum.fetch_add(count, SeqCst);
            }
        };
        owe(entry.server(), entry.counts());
        owe(before.server(), before.counts().wrapping_neg());
    }
    fn balances(&self, _: GroupNumber) -> bool {
        self.balances.load(SeqCst)
    }
    fn holds(&self, group: GroupNumber) -> bool {
        self.balances(group)
    }
    fn generation(&self, _: GroupNumber) -> Generation {
        Generation::from_number(self.generation.load(SeqCst).into())
    }
    fn source(&self, client: &Client) -> Option<Endpoint> {
        self.sources.lock().expect("sources").of.get(client).copied()
    }
    fn enter_source(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        gives_way: &dyn Fn(&Client) -> bool,
    ) -> Entered {
        let MemorySources { of, holders } = &mut *self.sources.lock().expect("sources");
        let end = |endpoint: &Endpoint| (endpoint.address, endpoint.port);
        let other = holders.get(&end(endpoint)).copied().filter(|holder| holder != client);
        if other.is_some_and(|other| !gives_way(&other)) {
            return Entered::Refused;
        }
        if let Some(other) = &other {
            of.remove(other);
        }
        if let Some(before) = of.insert(*client, *endpoint) {
            holders.remove(&end(&before));
        }
        holders.insert(end(endpoint), *client);
        other.map_or(Entered::WasFree, Entered::InPlaceOf)
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

/// What is different between the families.
pub trait Kind: Key {
    fn pages(table: &MemoryTable) -> &MemoryPages<Self>;
}

impl Kind for KeyV4 {
    fn pages(table: &MemoryTable) -> &MemoryPages<Self> {
        &table.v4
    }
}

impl Kind for KeyV6 {
    fn pages(table: &MemoryTable) -> &MemoryPages<Self> {
        &table.v6
    }
}
