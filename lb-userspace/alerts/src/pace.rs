//! How often something may be tried: a limit of messages, and the back-off after failures. Pure.

use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A limit of messages an hour: a bucket that fills up within an hour. As many messages as it holds
/// may go at once, and then one at a time.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// The time in which room for one message comes.
    each: Duration,
    /// When it is full again.
    full: Option<Instant>,
}

impl Bucket {
    pub(crate) fn new(an_hour: u32) -> Self {
        Self { each: HOUR / an_hour.max(1), full: None }
    }

    /// Another limit: as full as it was.
    pub(crate) fn follow(&mut self, an_hour: u32) {
        self.each = HOUR / an_hour.max(1);
    }

    /// How long it takes until there is room for a message.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        let missing = self.full.map_or(Duration::ZERO, |full| full.saturating_duration_since(now));
        (missing + self.each).saturating_sub(HOUR)
    }

    /// A message has gone.
    pub(crate) fn take(&mut self, now: Instant) {
        self.full = Some(self.full.map_or(now, |full| full.max(now)) + self.each);
    }
}

/// From one attempt to the next, the first time; each failure doubles it.
const SOONEST: Duration = Duration::from_secs(5);
const LATEST: Duration = Duration::from_secs(5 * 60);

/// Failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    first: Option<Instant>,
    again: Option<Instant>,
}

impl Backoff {
    pub(crate) fn failed(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        let wait = SOONEST.saturating_mul(1 << self.failures.min(16)).min(LATEST);
        self.failures += 1;
        self.again = Some(now + wait);
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Before that nothing is tried.
    pub(crate) const fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Has the next attempt made at once.
    pub(crate) const fn hurry(&mut self) {
        self.again = None;
    }

    /// How long nothing has succeeded.
    pub(crate) fn lasted(&self, now: Instant) -> Duration {
        self.first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_bucket_goes_at_once_and_then_one_after_the_other() {
        let (mut bucket, start) = (Bucket::new(30), Instant::now());
        for _ in 0..30 {
            assert_eq!(bucket.wait(start), Duration::ZERO);
            bucket.take(start);
        }
        assert_eq!(bucket.wait(start), 120 * SECOND);
        assert_eq!(bucket.wait(start + 119 * SECOND), SECOND);
        let next = start + 120 * SECOND;
        assert_eq!(bucket.wait(next), Duration::ZERO);
        bucket.take(next);
        assert_eq!(bucket.wait(next), 120 * SECOND);
        assert_eq!(bucket.wait(next + HOUR), Duration::ZERO);
    }

    #[test]
    fn what_has_gone_counts_for_another_limit() {
        let (mut bucket, start) = (Bucket::new(2), Instant::now());
        bucket.take(start);
        bucket.follow(1);
        assert_eq!(bucket.wait(start), 1800 * SECOND, "it was half full");
        bucket.follow(4);
        assert_eq!(bucket.wait(start), Duration::ZERO);
        bucket.take(start);
        bucket.take(start);
        assert_eq!(bucket.wait(start), 900 * SECOND);
    }

    #[test]
    fn no_two_hours_have_more_than_their_limit_and_a_bucket() {
        let (mut bucket, start) = (Bucket::new(10), Instant::now());
        let mut gone = 0;
        for second in 0..7200 {
            let now = start + second * SECOND;
            if bucket.wait(now).is_zero() {
                bucket.take(now);
                gone += 1;
            }
        }
        assert_eq!(gone, 10 + 19, "ten at once, then one each six minutes");
    }

    #[test]
    fn failures_are_tried_again_less_and_less_often() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.failed(start);
            waits.push(backoff.again().expect("a time").duration_since(start).as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.lasted(start + 90 * SECOND), 90 * SECOND);
        backoff.succeeded();
        assert_eq!((backoff.again(), backoff.lasted(start + 90 * SECOND)), (None, Duration::ZERO));
    }
}
