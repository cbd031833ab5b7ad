//! What the controller shows: inquiries, metrics, listing, HTTP endpoint, control socket.

pub mod events;
pub mod http;
pub mod inquiries;
pub mod listing;
pub mod metrics;
pub mod socket;
pub mod view;

#[cfg(test)]
pub(crate) mod samples;
