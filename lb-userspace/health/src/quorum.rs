//! The quorum of a service: whether enough servers are usable. The whole traffic would overload
//! fewer servers.

use std::time::Duration;

use lb_model::Quorum as Configured;

/// The state of one service's quorum.
#[derive(Debug)]
pub struct Quorum {
    /// `None`: not evaluated yet.
    won: Option<bool>,
    /// The quorum was won at some time, so hysteresis applies to the next win.
    was_won: bool,
    since: Duration,
    /// Sum of the weights of usable servers at the last evaluation.
    sum: u64,
}

/// The quorum was won or lost, or evaluated for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    pub won: bool,
    /// How long the previous state lasted; `None`: this is the first one.
    pub lasted: Option<Duration>,
}

impl Quorum {
    pub fn new(now: Duration) -> Self {
        Self { won: None, was_won: false, since: now, sum: 0 }
    }

    /// Evaluates the quorum for `sum`, the weight of all usable servers. The first win needs no
    /// hysteresis.
    pub fn count(&mut self, quorum: Configured, sum: u64, now: Duration) -> Option<Transition> {
        let Configured { weight, hysteresis } = quorum;
        let [weight, hysteresis] = [weight, hysteresis].map(u64::from);
        let needed = match self.is_won() {
            true => weight.saturating_sub(hysteresis),
            false if self.was_won => weight + hysteresis,
            false => weight,
        };
        self.sum = sum;
        let won = sum >= needed;
        self.was_won |= won;
        if self.won == Some(won) {
            return None;
        }
        let lasted = self.won.replace(won).map(|_| now.saturating_sub(self.since));
        self.since = now;
        Some(Transition { won, lasted })
    }

    pub fn is_won(&self) -> bool {
        self.won == Some(true)
    }

    pub fn since(&self) -> Duration {
        self.since
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Whether the quorum is won after each of these sums.
    fn course(weight: u32, hysteresis: u32, sums: &[u64]) -> Vec<bool> {
        let mut quorum = Quorum::new(s(0));
        let rules = Configured { weight, hysteresis };
        let mut count = |sum: &u64| {
            quorum.count(rules, *sum, s(0));
            quorum.is_won()
        };
        sums.iter().map(&mut count).collect()
    }

    #[test]
    fn without_hysteresis_the_quorum_itself_decides() {
        assert_eq!(course(2, 0, &[2, 1, 2, 3, 0]), [true, false, true, true, false]);
        assert_eq!(course(1, 0, &[0, 1]), [false, true]);
    }

    #[test]
    fn hysteresis_wants_less_to_keep_it_and_more_to_win_it_back() {
        assert_eq!(course(10, 3, &[10, 7, 6, 10, 12, 13, 7]), [true, true, false, false, false, true, true]);
        assert_eq!(course(10, 3, &[9, 10, 7, 6]), [false, true, true, false], "it was not lost at first");
    }

    #[test]
    fn transitions_are_reported_once_with_the_duration_of_the_previous_state() {
        let mut quorum = Quorum::new(s(1));
        let rules = Configured { weight: 2, hysteresis: 0 };
        assert_eq!(quorum.count(rules, 1, s(5)), Some(Transition { won: false, lasted: None }));
        assert_eq!(quorum.count(rules, 0, s(6)), None);
        assert_eq!(quorum.count(rules, 4, s(9)), Some(Transition { won: true, lasted: Some(s(4)) }));
        assert_eq!((quorum.is_won(), quorum.since(), quorum.sum()), (true, s(9), 4));
    }
}
