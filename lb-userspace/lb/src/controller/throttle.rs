//! When the maps are next brought to what is known.
//!
//! At once, as long as that is little work. With thousands of servers, whose verdicts come one by
//! one when a director starts or a rack goes, each refresh takes in what has come meanwhile, and
//! all of them together take a tenth of a core.

use std::time::{Duration, Instant};

use lb_system::clock::{sleep_until, thread_time};

/// After a refresh the next one waits for this many times the processor time that it took,
const REST: u32 = 9;
/// but no longer than this: a server that is down is to be out.
const LONGEST: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Throttle {
    rested: Instant,
    requested: bool,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self { rested: now, requested: false }
    }

    /// Something is known that is not in the maps.
    pub(super) fn request(&mut self) {
        self.requested = true;
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested
    }

    /// Comes when it is time to refresh; never, if the maps are as they should be.
    pub(super) async fn due(&self) {
        sleep_until(self.next().map(Into::into)).await;
    }

    fn next(&self) -> Option<Instant> {
        self.requested.then_some(self.rested)
    }

    /// A refresh is done, which has taken everything in.
    pub(super) fn done(&mut self, worked: Duration, now: Instant) {
        self.requested = false;
        self.rested = now + (worked * REST).min(LONGEST);
    }
}

/// Processor time of the calling thread. A refresh also waits for packets that are under way, which
/// costs nothing.
pub(super) fn worked() -> Duration {
    thread_time()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_refreshes_follow_at_once_and_long_ones_after_a_rest() {
        let now = Instant::now();
        let mut throttle = Throttle::new(now);
        assert_eq!(throttle.next(), None);
        throttle.request();
        assert_eq!(throttle.next(), Some(now), "the first one does not wait");
        for (took, rest) in [(0, 0), (10, 90), (1_000, 9_000), (100_000, 20_000)] {
            throttle.done(Duration::from_micros(took), now);
            assert_eq!(throttle.next(), None);
            throttle.request();
            assert_eq!(throttle.next(), Some(now + Duration::from_micros(rest)), "after {took} us");
        }
    }
}
