//! What the HTTP API has besides the types of the control socket: pages of lists, bodies of orders,
//! problems, and the history that the page draws.

use lb_model::overlay::{Change, NewService};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connections::Connection;
use crate::health::State;
use crate::status::ServerStatus;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Number of items of all pages together.
    pub total: u64,
    /// Path and query of the next page; `null`: this is the last one.
    pub next: Option<String>,
}

/// A part of the connection table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionPage {
    pub items: Vec<Connection>,
    /// Path and query of the next part; `null`: the table's end was reached.
    pub next: Option<String>,
}

/// A server, and the service that it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerEntry {
    /// Name of the service.
    pub service: String,
    #[serde(flatten)]
    pub server: ServerStatus,
    /// New connections of the last minute; `null`: the director has not looked twice yet.
    pub share: Option<Share>,
}

/// A server's part of its service's new connections, beside what its weight entitles it to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// New connections of the server in the last minute.
    pub connections: u64,
    /// Part of those of the service, 0 to 1; `null`: there were none.
    pub got: Option<f64>,
    /// The server's weight, as part of the weights of all, 0 to 1; `null`: all weights are 0.
    pub fair: Option<f64>,
}

/// The last 15 minutes of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Name of the service.
    pub service: String,
    /// Seconds from one point to the next.
    pub step_s: u64,
    /// Oldest first; the last one is of now.
    pub points: Vec<Point>,
}

/// A service during one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// New connections a second.
    pub connections_per_s: f32,
    /// Bytes forwarded a second.
    pub bytes_per_s: f32,
    /// Connections in state ESTABLISHED at the end of the step.
    pub active: u32,
}

/// Body of `POST /api/v1/servers/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainServer {
    /// Name or address, with a port or without.
    pub server: String,
    /// Only in this service, by its name or `VIP:PORT`; `null`: in all.
    #[serde(default)]
    pub service: Option<String>,
    /// Why, shown beside the server.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of `POST /api/v1/servers/enable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnableServer {
    /// Name or address, with a port or without.
    pub server: String,
    /// Only in this service, by its name or `VIP:PORT`; `null`: in all.
    #[serde(default)]
    pub service: Option<String>,
}

/// Body of `POST /api/v1/servers/weight`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeighServer {
    /// Name or address, with a port or without.
    pub server: String,
    /// Only in this service, by its name or `VIP:PORT`; `null`: in all.
    #[serde(default)]
    pub service: Option<String>,
    /// `null`: that of the configuration again. One must be given: nobody means that by a slip.
    #[serde(deserialize_with = "Option::deserialize")]
    pub weight: Option<u16>,
    /// Why, shown beside the server.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of `POST /api/v1/servers/probe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeServer {
    /// Name of the service, or `VIP:PORT`.
    pub service: String,
    /// Name or address.
    pub server: String,
}

/// Body of `POST /api/v1/cluster/failover` and `failback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveGroup {
    /// `null`: all groups.
    #[serde(default)]
    pub group: Option<String>,
}

/// Body of `POST /api/v1/cluster/standby`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Standby {
    /// Even if no other node is ready for the groups that are active here.
    #[serde(default)]
    pub force: bool,
}

/// Body of `POST /api/v1/cluster/maintenance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    pub on: bool,
    /// Even if no other node is ready for the groups that are active here.
    #[serde(default)]
    pub force: bool,
}

/// Body of `POST /api/v1/overlay/change`: all of these changes or none, as those of `lb add`, `lb
/// remove` and `lb ipvsadm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeOverlay {
    pub changes: Vec<Change>,
}

/// Body of `POST /api/v1/overlay/clear`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearOverlay {
    /// Only what this source has changed, such as `cli`; `null`: all.
    #[serde(default)]
    pub source: Option<String>,
}

/// Body of `POST /api/v1/counters/zero`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZeroCounters {
    /// By its name or `VIP:PORT`; `null`: of all services.
    #[serde(default)]
    pub service: Option<String>,
}

/// Body of `POST /api/v1/alerts/test`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestAlerts {
    /// `null`: all.
    #[serde(default)]
    pub receiver: Option<String>,
}

/// Whether all is well, as `lb health` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    pub state: State,
    /// The exit code of monitoring plugins: 0 to 3.
    pub code: u8,
    /// One line, with performance data.
    pub text: String,
}

/// Body of `POST /api/v1/sources`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceSource {
    /// Its name, such as `kubernetes`.
    pub source: String,
    /// All its services; a key that they do not have is refused.
    pub services: Vec<NewService>,
}

/// Body of `POST /api/v1/reload`, `diff` and `cluster/resume`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {}

/// An order was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// What there is to say of it.
    pub message: String,
}

/// Why a request came to nothing (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Always `about:blank`: the status tells the kind of the problem.
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong, and what to do about it.
    pub detail: String,
}
