//! What is spoken on the control socket: one JSON request a line, one JSON reply a line, over a Unix stream socket.

use serde::{Deserialize, Serialize};

use crate::events::Record;
use crate::status::{Obeyed, ProbeReport, Status};

/// Where the socket is unless the configuration says otherwise.
pub const DEFAULT_PATH: &str = "/run/lb/lb.sock";

/// What can be asked: `{"command":"status"}`, `{"command":"failover","group":"web"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    Status,
    Events,
    /// Without a group: each that is here.
    Failover {
        #[serde(default)]
        group: Option<String>,
    },
    /// Without a group: each that is not where it belongs.
    Failback {
        #[serde(default)]
        group: Option<String>,
    },
    /// With `force` even if no other node is ready for what is here.
    Standby {
        #[serde(default)]
        force: bool,
    },
    Resume,
    Maintenance {
        on: bool,
        #[serde(default)]
        force: bool,
    },
    /// With `release` it leaves nothing behind.
    Stop {
        #[serde(default)]
        release: bool,
    },
    /// No new connections for a server; by name or address, with a port or without.
    Disable {
        server: String,
        #[serde(default)]
        reason: Option<String>,
    },
    Enable {
        server: String,
    },
    /// The checks of one server, at once; both by name or address.
    Probe {
        service: String,
        server: String,
    },
}

/// What comes back: `{"status":{…}}`, `{"events":[…]}`, `{"obeyed":{"moves":[…],"note":null}}`, `{"done":"…"}`,
/// `{"probes":[…]}` or `{"error":"…"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Status(Box<Status>),
    Events(Vec<Record>),
    /// The order was accepted.
    Obeyed(Obeyed),
    /// In words.
    Done(String),
    /// One for each check.
    Probes(Vec<ProbeReport>),
    Error(String),
}
