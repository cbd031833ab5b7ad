//! The data path as the controller holds it: loaded, attached, kept in step with the plan.
//!
//! - [`kernel`]: whether the running kernel can have it; `bpf`: bpf(2)
//! - [`object`]: the embedded program, loaded with the sizes of the configuration
//! - [`attach`]: on the interface, native or generic
//! - [`device`]: whether what the program sends gets through the interface's driver
//! - [`direct`]: maps whose addresses stand in the programs; `mapped`: maps as memory
//! - [`maps`]: all of them by name; [`counters`]: totals over the CPUs
//! - [`inherited`]: what an `lb` before this one left; [`resize`]: its connections copied into a
//!   table of another size
//! - [`executor`]: carries out the plan's changes; `ids` and `allocator` hand out its numbers and
//!   memory
//! - [`tournaments`]: what lc and wlc pick by, planted and mended
//! - [`bindings`]: clients that are bound to servers
//! - [`lease`]: until when each group of VIPs is served
//! - [`plan`]: what the maps shall hold, and the changes that lead there: pure
//! - [`table`]: the connection table as memory; [`sweep`]: the walk over it that expires, purges
//!   and counts; [`tally`]: connections of each client, where services limit them
//! - [`sources`]: addresses and ports in the place of clients, given back when their connections
//!   are over
//! - [`fragments`]: those that come too early, held until it is their turn
//! - [`trace`]: packets that the program tells one by one
//! - [`program_log`]: rare events that the program reports itself

mod allocator;
pub mod attach;
pub mod bindings;
mod bpf;
pub mod counters;
pub mod device;
pub mod direct;
pub mod executor;
pub mod fragments;
mod ids;
pub mod inherited;
pub mod kernel;
pub mod lease;
pub mod mapped;
pub mod maps;
pub mod object;
pub mod plan;
pub mod program_log;
pub mod resize;
pub mod sources;
pub mod sweep;
pub mod table;
pub mod tally;
pub mod tournaments;
pub mod trace;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use lb_common::control::Control;
use lb_common::mac::Mac;
use lb_common::program::stage::{HOST_IPV6, Stage};
use lb_common::server::ServerId;
use lb_model::ServiceKey;
use lb_model::lease::{Leases, Memory};

use self::executor::Executor;
use self::fragments::{FragmentThread, RelatedPrograms};
use self::inherited::Inherited;
use self::lease::Start;
use self::maps::Maps;
use self::object::{Object, Sizes};
use self::sources::Sources;
use self::table::Table;
use crate::plan::quic::Quic;
use crate::plan::{Change, State, diff, schedule};

/// A loaded program with its maps, and the state they hold.
pub struct DataPath {
    pub ebpf: Ebpf,
    pub executor: Executor,
    pub table: Arc<Table>,
    applied: State,
    /// Services whose schedule could not be written.
    failed: BTreeSet<ServiceKey>,
    /// Programs that services lacked when the kernel refused one of them, and when that was.
    refused: Option<(Instant, Vec<Stage>)>,
    /// Those that look at fragments which were held.
    related: Arc<RelatedPrograms>,
}

/// How long a program that the kernel has refused is left alone: to try it takes time.
const LOAD_AGAIN: Duration = Duration::from_secs(60);

/// What [`DataPath::apply`] did.
#[derive(Debug)]
pub struct Applied {
    pub changes: Vec<Change>,
    /// Servers that are gone, and whose they were: their connections must be purged.
    pub purge: Vec<(ServiceKey, ServerId)>,
    pub errors: Vec<anyhow::Error>,
}

impl DataPath {
    /// Takes over the maps of a loaded object. `mac` is the interface's own, `hash_keys` are random
    /// and secret; an `lb` before this one had its own, and so has what it left.
    pub fn new(
        object: Object,
        sizes: Sizes,
        mac: Mac,
        hash_keys: [u64; 2],
        start: Start,
        inherited: Option<&Inherited>,
    ) -> Result<Self> {
        let Object { mut ebpf, direct } = object;
        let (maps, table) = Maps::take(&mut ebpf, direct)?;
        let executor = Executor::new(maps, sizes, mac, hash_keys, start, inherited);
        Ok(Self {
            ebpf,
            executor,
            table: Arc::new(table),
            applied: State::default(),
            failed: BTreeSet::new(),
            refused: None,
            related: Arc::default(),
        })
    }

    /// Loads the entry, and the programs that packets of these services come to from it. Comes
    /// before the entry is attached. `loaded` is called after each program, by several threads.
    /// What only later services need is loaded by [`Self::load_for`], or when [`Self::apply`]
    /// brings one of them.
    pub fn load_programs(&mut self, desired: &State, loaded: &(dyn Fn() + Sync)) -> Result<()> {
        self.load(Some(object::PROGRAM), desired.stages(), loaded)
    }

    /// Loads what these services need besides.
    pub fn load_for(&mut self, desired: &State, loaded: &(dyn Fn() + Sync)) -> Result<()> {
        self.load(None, desired.stages(), loaded)
    }

    /// Loads all programs of a director that has every kind of service.
    pub fn load_all_programs(&mut self) -> Result<()> {
        self.load(Some(object::PROGRAM), Stage::ALL, &|| {})
    }

    /// Loads programs that are not loaded yet, and tells the others of them; also of those that
    /// were loaded while another one was refused.
    fn load(
        &mut self,
        entry: Option<&'static str>,
        stages: impl IntoIterator<Item = Stage>,
        loaded: &(dyn Fn() + Sync),
    ) -> Result<()> {
        let mut new: Vec<Stage> =
            stages.into_iter().filter(|stage| !self.executor.is_callable(*stage)).collect();
        let is_unloaded = |name: &&str| self.ebpf.program(name).is_some_and(|program| program.fd().is_err());
        let stages = new.iter().map(|stage| stage.program()).filter(is_unloaded);
        let stands_in = entry.is_some() && !new.contains(&Stage::SlowIpv6);
        let names: Vec<&str> =
            entry.into_iter().chain(stands_in.then_some(HOST_IPV6)).chain(stages).collect();
        let done = match names.is_empty() {
            true => Ok(()),
            false => object::load_programs(&mut self.ebpf, &names, loaded),
        };
        let complete = done.is_ok();
        // What calls others comes after these; until all are there the stand-in goes on.
        new.sort_by_key(|stage| stage.has_stand_in());
        for stage in new.into_iter().filter(|stage| complete || *stage != Stage::SlowIpv6) {
            if let Ok(descriptor) = object::program(&mut self.ebpf, stage.program())?.fd() {
                self.executor.set_stage(stage, descriptor)?;
                self.related.set(stage, descriptor)?;
            }
        }
        if let Ok(descriptor) = object::program(&mut self.ebpf, HOST_IPV6)?.fd() {
            self.executor.stand_in(descriptor)?;
        }
        done
    }

    /// Begins to hold fragments that come too early, unless it has begun before. Comes after
    /// [`Self::load_programs`].
    ///
    /// # Errors
    /// Such fragments are the host's, as long as this is not called again.
    pub fn hold_fragments(&mut self, interface: u32) -> Result<Option<FragmentThread>> {
        let maps = self.executor.fragments().take();
        maps.map(|maps| FragmentThread::start(maps, Arc::clone(&self.related), interface)).transpose()
    }

    /// What stands in the place of clients, for the thread that gives it back.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn sources(&self) -> Result<Sources> {
        let shared = self.executor.maps();
        let (table, servers) = (Arc::clone(&self.table), Arc::clone(&shared.servers));
        let Control { hash_keys, page_mask_v4, page_mask_v6, .. } = shared.control.read(0);
        let page_masks = [page_mask_v4, page_mask_v6];
        Ok(Sources { maps: shared.sources.try_clone()?, table, hash_keys, page_masks, servers })
    }

    pub fn applied(&self) -> &State {
        &self.applied
    }

    /// A handle on the leases of the VIP groups.
    pub fn leases(&self) -> Leases {
        Leases::new(Arc::clone(&self.executor.maps().control) as Arc<dyn Memory>)
    }

    /// Brings the maps to `desired`, as far as possible: a change that fails is told in `errors`
    /// and tried again with the next call; the others hold. A program that some services need and
    /// the kernel refuses is tried again with the first call after a minute, or when another one is
    /// needed. Until then nobody asks for rules about clients, or what goes by address translation
    /// is lost, or the host has what is for services of IPv6.
    pub fn apply(&mut self, desired: State) -> Applied {
        let mut errors = Vec::from_iter(self.load_lacking(&desired).err());
        let mut changes = diff(&desired, &self.applied);
        self.applied = desired;
        changes.extend(self.failed_schedules(&changes));
        let mut purge = Vec::new();
        for change in &changes {
            match self.executor.execute(change) {
                Ok(gone) => purge.extend(gone),
                Err(error) => {
                    self.forget(change);
                    errors.push(error);
                }
            }
        }
        errors.extend(self.executor.commit().err());
        Applied { changes, purge, errors }
    }

    /// Loads what these services lack, unless all of that has just been tried.
    fn load_lacking(&mut self, desired: &State) -> Result<()> {
        let lacking: Vec<Stage> =
            desired.stages().filter(|stage| !self.executor.is_callable(*stage)).collect();
        let is_tried = |(at, stages): &(Instant, Vec<Stage>)| {
            at.elapsed() < LOAD_AGAIN && lacking.iter().all(|stage| stages.contains(stage))
        };
        if lacking.is_empty() || self.refused.as_ref().is_some_and(is_tried) {
            return Ok(());
        }
        let loaded = self.load(None, lacking.iter().copied(), &|| {});
        self.refused = loaded.is_err().then(|| (Instant::now(), lacking));
        loaded.context(
            "services do without a program: rules about clients are not in force, or masq or IPv6 does not work",
        )
    }

    /// Schedules that failed the last time and are not among `changes` anyway.
    fn failed_schedules(&mut self, changes: &[Change]) -> Vec<Change> {
        let failed = std::mem::take(&mut self.failed);
        let again = failed.iter().filter_map(|key| Some(schedule(*key, self.applied.services.get(key)?)));
        again.filter(|again| !changes.contains(again)).collect()
    }

    /// Notes that a change did not happen.
    fn forget(&mut self, change: &Change) {
        match change {
            Change::AddService(key, _) => drop(self.applied.services.remove(key)),
            Change::AddServer(key, server) => {
                if let Some(service) = self.applied.services.get_mut(key) {
                    service.servers.retain(|other| other.target != server.target);
                }
            }
            Change::Schedule(key, ..) => drop(self.failed.insert(*key)),
            Change::Quic(key, _) => {
                if let Some(service) = self.applied.services.get_mut(key) {
                    service.quic = Quic::default();
                }
            }
            // What is in the maps the executor knows; the next difference goes from there.
            Change::Clients(key, _) => {
                let there = self.executor.clients(key).cloned();
                if let (Some(service), Some(clients)) = (self.applied.services.get_mut(key), there) {
                    service.clients = clients;
                }
            }
            Change::Denied(_) => self.applied.denied = Arc::clone(self.executor.denied()),
            Change::ChangeService(..)
            | Change::ChangeServer(..)
            | Change::RemoveServer(..)
            | Change::RemoveService(..) => {}
        }
    }
}
