//! Entries of the connection table: the request for a listing, and what it tells.

use std::net::IpAddr;

use lb_model::Forwarding;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which connections are listed; all conditions hold. The director resolves the names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// An address, or one with a prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// A VIP, `VIP:PORT` or the name of a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Name or address, with or without port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Names of `lb_common::table::connection::State`; none: any state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// `tcp` or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Forwarding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// A part of a listing. The table is walked in the order of its slots, while connections come and
/// go: one that lasts is listed once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Where to begin: 0, or [`End::next`] of the part before.
    #[serde(default)]
    pub from: u64,
    /// The part ends after so many connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// An entry of the connection table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// `tcp` or `udp`.
    pub protocol: String,
    pub client: IpAddr,
    pub client_port: u16,
    pub vip: IpAddr,
    pub port: u16,
    /// `None`: a server that has left, whose entries are about to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_port: Option<u16>,
    /// Name of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Name of the server.
    pub server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Forwarding>,
    /// A name of `lb_common::table::connection::State`.
    pub state: String,
    /// Until the entry goes, if no packet comes.
    pub expires_in_s: u64,
}

/// The end of a part of a listing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Where the next part begins; `None`: the table's end was reached.
    pub next: Option<u64>,
    /// Connections that were listed.
    pub listed: u64,
}
