//! The control socket: one JSON request a line, one JSON reply a line, over a Unix stream socket.

mod client;
mod server;

use serde::{Deserialize, Serialize};

pub use self::client::request_status;
pub use self::server::{bind, serve};
use super::view::Status;

/// Where the socket is unless the configuration says otherwise.
pub const DEFAULT_PATH: &str = "/run/lb/lb.sock";

/// What can be asked: `{"command":"status"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    Status,
}

/// What comes back: `{"status":{…}}` or `{"error":"…"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Status(Box<Status>),
    Error(String),
}

#[cfg(test)]
mod tests;
