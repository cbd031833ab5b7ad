//! Timer lateness: whether checks start when they are due. They start late if this host has too
//! little CPU time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A timer that fires later than this after its due time counts as late.
const LATE: Duration = Duration::from_millis(10);

/// The checks' tasks count, any thread reads. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct TimerLateness(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    starts: AtomicU64,
    late: AtomicU64,
}

impl TimerLateness {
    /// Counts a timer that fired `delay` after it was due. A check that is very late may skip its
    /// probe.
    pub fn woken(&self, delay: Duration) {
        if delay > LATE {
            self.0.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn started(&self) {
        self.0.starts.fetch_add(1, Ordering::Relaxed);
    }

    /// Probes started so far.
    pub fn starts(&self) -> u64 {
        self.0.starts.load(Ordering::Relaxed)
    }

    /// Late timers so far.
    pub fn late(&self) -> u64 {
        self.0.late.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_late_after_ten_milliseconds() {
        let lateness = TimerLateness::default();
        for delay in [0, 10, 11, 5000] {
            lateness.clone().woken(Duration::from_millis(delay));
        }
        lateness.started();
        assert_eq!((lateness.starts(), lateness.late()), (1, 2));
    }
}
