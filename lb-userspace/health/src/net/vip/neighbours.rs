//! Who is where on the segment: what a frame to a server needs, as the controller last told it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::stack::Mac;

/// What is known of the segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbours {
    pub interface: String,
    /// The interface's own.
    pub mac: Mac,
    /// Servers with checks through the VIP, by their own address.
    pub servers: HashMap<IpAddr, Neighbour>,
}

/// A server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Neighbour {
    pub mac: Option<Mac>,
    /// The address of this host that the server is on one network with.
    pub own: Option<Ipv4Addr>,
}
