//! Clients that do most, or are refused most.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a client has and does at one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopClient {
    /// An address, or a network whose addresses count as one client: `192.0.2.7`, `192.0.2.0/24`.
    pub client: String,
    /// The service's name, or its address where it has left the configuration.
    pub service: String,
    /// Entries of the connection table, ended ones included. Where there are very many clients,
    /// at least so many.
    pub connections: u64,
    /// What it has done in the last second; `None`: the service does not limit that of each client,
    /// so nobody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_per_second: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<f64>,
    /// Packets that limits and lists have refused in the last second. What limits refuse is counted
    /// where the service limits each client.
    pub refused_per_second: f64,
    /// Packets that limits have refused since the client is known, and those that lists have.
    pub limited: u64,
    pub denied: u64,
}
