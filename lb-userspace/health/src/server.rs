//! What one server of a service is worth: its checks together, what it says of its weight, what operators want, and how
//! it has fared.
//!
//! The machine decides and nothing else, like that of a check: its driver hands in what happened and the time since some
//! fixed moment, and calls again with [`Input::Timer`] after [`Machine::next_timeout`].

mod damper;
mod slow_start;

use std::time::Duration;

use lb_model::Damping;
use lb_model::Health;

use self::damper::Damper;
use self::slow_start::Ramp;
use super::machine::State;
use super::probe::Advice;

/// What the configuration says of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub weight: u16,
    /// The kinds of its checks, all of which must be passed; none: it is taken to be healthy.
    pub checks: Vec<&'static str>,
    /// How long its weight grows after a return; zero: not at all.
    pub slow_start: Duration,
    pub damping: Option<Damping>,
}

/// What one check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    pub state: State,
    /// Why it is down, or what speaks against it.
    pub reason: Option<String>,
    pub advice: Option<Advice>,
    pub warning: Option<String>,
}

impl CheckResult {
    const NOTHING: Self = Self { state: State::Unknown, reason: None, advice: None, warning: None };
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// [`Machine::next_timeout`] has come; too early or too often does no harm.
    Timer,
    /// The check at `index` has news.
    Found { index: usize, result: CheckResult },
    /// The reason for maintenance; `None`: it is over.
    Maintenance(Option<String>),
    /// Why no packet reaches it, for long enough to count; `None`: it is reached. Of one that has checks, these judge.
    Unreached(Option<String>),
    /// The configuration has changed.
    Rules(Rules),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// `lasted` is how long it had been `from`; `reason` is why it is not up.
    Changed { from: Health, to: Health, lasted: Duration, reason: Option<String> },
    /// It has gone down, or was down when first seen; maintenance does not count.
    WentDown,
    /// It is up after it had gone down.
    CameBack,
}

/// What the data path needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Too little is known.
    Unknown,
    Down,
    /// It may have so much of the new connections.
    Usable {
        weight: u16,
    },
}

/// Why a server that is up has another weight than the configured one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLimiter {
    SlowStart,
    /// A check said so: an agent, a command, a file.
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
    /// It has joined others that serve already: its weight grows at first, too.
    newcomer: bool,
    /// What the checks say together.
    found: State,
    damper: Damper,
    health: Health,
    since: Duration,
    ramp: Option<Ramp>,
    weight: u16,
    /// What was reported last by [`Output::WentDown`] and [`Output::CameBack`], or would have been.
    reported: Option<State>,
}

impl Machine {
    /// A server of which nothing is known yet, and with which nothing begins: the director starts, or its service does.
    pub fn new(rules: Rules, now: Duration) -> Self {
        Self::made(rules, false, now)
    }

    /// The same of one that joins a service that runs.
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
        };
        machine.settle(now, &mut Vec::new());
        machine
    }

    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Output> {
        match input {
            Input::Timer => {}
            Input::Found { index, result } => {
                // There is none for the late word of a check that has left the configuration.
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

    /// When [`Input::Timer`] is expected.
    pub fn next_timeout(&self) -> Option<Duration> {
        let step = self.ramp.as_ref().map(|ramp| ramp.next(self.rules.slow_start));
        let opens = self.damper.opens_at(self.rules.damping);
        step.into_iter().chain(opens).min()
    }

    pub fn health(&self) -> Health {
        self.health
    }

    /// Since when it has this health.
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

    /// Of new connections, as things are.
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

    /// Why it is not up, or what speaks against it.
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
                    "kept out until it has been well for {hold}: it went down {falls} times within {within}"
                )
            });
        let unreached = self.unreached.clone().filter(|_| self.rules.checks.is_empty());
        let parts = [self.maintenance.clone(), checks, damped, unreached];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// What is not wrong yet.
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

    /// Which check it is goes without saying if there is only one.
    fn of_check(&self, index: usize, text: &str) -> String {
        match self.rules.checks.get(index) {
            Some(kind) if self.rules.checks.len() > 1 => format!("check {} ({kind}): {text}", index + 1),
            _ => text.to_owned(),
        }
    }

    /// Brings everything into line with what is known.
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

    /// A check that has not said anything yet changes nothing: its server may be in service.
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
        match (serves(from), serves(to)) {
            // It has not come back from anywhere if nothing was known of it.
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

    /// The weight that it has when it does not grow. Several checks may say something of it: the least counts.
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
        // Weight 0 in the configuration is an operator's word.
        if configured == 0 { 0 } else { weights.min().unwrap_or(configured) }
    }
}

fn serves(health: Health) -> bool {
    matches!(health, Health::Up | Health::Unchecked)
}

#[cfg(test)]
mod tests;
