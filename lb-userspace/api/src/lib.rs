//! The director's API: command line, page, tests and other programs use these types.
//!
//! - [`status`]: a snapshot of the running director
//! - [`events`]: the event log
//! - [`findings`]: problems around the director
//! - [`health`]: whether all is well, as monitoring plugins tell it
//! - [`top`]: clients that do most
//! - [`trace`]: what was decided for single packets
//! - [`connections`]: entries of the connection table
//! - [`difference`]: what a reload changes
//! - [`rates`]: what two snapshots tell of the time between them
//! - [`schema`]: how JSON for programs says what it is
//! - [`http`]: what the HTTP API has besides
//! - [`words`]: numbers and times as people read them
//! - [`wire`]: requests and replies on the control socket; [`client`]: the socket's client

pub mod client;
pub mod connections;
pub mod difference;
pub mod events;
pub mod findings;
pub mod health;
pub mod http;
pub mod rates;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
pub mod schema;
pub mod status;
pub mod top;
pub mod trace;
pub mod wire;
pub mod words;
