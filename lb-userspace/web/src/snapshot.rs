//! The director's state, taken once a second for all who look at it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use lb_api::events::Record;
use lb_api::status::Status;
use lb_api::wire::{Reply, Request};
use tokio::time::MissedTickBehavior;

use crate::director::Director;
use crate::history::History;

/// From one snapshot to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// What the director said at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub number: u64,
    pub taken: SystemTime,
    pub status: Status,
    /// Oldest first.
    pub events: Vec<Record>,
}

/// The latest snapshot and the history. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshots(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    latest: Option<Arc<Snapshot>>,
    /// Why there is no newer one.
    trouble: Option<String>,
    history: History,
}

impl Snapshots {
    /// Takes snapshots for as long as it is polled.
    pub(crate) async fn follow(self, director: Arc<dyn Director>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.take(director.as_ref()).await;
        }
    }

    /// Takes one now: whoever has given an order sees what came of it.
    pub(crate) async fn take(&self, director: &dyn Director) {
        let found = ask(director).await;
        let mut state = self.lock();
        match found {
            Ok((status, events)) => {
                state.history.take(&status, Instant::now());
                let number = state.latest.as_ref().map_or(0, |latest| latest.number + 1);
                state.latest = Some(Arc::new(Snapshot { number, taken: SystemTime::now(), status, events }));
                state.trouble = None;
            }
            Err(error) => state.trouble = Some(format!("{error:#}")),
        }
    }

    /// The latest one, and why there is no newer one.
    ///
    /// # Errors
    /// There was none yet.
    pub(crate) fn latest(&self) -> Result<(Arc<Snapshot>, Option<String>), String> {
        let state = self.lock();
        match &state.latest {
            Some(latest) => Ok((Arc::clone(latest), state.trouble.clone())),
            None => Err(state.trouble.clone().unwrap_or_else(|| "the director is starting".to_owned())),
        }
    }

    /// The latest one, if it is of now.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn current(&self) -> Result<Arc<Snapshot>, String> {
        match self.latest()? {
            (latest, None) => Ok(latest),
            (_, Some(trouble)) => Err(trouble),
        }
    }

    pub(crate) fn history<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.lock().history)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(director: &dyn Director) -> anyhow::Result<(Status, Vec<Record>)> {
    let status = match director.ask(Request::Status).await? {
        Reply::Status(status) => *status,
        other => return unexpected(other),
    };
    match director.ask(Request::Events).await.context("events")? {
        Reply::Events(events) => Ok((status, events)),
        other => unexpected(other),
    }
}

fn unexpected<T>(reply: Reply) -> anyhow::Result<T> {
    match reply {
        Reply::Error(error) => bail!("{error}"),
        _ => bail!("the director gave an answer of another type than was asked for"),
    }
}
