//! Slow start: the weight of a server that came back ramps up, so that the server can warm up.

use std::time::Duration;

/// Steps of the ramp from 1 to the server's weight. Each step costs the data path a new schedule.
const STEPS: u32 = 20;

#[derive(Debug)]
pub(super) struct Ramp {
    since: Duration,
    /// Completed steps, less than [`STEPS`].
    steps: u32,
}

impl Ramp {
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, steps: 0 }
    }

    /// Advances the ramp to `now`; `None`: the ramp has ended.
    pub(super) fn at(self, now: Duration, slow_start: Duration) -> Option<Self> {
        let steps = (self.steps..STEPS).find(|steps| self.end_of(*steps, slow_start) > now)?;
        Some(Self { steps, ..self })
    }

    /// When the next step is due.
    pub(super) fn next(&self, slow_start: Duration) -> Duration {
        self.end_of(self.steps, slow_start)
    }

    pub(super) fn weight(&self, full: u16) -> u16 {
        let more = u32::from(full.saturating_sub(1)) * self.steps / STEPS;
        full.min(1).saturating_add(u16::try_from(more).unwrap_or(full))
    }

    fn end_of(&self, steps: u32, slow_start: Duration) -> Duration {
        self.since + slow_start * (steps + 1) / STEPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_evenly_from_one_to_the_whole() {
        let slow_start = Duration::from_secs(20);
        let weight = |full, seconds| {
            let ramp = Ramp::new(Duration::ZERO).at(Duration::from_secs(seconds), slow_start);
            ramp.map(|ramp| ramp.weight(full))
        };
        assert_eq!(
            [0, 1, 10, 19, 20].map(|at| weight(101, at)),
            [Some(1), Some(6), Some(51), Some(96), None]
        );
        assert_eq!([0, 10, 19].map(|at| weight(65535, at)), [Some(1), Some(32768), Some(62258)]);
        assert_eq!([0, 1].map(|full| weight(full, 19)), [Some(0), Some(1)], "there is nothing to grow");
    }

    #[test]
    fn is_over_at_once_if_it_takes_no_time() {
        assert!(Ramp::new(Duration::ZERO).at(Duration::ZERO, Duration::ZERO).is_none());
    }
}
