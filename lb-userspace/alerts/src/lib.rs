//! Alerts: who is told of what happens, by mail, by webhook, or by Alertmanager.
//!
//! Whoever records an event waits for nobody: it goes into a queue of limited length, and all else
//! happens on a thread of its own, with a task for each receiver. A receiver that is slow or gone
//! costs nobody else anything.
//!
//! - [`ongoing`]: what an event begins or ends; [`outbox`]: when messages go, and what is in them;
//!   [`repeats`]: what is told again; [`board`]: what an Alertmanager is told, and [`names`]: by
//!   which names; [`pace`]: limit and back-off. All of these are pure.
//! - [`message`]: in words and as JSON; [`target`]: the ways to SMTP servers and HTTP servers
//! - [`dispatch`]: the task that hears of all events; [`receiver`]: the task of each receiver

mod board;
mod dispatch;
mod message;
mod names;
mod ongoing;
mod outbox;
mod pace;
mod receiver;
mod repeats;
mod target;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lb_api::events::{Events, Record};
use lb_api::findings::Findings;
use lb_api::status::{AlertTest, ReceiverStatus};
use lb_model::Config;
use lb_system::worker::Worker;
use tokio::sync::{mpsc, oneshot, watch};

use self::dispatch::{Dispatcher, Input, Wanted};
use self::ongoing::{Known, Ongoing};

/// Events on their way to the thread; if it does not come to them, more are lost.
const QUEUE: usize = 4096;

/// The alerts of a director, through all its lives. Clones share them.
#[derive(Debug, Clone)]
pub struct Alerts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    inputs: mpsc::Sender<Input>,
    wanted: watch::Sender<Arc<Wanted>>,
    shared: Arc<Shared>,
    _thread: Worker,
}

/// What the tasks share with whoever asks.
#[derive(Debug, Default)]
struct Shared {
    /// Of the director's life that goes on.
    findings: Mutex<Option<Findings>>,
    /// What lasts.
    ongoing: Mutex<Ongoing>,
    /// In configured order; one for each target of a receiver.
    statuses: Mutex<Vec<Arc<Mutex<ReceiverStatus>>>>,
    /// Events that did not fit into the queue.
    lost: AtomicU64,
}

impl Shared {
    fn ongoing(&self) -> MutexGuard<'_, Ongoing> {
        self.ongoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_findings(&self, act: impl FnOnce(&Findings)) {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(findings) = findings {
            act(&findings);
        }
    }
}

impl Alerts {
    /// Starts the thread.
    pub fn start(config: &Config) -> io::Result<Self> {
        let thread = Worker::start("alerts")?;
        let (inputs, heard) = mpsc::channel(QUEUE);
        let (wanted, follows) = watch::channel(Arc::new(wanted(config)));
        let shared = Arc::new(Shared::default());
        thread.handle().spawn(Dispatcher::new(Arc::clone(&shared)).run(follows, heard));
        Ok(Self(Arc::new(Inner { inputs, wanted, shared, _thread: thread })))
    }

    /// Tells of all events from now on, and of those that are stored.
    pub fn listen(&self, events: &mut Events) {
        let (inputs, shared) = (self.0.inputs.clone(), Arc::clone(&self.0.shared));
        events.tell(move |record: &Record| {
            if inputs.try_send(Input::Event(Box::new(record.clone()))).is_err() {
                shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Receivers that do not answer are findings of this life from now on. What the life before has
    /// left ends after all events that were recorded by now.
    pub fn begin_life(&self, findings: &Findings) {
        *self.0.shared.findings.lock().unwrap_or_else(PoisonError::into_inner) = Some(findings.clone());
        if self.0.inputs.try_send(Input::NewLife).is_err() {
            self.0.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells the receivers of this configuration from now on.
    pub fn follow(&self, config: &Config) {
        let new = Arc::new(wanted(config));
        self.0.wanted.send_if_modified(|old| {
            let is_new = *old != new;
            *old = new;
            is_new
        });
    }

    /// What became of alerts, by receiver.
    pub fn status(&self) -> Vec<ReceiverStatus> {
        let statuses = self.0.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<ReceiverStatus> = Vec::with_capacity(statuses.len());
        for status in &statuses {
            let one = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match all.last_mut().filter(|last| last.receiver == one.receiver) {
                Some(last) => add(last, one),
                None => all.push(one),
            }
        }
        all
    }

    /// Sends a test message to a receiver, or to all. What came of it comes later, or why there is
    /// none.
    pub fn test(&self, receiver: Option<String>) -> oneshot::Receiver<Result<Vec<AlertTest>, String>> {
        let (reply, answer) = oneshot::channel();
        // Whoever waits for the answer is told that there is none.
        let _ = self.0.inputs.try_send(Input::Test(receiver, reply));
        answer
    }

    /// Tries what waits once more, and waits for that no longer than this. Blocks.
    pub fn finish(&self, patience: Duration) {
        let (done, waits) = std::sync::mpsc::channel();
        if self.0.inputs.try_send(Input::Flush(done)).is_ok() {
            let _ = waits.recv_timeout(patience);
        }
    }
}

/// Several targets of one receiver together.
fn add(all: &mut ReceiverStatus, one: ReceiverStatus) {
    all.delivered += one.delivered;
    all.failed += one.failed;
    all.held += one.held;
    all.waiting += one.waiting;
    all.dropped += one.dropped;
    all.trouble = all.trouble.take().or(one.trouble);
}

fn wanted(config: &Config) -> Wanted {
    let node = config.cluster.as_ref().and_then(|cluster| cluster.nodes.get(usize::from(cluster.me.0)));
    let director = node.map_or_else(host, |node| node.name.clone());
    Wanted { alerts: config.alerts.clone(), known: Known::of(config), director }
}

/// This host's name.
fn host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "lb".to_owned())
}
