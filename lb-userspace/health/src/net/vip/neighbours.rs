//! The servers as L2 neighbours: MACs and source addresses for frames to them. The controller
//! updates them.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::forward::egress::Egress;
use lb_common::forward::tunnel::Tunnel;
use lb_common::mac::Mac;
use lb_common::packet::vlan::Vlan;
use lb_model::ServiceKey;

/// All L2 neighbours, and this host's own MACs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// The interfaces that frames can leave by and answers come in by, the main one first.
    pub stations: Vec<Station>,
    /// Servers with checks through the VIP, by service and their own addresses.
    pub servers: HashMap<(ServiceKey, IpAddr), Neighbour>,
}

/// An interface of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    pub interface: String,
    /// Its own MAC, which frames leave with.
    pub mac: Mac,
}

impl Neighbours {
    /// The main interface, whatever there is.
    pub(super) fn main(&self) -> (&str, Mac) {
        self.stations.first().map_or(("the interface", Mac::NONE), |main| (&main.interface, main.mac))
    }

    /// The interface that a frame leaves by, by its place: the one whose MAC it has.
    pub(super) fn place_of(&self, frame: &[u8]) -> usize {
        let source = frame.get(6..12).and_then(|octets| <[u8; 6]>::try_from(octets).ok()).map(Mac::new);
        self.stations.iter().position(|station| Some(station.mac) == source).unwrap_or(0)
    }
}

/// A server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// With a tunnel that of the next hop.
    pub mac: Option<Mac>,
    /// This host's address, of the VIP's family, to which the server answers.
    pub own: Option<IpAddr>,
    /// The tunnel to it.
    pub tunnel: Option<Tunnel>,
    /// How clients' packets leave to it, if not as they have come.
    pub egress: Option<Egress>,
}

impl Neighbour {
    /// The VLAN that clients' packets leave into.
    pub(super) fn vlan(&self) -> Vlan {
        let Some(egress) = &self.egress else { return Vlan::UNTAGGED };
        let named = [egress.to, egress.from].into_iter().find(|vlan| !vlan.is_as_it_came());
        named.unwrap_or(Vlan::UNTAGGED)
    }

    /// The MAC that frames to it leave with.
    pub(super) fn own_mac(&self, main: Mac) -> Mac {
        self.egress.filter(|egress| egress.device != 0).map_or(main, |egress| egress.mac)
    }
}
