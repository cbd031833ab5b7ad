//! The maps and the program of a running director, by what it has pinned.

use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};

use aya::maps::{Map, MapData};
use aya::programs::{Xdp, loaded_programs};
use aya_obj::programs::XdpAttachType;
use lb_common::addr::V4;
use lb_common::control::Control;
use lb_common::packet::frame::Flow;
use lb_common::service::Protocol;
use lb_common::table::connection::{Entry, KeyV4};
use lb_common::table::{self, Place};
use lb_datapath::attach::{self, pins::Pins};
use lb_datapath::inherited::{self, Inherited, Known};
use lb_datapath::mapped::Mapped;
use lb_datapath::object::Sizes;
use lb_datapath::plan::Target;
use lb_datapath::table::{PageView, Table};
use lb_lab::lab::Node;
use nix::net::if_::if_nametoindex;

/// The port that all clients use.
const PORT: u16 = 40_000;

pub struct Pinned {
    pub found: Inherited,
    pub table: Table,
}

/// Has the maps that are pinned for `interface` of `node` say that they are of this layout.
pub fn set_layout(node: &Node, interface: &str, layout: u64) -> Result<()> {
    node.run(|| {
        let folder = Pins::of(interface)?.left_maps().context("no maps are pinned")?;
        let map = MapData::from_pin(folder.join("CONTROL"))?;
        let control = Mapped::<Control>::new("CONTROL", Map::Array(map))?;
        control.word(0, offset_of!(Control, layout)).store(layout, Ordering::Relaxed);
        Ok(())
    })?
}

impl Pinned {
    /// Of the `lb` on `interface` of `node`, whose table has room for `connections`.
    ///
    /// # Errors
    /// There is none, or it has no server of a TCP service.
    pub fn of(node: &Node, interface: &str, connections: u32) -> Result<Self> {
        node.run(|| Self::here(interface, connections))?
    }

    fn here(interface: &str, connections: u32) -> Result<Self> {
        let pins = Pins::of(interface)?;
        let program =
            attach::left_behind(&pins, if_nametoindex(interface)?).context("no program is there")?;
        let folder = pins.left_maps().context("no maps are pinned")?;
        let found = inherited::find(program, folder, &Sizes::for_connections(connections, connections))?;
        let table = found.table()?;
        let pinned = Self { found, table };
        ensure!(pinned.tcp_servers().next().is_some(), "it has no server of a TCP service");
        Ok(pinned)
    }

    /// The program, to hand frames to.
    pub fn program(&self) -> Result<Xdp> {
        let mut programs = loaded_programs().filter_map(Result::ok);
        let info = programs.find(|info| info.id() == self.found.program).context("the program is gone")?;
        Ok(Xdp::from_program_info(info, "lb".into(), XdpAttachType::Interface)?)
    }

    pub fn tcp_servers(&self) -> impl Iterator<Item = &Known> + Clone {
        self.found.servers.iter().filter(|known| known.service.protocol == Protocol::Tcp)
    }

    /// What a client sends to the server's service; `None`: it is one of IPv6.
    pub fn flow(known: &Known, client: V4) -> Option<Flow<V4>> {
        let IpAddr::V4(vip) = known.service.vip else { return None };
        Some(Flow {
            source: client,
            destination: vip.into(),
            source_port: PORT.to_be(),
            destination_port: known.service.port.to_be(),
            protocol: Protocol::Tcp,
            ttl: 0,
            network: 0,
            transport: 0,
            total_length: 0,
        })
    }

    /// Where the flow's connection is, if the table knows it.
    pub fn page(&self, flow: &Flow<V4>) -> (PageView<'_, KeyV4>, Place) {
        let place = Place::of(flow, self.found.control.hash_keys, self.found.control.page_mask_v4);
        (self.table.v4.page(place.page as usize), place)
    }

    /// The server that the table knows for the flow.
    pub fn server(&self, flow: &Flow<V4>) -> Option<IpAddr> {
        let (page, place) = self.page(flow);
        let address = |known: &Known| match known.target {
            Target::Real(address) => Some(address),
            _ => None,
        };
        let of = |id| self.found.servers.iter().find(|known| known.id == id);
        let is_its = |entry: Entry| of(entry.server()).and_then(address);
        table::find(&page, &place, flow.key(), is_its).map(|(_, server)| server)
    }
}
