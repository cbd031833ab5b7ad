//! Loaded programs, used by one test after the other: the verifier takes most of a second for each.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use lb_common::lease::MAX_GROUPS;
use lb_common::packet::fragment::Trail;
use lb_common::server::ServerId;
use lb_common::service::admission::Buckets;
use lb_common::table::spills::{Pressed, Spills as _};
use lb_datapath::DataPath;
use lb_datapath::bindings::Bindings;
use lb_datapath::fragments;
use lb_datapath::inherited::PinnedMaps;
use lb_datapath::lease::Start;
use lb_datapath::mapped::Mapped;
use lb_datapath::object::{self, Sizes};
use lb_datapath::plan::State;
use lb_datapath::sources::Sources;
use lb_model::ids::GroupNumber;

use super::{Director, MAC};

/// Fixed, so that a failure repeats.
const HASH_KEYS: [u64; 2] = [0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321];

/// Longer than any time-out in the tests.
const A_WEEK: Duration = Duration::from_secs(7 * 86_400);

/// The one that was used last stands at the end.
static IDLE: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

/// Programs that are kept. Each has maps of its own, some of them large.
const MOST_IDLE: usize = 8;

pub struct Loaded {
    pub data_path: DataPath,
    /// Servers that were removed and not yet purged.
    pub leaving: Vec<ServerId>,
    /// What the counters, which nobody can reset, stood at when this test began.
    pub reasons_before: Vec<u64>,
    pub events_before: Vec<u64>,
    /// All programs are loaded. What is loaded as in the product is for one test alone.
    pub(super) whole: bool,
    sizes: Sizes,
    cursors: Mapped<[u64; 8]>,
    overflows: Mapped<u64>,
    /// Of first packets.
    pub tentative: Bindings,
    refusals: PerCpuArray<MapData, u64>,
    sources: Sources,
}

/// A program with maps of these sizes, as after loading.
pub(super) fn take(sizes: Sizes) -> Loaded {
    let mut idle = IDLE.lock().unwrap();
    let index = idle.iter().position(|loaded| loaded.sizes == sizes);
    let loaded = index.map(|index| idle.remove(index));
    drop(idle);
    begun(loaded.map_or_else(|| load(sizes, None), Ok))
}

/// As the product begins: with the programs alone that these services need.
pub(super) fn start(sizes: Sizes, services: &State) -> Loaded {
    begun(load(sizes, Some(services)))
}

/// A test begins with it.
fn begun(loaded: anyhow::Result<Loaded>) -> Loaded {
    let mut loaded =
        loaded.unwrap_or_else(|error| panic!("no director to test (this needs root): {error:#}"));
    loaded.reasons_before = loaded.reasons_ever();
    loaded.events_before = loaded.events_ever();
    loaded
}

/// `services`: those that programs are loaded for; `None`: all programs are.
fn load(sizes: Sizes, services: Option<&State>) -> anyhow::Result<Loaded> {
    let mut object = object::load(&sizes, &PinnedMaps::default())?;
    let mut mapped = |name| object.ebpf.take_map(name).unwrap_or_else(|| panic!("no map {name}"));
    let cursors = Mapped::new("CURSORS", mapped("CURSORS"))?;
    let overflows = Mapped::new("OVERFLOWS", mapped("OVERFLOWS"))?;
    let tentative = Bindings::new(mapped("TENTATIVE"))?;
    let refusals = mapped("REFUSALS").try_into()?;
    let mut data_path = DataPath::new(object, sizes, MAC, HASH_KEYS, Start::Active, None)?;
    match services {
        Some(services) => data_path.load_programs(services, &|| {})?,
        None => data_path.load_all_programs()?,
    }
    let sources = data_path.sources()?;
    Ok(Loaded {
        data_path,
        leaving: Vec::new(),
        reasons_before: Vec::new(),
        events_before: Vec::new(),
        whole: services.is_none(),
        sizes,
        cursors,
        overflows,
        tentative,
        refusals,
        sources,
    })
}

/// Empties the maps for the next test.
pub(super) fn give_back(loaded: Loaded) {
    let mut director = Director(Some(loaded));
    director.begin_anew(State::default());
    let mut idle = IDLE.lock().unwrap();
    idle.extend(director.0.take());
    let too_many = idle.len().saturating_sub(MOST_IDLE);
    let given_up: Vec<Loaded> = idle.drain(..too_many).collect();
    drop(idle);
    // The kernel takes its time to free the maps.
    drop(given_up);
}

impl Director {
    /// As a program that was loaded just now, with this state. Checks on the way what must hold
    /// after any packets: with the table empty, nothing is counted.
    pub fn begin_anew(&mut self, state: State) {
        self.apply(state);
        self.sweep_after(A_WEEK);
        assert_eq!(self.entries(), 0, "entries after a week");
        let leaving = self.leaving.clone();
        for server in &leaving {
            let counts = self.data_path.table.counts(*server);
            assert_eq!(counts.0, 0, "connections of {server:?} in an empty table");
        }
        self.purge(&leaving);
        let leases = self.data_path.leases();
        for group in (0..MAX_GROUPS as u8).map(GroupNumber) {
            leases.unlimited(group);
            leases.relay(group, None);
        }
        self.data_path.executor.set_vips(&[]).unwrap();
        self.data_path.executor.set_answers(&BTreeSet::new()).unwrap();
        self.data_path.executor.set_mac(MAC);
        self.data_path.executor.set_ingresses(0, &[]).unwrap();
        self.data_path.executor.hold_strays(Duration::ZERO);
        self.data_path.executor.set_directors(BTreeSet::new()).unwrap();
        self.data_path.executor.set_routes(&[]).unwrap();
        self.data_path.executor.trace().end();
        while self.data_path.executor.trace().take().is_some() {}
        while self.data_path.executor.trace().take_captured().is_some() {}
        let (cursors, overflows) = (self.cursors.elements(), self.overflows.elements());
        (0..cursors).for_each(|index| self.cursors.write(index, [0; 8]));
        (0..overflows).for_each(|index| self.overflows.write(index, 0));
        self.forget_fragments();
        self.forget_pressure();
        self.forget_answers();
        self.forget_bindings();
        self.forget_clients();
        let (used, _) = self.sweep_sources();
        assert_eq!(used, 0, "ports of `source_nat` without a connection");
    }
}

impl Loaded {
    /// As if the time of every trail of fragments were over.
    pub fn expire_fragments(&mut self) {
        let trails = &mut self.held_fragments().trails;
        for (key, mut trail) in trails.iter().filter_map(Result::ok).collect::<Vec<_>>() {
            let until = std::mem::offset_of!(Trail, until_ns);
            trail[until..until + 8].copy_from_slice(&1_u64.to_ne_bytes());
            trails.insert(key, trail, 0).expect("it is there");
        }
    }

    /// As if no first fragment had come.
    pub fn forget_fragments(&mut self) {
        let fragments = self.held_fragments();
        let keys: Vec<_> = fragments.trails.keys().filter_map(Result::ok).collect();
        for key in keys {
            fragments.trails.remove(&key).expect("nobody else removes it");
        }
        fragments.take_no_more();
        while fragments.take_frame().is_some() {}
    }

    /// Those that come too early, and trails.
    pub fn held_fragments(&mut self) -> &mut fragments::Maps {
        self.data_path.executor.fragments().as_mut().expect("no thread has them")
    }

    /// Gives ports of `source_nat` back; returns how many are in use, and how many were given back.
    pub fn sweep_sources(&mut self) -> (usize, usize) {
        self.sources.sweep().expect("the maps can be read")
    }

    /// As if no client had ever been bound.
    fn forget_bindings(&mut self) {
        self.data_path.executor.bindings().clear().expect("a map");
        self.tentative.clear().expect("a map");
    }

    /// As if no client had ever come to a service with limits.
    fn forget_clients(&self) {
        let executor = &self.data_path.executor;
        executor.client_accounts().forget(|_| true).expect("the maps can be listed");
        let buckets = &executor.maps().buckets;
        (0..buckets.elements()).for_each(|index| buckets.write(index, Buckets::default()));
    }

    /// As if no ICMP error had been sent for a long time.
    pub fn forget_answers(&mut self) {
        let cpus = aya::util::nr_cpus().expect("a number of CPUs");
        let never = PerCpuValues::try_from(vec![0; cpus]).expect("a value for each CPU");
        self.refusals.set(0, never, 0).expect("the map is there");
    }

    /// As if every connection had found room in its lines: for half a second after a flood a
    /// newcomer takes the place of a half-open one.
    fn forget_pressure(&self) {
        let table = &self.data_path.table;
        let (v4, v6) = (&table.v4, &table.v6);
        (0..v4.count()).for_each(|index| v4.page(index).set_pressed(Pressed(0)));
        (0..v6.count()).for_each(|index| v6.page(index).set_pressed(Pressed(0)));
    }

    /// By [`Reason`](lb_common::reason::Reason), since the program was loaded.
    pub fn reasons_ever(&self) -> Vec<u64> {
        self.data_path.executor.maps().counters.reasons().unwrap()
    }

    /// By [`TableEvent`](lb_common::reason::TableEvent), since the program was loaded.
    pub fn events_ever(&self) -> Vec<u64> {
        self.data_path.executor.maps().counters.events().unwrap()
    }
}
