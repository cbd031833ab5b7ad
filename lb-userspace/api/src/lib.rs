//! What the director tells and is told: command line, page, tests and programs all speak this.
//!
//! - [`status`]: one snapshot of the running director
//! - [`events`]: what happened
//! - [`findings`]: what is wrong around the director
//! - [`wire`]: requests and replies on the control socket; [`client`]: the asking side

pub mod client;
pub mod events;
pub mod findings;
pub mod status;
pub mod wire;
