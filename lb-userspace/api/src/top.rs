//! Clients that open most connections, or whose packets are refused most.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What was seen of a client at one service. One connection or packet of some is looked at, so the
/// numbers are about right where they are large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopClient {
    pub client: IpAddr,
    /// The service's name.
    pub service: String,
    /// Connections that it has opened, of UDP flows.
    pub connections: u64,
    /// Packets that the service's rules about clients have refused.
    pub refused: u64,
}
