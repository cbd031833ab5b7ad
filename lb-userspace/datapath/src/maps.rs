//! All maps of the program by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use aya::maps::{DevMapHash, HashMap, Map, MapData, PerCpuArray, ProgramArray, XskMap};
use aya::{Ebpf, Pod};
use lb_common::addr::V6;
use lb_common::control::Control;
use lb_common::forward::egress::Egress;
use lb_common::forward::nat::source::Pool;
use lb_common::forward::nat::{Route, Translation};
use lb_common::forward::tunnel::Tunnel;
use lb_common::mac::Mac;
use lb_common::packet::partial_checksum::Seen;
use lb_common::schedule::Schedule;
use lb_common::server::{ServerEntry, ServerId};
use lb_common::service::ServiceSlot;
use lb_common::service::admission::{Admission, Buckets};
use lb_common::service::binding::Persistence;
use lb_common::service::limits::Limits;
use lb_model::Totals;

use super::bindings::{Bindings, Keeper};
use super::counters::{Counters, Stats};
use super::direct::DirectMaps;
use super::executor::clients::{ClientAccounts, ClientMaps};
use super::executor::quic;
use super::fragments;
use super::mapped::Mapped;
use super::sources;
use super::table::{Pages, Table};
use super::tally::Tally;
use super::tournaments::Tournaments;
use super::trace::Trace;

/// The maps, taken out of a loaded object.
pub struct Maps {
    /// Shared with whoever renews the leases.
    pub control: Arc<Mapped<Control>>,
    /// The VIPs of the groups, and which lease each is under.
    pub vips: Synced<[u64; 2], u32>,
    /// By [`lb_common::program::probe::Answer`].
    pub answers: Synced<[u32; 10], u32>,
    /// Other interfaces that packets come in by, by their indices.
    pub ingresses: Synced<u32, [u64; 2]>,
    /// MACs of the other directors, as words.
    pub directors: Synced<u64, u32>,
    /// MAC of the server that sent a packet on last.
    pub came_back: Mapped<Mac>,
    /// The programs that others call. The kernel empties the map when neither a process nor a pin
    /// holds it.
    pub stages: ProgramArray<MapData>,
    pub xsks: XskMap<MapData>,
    pub services: Mapped<ServiceSlot>,
    pub active_schedules: Mapped<u32>,
    pub schedules: Mapped<Schedule>,
    pub schedule_words: Mapped<u32>,
    pub tournaments: Arc<Tournaments>,
    /// How services bind clients.
    pub persistence: Arc<Mapped<Persistence>>,
    pub bindings: Bindings,
    /// Numbers of the servers that bound clients may go to, by
    /// [`lb_common::service::binding::BoundServer`].
    pub bound_servers: Synced<[u64; 3], u32>,
    /// Thresholds of servers. Shared with the threads of the sweep.
    pub limits: Arc<Mapped<Limits>>,
    /// Shared with the threads of the synchronisation, of bindings, and of the ports that are given
    /// back.
    pub servers: Arc<Mapped<ServerEntry>>,
    /// Addresses of the servers.
    pub targets: Arc<Mapped<V6>>,
    pub tunnels: Mapped<Tunnel>,
    /// Shared with the thread of the synchronisation.
    pub translations: Arc<Mapped<Translation>>,
    /// By [`lb_common::forward::nat::Backend`].
    pub backends: Synced<[u64; 3], u32>,
    pub routes: Mapped<Route>,
    /// Addresses that stand in the place of clients.
    pub pools: Mapped<Pool>,
    /// Shared with the thread that gives ports back, and with that of the synchronisation.
    pub sources: sources::Maps,
    pub(crate) quic_encodings: quic::Encodings,
    pub(crate) quic_servers: quic::Servers,
    /// Rules about clients, by service.
    pub admissions: Arc<Mapped<Admission>>,
    /// What all clients of a service together may still send.
    pub buckets: Mapped<Buckets>,
    pub clients: ClientMaps,
    pub egresses: Mapped<Egress>,
    /// Interfaces that servers are behind, by their indices. The kernel removes those that go.
    pub devices: DevMapHash<MapData>,
    pub stats: Stats,
    pub counters: Counters,
    pub trace: Trace,
    /// `None`: the thread that holds fragments has them.
    pub fragments: Option<fragments::Maps>,
    /// The last packet that had a checksum that was left to hardware.
    pub partial_checksum: Mapped<Seen>,
}

impl Maps {
    /// Takes the maps out of `ebpf`, and those that it does not know; the connection table and the
    /// servers' counts, which the sweep shares, apart.
    pub fn take(ebpf: &mut Ebpf, direct: DirectMaps) -> Result<(Self, Table)> {
        let (control, servers) = direct.into_maps()?;
        let counts = Arc::new(mapped(ebpf, "COUNTS")?);
        let limits = Arc::new(mapped(ebpf, "LIMITS")?);
        let (pairs, leaves) = (mapped(ebpf, "PAIRS")?, mapped(ebpf, "LEAVES")?);
        let maps = Self {
            control: Arc::new(control),
            vips: Synced::take(ebpf, "VIPS")?,
            answers: Synced::take(ebpf, "ANSWERS")?,
            ingresses: Synced::take(ebpf, "INGRESSES")?,
            directors: Synced::take(ebpf, "DIRECTORS")?,
            came_back: mapped(ebpf, "CAME_BACK")?,
            xsks: of_kind(ebpf, "XSKS")?,
            stages: of_kind(ebpf, "STAGES")?,
            services: mapped(ebpf, "SERVICES")?,
            active_schedules: mapped(ebpf, "ACTIVE_SCHEDULES")?,
            schedules: mapped(ebpf, "SCHEDULES")?,
            schedule_words: mapped(ebpf, "SCHEDULE_WORDS")?,
            tournaments: Arc::new(Tournaments::new(pairs, leaves, Arc::clone(&counts), Arc::clone(&limits))),
            persistence: Arc::new(mapped(ebpf, "PERSISTENCE")?),
            bindings: Bindings::new(take(ebpf, "BINDINGS")?)?,
            bound_servers: Synced::take(ebpf, "BOUND_SERVERS")?,
            limits,
            servers: Arc::new(servers),
            targets: Arc::new(mapped(ebpf, "TARGETS")?),
            tunnels: mapped(ebpf, "TUNNELS")?,
            translations: Arc::new(mapped(ebpf, "TRANSLATIONS")?),
            backends: Synced::take(ebpf, "BACKENDS")?,
            routes: mapped(ebpf, "ROUTES")?,
            pools: mapped(ebpf, "POOLS")?,
            sources: sources::Maps::new(take(ebpf, "SOURCES")?, take(ebpf, "REPLIES")?)?,
            admissions: Arc::new(mapped(ebpf, "ADMISSIONS")?),
            buckets: mapped(ebpf, "BUCKETS")?,
            clients: ClientMaps {
                listed: of_kind(ebpf, "LISTED")?,
                accounts: ClientAccounts {
                    clients: Arc::new(hash(ebpf, "CLIENTS")?),
                    refused: Arc::new(hash(ebpf, "REFUSED_CLIENTS")?),
                },
                connections: Arc::new(hash(ebpf, "CLIENT_CONNECTIONS")?),
                walks: Arc::new(mapped(ebpf, "WALKS")?),
                ended: BTreeSet::new(),
                written: 0,
            },
            egresses: mapped(ebpf, "EGRESSES")?,
            devices: of_kind(ebpf, "DEVICES")?,
            quic_encodings: of_kind(ebpf, "QUIC_ENCODINGS")?,
            quic_servers: of_kind(ebpf, "QUIC_SERVERS")?,
            stats: Stats::take(ebpf)?,
            counters: Counters::take(ebpf)?,
            trace: Trace::new(
                mapped(ebpf, "TRACE")?,
                per_cpu(ebpf, "TRACED")?,
                take(ebpf, "TRACE_EVENTS")?,
                take(ebpf, "CAPTURED")?,
            )?,
            fragments: Some(fragments::Maps::new(
                take(ebpf, "FRAGMENTS")?,
                take(ebpf, "HELD")?,
                mapped(ebpf, "HOLDER")?,
            )?),
            partial_checksum: mapped(ebpf, "PARTIAL_CHECKSUM")?,
        };
        let tournaments = Some(Arc::clone(&maps.tournaments));
        let v4 = Pages::new(mapped(ebpf, "CONNECTIONS_V4")?, mapped(ebpf, "SPILLS_V4")?);
        let v6 = Pages::new(mapped(ebpf, "CONNECTIONS_V6")?, mapped(ebpf, "SPILLS_V6")?);
        let v4 = v4.with_changes(mapped(ebpf, "CHANGED_V4")?);
        let v6 = v6.with_changes(mapped(ebpf, "CHANGED_V6")?);
        let table = Table::new(v4, v6, counts, tournaments);
        Ok((maps, table))
    }
}

impl Maps {
    /// Whoever has bindings live as long as connections do.
    pub fn keeper(&self) -> Result<Keeper> {
        let (persistence, servers) = (Arc::clone(&self.persistence), Arc::clone(&self.servers));
        Keeper::new(&self.bindings, persistence, servers, Arc::clone(&self.targets))
    }

    /// What stands in the place of clients, for another thread.
    pub fn ports(&self) -> Result<sources::Ports> {
        let (maps, translations) = (self.sources.try_clone()?, Arc::clone(&self.translations));
        Ok(sources::Ports { maps, translations })
    }

    /// Whoever counts the connections of each client.
    pub fn tally(&self) -> Tally {
        let (admissions, servers) = (Arc::clone(&self.admissions), Arc::clone(&self.servers));
        let ClientMaps { connections, walks, .. } = &self.clients;
        Tally::new(admissions, servers, Arc::clone(connections), Arc::clone(walks))
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object holds no map {name}"))
}

fn mapped<T>(ebpf: &mut Ebpf, name: &str) -> Result<Mapped<T>> {
    Mapped::new(name, take(ebpf, name)?)
}

fn of_kind<M: TryFrom<Map, Error = aya::maps::MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M> {
    take(ebpf, name)?.try_into().with_context(|| format!("map {name} is not of the expected kind"))
}

/// A hash, as aya holds it.
fn hash(ebpf: &mut Ebpf, name: &str) -> Result<MapData> {
    match take(ebpf, name)? {
        Map::HashMap(map) | Map::LruHashMap(map) => Ok(map),
        _ => bail!("map {name} is not of the expected kind"),
    }
}

fn per_cpu<V: Pod>(ebpf: &mut Ebpf, name: &str) -> Result<PerCpuArray<MapData, V>> {
    of_kind(ebpf, name)
}

/// A hash map that holds exactly what it was last set to.
pub struct Synced<K, V>(HashMap<MapData, K, V>);

impl<K: Pod + Ord, V: Pod> Synced<K, V> {
    fn take(ebpf: &mut Ebpf, name: &str) -> Result<Self> {
        of_kind(ebpf, name).map(Self)
    }

    /// Adds and changes before it removes: nothing that stays is away for a moment. `what` it holds
    /// is for errors.
    pub fn set(&mut self, what: &str, wanted: &BTreeMap<K, V>) -> Result<()> {
        for (key, value) in wanted {
            self.0.insert(key, value, 0).with_context(|| format!("no room for all {what}"))?;
        }
        let present: Vec<K> =
            self.0.keys().collect::<Result<_, _>>().with_context(|| format!("cannot list the {what}"))?;
        for key in present.iter().filter(|key| !wanted.contains_key(*key)) {
            self.0.remove(key).with_context(|| format!("cannot remove one of the {what}"))?;
        }
        Ok(())
    }
}

/// A server's totals for a listing. A counter that cannot be read shows as 0 and is told in the
/// log.
pub fn read_totals(stats: &Stats, server: ServerId) -> Totals {
    match stats.read(server) {
        Ok(stats) => Totals { connections: stats.connections, packets: stats.packets, bytes: stats.bytes },
        Err(error) => {
            tracing::warn!("{error:#}");
            Totals::default()
        }
    }
}
