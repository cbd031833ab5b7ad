//! The task of one target: events come, and messages go, one at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lb_api::findings::{Finding, Findings, Kind};
use lb_api::status::ReceiverStatus;
use lb_model::Receiver;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::Shared;
use super::board::Board;
use super::ongoing::Alert;
use super::outbox::{Outbox, Rules};
use super::pace::Backoff;
use super::target::{Parcel, Target, To};

/// Events on their way to the task; if it does not come to them, more are lost.
const QUEUE: usize = 1000;
/// After so long without success a receiver is a finding.
const FAILS: Duration = Duration::from_secs(60);

/// What the task goes by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub receiver: Receiver,
    /// One of the receiver's.
    pub target: Target,
    pub group_wait: Duration,
}

impl Settings {
    fn rules(&self) -> Rules {
        let Receiver { limit, repeat, .. } = self.receiver;
        Rules { group_wait: self.group_wait, limit, repeat }
    }

    /// Whether a task can go on by `new` with what waits for it. What an Alertmanager is told names
    /// the director.
    pub(crate) fn can_become(&self, new: &Self) -> bool {
        self.receiver.name == new.receiver.name
            && match (&self.target.to, &new.target.to) {
                (To::Alertmanager(_), To::Alertmanager(_)) => self.target.director == new.target.director,
                (To::Alertmanager(_), _) | (_, To::Alertmanager(_)) => false,
                (To::Email(_) | To::Webhook(_), To::Email(_) | To::Webhook(_)) => true,
            }
    }
}

/// What the task is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// All that one event means, or all that ends or is shown at once: no message goes in between.
    Alerts(Vec<Alert>),
    /// So many events were lost on their way.
    Lost(u64),
    /// Try now what waits, and answer when that has been done.
    Flush(oneshot::Sender<()>),
    /// The receiver is not configured any more: no alerts come after this.
    End,
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
    settings: Settings,
    queue: Queue,
    status: Arc<Mutex<ReceiverStatus>>,
    shared: Arc<Shared>,
    /// Whoever waits until all has been tried.
    flushing: Vec<oneshot::Sender<()>>,
    /// No more alerts come: the task ends when nothing waits.
    ends: bool,
}

impl Task {
    pub(crate) fn new(settings: Settings, status: Arc<Mutex<ReceiverStatus>>, shared: Arc<Shared>) -> Self {
        let queue = match settings.target.to {
            To::Email(_) | To::Webhook(_) => Queue::Messages(Outbox::new(settings.rules())),
            To::Alertmanager(_) => Queue::Alerts(Board::new(&settings.target.director)),
        };
        Self { settings, queue, status, shared, flushing: Vec::new(), ends: false }
    }

    /// Runs until it is told that no more alerts come, and what waits has been sent or given up.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut changes: watch::Receiver<Settings>,
    ) {
        let mut under_way: Option<Delivery> = None;
        let mut is_closed = false;
        loop {
            let (now, wall) = (Instant::now(), SystemTime::now());
            self.pass_time(now);
            if under_way.is_none() {
                let parcel = self.queue.next(now, wall);
                let target = &self.settings.target;
                under_way = parcel.map(|parcel| -> Delivery { Box::pin(target.clone().deliver(parcel)) });
            }
            self.note_waiting();
            if under_way.is_none() {
                self.flushing.drain(..).for_each(|waiting| _ = waiting.send(()));
                if self.ends && self.queue.can_end() {
                    break;
                }
            }
            // The end of a delivery wakes the task.
            let due = if under_way.is_none() { self.queue.due(now) } else { None };
            tokio::select! {
                // What comes after other settings is heard by them.
                biased;
                Ok(()) = changes.changed(), if !self.ends => {
                    let new = changes.borrow_and_update().clone();
                    if self.follow(new) {
                        under_way = None;
                    }
                }
                input = inputs.recv(), if !is_closed => {
                    is_closed = input.is_none();
                    self.hear(input.unwrap_or(Input::End));
                }
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

    /// Goes by other settings from now on. Returns whether messages go elsewhere: the one under way
    /// is to go there, too.
    pub(crate) fn follow(&mut self, new: Settings) -> bool {
        let goes_elsewhere = new.target != self.settings.target;
        if goes_elsewhere {
            let subject = self.subject();
            self.shared.with_findings(|findings| findings.clear(Kind::AlertsUndelivered, &subject));
            self.note(|status| status.trouble = None);
            self.queue.redirect();
        }
        self.settings = new;
        match &mut self.queue {
            Queue::Messages(outbox) => {
                outbox.follow(self.settings.rules());
                outbox.keep(&self.settings.receiver);
            }
            Queue::Alerts(board) => board.follow(&self.settings.receiver),
        }
        goes_elsewhere
    }

    fn hear(&mut self, input: Input) {
        let dropped = match input {
            Input::Alerts(alerts) => alerts.into_iter().map(|alert| self.take(alert)).sum::<u64>(),
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
            Input::End => {
                self.end();
                0
            }
        };
        self.note(|status| status.dropped += dropped);
    }

    /// Has what waits tried at once, and then as for any receiver: it is sent, or given up after a
    /// day. Nothing is told again meanwhile, and whoever is not configured is no finding.
    fn end(&mut self) {
        self.ends = true;
        if let Queue::Messages(outbox) = &mut self.queue {
            outbox.follow(Rules { repeat: None, ..self.settings.rules() });
        }
        self.queue.hurry();
        self.shared.with_findings(|findings| findings.clear(Kind::AlertsUndelivered, &self.subject()));
    }

    /// Returns how many alerts were given up for it.
    fn take(&mut self, alert: Alert) -> u64 {
        // A receiver that does not answer need not hear of it.
        let is_about_itself = alert.begun.subject.as_deref() == Some(&*self.subject());
        if is_about_itself || !alert.is_for(&self.settings.receiver) {
            return 0;
        }
        match &mut self.queue {
            Queue::Messages(outbox) => outbox.push(alert, Instant::now()),
            Queue::Alerts(board) => board.push(&alert, SystemTime::now()),
        }
    }

    fn pass_time(&mut self, now: Instant) {
        if let Queue::Messages(outbox) = &mut self.queue {
            let dropped = outbox.forget(now);
            if dropped > 0 && self.ends {
                let name = &self.settings.receiver.name;
                tracing::warn!("alerts for {name}, which is not configured any more: {dropped} are given up");
            }
            outbox.repeat(now, |alert| self.shared.ongoing().has(alert));
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
                tracing::warn!("alerts for {}: {why}", self.settings.receiver.name);
                self.note(|status| {
                    status.failed += 1;
                    status.trouble = Some(why.clone());
                });
                if failing >= FAILS && !self.ends {
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
        let Settings { receiver, target, .. } = &self.settings;
        format!("{} ({})", receiver.name, target.place())
    }

    fn finding(&self, why: &str) -> Finding {
        let name = &self.settings.receiver.name;
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

    /// Whether nothing is lost by an end. An Alertmanager has alerts end that it is not told of
    /// again, so that one attempt is enough.
    fn can_end(&self) -> bool {
        match self {
            Self::Messages(outbox) => outbox.waiting() == 0,
            Self::Alerts(_) => true,
        }
    }

    fn redirect(&mut self) {
        match self {
            Self::Messages(outbox) => outbox.redirect(),
            Self::Alerts(board) => board.redirect(),
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
