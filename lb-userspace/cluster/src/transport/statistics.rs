//! What the paths carried: counted by the heartbeat thread, read by anybody, without a lock between
//! them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lb_model::ids::{MAX_NODES, NodeId};

use crate::reason::DropReason;

/// Of one path.
#[derive(Debug)]
pub struct Statistics {
    /// The path's name in the configuration.
    pub name: String,
    pub open: AtomicBool,
    pub sent: AtomicU64,
    pub send_errors: AtomicU64,
    /// Heartbeats that were handed on.
    pub received: AtomicU64,
    dropped: [AtomicU64; DropReason::COUNT],
    /// When each node was last heard here, in nanoseconds of `CLOCK_MONOTONIC`; 0 is never.
    heard: [AtomicU64; MAX_NODES],
    /// Messages in a row that said to be from the node and whose signature did not fit.
    refused: [AtomicU64; MAX_NODES],
}

impl Statistics {
    pub fn new(name: String) -> Self {
        Self {
            name,
            open: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            send_errors: AtomicU64::new(0),
            received: AtomicU64::new(0),
            dropped: std::array::from_fn(|_| AtomicU64::new(0)),
            heard: std::array::from_fn(|_| AtomicU64::new(0)),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].load(Ordering::Relaxed)
    }

    /// Counts a dropped message and returns the new count.
    pub fn count_dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// When a fresh message of the node last came over this path, a copy included; in
    /// `CLOCK_MONOTONIC`.
    pub fn last_heard(&self, node: NodeId) -> Option<Duration> {
        match self.heard.get(usize::from(node.0))?.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }

    pub fn note_heard(&self, node: NodeId, at: Duration) {
        if let Some(heard) = self.heard.get(usize::from(node.0)) {
            heard.store(at.as_nanos() as u64, Ordering::Relaxed);
        }
        if let Some(refused) = self.refused.get(usize::from(node.0)) {
            refused.store(0, Ordering::Relaxed);
        }
    }

    /// A message said to be from the node, and its signature did not fit.
    pub fn note_refused(&self, node: NodeId) {
        if let Some(refused) = self.refused.get(usize::from(node.0)) {
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many such messages have come since the last one whose signature did.
    pub fn refused(&self, node: NodeId) -> u64 {
        self.refused.get(usize::from(node.0)).map_or(0, |refused| refused.load(Ordering::Relaxed))
    }
}
