//! Flap damping: a server that went down too often is kept out until it has been healthy for the
//! hold time.

use std::collections::VecDeque;
use std::time::Duration;

use lb_model::Damping;

#[derive(Debug, Default)]
pub(super) struct Damper {
    /// When the server went down recently.
    falls: VecDeque<Duration>,
    holds: bool,
    /// Since when the server has been healthy.
    well: Option<Duration>,
}

impl Damper {
    /// The server went down.
    pub(super) fn fell(&mut self, damping: Option<Damping>, now: Duration) {
        self.well = None;
        let Some(Damping { falls, within, hold: _ }) = damping else { return };
        self.falls.push_back(now);
        self.falls.retain(|fall| now.saturating_sub(*fall) < within);
        self.holds |= self.falls.len() >= falls as usize;
    }

    /// The server is healthy again.
    pub(super) fn rose(&mut self, now: Duration) {
        self.well = Some(now);
    }

    /// Releases the server after the hold time, or if damping was removed from the configuration.
    pub(super) fn pass_time(&mut self, damping: Option<Damping>, now: Duration) {
        if damping.is_none() || self.opens_at(damping).is_some_and(|at| at <= now) {
            *self = Self::default();
        }
    }

    /// Whether the server is kept out.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// When the server will be released if it stays healthy.
    pub(super) fn opens_at(&self, damping: Option<Damping>) -> Option<Duration> {
        Some(self.well.filter(|_| self.holds)? + damping?.hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAMPING: Option<Damping> =
        Some(Damping { falls: 3, within: Duration::from_secs(60), hold: Duration::from_secs(10) });

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A server that goes down at these seconds and is healthy again a second later.
    fn after(falls: &[u64]) -> Damper {
        let mut damper = Damper::default();
        for fall in falls {
            damper.fell(DAMPING, s(*fall));
            damper.rose(s(fall + 1));
        }
        damper
    }

    #[test]
    fn holds_after_three_falls_within_a_minute() {
        for (falls, holds) in [
            (&[0, 10][..], false),
            (&[0, 10, 59], true),
            (&[0, 10, 60], false),
            (&[0, 10, 60, 69], true),
            (&[0, 50, 100, 150], false),
        ] {
            assert_eq!(after(falls).holds(), holds, "{falls:?}");
        }
    }

    #[test]
    fn lets_go_when_it_has_been_well_for_the_time_of_the_hold() {
        let mut damper = after(&[0, 2, 4]);
        damper.pass_time(DAMPING, s(14));
        assert_eq!((damper.holds(), damper.opens_at(DAMPING)), (true, Some(s(15))));
        damper.fell(DAMPING, s(14));
        assert_eq!(damper.opens_at(DAMPING), None, "not while it is down");
        damper.rose(s(16));
        damper.pass_time(DAMPING, s(26));
        assert!(!damper.holds());
        damper.fell(DAMPING, s(27));
        assert!(!damper.holds(), "what was is forgiven");
    }

    #[test]
    fn a_configuration_without_damping_lets_go_at_once() {
        let mut damper = after(&[0, 2, 4]);
        damper.pass_time(None, s(6));
        assert!(!damper.holds());
    }
}
