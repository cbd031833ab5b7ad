//! Whether checks start when they are due: they do unless this host has too little time for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A check that gets its turn later than this is counted as late.
const LATE: Duration = Duration::from_millis(10);

/// Counted by the checks' tasks, read by whoever asks. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct TimerLateness(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    starts: AtomicU64,
    late: AtomicU64,
}

impl TimerLateness {
    /// A check got its turn so long after it was due. One that is very late may leave out its probe.
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

    /// Turns that came late so far.
    pub fn late(&self) -> u64 {
        self.0.late.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_late_after_ten_milliseconds() {
        let lateness = TimerLateness::default();
        for delay in [0, 10, 11, 5000] {
            lateness.clone().woken(Duration::from_millis(delay));
        }
        lateness.started();
        assert_eq!((lateness.starts(), lateness.late()), (1, 2));
    }
}
