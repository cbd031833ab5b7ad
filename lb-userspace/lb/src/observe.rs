//! What the controller shows: requests, metrics, listing, HTTP endpoint, control socket.

pub(crate) mod http;
pub(crate) mod listing;
pub(crate) mod metrics;
pub(crate) mod requests;
pub(crate) mod socket;
pub(crate) mod web;

#[cfg(test)]
pub(crate) use lb_api::samples;
