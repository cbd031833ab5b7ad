//! What waits to be told by message, and when a message goes: pure.
//!
//! What happens within `group_wait` is one message. While a receiver takes none, or its limit is
//! reached, events wait, and the next message has them all: there is one message under way at most,
//! and no queue of messages behind a receiver that was away.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lb_model::Receiver;

use super::ongoing::{Alert, State, severity};
use super::pace::{Backoff, Bucket};
use super::repeats::Repeats;

/// Events that wait at most; of more the oldest are given up.
const MOST: usize = 1000;
/// Events of a message; of more the most severe ones are told, and how many there are besides.
const LISTED: usize = 100;
/// How long an event waits for its receiver.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// When messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What happens within this time after an event is one message with it.
    pub group_wait: Duration,
    /// Messages an hour.
    pub limit: u32,
    /// What still lasts after this time is told again; `None`: never.
    pub repeat: Option<Duration>,
}

/// One message.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Message {
    /// The most severe ones first, in the order in which they happened.
    pub alerts: Vec<Alert>,
    /// Events besides.
    pub more: usize,
    /// Events that were given up since the message before.
    pub dropped: u64,
    /// How long the limit has held it back.
    pub held: Option<Duration>,
}

/// What waits for one receiver.
#[derive(Debug)]
pub(crate) struct Outbox {
    rules: Rules,
    /// With the time at which each came.
    waiting: VecDeque<(Instant, Alert)>,
    /// What is told again.
    repeats: Repeats,
    /// How many of them are under way.
    under_way: usize,
    /// What waits goes at once.
    hurries: bool,
    /// Since when the limit holds the next message back.
    held: Option<Instant>,
    /// It has held back the one under way.
    was_held: bool,
    bucket: Bucket,
    backoff: Backoff,
    /// Since the message before.
    dropped: u64,
    /// Of those, what the message under way says, or has among its own events.
    said: u64,
}

impl Outbox {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            waiting: VecDeque::new(),
            repeats: Repeats::default(),
            under_way: 0,
            hurries: false,
            held: None,
            was_held: false,
            bucket: Bucket::new(rules.limit),
            backoff: Backoff::default(),
            dropped: 0,
            said: 0,
        }
    }

    /// Goes by other rules from now on, with what waits and what has gone.
    pub(crate) fn follow(&mut self, rules: Rules) {
        self.rules = rules;
        self.bucket.follow(rules.limit);
    }

    /// Tells nothing again that the receiver does not want to be told any more.
    pub(crate) fn keep(&mut self, receiver: &Receiver) {
        self.repeats.keep(receiver);
    }

    /// Messages go elsewhere from now on, the one under way too. There nothing has failed yet.
    pub(crate) fn redirect(&mut self) {
        (self.under_way, self.said, self.was_held) = (0, 0, false);
        self.backoff.succeeded();
    }

    /// Returns how many events were given up for it.
    pub(crate) fn push(&mut self, alert: Alert, now: Instant) -> u64 {
        let (mut place, under_way, begun) = (0, self.under_way, alert.begun.number);
        // What has ended, or is told anew, is not told again before that.
        self.waiting.retain(|(_, waits)| {
            place += 1;
            place <= under_way || waits.begun.number != begun || !matches!(waits.state, State::Repeated(_))
        });
        self.repeats.wait(&alert);
        self.waiting.push_back((now, alert));
        let surplus = self.waiting.len().saturating_sub(MOST);
        self.give_up(surplus, now)
    }

    /// Has told again what still lasts, where it is time for that. `lasts`: whether it does.
    pub(crate) fn repeat(&mut self, now: Instant, lasts: impl Fn(&Alert) -> bool) {
        let Some(every) = self.rules.repeat else { return };
        // News come first.
        while self.waiting.len() < MOST
            && let Some(alert) = self.repeats.next(every, now)
        {
            if lasts(&alert) {
                self.waiting.push_back((now, alert));
            } else {
                self.repeats.forget(&alert);
            }
        }
    }

    /// Notes events that were lost on their way here.
    pub(crate) const fn lose(&mut self, events: u64) {
        self.dropped += events;
    }

    /// Gives up what has waited for too long. Returns how many that were.
    pub(crate) fn forget(&mut self, now: Instant) -> u64 {
        let old =
            self.waiting.iter().take_while(|(came, _)| now.saturating_duration_since(*came) > KEPT).count();
        self.give_up(old, now)
    }

    fn give_up(&mut self, oldest: usize, now: Instant) -> u64 {
        self.waiting.drain(..oldest).for_each(|(_, alert)| self.repeats.tell(&alert, now));
        self.said += oldest.min(self.under_way) as u64;
        self.under_way = self.under_way.saturating_sub(oldest);
        self.dropped += oldest as u64;
        oldest as u64
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What waits goes at once, after a failure too, once.
    pub(crate) const fn hurry(&mut self) {
        self.hurries = true;
        self.backoff.hurry();
    }

    /// When a message can go, but for the limit; `None`: nothing waits, or one is under way.
    fn ready(&self) -> Option<Instant> {
        let (first, _) = self.waiting.front().filter(|_| self.under_way == 0)?;
        let grouped = if self.hurries { *first } else { *first + self.rules.group_wait };
        Some(self.backoff.again().map_or(grouped, |again| again.max(grouped)))
    }

    /// When a message can go, or something is to be told again.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let message = self.ready().map(|ready| ready.max(now + self.bucket.wait(now)));
        let has_room = self.waiting.len() < MOST;
        let repeat = self.rules.repeat.filter(|_| has_room).and_then(|every| self.repeats.due(every));
        message.into_iter().chain(repeat).min()
    }

    /// The message that goes now, if one does. What becomes of it comes by [`Self::done`].
    pub(crate) fn next(&mut self, now: Instant) -> Option<Message> {
        if self.ready()? > now {
            return None;
        }
        if !self.bucket.wait(now).is_zero() {
            self.held.get_or_insert(now);
            return None;
        }
        let held = self.held.take().map(|since| now.saturating_duration_since(since));
        self.was_held = held.is_some();
        let mut alerts: Vec<Alert> = self.waiting.iter().map(|(_, alert)| alert.clone()).collect();
        self.under_way = alerts.len();
        self.said = self.dropped;
        self.hurries = false;
        let more = alerts.len().saturating_sub(LISTED);
        alerts.sort_by_key(|alert| Reverse(severity(alert.record.level)));
        alerts.truncate(LISTED);
        Some(Message { alerts, more, dropped: self.dropped, held })
    }

    /// The message under way was taken, or was not. Returns whether the limit had held it back.
    pub(crate) fn done(&mut self, delivered: bool, now: Instant) -> bool {
        if delivered {
            self.waiting.drain(..self.under_way).for_each(|(_, alert)| self.repeats.tell(&alert, now));
            self.dropped -= self.said;
            self.bucket.take(now);
            self.backoff.succeeded();
        } else {
            self.backoff.failed(now);
        }
        (self.under_way, self.said) = (0, 0);
        std::mem::take(&mut self.was_held)
    }

    pub(crate) const fn backoff(&self) -> &Backoff {
        &self.backoff
    }
}

#[cfg(test)]
mod tests;
