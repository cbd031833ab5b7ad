//! What browsers and programs are served by HTTP: the page and the API `/api/v1`.
//!
//! - [`Director`]: whom all requests are handed on to
//! - [`Prepared`]: the server: certificate and tokens, then TLS, connections and their limits
//! - `access`: by which names, from which pages, and with which tokens somebody may ask
//! - `snapshot`: the director's state, taken once a second for all viewers, with `history`: the
//!   last 15 minutes
//! - `api`: `/api/v1`, with `openapi`, the document that describes it, and `problem`, its errors
//! - `connections`: those of the table that are asked for
//! - `page`: the page for people, HTML that is rendered here; scripts only refresh it
//!
//! All of it runs on a thread of its own: a browser never costs the controller time, but for one
//! status a second.

mod access;
mod api;
mod assets;
mod connections;
mod director;
mod history;
mod openapi;
mod page;
mod problem;
mod server;
mod snapshot;
mod tls;
mod tokens;

#[cfg(test)]
mod tests;

pub use self::api::paths;
pub use self::director::{Answer, Director, Listing, NoListing};
pub use self::server::Prepared;
