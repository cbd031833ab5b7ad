//! Latencies of the last successful probes of a check.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Number of latencies kept.
const KEPT: usize = 8;

/// The check's task writes, any thread reads. Clones share the data.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent(Arc<Mutex<VecDeque<Duration>>>);

impl Recent {
    pub(crate) fn add(&self, latency: Duration) {
        let mut latencies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.truncate(KEPT - 1);
        latencies.push_front(latency);
    }

    /// All latencies, the newest first.
    pub(crate) fn all(&self) -> Vec<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}
