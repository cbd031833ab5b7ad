//! What lasts of all that a receiver is told, and when it is told again: pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_model::Receiver;

use super::ongoing::{Alert, MOST, State};

/// What lasts of all that one receiver was told, or is to be told.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// By the number of the event that began it.
    lasting: BTreeMap<u64, Lasting>,
    /// When something was told, by the same number, the first one first. What was told once more
    /// since, or has ended, stays until its turn comes.
    told: VecDeque<(Instant, u64)>,
}

#[derive(Debug)]
struct Lasting {
    /// As it was told last, or waits to be told.
    alert: Alert,
    /// How often it was told again.
    times: u32,
    /// When it was told; `None`: it waits.
    told: Option<Instant>,
}

impl Repeats {
    /// The receiver is to be told this.
    pub(crate) fn wait(&mut self, alert: &Alert) {
        let number = alert.begun.number;
        match alert.state {
            State::Firing if self.lasting.len() < MOST || self.lasting.contains_key(&number) => {
                let times = self.lasting.get(&number).map_or(0, |known| known.times);
                self.lasting.insert(number, Lasting { alert: alert.clone(), times, told: None });
            }
            State::Resolved => _ = self.lasting.remove(&number),
            State::Firing | State::Repeated(_) | State::Event => {}
        }
    }

    /// What waited has been told, or given up: it is told again later, if it lasts.
    pub(crate) fn tell(&mut self, alert: &Alert, now: Instant) {
        let number = alert.begun.number;
        // A later event about the same may still wait.
        if let Some(known) = self.lasting.get_mut(&number)
            && Arc::ptr_eq(&known.alert.record, &alert.record)
        {
            known.told = Some(now);
            self.told.push_back((now, number));
            if self.told.len() > 2 * MOST {
                let is_known = |(told, number): &(Instant, u64)| {
                    self.lasting.get(number).is_some_and(|known| known.told == Some(*told))
                };
                self.told.retain(is_known);
            }
        }
    }

    /// When to ask for the next one, if each is told again after `every`.
    pub(crate) fn due(&self, every: Duration) -> Option<Instant> {
        self.told.front().map(|(told, _)| *told + every)
    }

    /// The next one that is to be told again by now, which waits from now on.
    pub(crate) fn next(&mut self, every: Duration, now: Instant) -> Option<Alert> {
        loop {
            let (told, number) = *self.told.front()?;
            let known = self.lasting.get_mut(&number).filter(|known| known.told == Some(told));
            if known.is_some() && told + every > now {
                return None;
            }
            self.told.pop_front();
            if let Some(known) = known {
                known.told = None;
                known.times += 1;
                return Some(Alert { state: State::Repeated(known.times), ..known.alert.clone() });
            }
        }
    }

    /// It lasts no longer.
    pub(crate) fn forget(&mut self, alert: &Alert) {
        self.lasting.remove(&alert.begun.number);
    }

    /// Forgets what the receiver does not want to be told any more.
    pub(crate) fn keep(&mut self, receiver: &Receiver) {
        self.lasting.retain(|_, known| known.alert.is_for(receiver));
    }
}
