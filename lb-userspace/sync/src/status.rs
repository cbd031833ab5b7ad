//! How synchronisation stands, for listings and metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lb_model::ids::NodeId;

/// Of one other director.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    pub node: NodeId,
    /// It answers.
    pub is_up: bool,
    /// It says that it knows what this director knows.
    pub knows_ours: bool,
    /// This director knows what that one knows.
    pub knows_theirs: bool,
    /// While it tells again what this director lacks: which share has come.
    pub learned: Option<f64>,
    /// While it is told again what it lacks: which share of the table has been gone through.
    pub told_again: Option<f64>,
    /// From when something was told until it said that it has it.
    pub lag: Duration,
    /// Datagrams that it has not confirmed yet.
    pub backlog: usize,
    /// Share of connections that both know alike, of those that either knows, when it last said
    /// what it knows; `None`: it balances nothing, or has not said.
    pub agreement: Option<f64>,
    /// Connections it was told of, and told this director of.
    pub told: u64,
    pub taken: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    pub sent_again: u64,
    pub received: u64,
}

/// Why what came was not used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// Not of this protocol, or of another version.
    pub not_ours: u64,
    pub foreign_cluster: u64,
    /// The key is unknown, or the tag wrong.
    pub signature: u64,
    /// From nobody who is in the configuration.
    pub unknown_node: u64,
    /// Signed, and yet without sense.
    pub malformed: u64,
    /// Connections to servers that this director does not have.
    pub unknown_server: u64,
    /// Connections of groups that this director balances itself.
    pub balanced_here: u64,
    /// Connections for which the table had no slot.
    pub without_slot: u64,
    /// Connections in whose client's place nothing could be entered: another connection has the
    /// port, or there is no room.
    pub without_source: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    pub peers: Vec<PeerStatus>,
    pub drops: Drops,
    /// Processor time of the thread so far.
    pub busy: Duration,
}

/// Kept up to date by the thread.
#[derive(Debug, Clone, Default)]
pub struct SharedStatus(Arc<Mutex<Status>>);

impl SharedStatus {
    pub fn get(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}
