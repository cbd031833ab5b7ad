//! What became of a check's probes: the last latencies of successful ones, and how many failed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Number of latencies kept.
const KEPT: usize = 8;

/// The check's task writes, any thread reads. Clones share the data.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    latencies: Mutex<VecDeque<Duration>>,
    failures: AtomicU64,
}

impl Recent {
    pub(crate) fn add(&self, latency: Duration) {
        let mut latencies = self.0.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.truncate(KEPT - 1);
        latencies.push_front(latency);
    }

    /// All latencies, the newest first.
    pub(crate) fn all(&self) -> Vec<Duration> {
        self.0.latencies.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    pub(crate) fn failed(&self) {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of probes that have failed.
    pub(crate) fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }
}
