//! The method by which packets get to a server.

use std::net::IpAddr;
use std::sync::Arc;

/// Most services that may use one port of a machine by address translation.
pub use lb_common::forward::nat::LONGEST_RING as MOST_OF_A_BACKEND;
/// Most addresses that a service's `source_nat` may have.
pub use lb_common::forward::nat::source::MOST_ADDRESSES as MOST_SOURCES;
use lb_common::mac::Mac;
use lb_common::service::limits::Thresholds;
/// Most different lists of `source_nat` that all services together may have.
pub const MOST_SOURCE_LISTS: usize = lb_common::forward::nat::source::MOST_POOLS as usize / 2;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Server;
use crate::quic::QuicServerIds;

/// How a server is reached. `lb_common::server::Forwarding` is the data path's.
///
/// Status and listing bear ipvsadm's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Forwarding {
    /// Direct routing: the frame's MACs change and nothing else.
    #[serde(rename = "Route")]
    Direct,
    /// The director's own host takes the packets.
    Local,
    /// Packets travel inside others, see [`crate::Tunnel`].
    Tunnel,
    /// Packets get another destination, and what the server sends another source (NAT).
    Masq,
}

impl Forwarding {
    /// Of a server that is reached by this method by way of `mac`; `own` is the MAC of the
    /// interface with the XDP program.
    pub fn of_server(method: Self, mac: Option<Mac>, own: Mac) -> Self {
        match method {
            Self::Direct if mac == Some(own) => Self::Local,
            method => method,
        }
    }

    /// As in ipvsadm.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "Route",
            Self::Local => "Local",
            Self::Tunnel => "Tunnel",
            Self::Masq => "Masq",
        }
    }
}

impl Server {
    /// A server of weight 1 by direct routing, without checks, named after its address.
    pub fn new(address: IpAddr, port: u16) -> Self {
        let name = address.to_string();
        Self {
            name,
            address,
            port,
            tunnel: None,
            masq: false,
            interface: None,
            vlan: None,
            quic_ids: QuicServerIds::new(),
            weight: 1,
            thresholds: Thresholds::NONE,
            checks: Arc::default(),
        }
    }

    /// How the server is to be reached.
    pub const fn method(&self) -> Forwarding {
        match (self.tunnel.is_some(), self.masq) {
            (true, _) => Forwarding::Tunnel,
            (false, true) => Forwarding::Masq,
            (false, false) => Forwarding::Direct,
        }
    }

    /// Whether packets get to the server by the host's routes; if not, it is on a segment.
    pub const fn is_routed(&self) -> bool {
        self.tunnel.is_some() || self.masq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_at_the_interfaces_own_mac_is_the_host() {
        let (own, other) = (Mac::new([2, 0, 0, 0, 0, 5]), Mac::new([2, 0, 0, 0, 0, 21]));
        assert_eq!(Forwarding::of_server(Forwarding::Direct, Some(own), own), Forwarding::Local);
        assert_eq!(Forwarding::of_server(Forwarding::Direct, Some(other), own), Forwarding::Direct);
        assert_eq!(Forwarding::of_server(Forwarding::Direct, None, own), Forwarding::Direct);
        for method in [Forwarding::Tunnel, Forwarding::Masq] {
            assert_eq!(Forwarding::of_server(method, Some(own), own), method);
        }
    }
}
