//! The task that hears of all events, knows what lasts, and tells the receivers' tasks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lb_api::events::Record;
use lb_api::status::{AlertTest, ReceiverStatus};
use lb_model::{Alerts, Receiver};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use super::Shared;
use super::ongoing::{Alert, Known, Ongoing};
use super::receiver::{self, Task};
use super::target::{Target, To};

/// What the task is asked.
#[derive(Debug)]
pub(crate) enum Input {
    Event(Box<Record>),
    /// The director begins anew: what happened before lasts no longer.
    NewLife,
    /// Send a test message to this receiver, or to all.
    Test(Option<String>, oneshot::Sender<Result<Vec<AlertTest>, String>>),
    /// Try now what waits, and answer when that has been done.
    Flush(std::sync::mpsc::Sender<()>),
}

/// What is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub alerts: Alerts,
    pub known: Known,
    /// Name of the director, as messages have it.
    pub director: String,
}

/// A receiver's task.
struct Running {
    receiver: Receiver,
    target: Target,
    group_wait: Duration,
    inputs: mpsc::Sender<receiver::Input>,
    /// Events that did not fit into it.
    lost: u64,
    status: Arc<Mutex<ReceiverStatus>>,
}

pub(crate) struct Dispatcher {
    running: Vec<Running>,
    ongoing: Ongoing,
    shared: Arc<Shared>,
}

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { running: Vec::new(), ongoing: Ongoing::default(), shared }
    }

    pub(crate) async fn run(
        mut self,
        mut wanted: watch::Receiver<Arc<Wanted>>,
        mut inputs: mpsc::Receiver<Input>,
    ) {
        wanted.mark_changed();
        loop {
            tokio::select! {
                biased;
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = Arc::clone(&wanted.borrow_and_update());
                    self.follow(&now);
                }
                input = inputs.recv() => match input {
                    None => return,
                    Some(Input::Event(record)) => {
                        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
                        self.running.iter_mut().for_each(|running| running.lost += lost);
                        self.ongoing.take(*record).iter().for_each(|alert| self.tell(alert));
                    }
                    Some(Input::NewLife) => {
                        self.ongoing.begin_life().iter().for_each(|alert| self.tell(alert));
                    }
                    Some(Input::Test(receiver, reply)) => self.test(receiver.as_deref(), reply),
                    Some(Input::Flush(done)) => self.flush(done),
                }
            }
        }
    }

    /// Receivers that are as before go on with what waits for them.
    fn follow(&mut self, Wanted { alerts, known, director }: &Wanted) {
        let Alerts { group_wait, receivers } = alerts;
        let mut before = std::mem::take(&mut self.running);
        for receiver in receivers {
            for target in Target::of(receiver, director) {
                let same = |running: &Running| {
                    running.receiver == *receiver
                        && running.target == target
                        && running.group_wait == *group_wait
                };
                let running = match before.iter().position(same) {
                    Some(place) => before.swap_remove(place),
                    None => self.start(receiver, target, *group_wait),
                };
                self.running.push(running);
            }
        }
        drop(before);
        let statuses = self.running.iter().map(|running| Arc::clone(&running.status)).collect();
        *self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
        self.ongoing.keep(known).iter().for_each(|alert| self.tell(alert));
    }

    fn start(&self, receiver: &Receiver, target: Target, group_wait: Duration) -> Running {
        let status = ReceiverStatus {
            receiver: receiver.name.clone(),
            via: receiver.channel.name().to_owned(),
            ..ReceiverStatus::default()
        };
        let status = Arc::new(Mutex::new(status));
        let (inputs, heard) = receiver::queue();
        let shared = Arc::clone(&self.shared);
        let task = Task::new(receiver, &target, group_wait, Arc::clone(&status), shared);
        tokio::spawn(task.run(heard));
        let mut running = Running { receiver: receiver.clone(), target, group_wait, inputs, lost: 0, status };
        // An Alertmanager shows what lasts; others were told of it when it began.
        if let To::Alertmanager(_) = running.target.to {
            self.ongoing.all().for_each(|alert| running.tell(alert));
        }
        running
    }

    fn tell(&mut self, alert: &Alert) {
        self.running.iter_mut().for_each(|running| running.tell(alert.clone()));
    }

    fn test(&self, receiver: Option<&str>, reply: oneshot::Sender<Result<Vec<AlertTest>, String>>) {
        let is_meant = |running: &&Running| receiver.is_none_or(|name| running.receiver.name == name);
        let targets: Vec<Target> =
            self.running.iter().filter(is_meant).map(|running| running.target.clone()).collect();
        if targets.is_empty() {
            let names: Vec<&str> = self.running.iter().map(|running| &*running.receiver.name).collect();
            let why = match receiver {
                Some(name) if !names.is_empty() => {
                    format!("there is no receiver {name:?}, there are {}", names.join(", "))
                }
                _ => "the configuration has no receivers: see its key `alerts`".to_owned(),
            };
            let _ = reply.send(Err(why));
            return;
        }
        tokio::spawn(async move {
            let tests: Vec<_> = targets.into_iter().map(|target| tokio::spawn(target.test())).collect();
            let mut results = Vec::with_capacity(tests.len());
            for test in tests {
                results.extend(test.await);
            }
            // Whoever asked may have gone.
            let _ = reply.send(Ok(results));
        });
    }

    fn flush(&self, done: std::sync::mpsc::Sender<()>) {
        let senders: Vec<_> = self.running.iter().map(|running| running.inputs.clone()).collect();
        tokio::spawn(async move {
            let mut waited = Vec::new();
            for sender in senders {
                let (reply, answer) = oneshot::channel();
                if sender.send(receiver::Input::Flush(reply)).await.is_ok() {
                    waited.push(answer);
                }
            }
            for answer in waited {
                let _ = answer.await;
            }
            let _ = done.send(());
        });
    }
}

impl Running {
    fn tell(&mut self, alert: Alert) {
        if self.lost > 0 && self.inputs.try_send(receiver::Input::Lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        if let Err(TrySendError::Full(_)) = self.inputs.try_send(receiver::Input::Alert(alert)) {
            self.lost += 1;
        }
    }
}
