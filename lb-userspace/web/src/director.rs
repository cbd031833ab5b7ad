//! The director, as this crate sees it: it answers the requests of the control socket.

use std::pin::Pin;

use lb_api::connections::{Bounds, Connection, End, Filter};
use lb_api::events::Record;
use lb_api::wire::{Reply, Request};

/// An answer on its way. An error: the director does not answer.
pub type Answer<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Reply>> + Send + 'a>>;

/// A part of the connection table on its way, or why there is none. An error: the director does not
/// answer.
pub type Listing<'a> =
    Pin<Box<dyn Future<Output = anyhow::Result<Result<(Vec<Connection>, End), NoListing>>> + Send + 'a>>;

/// Why the director lists no connections.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoListing {
    /// What is asked for is wrong: it will not be had later either.
    #[error("{0}")]
    Wrong(String),
    /// The director has too much to do now: it may be had later.
    #[error("{0}")]
    Busy(String),
}

/// Whom requests are handed on to.
pub trait Director: Send + Sync {
    /// Asks for one thing. A refusal is a [`Reply::Error`].
    fn ask(&self, request: Request) -> Answer<'_>;

    /// Walks over the connection table.
    fn list(&self, filter: Filter, bounds: Bounds) -> Listing<'_>;

    /// Puts an event into the log.
    fn note(&self, record: Record);
}
