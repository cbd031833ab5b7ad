//! The task of one target: events come, and messages go, one at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lb_api::findings::{Finding, Findings, Kind};
use lb_api::status::ReceiverStatus;
use lb_model::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::Shared;
use super::board::Board;
use super::ongoing::Alert;
use super::outbox::Outbox;
use super::pace::Backoff;
use super::target::{Parcel, Target, To};

/// Events on their way to the task; if it does not come to them, more are lost.
const QUEUE: usize = 1000;
/// After so long without success a receiver is a finding.
const FAILS: Duration = Duration::from_secs(60);

/// What the task is told.
#[derive(Debug)]
pub(crate) enum Input {
    Alert(Alert),
    /// So many events were lost on their way.
    Lost(u64),
    /// Try now what waits, and answer when that has been done.
    Flush(oneshot::Sender<()>),
}

/// What waits for the target.
#[derive(Debug)]
enum Queue {
    Messages(Outbox),
    Alerts(Board),
}

/// A delivery under way.
type Delivery = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

pub(crate) struct Task {
    receiver: Receiver,
    target: Target,
    queue: Queue,
    status: Arc<Mutex<ReceiverStatus>>,
    shared: Arc<Shared>,
    /// Whoever waits until all has been tried.
    flushing: Vec<oneshot::Sender<()>>,
    /// Nothing more comes.
    ends: bool,
}

impl Task {
    pub(crate) fn new(
        receiver: &Receiver,
        target: &Target,
        group_wait: Duration,
        status: Arc<Mutex<ReceiverStatus>>,
        shared: Arc<Shared>,
    ) -> Self {
        let queue = match target.to {
            To::Email(_) | To::Webhook(_) => Queue::Messages(Outbox::new(group_wait, receiver.limit)),
            To::Alertmanager(_) => Queue::Alerts(Board::new(&target.director)),
        };
        Self {
            receiver: receiver.clone(),
            target: target.clone(),
            queue,
            status,
            shared,
            flushing: Vec::new(),
            ends: false,
        }
    }

    /// Runs until nobody sends to `inputs` any more and what waits has been tried once.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut under_way: Option<Delivery> = None;
        loop {
            let (now, wall) = (Instant::now(), SystemTime::now());
            self.forget(now);
            if under_way.is_none() {
                let parcel = self.queue.next(now, wall);
                under_way =
                    parcel.map(|parcel| -> Delivery { Box::pin(self.target.clone().deliver(parcel)) });
            }
            self.note_waiting();
            if under_way.is_none() {
                self.flushing.drain(..).for_each(|waiting| _ = waiting.send(()));
                if self.ends {
                    break;
                }
            }
            // The end of a delivery wakes the task.
            let due = if under_way.is_none() { self.queue.due(now) } else { None };
            tokio::select! {
                input = inputs.recv(), if !self.ends => match input {
                    Some(input) => self.hear(input),
                    None => {
                        self.ends = true;
                        self.queue.hurry();
                    }
                },
                outcome = async { under_way.as_mut().expect("the branch is off without").await },
                    if under_way.is_some() =>
                {
                    under_way = None;
                    self.done(outcome, Instant::now());
                }
                () = async { sleep_until(due.expect("the branch is off without").into()).await },
                    if due.is_some() => {}
            }
        }
        self.shared.with_findings(|findings| findings.clear(Kind::AlertsUndelivered, &self.subject()));
    }

    fn hear(&mut self, input: Input) {
        let dropped = match input {
            // A receiver that does not answer need not hear of it.
            Input::Alert(alert) if alert.begun.subject.as_deref() == Some(&*self.subject()) => 0,
            Input::Alert(alert) if !alert.is_for(&self.receiver) => 0,
            Input::Alert(alert) => match &mut self.queue {
                Queue::Messages(outbox) => outbox.push(alert, Instant::now()),
                Queue::Alerts(board) => board.push(&alert, SystemTime::now()),
            },
            Input::Lost(events) => {
                if let Queue::Messages(outbox) = &mut self.queue {
                    outbox.lose(events);
                }
                events
            }
            Input::Flush(waiting) => {
                self.flushing.push(waiting);
                self.queue.hurry();
                0
            }
        };
        self.note(|status| status.dropped += dropped);
    }

    fn forget(&mut self, now: Instant) {
        if let Queue::Messages(outbox) = &mut self.queue {
            let dropped = outbox.forget(now);
            self.note(|status| status.dropped += dropped);
        }
    }

    pub(crate) fn done(&mut self, outcome: Result<(), String>, now: Instant) {
        let was_held = self.queue.done(outcome.is_ok(), now);
        let failing = self.queue.backoff().lasted(now);
        match outcome {
            Ok(()) => {
                self.note(|status| {
                    status.delivered += 1;
                    status.held += u64::from(was_held);
                    status.trouble = None;
                });
                self.shared
                    .with_findings(|findings| findings.clear(Kind::AlertsUndelivered, &self.subject()));
            }
            Err(why) => {
                tracing::warn!("alerts for {}: {why}", self.target.receiver);
                self.note(|status| {
                    status.failed += 1;
                    status.trouble = Some(why.clone());
                });
                if failing >= FAILS {
                    self.shared.with_findings(|findings| self.raise(findings, &why));
                }
            }
        }
    }

    /// Once per outage and life of the director: another answer of the server is no news.
    fn raise(&self, findings: &Findings, why: &str) {
        let finding = self.finding(why);
        if findings.status().iter().all(|shown| shown.subject != finding.subject) {
            findings.raise(finding);
        }
    }

    /// As a finding has it.
    fn subject(&self) -> String {
        format!("{} ({})", self.target.receiver, self.target.place())
    }

    fn finding(&self, why: &str) -> Finding {
        let name = &self.target.receiver;
        Finding {
            kind: Kind::AlertsUndelivered,
            subject: self.subject(),
            text: format!("alerts do not get through to the receiver {name}: {why}"),
            mend: format!(
                "put that right, then try it by `lb alerts test {name}`; what waits goes when it works again"
            ),
        }
    }

    fn note_waiting(&self) {
        let waiting = match &self.queue {
            Queue::Messages(outbox) => outbox.waiting(),
            Queue::Alerts(board) => board.waiting(),
        };
        self.note(|status| status.waiting = waiting as u64);
    }

    fn note(&self, change: impl FnOnce(&mut ReceiverStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Queue {
    fn due(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Messages(outbox) => outbox.due(now),
            Self::Alerts(board) => board.due(now),
        }
    }

    fn next(&mut self, now: Instant, wall: SystemTime) -> Option<Parcel> {
        match self {
            Self::Messages(outbox) => outbox.next(now).map(Parcel::Message),
            Self::Alerts(board) => board.next(now, wall).map(Parcel::Alerts),
        }
    }

    /// Returns whether the limit had held the message back.
    fn done(&mut self, delivered: bool, now: Instant) -> bool {
        match self {
            Self::Messages(outbox) => outbox.done(delivered, now),
            Self::Alerts(board) => {
                board.done(delivered, now);
                false
            }
        }
    }

    const fn hurry(&mut self) {
        match self {
            Self::Messages(outbox) => outbox.hurry(),
            Self::Alerts(board) => board.hurry(),
        }
    }

    const fn backoff(&self) -> &Backoff {
        match self {
            Self::Messages(outbox) => outbox.backoff(),
            Self::Alerts(board) => board.backoff(),
        }
    }
}

/// A task's queue of inputs.
pub(crate) fn queue() -> (mpsc::Sender<Input>, mpsc::Receiver<Input>) {
    mpsc::channel(QUEUE)
}
