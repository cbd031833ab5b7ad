//! Carries out the plan's changes in the maps.
//!
//! - [`clients`]: which clients services take, and what clients have done
//! - `quic`: which servers connection IDs name
//! - `schedules`: which schedule of a service is in force, and where its lists stand
//! - `servers`: how each server is reached, and its copy of its service
//! - `backends`: whose a packet is that comes from a server by address translation, and routes to
//!   clients
//! - `ingresses`: other interfaces that packets come in by
//! - `values`: services and addresses as the maps hold them

mod backends;
pub mod clients;
mod ingresses;
pub(crate) mod quic;
mod schedules;
mod servers;
mod stages;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_common::addr::V6;
use lb_common::control::{Control, Half, LAYOUT, Reading, Vips};
use lb_common::forward::egress::Egress;
use lb_common::forward::nat::{RoutesInForce, Translation};
use lb_common::forward::tunnel::Tunnel;
use lb_common::mac::Mac;
use lb_common::program::probe::{Answer, Ports};
use lb_common::program::stage::Stage;
use lb_common::schedule::Schedule;
use lb_common::server::{ServerEntry, ServerId};
use lb_common::service::{ServiceId, ServiceSlot, place};
use lb_common::shared::Shared;
use lb_model::ids::GroupNumber;
use lb_model::{ClientLists, ServiceKey};
use lb_system::clock::now_ns;

use self::backends::Backends;
use self::schedules::Regions;
use self::values::{persistence, places, service_info};
use super::allocator::Allocator;
use super::bindings::Bindings;
use super::fragments;
use super::ids::Ids;
use super::inherited::{Inherited, Known};
use super::lease::Start;
use super::maps::Maps;
use super::object::Sizes;
use super::trace::Trace;
use crate::plan::clients::Clients;
use crate::plan::quic::Quic;
use crate::plan::{Change, Settings, Target};

/// The maps and what stands where in them.
pub struct Executor {
    maps: Maps,
    sizes: Sizes,
    services: BTreeMap<ServiceKey, ServiceRecord>,
    service_ids: Ids,
    server_ids: Ids,
    schedule_words: Allocator,
    /// Elements for tournaments.
    pairs: Allocator,
    /// What schedules take that are no longer in force; free once no packet can be under way with
    /// them.
    retired: Vec<Regions>,
    /// The table of services differs from `services`.
    services_changed: bool,
    /// `BOUND_SERVERS` differs from what services and servers say.
    bound_changed: bool,
    /// Number of the last switch from one schedule, or one half of the services, to the other.
    switches: u64,
    /// Switches up to this one have settled: no packet is under way with what they switched off.
    settled: u64,
    /// The last switch of the halves.
    halves_switched: u64,
    /// Servers still being purged whose services are gone.
    leaving: BTreeMap<ServerId, ServiceId>,
    /// The same by service, whose number may be used again after the last of them.
    leaving_services: BTreeMap<ServiceId, BTreeSet<ServerId>>,
    unclaimed: Unclaimed,
    /// MACs of the other directors.
    directors: BTreeSet<Mac>,
    backends: Backends,
    /// Clients whom every service denies.
    denied: Arc<ClientLists>,
    /// Programs that others can go on in.
    callable: [bool; Stage::COUNT],
}

/// What an `lb` before this one left, and no change has asked for yet.
#[derive(Debug, Default)]
struct Unclaimed {
    services: BTreeMap<ServiceKey, ServiceId>,
    servers: BTreeMap<(ServiceKey, Target), ServerId>,
}

impl Unclaimed {
    fn of(known: &[Known]) -> Self {
        Self {
            services: known.iter().map(|known| (known.service, known.service_id)).collect(),
            servers: known.iter().map(|known| ((known.service, known.target), known.id)).collect(),
        }
    }
}

struct ServiceRecord {
    id: ServiceId,
    settings: Settings,
    servers: BTreeMap<Target, ServerId>,
    /// Those that bound clients may go to.
    binding: BTreeSet<Target>,
    /// Of those that have one.
    macs: BTreeMap<Target, Mac>,
    serving: Serving,
    /// What its schedule in force takes.
    regions: Regions,
    /// The last switch of its schedules.
    switched: u64,
    quic: Quic,
    clients: Clients,
    /// Servers removed and not yet purged: the service's number may not be used again before.
    purging: Vec<ServerId>,
}

/// Which directors of the cluster are real servers of a service; none without a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Serving {
    host: bool,
    any: bool,
}

impl Executor {
    /// `hash_keys` are random and secret; those of an `lb` before this one stay.
    pub fn new(
        maps: Maps,
        sizes: Sizes,
        mac: Mac,
        hash_keys: [u64; 2],
        start: Start,
        inherited: Option<&Inherited>,
    ) -> Self {
        let leases = start.leases(inherited.map(|inherited| &inherited.control.leases));
        let known = inherited.map(|inherited| inherited.servers.as_slice()).unwrap_or_default();
        let service_ids = known.iter().map(|known| known.service_id.0);
        let server_ids = known.iter().map(|known| known.id.0);
        maps.control.write(
            0,
            Control {
                mac: Shared::new(mac),
                hash_keys: inherited.map_or(hash_keys, |inherited| inherited.control.hash_keys),
                half: Shared::new(Half::new(0, 1)),
                page_mask_v4: sizes.pages_v4() - 1,
                service_mask: sizes.service_slots() - 1,
                probe_ports: Shared::new(Ports::NONE),
                layout: LAYOUT,
                hold_strays_until: Shared::new(0),
                vips: Shared::new(Vips::default()),
                page_mask_v6: sizes.pages_v6() - 1,
                // Where packets found their way back by, until it is known anew.
                routes: Shared::new(
                    inherited.map_or(RoutesInForce::default(), |inherited| inherited.control.routes.get()),
                ),
                has_ranges: Shared::new(0),
                clock: Shared::new(Reading::default()),
                main: Shared::new(0),
                guarded: Shared::new(0),
                reserved: [0; 2],
                translated: Shared::new(Vips::default()),
                leases,
            },
        );
        Self {
            maps,
            services: BTreeMap::new(),
            service_ids: Ids::besides(service_ids, u16::try_from(sizes.services).unwrap_or(u16::MAX)),
            server_ids: Ids::besides(server_ids, u16::try_from(sizes.servers).unwrap_or(u16::MAX)),
            unclaimed: Unclaimed::of(known),
            schedule_words: Allocator::new(sizes.schedule_words),
            pairs: Allocator::new(sizes.pairs()),
            retired: Vec::new(),
            services_changed: false,
            bound_changed: false,
            switches: 0,
            settled: 0,
            halves_switched: 0,
            leaving: BTreeMap::new(),
            leaving_services: BTreeMap::new(),
            directors: BTreeSet::new(),
            backends: Backends::default(),
            denied: Arc::default(),
            callable: [false; Stage::COUNT],
            sizes,
        }
    }

    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// What the program tells of single packets.
    pub fn trace(&mut self) -> &mut Trace {
        &mut self.maps.trace
    }

    pub fn bindings(&mut self) -> &mut Bindings {
        &mut self.maps.bindings
    }

    /// Fragments that come too early, unless a thread holds them already.
    pub fn fragments(&mut self) -> &mut Option<fragments::Maps> {
        &mut self.maps.fragments
    }

    /// Number of a server in the maps.
    pub fn server_id(&self, service: &ServiceKey, target: Target) -> Option<ServerId> {
        self.services.get(service)?.servers.get(&target).copied()
    }

    /// From now on these are the VIPs of the groups, and no others: for those the host is heard
    /// only while their group has its lease.
    pub fn set_vips(&mut self, vips: &[(IpAddr, GroupNumber)]) -> Result<()> {
        let index = |group: GroupNumber| u32::from(group.lease().number());
        let vips = vips.iter().map(|(vip, group)| (V6::from(*vip).0, index(*group))).collect();
        self.maps.vips.set("VIPs of the groups", &vips)
    }

    /// From now on these are the answers to probes through a VIP, and no others.
    pub fn set_answers(&mut self, answers: &BTreeSet<Answer>) -> Result<()> {
        let ports = if answers.is_empty() { Ports::NONE } else { Ports::OWN };
        let word = self.maps.control.word(0, offset_of!(Control, probe_ports));
        word.store(zerocopy::transmute!(ports), Ordering::Release);
        let answers = answers.iter().map(|answer| (zerocopy::transmute!(*answer), 0)).collect();
        self.maps.answers.set("services with checks through the VIP", &answers)
    }

    /// The interface's own, as [`Self::set_mac`] has set it.
    pub fn mac(&self) -> Mac {
        let word = self.maps.control.word(0, offset_of!(Control, mac));
        Mac::from_word(word.load(Ordering::Acquire))
    }

    /// From now on and for so long packets in mid-connection that no entry knows are dropped.
    pub fn hold_strays(&self, time: Duration) {
        let until = if time.is_zero() { 0 } else { now_ns().saturating_add(time.as_nanos() as u64) };
        self.maps.control.word(0, offset_of!(Control, hold_strays_until)).store(until, Ordering::Release);
    }

    pub fn set_mac(&self, mac: Mac) {
        self.maps.control.word(0, offset_of!(Control, mac)).store(mac.word(), Ordering::Release);
    }

    /// From now on these are the MACs of the other directors.
    pub fn set_directors(&mut self, directors: BTreeSet<Mac>) -> Result<()> {
        let words = directors.iter().map(|mac| (mac.word(), 0)).collect();
        self.maps.directors.set("MACs of the other directors", &words)?;
        self.directors = directors;
        let services: Vec<ServiceKey> = self.services.keys().copied().collect();
        services.iter().try_for_each(|key| self.look_who_serves(key))?;
        self.commit()
    }

    /// Carries out one change; [`Self::commit`] makes the last ones visible. Returns a server whose
    /// connections are to be purged now, and whose it was.
    pub fn execute(&mut self, change: &Change) -> Result<Option<(ServiceKey, ServerId)>> {
        match change {
            Change::AddService(key, settings) => self.add_service(*key, *settings)?,
            Change::ChangeService(key, settings) => {
                self.record(key)?.settings = *settings;
                self.write_persistence(key)?;
                self.service_changed(key)?;
                self.write_pool(key)?;
            }
            Change::RemoveService(key) => self.remove_service(key)?,
            Change::AddServer(key, server) => self.add_server(key, server)?,
            Change::ChangeServer(key, server) => {
                let id = *self.record(key)?.servers.get(&server.target).context("no such server")?;
                self.write_next_hop(key, id, server)?;
            }
            Change::Quic(key, quic) => self.set_quic(key, quic)?,
            Change::Clients(key, clients) => self.set_clients(key, clients)?,
            Change::Denied(denied) => self.set_denied(denied)?,
            Change::RemoveServer(key, target) => return Ok(Some((*key, self.remove_server(key, *target)?))),
            Change::Schedule(key, scheduler, hashing, candidates) => {
                self.schedule(key, *scheduler, *hashing, candidates)?;
            }
        }
        Ok(None)
    }

    /// Ends a batch of changes: services that were added, changed or removed are so for packets
    /// from now on.
    pub fn commit(&mut self) -> Result<()> {
        self.write_bound_servers()?;
        let forgotten = self.maps.clients.forget_ended();
        if std::mem::take(&mut self.services_changed) {
            self.write_services()?;
        }
        self.write_guarded();
        self.write_backends().and(forgotten)
    }

    /// Tells which servers bound clients may go to.
    fn write_bound_servers(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.bound_changed) {
            return Ok(());
        }
        let persistent = self.services.values().filter(|record| record.settings.persistence.is_some());
        let bound = persistent.flat_map(|record| {
            let numbers = record.servers.iter().filter(|(target, _)| record.binding.contains(*target));
            numbers.map(|(target, id)| {
                let [high, low] = target.address().0;
                ([high, low, u64::from(record.id.0)], u32::from(id.0))
            })
        });
        self.maps.bound_servers.set("servers of bound clients", &bound.collect())
    }

    /// Nothing in the table names `server` any more: its number is free.
    pub fn purged(&mut self, server: ServerId) {
        if let Err(error) = self.forget_backend(server) {
            tracing::warn!("{error:#}");
        }
        self.maps.servers.write(usize::from(server.0), ServerEntry::UNSET);
        self.maps.targets.write(usize::from(server.0), V6::UNSPECIFIED);
        self.maps.tunnels.write(usize::from(server.0), Tunnel::UNSET);
        self.maps.translations.write(usize::from(server.0), Translation::UNSET);
        self.maps.egresses.write(usize::from(server.0), Egress::UNSET);
        self.server_ids.give_back(server.0);
        for record in self.services.values_mut() {
            record.purging.retain(|purging| *purging != server);
        }
        let Some(service) = self.leaving.remove(&server) else { return };
        let Some(others) = self.leaving_services.get_mut(&service) else { return };
        others.remove(&server);
        if others.is_empty() {
            self.leaving_services.remove(&service);
            self.service_ids.give_back(service.0);
        }
    }

    fn record(&mut self, key: &ServiceKey) -> Result<&mut ServiceRecord> {
        self.services.get_mut(key).with_context(|| format!("no such service: {key}"))
    }

    fn add_service(&mut self, key: ServiceKey, settings: Settings) -> Result<()> {
        let known = self.unclaimed.services.remove(&key).map(|id| id.0);
        let id = known.or_else(|| self.service_ids.take()).with_context(|| {
            format!(
                "{key}: there is room for {} services, and all numbers are taken: restart lb, which loses no connection, \
                 for more room",
                self.sizes.services
            )
        })?;
        let record = ServiceRecord {
            id: ServiceId(id),
            settings,
            servers: BTreeMap::new(),
            binding: BTreeSet::new(),
            macs: BTreeMap::new(),
            serving: Serving::default(),
            regions: Regions::default(),
            switched: 0,
            quic: Quic::default(),
            clients: Clients::default(),
            purging: Vec::new(),
        };
        // No packet can see these yet.
        for which in 0..2 {
            self.maps.schedules.write(usize::from(id) * 2 + which, Schedule::default());
        }
        self.services.insert(key, record);
        self.services_changed = true;
        self.write_persistence(&key)
    }

    fn remove_service(&mut self, key: &ServiceKey) -> Result<()> {
        let record = self.services.remove(key).with_context(|| format!("no such service: {key}"))?;
        self.services_changed = true;
        self.bound_changed |= record.settings.persistence.is_some();
        self.retired.push(record.regions);
        if record.purging.is_empty() {
            self.service_ids.give_back(record.id.0);
        }
        record.purging.iter().for_each(|server| self.leaves(*server, record.id));
        Ok(())
    }

    /// Packets that still or already take the service for one that binds clients find it so or not.
    fn write_persistence(&mut self, key: &ServiceKey) -> Result<()> {
        let record = self.record(key)?;
        let (index, persistence) = (usize::from(record.id.0), persistence(key, record));
        self.bound_changed = true;
        self.maps.persistence.write(index, persistence);
        Ok(())
    }

    /// The server is purged, and its service gone.
    fn leaves(&mut self, server: ServerId, service: ServiceId) {
        self.leaving.insert(server, service);
        self.leaving_services.entry(service).or_default().insert(server);
    }

    /// Servers that an `lb` before this one left and that no change has asked for: their
    /// connections are to be purged now.
    pub fn take_unclaimed(&mut self) -> Vec<(ServiceKey, ServerId)> {
        let Unclaimed { services, servers } = std::mem::take(&mut self.unclaimed);
        for ((key, _), server) in &servers {
            match (self.services.get_mut(key), services.get(key)) {
                (Some(record), _) => record.purging.push(*server),
                (None, Some(service)) => self.leaves(*server, *service),
                (None, None) => {}
            }
        }
        servers.into_iter().map(|((key, _), server)| (key, server)).collect()
    }

    /// Places all services in the idle half of their table, then puts it in force.
    fn write_services(&mut self) -> Result<()> {
        self.settle(self.halves_switched);
        // The servers' copies are all that packets need whose connections are known.
        let present = self.services.iter().filter(|(_, record)| !record.settings.departed);
        let services = places(present.map(|(key, record)| (service_info(key, record), record.ports(key))));
        let ranges = services.iter().any(|place| place.key().is_wide());
        let mut half = vec![ServiceSlot::EMPTY; self.sizes.service_slots() as usize];
        let seed = (1..1000).find(|seed| place(&services, *seed, &mut half)).context(
            "no arrangement of the services fits their table: are there more than it was made for?",
        )?;
        let control = self.maps.control.word(0, offset_of!(Control, half));
        let base = match Half(control.load(Ordering::Acquire)).base() {
            0 => half.len(),
            _ => 0,
        };
        for (index, slot) in half.iter().enumerate() {
            self.maps.services.write(base + index, *slot);
        }
        // The filter of VIPs never lacks one that is in force: old and new, the switch, then the
        // new ones alone.
        let vips = self.vips();
        let old = self.maps.control.read(0).vips.get();
        self.write_vips(&vips.union(&old));
        let has_ranges = self.maps.control.word(0, offset_of!(Control, has_ranges));
        has_ranges.fetch_or(u64::from(ranges), Ordering::Release);
        control.store(Half::new(base as u32, seed).0, Ordering::Release);
        has_ranges.store(u64::from(ranges), Ordering::Release);
        self.write_vips(&vips);
        self.switches += 1;
        self.halves_switched = self.switches;
        Ok(())
    }

    fn vips(&self) -> Vips {
        let mut vips = Vips::default();
        for key in self.services.keys() {
            vips.insert(V6::from(key.vip));
        }
        vips
    }

    fn write_vips(&self, vips: &Vips) {
        for (index, word) in vips.0.iter().enumerate() {
            let place = self.maps.control.word(0, offset_of!(Control, vips) + index * 8);
            place.store(*word, Ordering::Release);
        }
    }

    /// Waits until no packet is under way that began before switch number `switch`: what it
    /// switched off is free then.
    fn settle(&mut self, switch: u64) {
        if switch <= self.settled {
            return;
        }
        self.settled = self.switches;
        // SAFETY: membarrier(2) touches no memory of ours. MEMBARRIER_CMD_GLOBAL waits for an RCU
        // grace period, and the kernel runs XDP programs inside RCU's read side.
        let waited = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
        if waited != 0 {
            // Refused with nohz_full. A packet is done in microseconds.
            std::thread::sleep(Duration::from_millis(20));
        }
        for regions in self.retired.drain(..) {
            self.schedule_words.release(regions.words);
            self.pairs.release(regions.tree);
        }
    }
}
