//! The state machine of one server of a service. It combines the results of all checks, advised
//! weights, maintenance, flap damping and slow start into the server's availability and weight.
//!
//! The machine is pure, like that of a check: the driver passes in events with the time since some
//! fixed moment, and sends [`Input::Timer`] at [`Machine::next_timeout`].

mod damper;
mod slow_start;

use std::time::Duration;

use lb_model::Damping;
use lb_model::Health;

use self::damper::Damper;
use self::slow_start::Ramp;
use super::machine::State;
use super::probe::Advice;

/// The server's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub weight: u16,
    /// The types of its checks, all of which must succeed; without checks the server counts as
    /// healthy.
    pub checks: Vec<&'static str>,
    /// Slow start: how long the weight ramps up after the server came back; zero: no ramp.
    pub slow_start: Duration,
    pub damping: Option<Damping>,
}

/// The latest result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    pub state: State,
    /// Why the server is down, or what the last probe found wrong.
    pub reason: Option<String>,
    pub advice: Option<Advice>,
    pub warning: Option<String>,
}

impl CheckResult {
    const NOTHING: Self = Self { state: State::Unknown, reason: None, advice: None, warning: None };
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// [`Machine::next_timeout`] has come. An early or repeated timer is harmless.
    Timer,
    /// The check at `index` has a new result.
    Found { index: usize, result: CheckResult },
    /// The reason for maintenance; `None`: maintenance has ended.
    Maintenance(Option<String>),
    /// Why packets have not reached the server for long enough to count; `None`: they reach it.
    /// Ignored for a server with checks, which decide.
    Unreached(Option<String>),
    /// The configuration has changed.
    Rules(Rules),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// `lasted` is how long the server's health was `from`; `reason` says why the server is not up.
    Changed { from: Health, to: Health, lasted: Duration, reason: Option<String> },
    /// The server has gone down, or was down at its first result; maintenance does not count.
    WentDown,
    /// The server is up again after it had gone down.
    CameBack,
}

/// How often the server's health has changed, by what it became. What is found first, after the
/// server was unknown, is no change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transitions {
    /// Without a check: to reached.
    pub up: u64,
    pub down: u64,
    pub maintenance: u64,
}

/// Whether the data path may use the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Not all checks have a result yet.
    Unknown,
    Down,
    /// The server may get new connections, in proportion to its weight.
    Usable {
        weight: u16,
    },
}

/// What limits the weight of a server that is up to another one than configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLimiter {
    SlowStart,
    /// A check advises it: an agent, a command, a file.
    Advice,
}

impl WeightLimiter {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowStart => "slow start",
            Self::Advice => "advised",
        }
    }
}

#[derive(Debug)]
pub struct Machine {
    rules: Rules,
    results: Vec<CheckResult>,
    maintenance: Option<String>,
    unreached: Option<String>,
    /// The server has joined a running service, so it begins with a slow start.
    newcomer: bool,
    /// The combined state of all checks.
    found: State,
    damper: Damper,
    health: Health,
    since: Duration,
    ramp: Option<Ramp>,
    weight: u16,
    /// The state last reported by [`Output::WentDown`] or [`Output::CameBack`]; a first `Up` is
    /// stored without an output.
    reported: Option<State>,
    transitions: Transitions,
}

impl Machine {
    /// A server without results whose director or service has just started: no slow start.
    pub fn new(rules: Rules, now: Duration) -> Self {
        Self::made(rules, false, now)
    }

    /// A server without results that joins a running service: with slow start.
    pub fn newcomer(rules: Rules, now: Duration) -> Self {
        Self::made(rules, true, now)
    }

    fn made(rules: Rules, newcomer: bool, now: Duration) -> Self {
        let mut machine = Self {
            results: vec![CheckResult::NOTHING; rules.checks.len()],
            rules,
            maintenance: None,
            unreached: None,
            newcomer,
            found: State::Unknown,
            damper: Damper::default(),
            health: Health::Unknown,
            since: now,
            ramp: None,
            weight: 0,
            reported: None,
            transitions: Transitions::default(),
        };
        machine.settle(now, &mut Vec::new());
        machine
    }

    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Output> {
        match input {
            Input::Timer => {}
            Input::Found { index, result } => {
                // A late result of a check that has left the configuration has no entry.
                if let Some(old) = self.results.get_mut(index) {
                    *old = result;
                }
            }
            Input::Maintenance(reason) => self.maintenance = reason,
            Input::Unreached(reason) => self.unreached = reason,
            Input::Rules(rules) => {
                self.results.resize(rules.checks.len(), CheckResult::NOTHING);
                self.rules = rules;
            }
        }
        let mut outputs = Vec::new();
        self.settle(now, &mut outputs);
        outputs
    }

    /// Next deadline, at which [`Input::Timer`] is due.
    pub fn next_timeout(&self) -> Option<Duration> {
        let step = self.ramp.as_ref().map(|ramp| ramp.next(self.rules.slow_start));
        let opens = self.damper.opens_at(self.rules.damping);
        step.into_iter().chain(opens).min()
    }

    pub fn health(&self) -> Health {
        self.health
    }

    pub fn transitions(&self) -> Transitions {
        self.transitions
    }

    /// Since when the server has this health.
    pub fn since(&self) -> Duration {
        self.since
    }

    pub fn availability(&self) -> Availability {
        match self.found {
            State::Unknown => Availability::Unknown,
            State::Down => Availability::Down,
            State::Up if self.damper.holds() => Availability::Down,
            State::Up => Availability::Usable { weight: self.weight },
        }
    }

    /// The effective weight.
    pub fn weight(&self) -> u16 {
        self.weight
    }

    pub fn weight_limiter(&self) -> Option<WeightLimiter> {
        let (weight, limit) = (self.weight, self.limit());
        match self.health {
            Health::Up | Health::Unchecked if weight < limit => Some(WeightLimiter::SlowStart),
            Health::Up | Health::Unchecked if limit != self.rules.weight => Some(WeightLimiter::Advice),
            _ => None,
        }
    }

    /// Why the server is not up, or what is wrong with it.
    pub fn reason(&self) -> Option<String> {
        let down = self.checks().find(|(_, result)| result.state == State::Down);
        let any = || self.checks().find(|(_, result)| result.reason.is_some());
        let checks = down
            .or_else(any)
            .and_then(|(index, result)| result.reason.as_ref().map(|reason| self.of_check(index, reason)));
        let damped =
            self.rules.damping.filter(|_| self.damper.holds()).map(|Damping { falls, within, hold }| {
                let [within, hold] = [within, hold].map(humantime::format_duration);
                format!(
                    "kept out until it has been healthy for {hold}: it went down {falls} times within {within}"
                )
            });
        let unreached = self.unreached.clone().filter(|_| self.rules.checks.is_empty());
        let parts = [self.maintenance.clone(), checks, damped, unreached];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// The checks' warnings.
    pub fn warning(&self) -> Option<String> {
        let reported = self.checks().filter_map(|(index, result)| {
            result.warning.as_ref().map(|warning| self.of_check(index, warning))
        });
        let reported: Vec<String> = reported.collect();
        (!reported.is_empty()).then(|| reported.join("; "))
    }

    fn checks(&self) -> impl Iterator<Item = (usize, &CheckResult)> {
        self.results.iter().enumerate()
    }

    /// Prefixes `text` with the check, if the server has several.
    fn of_check(&self, index: usize, text: &str) -> String {
        match self.rules.checks.get(index) {
            Some(kind) if self.rules.checks.len() > 1 => format!("check {} ({kind}): {text}", index + 1),
            _ => text.to_owned(),
        }
    }

    /// Updates health, damping, slow start and weight after an input.
    fn settle(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        let found = self.together();
        match (self.found, found) {
            (State::Up, State::Down) => self.damper.fell(self.rules.damping, now),
            (State::Unknown | State::Down, State::Up) => self.damper.rose(now),
            _ => {}
        }
        self.found = found;
        let damping = self.rules.damping.filter(|_| !self.rules.checks.is_empty());
        self.damper.pass_time(damping, now);
        self.transition(self.judge(), now, outputs);
        self.ramp = self.ramp.take().and_then(|ramp| ramp.at(now, self.rules.slow_start));
        let limit = self.limit();
        self.weight = match &self.ramp {
            _ if !serves(self.health) => 0,
            Some(ramp) => ramp.weight(limit),
            None => limit,
        };
    }

    /// The combined state of all checks. A check without a result leaves the state as it is: the
    /// server may be in service.
    fn together(&self) -> State {
        let states = || self.results.iter().map(|result| result.state);
        match () {
            () if states().any(|state| state == State::Down) => State::Down,
            () if self.rules.checks.is_empty() && self.unreached.is_some() => State::Down,
            () if states().all(|state| state == State::Up) => State::Up,
            () => self.found,
        }
    }

    fn judge(&self) -> Health {
        match self.availability() {
            _ if self.maintenance.is_some() => Health::Maintenance,
            Availability::Unknown => Health::Unknown,
            Availability::Down => Health::Down,
            Availability::Usable { .. } if self.rules.checks.is_empty() => Health::Unchecked,
            Availability::Usable { .. } => Health::Up,
        }
    }

    fn transition(&mut self, to: Health, now: Duration, outputs: &mut Vec<Output>) {
        if to == self.health {
            return;
        }
        let from = std::mem::replace(&mut self.health, to);
        let lasted = now.saturating_sub(self.since);
        self.since = now;
        match to {
            _ if from == Health::Unknown => {}
            Health::Up | Health::Unchecked => self.transitions.up += 1,
            Health::Down => self.transitions.down += 1,
            Health::Maintenance => self.transitions.maintenance += 1,
            Health::Unknown | Health::Draining => {}
        }
        match (serves(from), serves(to)) {
            // A server whose health was unknown has not come back.
            (false, true) if from != Health::Unknown || self.newcomer => self.ramp = Some(Ramp::new(now)),
            (_, false) => self.ramp = None,
            _ => {}
        }
        outputs.push(Output::Changed { from, to, lasted, reason: self.reason() });
        let before = self.reported;
        match to {
            Health::Down => self.reported = Some(State::Down),
            _ if serves(to) => self.reported = Some(State::Up),
            _ => {}
        }
        match (before, self.reported) {
            (None | Some(State::Up), Some(State::Down)) => outputs.push(Output::WentDown),
            (Some(State::Down), Some(State::Up)) => outputs.push(Output::CameBack),
            _ => {}
        }
    }

    /// The weight without slow start. If several checks advise a weight, the least one counts.
    fn limit(&self) -> u16 {
        let configured = self.rules.weight;
        let advised = self.results.iter().filter_map(|result| result.advice);
        let weights = advised.map(|advice| match advice {
            Advice::Weight(weight) => weight,
            Advice::Percent(percent) => {
                let share = (u32::from(configured) * u32::from(percent)).div_ceil(100);
                u16::try_from(share).unwrap_or(u16::MAX)
            }
        });
        // Advice never overrides a configured weight of 0.
        if configured == 0 { 0 } else { weights.min().unwrap_or(configured) }
    }
}

fn serves(health: Health) -> bool {
    matches!(health, Health::Up | Health::Unchecked)
}

#[cfg(test)]
mod tests;
