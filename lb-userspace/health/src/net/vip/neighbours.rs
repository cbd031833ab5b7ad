//! The servers as L2 neighbours: MACs and source addresses for frames to them. The controller
//! updates them.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::egress::Egress;
use lb_common::mac::Mac;
use lb_common::tunnel::Tunnel;
use lb_common::vlan::Vlan;
use lb_model::ServiceKey;

/// All L2 neighbours, and this host's own MAC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours {
    pub interface: String,
    /// The interface's own MAC.
    pub mac: Mac,
    /// Servers with checks through the VIP, by service and their own addresses.
    pub servers: HashMap<(ServiceKey, IpAddr), Neighbour>,
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

    pub(super) fn is_behind_another_interface(&self) -> bool {
        self.egress.is_some_and(|egress| egress.device != 0)
    }
}
