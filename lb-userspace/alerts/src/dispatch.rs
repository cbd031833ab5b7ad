//! The task that hears of all events, notes what lasts, and tells the receivers' tasks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use lb_api::events::Record;
use lb_api::status::{AlertTest, ReceiverStatus};
use lb_model::Alerts;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use super::Shared;
use super::ongoing::{Alert, Known};
use super::receiver::{self, Settings, Task};
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

impl Wanted {
    /// One for each target of a receiver.
    fn settings(&self) -> Vec<Settings> {
        let Self { alerts: Alerts { group_wait, receivers }, director, .. } = self;
        let mut all = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let settings = |target| Settings { receiver: receiver.clone(), target, group_wait: *group_wait };
            all.extend(Target::of(receiver, director).map(settings));
        }
        all
    }
}

/// A receiver's task.
struct Running {
    /// What it goes by, and hears of when it changes.
    settings: watch::Sender<Settings>,
    inputs: mpsc::Sender<receiver::Input>,
    /// Events that did not fit into it.
    lost: u64,
    status: Arc<Mutex<ReceiverStatus>>,
}

pub(crate) struct Dispatcher {
    running: Vec<Running>,
    /// Tasks of receivers that are not configured any more. Each ends when nothing waits for its
    /// receiver.
    ending: Vec<mpsc::Sender<receiver::Input>>,
    shared: Arc<Shared>,
}

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { running: Vec::new(), ending: Vec::new(), shared }
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
                        let alerts = self.shared.ongoing().take(*record);
                        self.tell(&alerts);
                    }
                    Some(Input::NewLife) => {
                        let ended = self.shared.ongoing().begin_life();
                        self.tell(&ended);
                    }
                    Some(Input::Test(receiver, reply)) => self.test(receiver.as_deref(), reply),
                    Some(Input::Flush(done)) => self.flush(done),
                }
            }
        }
    }

    /// Receivers of the same name go on with what waits for them, and those that go still get it.
    fn follow(&mut self, wanted: &Wanted) {
        let mut before = std::mem::take(&mut self.running);
        // Alertmanagers that stay are found before others take the place of those that go.
        let stay: Vec<_> = wanted
            .settings()
            .into_iter()
            .map(|new| (take(&mut before, |old| old.target == new.target), new))
            .collect();
        let goes_on = |(stays, new): (Option<Running>, Settings)| {
            (stays.or_else(|| take(&mut before, |old| old.can_become(&new))), new)
        };
        let all: Vec<_> = stay.into_iter().map(goes_on).collect();
        self.end(before);
        for (there, new) in all {
            let running = match there {
                Some(running) => self.change(running, new),
                None => self.start(new),
            };
            self.running.push(running);
        }
        let statuses = self.running.iter().map(|running| Arc::clone(&running.status)).collect();
        *self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
        let ended = self.shared.ongoing().keep(&wanted.known);
        self.tell(&ended);
    }

    /// What waits for these is still sent.
    fn end(&mut self, gone: Vec<Running>) {
        self.ending.retain(|inputs| !inputs.is_closed());
        for Running { inputs, .. } in gone {
            // One whose queue is full hears of it by the queue's end.
            if inputs.try_send(receiver::Input::End).is_ok() {
                self.ending.push(inputs);
            }
        }
    }

    fn start(&self, settings: Settings) -> Running {
        let receiver = &settings.receiver;
        let status = ReceiverStatus {
            receiver: receiver.name.clone(),
            via: receiver.channel.name().to_owned(),
            ..ReceiverStatus::default()
        };
        let status = Arc::new(Mutex::new(status));
        let (inputs, heard) = receiver::queue();
        let shared = Arc::clone(&self.shared);
        let task = Task::new(settings.clone(), Arc::clone(&status), shared);
        let (settings, changes) = watch::channel(settings);
        tokio::spawn(task.run(heard, changes));
        let mut running = Running { settings, inputs, lost: 0, status };
        self.tell_what_lasts(&mut running);
        running
    }

    fn change(&self, mut running: Running, new: Settings) -> Running {
        let via = new.receiver.channel.name();
        let is_changed = running.settings.send_if_modified(|old| {
            let is_new = *old != new;
            *old = new;
            is_new
        });
        if is_changed {
            running.status.lock().unwrap_or_else(PoisonError::into_inner).via = via.to_owned();
            self.tell_what_lasts(&mut running);
        }
        running
    }

    /// An Alertmanager shows what lasts; others were told of it when it began.
    fn tell_what_lasts(&self, running: &mut Running) {
        let is_shown = matches!(running.settings.borrow().target.to, To::Alertmanager(_));
        if is_shown {
            running.tell(self.shared.ongoing().all().collect());
        }
    }

    fn tell(&mut self, alerts: &[Alert]) {
        self.running.iter_mut().for_each(|running| running.tell(alerts.to_vec()));
    }

    fn test(&self, receiver: Option<&str>, reply: oneshot::Sender<Result<Vec<AlertTest>, String>>) {
        let all = self.running.iter().map(|running| running.settings.borrow().target.clone());
        let all: Vec<Target> = all.collect();
        let is_meant = |target: &&Target| receiver.is_none_or(|name| target.receiver == name);
        let targets: Vec<Target> = all.iter().filter(is_meant).cloned().collect();
        if targets.is_empty() {
            let names: Vec<&str> = all.iter().map(|target| &*target.receiver).collect();
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
        let running = self.running.iter().map(|running| &running.inputs);
        let senders: Vec<_> = running.chain(&self.ending).cloned().collect();
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

/// Takes out the first one whose settings fit.
fn take(running: &mut Vec<Running>, fits: impl Fn(&Settings) -> bool) -> Option<Running> {
    let place = running.iter().position(|one| fits(&one.settings.borrow()));
    place.map(|place| running.swap_remove(place))
}

impl Running {
    /// Together: what a new life ends may be more than the queue has room for.
    fn tell(&mut self, alerts: Vec<Alert>) {
        if alerts.is_empty() {
            return;
        }
        let events = alerts.len() as u64;
        if self.lost > 0 && self.inputs.try_send(receiver::Input::Lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        if let Err(TrySendError::Full(_)) = self.inputs.try_send(receiver::Input::Alerts(alerts)) {
            self.lost += events;
        }
    }
}
