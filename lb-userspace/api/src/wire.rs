//! The protocol of the control socket: a JSON request per line, a JSON reply per line, over a Unix
//! stream socket. Only a trace has several replies: [`Reply::Packets`] as they come, or
//! [`Reply::Frames`] if the packets' frames were asked for, then a [`Reply::TraceEnded`]. It ends
//! early if the client shuts its side of the connection down.

use serde::{Deserialize, Serialize};

use crate::events::Record;
use crate::status::{Accepted, ProbeReport, Status};
use crate::trace::{Bounds, End, Filter, Frame, Packet};

/// Default path of the control socket.
pub const DEFAULT_PATH: &str = "/run/lb/lb.sock";

/// A request: `{"command":"status"}`, `{"command":"failover","group":"web"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    Status,
    Events,
    /// `None`: all groups that are active on this node.
    Failover {
        #[serde(default)]
        group: Option<String>,
    },
    /// `None`: all groups that are not on their preferred node.
    Failback {
        #[serde(default)]
        group: Option<String>,
    },
    /// `force`: even if no other node is ready for the groups that are active here.
    Standby {
        #[serde(default)]
        force: bool,
    },
    Resume,
    /// Read the configuration file again.
    Reload,
    Maintenance {
        on: bool,
        #[serde(default)]
        force: bool,
    },
    /// `release`: leave nothing behind (program, maps, addresses).
    Stop {
        #[serde(default)]
        release: bool,
    },
    /// Drain a server; `server` is a name or address, with or without port.
    Disable {
        server: String,
        #[serde(default)]
        reason: Option<String>,
    },
    Enable {
        server: String,
    },
    /// Run the checks of a server once; both fields are names or addresses.
    Probe {
        service: String,
        server: String,
    },
    /// Tell what is decided for packets.
    Trace {
        #[serde(default)]
        filter: Filter,
        #[serde(default)]
        bounds: Bounds,
    },
}

/// A reply: `{"status":{…}}`, `{"events":[…]}`, `{"accepted":{"moves":[…],"note":null}}`,
/// `{"done":"…"}`, `{"probes":[…]}`, `{"packets":[…]}`, `{"frames":[…]}`, `{"trace_ended":{…}}` or
/// `{"error":"…"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Status(Box<Status>),
    Events(Vec<Record>),
    /// The command was accepted.
    Accepted(Accepted),
    /// The command was executed; the message for the operator.
    Done(String),
    /// A report per check.
    Probes(Vec<ProbeReport>),
    /// Of a trace that goes on.
    Packets(Vec<Packet>),
    /// The same of a capture.
    Frames(Vec<Frame>),
    TraceEnded(End),
    Error(String),
}
