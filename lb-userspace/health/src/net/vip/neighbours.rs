//! The servers as L2 neighbours: MACs and source addresses for frames to them. The controller
//! updates them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use lb_common::mac::Mac;

/// All L2 neighbours, and this host's own MAC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours {
    pub interface: String,
    /// The interface's own MAC.
    pub mac: Mac,
    /// Servers with checks through the VIP, by their own addresses.
    pub servers: HashMap<IpAddr, Neighbour>,
}

/// A server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Neighbour {
    pub mac: Option<Mac>,
    /// This host's address on the server's network.
    pub own: Option<Ipv4Addr>,
}
