//! What the controller shows: snapshots, metrics, listing, HTTP endpoint, control socket.

pub mod http;
pub mod listing;
pub mod metrics;
pub mod snapshots;
pub mod socket;
pub mod view;

#[cfg(test)]
mod samples;
