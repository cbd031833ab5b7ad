//! What the controller shows: inquiries, metrics, listing, HTTP endpoint, control socket.

pub(crate) mod http;
pub(crate) mod inquiries;
pub(crate) mod listing;
pub(crate) mod metrics;
pub(crate) mod socket;

#[cfg(test)]
pub(crate) mod samples;
