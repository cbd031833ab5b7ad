//! A path's place in the loop: open, or to be opened again soon.
//!
//! An interface that does not exist yet, an adapter that is pulled out, an address that has gone:
//! each ends as a path that is closed, said so once, and tried again every second.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::statistics::Statistics;
use super::{Arrival, Open, Path};

#[cfg(test)]
mod tests;

/// From one try to open a closed path to the next.
const REOPEN: Duration = Duration::from_secs(1);
/// From the first failed send to a new socket; and sends are well again after this long without a
/// failure.
const FAILING: Duration = Duration::from_secs(5);

/// What an operator wants to know of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Opened,
    /// Could not be opened, or broke; it is tried again every second.
    Closed(String),
    /// Sends fail; receiving may go on.
    SendsFail(String),
    SendsAgain,
}

pub(crate) struct Slot {
    opener: Box<dyn Open>,
    path: Option<Box<dyn Path>>,
    statistics: Arc<Statistics>,
    reopen_at: Duration,
    failing: Option<Failing>,
    /// The last error of opening; told once.
    told: Option<String>,
    /// When the path was last empty: what comes out of it later has arrived since.
    empty_at: Duration,
}

/// Sends fail, all or many of them.
struct Failing {
    since: Duration,
    last: Duration,
}

impl Slot {
    pub(crate) fn new(opener: Box<dyn Open>, statistics: Arc<Statistics>, now: Duration) -> Self {
        let (path, failing, told) = (None, None, None);
        Self { opener, path, statistics, reopen_at: now, failing, told, empty_at: now }
    }

    pub(crate) fn path(&self) -> Option<&dyn Path> {
        self.path.as_deref()
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    pub(crate) fn shared_statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.statistics)
    }

    /// When [`Self::timer`] wants to be called.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        match &self.path {
            None => Some(self.reopen_at),
            Some(path) => path.next_timeout(),
        }
    }

    pub(crate) fn timer(&mut self, now: Duration) -> Option<Change> {
        match &mut self.path {
            None if now >= self.reopen_at => self.open(now),
            None => None,
            Some(path) => {
                let outcome = path.timer(now);
                outcome.err().and_then(|error| self.send_failed(&error, now))
            }
        }
    }

    fn open(&mut self, now: Duration) -> Option<Change> {
        match self.opener.open() {
            Ok(path) => {
                self.path = Some(path);
                self.statistics.open.store(true, Ordering::Relaxed);
                (self.failing, self.told, self.empty_at) = (None, None, now);
                Some(Change::Opened)
            }
            Err(error) => self.closed(error.to_string(), now),
        }
    }

    fn closed(&mut self, error: String, now: Duration) -> Option<Change> {
        self.path = None;
        self.statistics.open.store(false, Ordering::Relaxed);
        self.reopen_at = now + REOPEN;
        if self.told.as_ref() == Some(&error) {
            return None;
        }
        self.told = Some(error.clone());
        Some(Change::Closed(error))
    }

    pub(crate) fn send(&mut self, message: &[u8], now: Duration) -> Option<Change> {
        match self.path.as_mut()?.send(message, now) {
            Ok(()) => {
                self.statistics.sent.fetch_add(1, Ordering::Relaxed);
                let well = self.failing.take_if(|failing| now > failing.last + FAILING);
                well.map(|_| Change::SendsAgain)
            }
            Err(error) => self.send_failed(&error, now),
        }
    }

    /// A socket whose interface was replaced by one of the same name fails for ever: it is opened
    /// anew.
    fn send_failed(&mut self, error: &io::Error, now: Duration) -> Option<Change> {
        self.statistics.send_errors.fetch_add(1, Ordering::Relaxed);
        let Some(failing) = &mut self.failing else {
            self.failing = Some(Failing { since: now, last: now });
            return Some(Change::SendsFail(error.to_string()));
        };
        failing.last = now;
        if now <= failing.since + FAILING {
            return None;
        }
        failing.since = now;
        self.reopen(now)
    }

    /// Nothing is said if the new path is no better than the old.
    fn reopen(&mut self, now: Duration) -> Option<Change> {
        self.path = None;
        match self.opener.open() {
            Ok(path) => {
                (self.path, self.empty_at) = (Some(path), now);
                None
            }
            Err(error) => self.closed(error.to_string(), now),
        }
    }

    /// The next message, and when it arrived. `Err` if the path broke.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut Vec<u8>,
        now: Duration,
    ) -> Result<Option<(Arrival, Duration)>, Option<Change>> {
        let Some(path) = &mut self.path else {
            return Ok(None);
        };
        match path.receive(buffer) {
            Ok(Some(arrival)) => {
                let arrived = now.saturating_sub(arrival.age).max(self.empty_at).min(now);
                Ok(Some((arrival, arrived)))
            }
            Ok(None) => {
                self.empty_at = now;
                Ok(None)
            }
            Err(error) => Err(self.closed(error.to_string(), now)),
        }
    }

    /// Poll says that the path is broken, and nothing could be received from it.
    pub(crate) fn hung_up(&mut self, now: Duration) -> Option<Change> {
        self.path.as_ref()?;
        self.closed("it hung up".into(), now)
    }
}
