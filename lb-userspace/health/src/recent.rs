//! How long the last good probes of a check took.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Latencies kept.
const KEPT: usize = 8;

/// Written by the check's task, read by whoever asks. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent(Arc<Mutex<VecDeque<Duration>>>);

impl Recent {
    pub(crate) fn add(&self, latency: Duration) {
        let mut latencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.truncate(KEPT - 1);
        latencies.push_front(latency);
    }

    /// The newest first.
    pub(crate) fn all(&self) -> Vec<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}
