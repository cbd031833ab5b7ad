//! What an `lb` before this one has left on the interface: a program that goes on forwarding, and
//! maps with its connections.
//!
//! The program hangs on its pinned link, and these maps are pinned beside it ([`Pins::maps`]).
//! [`find`] reads which service and which server stand behind the numbers in them. Whoever takes
//! over shares the maps and gives out the same numbers ([`Executor`](super::executor::Executor)).
//! Only if the connection table has another size the entries are copied
//! ([`resize`](super::resize)).

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData, MapInfo};
use lb_common::addr::V6;
use lb_common::control::{Control, LAYOUT};
use lb_common::forward::egress::Egress;
use lb_common::forward::nat::Translation;
use lb_common::forward::nat::source::Pool;
use lb_common::forward::tunnel::Tunnel;
use lb_common::mac::Mac;
use lb_common::reason::{Reason, TableEvent};
use lb_common::server::{Forwarding, ServerEntry, ServerId};
use lb_common::service::{Protocol, ServiceId, ServiceInfo};
use lb_model::{Ports, Service, ServiceKey, Vlan};
use lb_net::link;

use super::attach::pins::{self, Pins};
use super::bindings::Bindings;
use super::direct::{CONTROL, SERVERS};
use super::mapped::Mapped;
use super::object::Sizes;
use super::table::{Pages, Table};
use crate::plan::{Target, nat, tunnel};

/// What is shared as long as its size is the same.
const SHARED: [&str; 14] = [
    SERVERS,
    "TARGETS",
    "TUNNELS",
    "TRANSLATIONS",
    "ROUTES",
    "STATIONS",
    "POOLS",
    "SOURCES",
    "REPLIES",
    "EGRESSES",
    "STATS",
    "CURSORS",
    "LIMITS",
    "FRAGMENTS",
];
/// Counters that are shared as long as their size is the same, and begin anew otherwise: another
/// `lb` may have others.
const COUNTERS: [&str; 2] = ["REASONS", "TABLE_EVENTS"];
/// What is shared as long as the connection table has the same size.
const OF_TABLE: [&str; 6] =
    ["CONNECTIONS_V4", "SPILLS_V4", "CONNECTIONS_V6", "SPILLS_V6", "COUNTS", "OVERFLOWS"];
/// What is shared as long as it has the same size, and copied otherwise.
const BINDINGS: &str = "BINDINGS";
/// What is made anew, and pinned because the kernel empties it when no process holds it any more.
const STAGES: &str = "STAGES";

/// What is there to take over.
pub struct Inherited {
    /// The kernel's number of the program, as `bpftool prog` lists it.
    pub program: u32,
    pub control: Control,
    pub servers: Vec<Known>,
    /// By number.
    pools: Vec<Pool>,
    /// Pages of both families.
    pages: [u32; 2],
    /// Where the maps are pinned.
    folder: PathBuf,
}

/// A server behind a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub id: ServerId,
    pub service: ServiceKey,
    pub service_id: ServiceId,
    pub target: Target,
    /// Where the program before sends its packets.
    pub mac: Option<Mac>,
    /// `None`: direct routing.
    pub tunnel: Option<Tunnel>,
    /// `None`: direct routing, or a tunnel.
    pub translation: Option<Translation>,
    /// `None`: packets leave to it as they have come.
    pub egress: Option<Egress>,
    /// The server had new connections.
    pub usable: bool,
    /// Its service had several ports.
    pub many_ports: bool,
}

/// Whether the maps in `folder` are of a layout that this `lb` knows. Changes nothing.
///
/// # Errors
/// They are of another one, and say of which.
pub fn check_layout(folder: &Path) -> Result<()> {
    control(folder).map(drop)
}

fn control(folder: &Path) -> Result<Control> {
    let control: Mapped<Control> = open(folder, CONTROL)?;
    let control = control.read(0);
    ensure!(control.layout == LAYOUT, "its maps are of layout {}, this lb knows {LAYOUT}", control.layout);
    Ok(control)
}

/// What the `lb` before this one left in `folder`.
///
/// # Errors
/// There is something, and it cannot be taken over: its connections end when this `lb` attaches its
/// own program.
pub fn find(program: u32, folder: PathBuf, sizes: &Sizes) -> Result<Inherited> {
    let control = control(&folder)?;
    let entries: Mapped<ServerEntry> = open(&folder, SERVERS)?;
    let targets: Mapped<V6> = open(&folder, "TARGETS")?;
    let tunnels: Mapped<Tunnel> = open(&folder, "TUNNELS")?;
    let translations: Mapped<Translation> = open(&folder, "TRANSLATIONS")?;
    let egresses: Mapped<Egress> = open(&folder, "EGRESSES")?;
    let pools: Mapped<Pool> = open(&folder, "POOLS")?;
    let pools = (0..pools.elements()).map(|number| pools.read(number)).collect();
    let room = sizes.servers as usize + 1;
    for (name, found) in [
        ("TARGETS", targets.elements()),
        ("TUNNELS", tunnels.elements()),
        ("TRANSLATIONS", translations.elements()),
        ("EGRESSES", egresses.elements()),
    ] {
        ensure!(found == room, "its map {name} has room for {found} entries, this lb's for {room}");
    }
    let ways = |id: usize| (tunnels.read(id), translations.read(id), egresses.read(id));
    let servers =
        (1..room).filter_map(|id| known(id, entries.read(id), targets.read(id), ways(id))).collect();
    let pages = |name| -> Result<u32> { Ok(info(&map(&folder, name)?)?.max_entries()) };
    let pages = [pages("CONNECTIONS_V4")?, pages("CONNECTIONS_V6")?];
    Ok(Inherited { program, control, servers, pools, pages, folder })
}

fn known(
    id: usize,
    entry: ServerEntry,
    target: V6,
    (tunnel, translation, egress): (Tunnel, Translation, Egress),
) -> Option<Known> {
    let ServerEntry { next_hop, service } = entry;
    let next_hop = next_hop.get();
    let key = key(&service).filter(|_| service.id != ServiceId::UNSET)?;
    let target = if target == V6::UNSPECIFIED { Target::Local } else { Target::Real(target.into()) };
    Some(Known {
        id: ServerId(u16::try_from(id).ok()?),
        service: key,
        service_id: service.id,
        target,
        mac: Some(next_hop.mac()).filter(|mac| next_hop.is_reachable() && !mac.is_none()),
        tunnel: (next_hop.forwarding() == Forwarding::Tunnel).then_some(tunnel),
        translation: (next_hop.forwarding() == Forwarding::Masq).then_some(translation),
        egress: next_hop.has_egress().then_some(egress),
        usable: next_hop.is_usable(),
        many_ports: service.has(ServiceInfo::MANY_PORTS),
    })
}

fn key(service: &ServiceInfo) -> Option<ServiceKey> {
    let port = u16::from_be(service.port_and_protocol as u16);
    let protocol = Protocol::from_number((service.port_and_protocol >> 16) as u8)?;
    Some(ServiceKey { vip: service.address.into(), port, protocol })
}

impl Inherited {
    /// Whether the connection table has the wanted size, so that it goes on as it is.
    pub fn fits(&self, sizes: &Sizes) -> bool {
        self.pages == [sizes.pages_v4(), sizes.pages_v6()]
    }

    fn has_bindings(&self, sizes: &Sizes) -> bool {
        map(&self.folder, BINDINGS)
            .and_then(|map| info(&map))
            .is_ok_and(|info| info.max_entries() == sizes.bindings)
    }

    /// Copies the bound clients, unless they go on in the same map. `goes_on` is called for each,
    /// because many take long.
    pub fn copy_bindings(&self, sizes: &Sizes, to: &mut Bindings, goes_on: &dyn Fn()) -> Result<()> {
        if self.has_bindings(sizes) {
            return Ok(());
        }
        let from = Map::LruHashMap(map(&self.folder, BINDINGS)?);
        to.take_from(&Bindings::new(from)?, goes_on)
    }

    fn has_counters(&self, name: &str) -> bool {
        let wanted = if name == "REASONS" { Reason::COUNT } else { TableEvent::COUNT };
        map(&self.folder, name)
            .and_then(|map| info(&map))
            .is_ok_and(|info| info.max_entries() as usize == wanted)
    }

    /// The connection table, to be copied.
    pub fn table(&self) -> Result<Table> {
        let counts = Arc::new(open(&self.folder, "COUNTS")?);
        let v4 = Pages::new(open(&self.folder, "CONNECTIONS_V4")?, open(&self.folder, "SPILLS_V4")?);
        let v6 = Pages::new(open(&self.folder, "CONNECTIONS_V6")?, open(&self.folder, "SPILLS_V6")?);
        Ok(Table::new(v4, v6, counts, None))
    }

    /// This `lb`'s program is in its place: its maps are pinned now.
    pub fn forget(&self) -> Result<()> {
        pins::remove_maps(&self.folder)
    }

    /// Services and servers as a configuration would name them, for what the present one does not
    /// know any more.
    pub fn services(&self) -> Vec<Service> {
        let mut services: BTreeMap<ServiceKey, Service> = BTreeMap::new();
        for known in &self.servers {
            let service = services
                .entry(known.service)
                .or_insert_with(|| Service::new(known.service.to_string(), known.service));
            if known.many_ports {
                // Which ones is not told, and asked only for new connections.
                service.ports = Ports::ALL;
            }
            if let Target::Real(address) = known.target {
                let port = known.translation.map(|translation| u16::from_be(translation.port));
                let server = lb_model::Server::new(address, port.unwrap_or(known.service.port));
                let tunnel = known.tunnel.as_ref().and_then(tunnel::config);
                let named = |vlan: Vlan| (!vlan.is_as_it_came()).then_some(vlan);
                // Others go by their route, which may lead into a VLAN of that device.
                let is_routed = port.is_some() || tunnel.is_some();
                let interface = known.egress.filter(|egress| egress.device != 0 && !is_routed);
                let interface = interface.and_then(|egress| link::name_of(egress.device));
                let pool = known.translation.and_then(|known| self.pools.get(usize::from(known.pool)));
                if let Some(pool) = pool.filter(|pool| pool.count != 0) {
                    service.source_nat = nat::addresses(pool);
                }
                service.vlan = service.vlan.or(known.egress.and_then(|egress| named(egress.from)));
                service.servers.push(lb_model::Server {
                    tunnel,
                    masq: port.is_some(),
                    interface,
                    vlan: known.egress.and_then(|egress| named(egress.to)),
                    ..server
                });
            }
        }
        services.into_values().collect()
    }
}

/// Where the loader finds maps that go on, and pins those that it makes. Dropped, it removes the
/// pins, as a start that came to nothing must, unless [`Self::keep`] was called.
#[derive(Debug, Default)]
pub struct PinnedMaps {
    /// `None`: without a BPF file system nothing is pinned.
    folder: Option<PathBuf>,
}

impl PinnedMaps {
    /// Where a map is pinned, or shall be.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(name))
    }

    /// The same of those that the loader makes.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let names = [STAGES, BINDINGS].into_iter().chain(SHARED).chain(COUNTERS).chain(OF_TABLE);
        names.filter(|name| *name != SERVERS).filter_map(|name| Some((name, self.path(name)?)))
    }

    /// The program that uses the maps is attached and pinned: they outlive the process.
    pub fn keep(mut self) {
        self.folder = None;
    }
}

impl Drop for PinnedMaps {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.folder.as_deref().map(pins::remove_maps) {
            tracing::warn!("{error:#}");
        }
    }
}

/// A new folder with the maps that go on. Those of the `lb` before stay where they can be found,
/// should this start come to nothing: [`Inherited::forget`] ends that.
pub fn pin_maps(pins: &Pins, inherited: Option<&mut Inherited>, sizes: &Sizes) -> Result<PinnedMaps> {
    let folder = pins.maps();
    let mut shared: Vec<&'static str> = Vec::new();
    match &inherited {
        Some(found) => {
            shared.extend(SHARED);
            shared.extend(found.has_bindings(sizes).then_some(BINDINGS));
            shared.extend(COUNTERS.into_iter().filter(|name| found.has_counters(name)));
            shared.extend(OF_TABLE.into_iter().filter(|_| found.fits(sizes)));
        }
        None => pins::remove_maps(&pins.maps_before())?,
    }
    let before = match inherited {
        Some(found) if found.folder == folder => {
            let before = pins.maps_before();
            fs::rename(&folder, &before)
                .with_context(|| format!("cannot move {} to {}", folder.display(), before.display()))?;
            found.folder.clone_from(&before);
            Some(before)
        }
        Some(found) => {
            pins::remove_maps(&folder)?;
            Some(found.folder.clone())
        }
        None => {
            pins::remove_maps(&folder)?;
            None
        }
    };
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let pinned_maps = PinnedMaps { folder: Some(folder.clone()) };
    if let Some(before) = before {
        for name in shared {
            let path = folder.join(name);
            map(&before, name)?.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
        }
    }
    Ok(pinned_maps)
}

fn map(folder: &Path, name: &str) -> Result<MapData> {
    MapData::from_pin(folder.join(name)).with_context(|| format!("cannot open its map {name}"))
}

fn info(map: &MapData) -> Result<MapInfo> {
    map.info().context("cannot ask what a map is")
}

fn open<T>(folder: &Path, name: &str) -> Result<Mapped<T>> {
    Mapped::new(name, Map::Array(map(folder, name)?))
}
