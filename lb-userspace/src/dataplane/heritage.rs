//! What an `lb` before this one has left on the interface: a program that goes on forwarding, and maps with its connections.
//!
//! The maps hang on the program and the program on its pinned link, so nothing else is kept anywhere. [`find`] reads which
//! service and which server stand behind the numbers in those maps; whoever takes over shares the maps and gives out the same
//! numbers ([`Executor`](super::executor::Executor)). Only if the connection table has another size the entries are copied
//! ([`resize`](super::resize)).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Map, MapData};
use aya::programs::loaded_programs;
use lb_common::control::{Control, LAYOUT, word_to_mac};
use lb_common::server::{Forward, ServerEntry, ServerId};
use lb_common::service::{Protocol, ServiceId, ServiceInfo};

use super::attach::pins::Pins;
use super::mapped::Mapped;
use super::object::Sizes;
use super::sweep::Table;
use crate::config::{self, Service, ServiceKey};
use crate::plan::Target;

/// What is shared as long as its size is the same.
const SHARED: [&str; 6] = ["SERVERS", "TARGETS", "STATS", "REASONS", "TABLE_EVENTS", "TURNS"];
/// What is shared as long as the connection table has the same size.
const OF_TABLE: [&str; 3] = ["CONNECTIONS_V4", "COUNTS", "OVERFLOWS"];

/// What is there to take over.
pub struct Heritage {
    /// The kernel's number of the program, as `bpftool prog` lists it.
    pub program: u32,
    pub control: Control,
    pub servers: Vec<Known>,
    pages: u32,
    /// The kernel's numbers of the maps, by name.
    maps: BTreeMap<String, u32>,
}

/// A server behind a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub id: ServerId,
    pub service: ServiceKey,
    pub service_id: ServiceId,
    pub target: Target,
    /// Where the program before sends its packets.
    pub mac: Option<[u8; 6]>,
    /// It had new connections.
    pub usable: bool,
}

/// What `lb` before this one left on the interface.
///
/// # Errors
/// There is something, and it cannot be taken over: its connections end when this `lb` attaches its own program.
pub fn find(program: u32, sizes: &Sizes) -> Result<Heritage> {
    let maps = maps_of(program)?;
    let control: Mapped<Control> = open(&maps, "CONTROL")?;
    let control = control.read(0);
    ensure!(control.layout == LAYOUT, "its maps are of layout {}, this lb knows {LAYOUT}", control.layout);
    let entries: Mapped<ServerEntry> = open(&maps, "SERVERS")?;
    let targets: Mapped<[u64; 2]> = open(&maps, "TARGETS")?;
    let room = sizes.servers as usize + 1;
    for (name, found) in [("SERVERS", entries.elements()), ("TARGETS", targets.elements())] {
        ensure!(found == room, "its map {name} has room for {found} entries, this lb's for {room}");
    }
    let servers = (1..room).filter_map(|id| known(id, entries.read(id), targets.read(id)));
    let table = map(&maps, "CONNECTIONS_V4")?.info().context("cannot ask for the connection table's size")?;
    Ok(Heritage { program, control, servers: servers.collect(), pages: table.max_entries(), maps })
}

fn known(id: usize, entry: ServerEntry, target: [u64; 2]) -> Option<Known> {
    let ServerEntry { forward, service } = entry;
    let forward = Forward(forward);
    let key = key(&service).filter(|_| service.id != 0)?;
    let target = if target == [0; 2] { Target::Local } else { Target::Real(address(target)) };
    Some(Known {
        id: ServerId(u16::try_from(id).ok()?),
        service: key,
        service_id: ServiceId(service.id),
        target,
        mac: (forward.is_reachable() && forward.mac() != 0).then(|| word_to_mac(forward.mac())),
        usable: forward.is_usable(),
    })
}

fn key(service: &ServiceInfo) -> Option<ServiceKey> {
    let port = u16::from_be(service.port_and_protocol as u16);
    let protocol = Protocol::from_number((service.port_and_protocol >> 16) as u8)?;
    Some(ServiceKey { vip: address(service.address), port, protocol })
}

/// The reverse of what the maps hold, see [`lb_common::service::ServiceAddress`].
fn address(words: [u64; 2]) -> IpAddr {
    let octets: [u8; 16] = zerocopy::transmute!(words);
    IpAddr::from(octets).to_canonical()
}

impl Heritage {
    /// Whether the connection table has the wanted size, so that it goes on as it is.
    pub fn fits(&self, sizes: &Sizes) -> bool {
        self.pages == sizes.pages()
    }

    /// Pins the maps that go on under their own names, for as long as the loader needs them.
    pub fn lend(&self, pins: &Pins, sizes: &Sizes) -> Result<Lent> {
        let mut lent = Lent::default();
        let of_table = OF_TABLE.into_iter().filter(|_| self.fits(sizes));
        for name in SHARED.into_iter().chain(of_table) {
            let map = map(&self.maps, name)?;
            let path = pins.map(name);
            let _ = std::fs::remove_file(&path);
            map.pin(&path).with_context(|| format!("cannot pin map {name} to {}", path.display()))?;
            lent.0.push((name, path));
        }
        Ok(lent)
    }

    /// The connection table, to be copied.
    pub fn table(&self) -> Result<Table> {
        Ok(Table::new(open(&self.maps, "CONNECTIONS_V4")?, open(&self.maps, "COUNTS")?))
    }

    /// Services and servers as a configuration would name them, for what the present one does not know any more.
    pub fn services(&self) -> Vec<Service> {
        let mut services: BTreeMap<ServiceKey, Service> = BTreeMap::new();
        for known in &self.servers {
            let service = services
                .entry(known.service)
                .or_insert_with(|| Service::new(known.service.to_string(), known.service));
            if let Target::Real(address) = known.target {
                service.servers.push(config::Server::new(address, known.service.port));
            }
        }
        services.into_values().collect()
    }
}

/// Maps that are pinned while the object is loaded.
#[derive(Debug, Default)]
pub struct Lent(Vec<(&'static str, std::path::PathBuf)>);

impl Lent {
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, &std::path::Path)> {
        self.0.iter().map(|(name, path)| (*name, path.as_path()))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for (_, path) in &self.0 {
            // The program holds the map.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn maps_of(program: u32) -> Result<BTreeMap<String, u32>> {
    for info in loaded_programs() {
        let info = info.context("cannot list the programs")?;
        if info.id() != program {
            continue;
        }
        let ids = info.map_ids().context("cannot ask for its maps")?.unwrap_or_default();
        let mut maps = BTreeMap::new();
        for id in ids {
            let map = MapData::from_id(id).with_context(|| format!("cannot open its map {id}"))?;
            let info = map.info().context("cannot ask what a map is")?;
            maps.insert(info.name_as_str().unwrap_or_default().to_owned(), id);
        }
        return Ok(maps);
    }
    bail!("program {program} is gone")
}

fn map(maps: &BTreeMap<String, u32>, name: &str) -> Result<MapData> {
    let id = maps.get(name).with_context(|| format!("it has no map {name}"))?;
    MapData::from_id(*id).with_context(|| format!("cannot open its map {name}"))
}

fn open<T>(maps: &BTreeMap<String, u32>, name: &str) -> Result<Mapped<T>> {
    Mapped::new(name, Map::Array(map(maps, name)?))
}

/// For services of IPv4, which are all there are.
pub fn vip(service: &ServiceInfo) -> Option<Ipv4Addr> {
    match address(service.address) {
        IpAddr::V4(vip) => Some(vip),
        IpAddr::V6(_) => None,
    }
}
