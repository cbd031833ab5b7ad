//! When probes start: a fixed beat with jitter.
//!
//! Checks that start at different times stay apart: each keeps its own beat, however long its
//! probes take and however late the controller runs. Jitter moves each start around the beat, so
//! that checks with the same beat (those of another director, a server's own timers) do not
//! coincide every time. The jitter is at most [`WIDEST`] of the interval to either side. It is a
//! random walk: from one start to the next it changes by at most [`STEP`] of the interval. A server
//! that begins to hang just after a probe is detected one interval and one time-out later, and a
//! jump from one end to the other would add a fifth of the interval. The beat itself does not move,
//! so the mean rate is as configured.

use std::time::Duration;

use fastrand::Rng;

/// A tenth of the interval, in thousandths.
const WIDEST: i32 = 100;
/// A fiftieth of the interval, in thousandths.
const STEP: i32 = 20;

#[derive(Debug)]
pub(super) struct Beat {
    at: Duration,
    /// The jitter, in thousandths of the interval.
    offset: i32,
    /// `at` with jitter.
    due: Duration,
    random: Rng,
}

/// When a check's probes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The first probe.
    pub first: Duration,
    /// The origin of the beat of later probes: one interval after this, and so on.
    pub beat: Duration,
}

impl Beat {
    /// The same `seed` gives the same jitter.
    pub(super) fn new(start: Start, seed: u64) -> Self {
        Self { at: start.beat, offset: 0, due: start.first, random: Rng::with_seed(seed) }
    }

    /// When the next probe starts; while one is in flight, when that one was due.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Schedules the next probe an interval later.
    pub(super) fn next(&mut self, interval: Duration) {
        self.offset = (self.offset + self.random.i32(-STEP..=STEP)).clamp(-WIDEST, WIDEST);
        self.at += interval;
        let moved = interval * self.offset.unsigned_abs() / 1000;
        self.due = if self.offset < 0 { self.at - moved } else { self.at + moved };
    }

    /// Schedules the next probe `interval` after the last one's `start`, where the beat begins
    /// anew.
    pub(super) fn next_from(&mut self, start: Duration, interval: Duration) {
        self.at = start + interval;
        (self.due, self.offset) = (self.at, 0);
    }

    /// Handles a probe that took so long that the next one is overdue: that starts now, or at a
    /// later beat if that is nearer.
    pub(super) fn overrun(&mut self, interval: Duration, now: Duration) {
        let late = now.saturating_sub(self.due);
        self.skip(interval, whole(late + interval / 2, interval));
    }

    /// Handles a delay of the controller, which may affect thousands of checks: a check that is
    /// late by more than half an interval waits for its next beat, so that the checks do not start
    /// in a burst.
    pub(super) fn held_up(&mut self, interval: Duration, now: Duration) {
        let late = now.saturating_sub(self.due);
        if late > interval / 2 {
            self.skip(interval, whole(late, interval) + 1);
        }
    }

    fn skip(&mut self, interval: Duration, beats: u32) {
        let skipped = interval.saturating_mul(beats);
        self.at += skipped;
        self.due += skipped;
    }
}

/// The number of whole intervals in `time`.
fn whole(time: Duration, interval: Duration) -> u32 {
    u32::try_from(time.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn starts(seed: u64, count: usize) -> Vec<Duration> {
        let mut beat = Beat::new(Start { first: INTERVAL, beat: INTERVAL }, seed);
        let mut next = || {
            beat.next(INTERVAL);
            beat.due()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn starts_stay_within_a_tenth_of_a_beat_that_does_not_drift() {
        let starts = starts(1, 10_000);
        for (beat, start) in (2..).zip(&starts) {
            let off = start.abs_diff(INTERVAL * beat);
            assert!(off <= INTERVAL / 10, "start {beat} is off by {off:?}");
        }
        let moved = |from: usize| starts[from..from + 500].iter().zip(from as u32 + 2..);
        let spread = |from| moved(from).map(|(start, beat)| start.abs_diff(INTERVAL * beat)).max();
        assert!(spread(0) > Some(INTERVAL / 20), "{:?}", spread(0));
    }

    #[test]
    fn two_starts_are_hardly_more_than_an_interval_apart() {
        for pair in starts(2, 10_000).windows(2) {
            let apart = pair[1] - pair[0];
            assert!(apart.abs_diff(INTERVAL) <= INTERVAL / 50, "{apart:?}");
        }
    }

    #[test]
    fn seeds_decide() {
        assert_eq!(starts(3, 100), starts(3, 100));
        assert_ne!(starts(3, 100), starts(4, 100));
    }

    #[test]
    fn checks_that_were_held_up_together_do_not_start_together() {
        let (interval, now) = (Duration::from_millis(1000), Duration::from_millis(7777));
        let start = |turn| {
            let beat = Duration::from_millis(turn * 10);
            Start { first: beat / 2, beat }
        };
        let mut overdue: Vec<Beat> = (0..100).map(|turn| Beat::new(start(turn), turn)).collect();
        overdue.iter_mut().for_each(|beat| beat.held_up(interval, now));
        let phases: std::collections::BTreeSet<_> =
            overdue.iter().map(|beat| beat.due().subsec_millis()).collect();
        assert_eq!(phases.len(), 100, "each keeps its own");
        assert!(overdue.iter().all(|beat| beat.due() > now && beat.due() <= now + interval));
    }
}
