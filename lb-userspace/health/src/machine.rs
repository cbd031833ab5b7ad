//! The state machine of one check of one server: when to probe, and what the results mean (rise,
//! fall, intervals, time-out).
//!
//! The machine is pure: it has no socket and no clock, and its randomness comes from a seed. The
//! driver passes in events with the time since some fixed moment, executes the outputs, and sends
//! [`Input::Timer`] at [`Machine::next_timeout`]. At most one probe is in flight.

mod beat;

use std::time::Duration;

use self::beat::Beat;
pub use self::beat::Start;

/// The server's state according to the results so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No result yet.
    Unknown,
    Up,
    Down,
}

/// The times and counts of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// From the start of one probe to the start of the next one, greater than zero.
    pub interval: Duration,
    /// The interval while results contradict the state, greater than zero.
    pub fast_interval: Duration,
    /// A probe without a result after this time has failed; greater than zero.
    pub timeout: Duration,
    /// Successes in a row that bring the server up, at least 1.
    pub rise: u32,
    /// Failures in a row that take the server down, at least 1.
    pub fall: u32,
}

/// Identifies a probe of a machine, so that the machine can ignore results of abandoned probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeId(u64);

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered as expected, after this time.
    Good(Duration),
    /// The server did not answer as expected, for this reason.
    Bad(String),
    /// The director could not run the probe, for this reason; the result says nothing about the
    /// server.
    Void(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// [`Machine::next_timeout`] has come. An early or repeated timer is harmless.
    Timer,
    ProbeDone(ProbeId, Outcome),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Start a probe; the machine abandons it at `deadline`.
    StartProbe { id: ProbeId, deadline: Duration },
    /// Drop this probe; the machine ignores its result.
    AbandonProbe { id: ProbeId },
    /// The state changed; `reason` says why the server is not up.
    Changed { from: State, to: State, reason: Option<String> },
    /// The state is unchanged, but its reason is new.
    Explained { reason: Option<String> },
}

#[derive(Debug)]
pub struct Machine {
    rules: Rules,
    state: State,
    /// There was no result yet; the first one decides alone, without rise or fall.
    fresh: bool,
    /// Consecutive results that contradict `state`.
    against: u32,
    reason: Option<String>,
    beat: Beat,
    flight: Option<Flight>,
    last_id: u64,
}

#[derive(Debug)]
struct Flight {
    id: ProbeId,
    started: Duration,
    deadline: Duration,
}

impl Machine {
    /// A machine whose probes begin at `start`; `seed` determines the jitter of later probes.
    ///
    /// `state` is [`State::Unknown`] for a new server. A server whose check has changed keeps the
    /// old check's state until the first result of the new check.
    pub fn new(rules: Rules, state: State, start: Start, seed: u64) -> Self {
        let beat = Beat::new(start, seed);
        Self { rules, state, fresh: true, against: 0, reason: None, beat, flight: None, last_id: 0 }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Next deadline, at which [`Input::Timer`] is due. Currently always `Some`.
    pub fn next_timeout(&self) -> Option<Duration> {
        Some(self.flight.as_ref().map_or(self.beat.due(), |flight| flight.deadline))
    }

    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Timer => self.expire(now, &mut outputs),
            Input::ProbeDone(id, outcome) => {
                if self.flight.as_ref().is_some_and(|flight| flight.id == id) {
                    self.finish(outcome, now, &mut outputs);
                }
            }
        }
        self.start_if_due(now, &mut outputs);
        self.check_invariants(now);
        outputs
    }

    fn expire(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        let Some(flight) = self.flight.as_ref().filter(|flight| flight.deadline <= now) else { return };
        outputs.push(Output::AbandonProbe { id: flight.id });
        let timeout = humantime::format_duration(self.rules.timeout);
        self.finish(Outcome::Bad(format!("no result within {timeout}")), now, outputs);
    }

    fn start_if_due(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        if self.flight.is_some() {
            return;
        }
        let interval = self.interval();
        let overdue = self.beat.due() <= now;
        if self.fresh && overdue {
            // The first probe starts now, however late, because its server waits for the result;
            // the beat does not change.
            self.beat.overrun(interval, now);
        } else {
            self.beat.held_up(interval, now);
            if self.beat.due() > now {
                return;
            }
        }
        self.last_id += 1;
        let deadline = now + self.rules.timeout;
        let flight = Flight { id: ProbeId(self.last_id), started: now, deadline };
        outputs.push(Output::StartProbe { id: flight.id, deadline });
        self.flight = Some(flight);
    }

    /// The interval from the last start to the next one.
    fn interval(&self) -> Duration {
        if self.against > 0 { self.rules.fast_interval } else { self.rules.interval }
    }

    /// Ends the probe in flight.
    fn finish(&mut self, outcome: Outcome, now: Duration, outputs: &mut Vec<Output>) {
        let Some(Flight { started, .. }) = self.flight.take() else { return };
        self.weigh(outcome, outputs);
        let interval = self.interval();
        if self.against > 0 {
            self.beat.next_from(started, interval);
        } else {
            self.beat.next(interval);
        }
        self.beat.overrun(interval, now);
    }

    fn weigh(&mut self, outcome: Outcome, outputs: &mut Vec<Output>) {
        let (verdict, reason) = match outcome {
            Outcome::Good(_) => (Some(State::Up), None),
            Outcome::Bad(reason) => (Some(State::Down), Some(reason)),
            Outcome::Void(reason) => (None, Some(format!("not checked: {reason}"))),
        };
        match verdict {
            Some(verdict) => self.judge(verdict, reason, outputs),
            None => self.explain(reason, outputs),
        }
    }

    fn judge(&mut self, verdict: State, reason: Option<String>, outputs: &mut Vec<Output>) {
        let decides = std::mem::take(&mut self.fresh);
        if verdict == self.state {
            self.against = 0;
            return self.explain(reason, outputs);
        }
        self.against = self.against.saturating_add(1);
        let needed = if verdict == State::Up { self.rules.rise } else { self.rules.fall };
        if !decides && self.against < needed {
            let reason = match reason {
                None => format!("answers again, {} of {needed} in a row", self.against),
                Some(reason) => format!("{reason}, {} of {needed} in a row", self.against),
            };
            return self.explain(Some(reason), outputs);
        }
        let from = std::mem::replace(&mut self.state, verdict);
        self.against = 0;
        self.reason.clone_from(&reason);
        outputs.push(Output::Changed { from, to: verdict, reason });
    }

    fn explain(&mut self, reason: Option<String>, outputs: &mut Vec<Output>) {
        if self.reason != reason {
            self.reason.clone_from(&reason);
            outputs.push(Output::Explained { reason });
        }
    }

    fn check_invariants(&self, now: Duration) {
        debug_assert!(
            self.flight.is_some() || self.beat.due() > now,
            "neither a probe in flight nor one to come"
        );
        debug_assert!(self.against < self.rules.rise.max(self.rules.fall).max(1), "a verdict is overdue");
        debug_assert!(self.fresh || self.state != State::Unknown, "a result must have decided");
    }
}

#[cfg(test)]
mod tests;
