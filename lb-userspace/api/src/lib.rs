//! The director's API: command line, page, tests and other programs use these types.
//!
//! - [`status`]: a snapshot of the running director
//! - [`events`]: the event log
//! - [`findings`]: problems around the director
//! - [`trace`]: what was decided for single packets
//! - [`http`]: what the HTTP API has besides
//! - [`words`]: numbers and times as people read them
//! - [`wire`]: requests and replies on the control socket; [`client`]: the socket's client

pub mod client;
pub mod events;
pub mod findings;
pub mod http;
#[cfg(feature = "samples")]
pub mod samples;
pub mod status;
pub mod trace;
pub mod wire;
pub mod words;
