//! The task of one check: drives its state machine, runs the probes, and sends verdicts.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use lb_model::Check;
use lb_system::clock::sleep_until;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::debug;

use super::lateness::TimerLateness;
use super::machine::{Input, Machine, Outcome, Output, ProbeId, Rules, Start, State};
use super::net::Net;
use super::probe::agent::Memory;
use super::probe::{Advice, Report, Subject};
use super::recent::Recent;
use super::{Verdict, probe};

/// How much longer the machine waits than the probe itself, whose failure says more than the
/// machine's.
const GRACE: Duration = Duration::from_millis(50);

/// One check of one server.
pub(crate) struct Job {
    pub subject: Subject,
    /// Index of the check among the server's checks.
    pub index: usize,
    pub check: Check,
    pub net: Net,
    pub verdicts: mpsc::UnboundedSender<Verdict>,
    /// The machine's state, for a task that replaces this one.
    pub state: watch::Sender<State>,
    pub recent: Recent,
    /// The state of the server's agent.
    pub agent: Memory,
    /// Determines the jitter of probes.
    pub seed: u64,
    pub lateness: TimerLateness,
}

type Flight<'a> = (ProbeId, Pin<Box<dyn Future<Output = Report> + Send + 'a>>);

/// Advice and warning of the last probe.
#[derive(Default, Clone, PartialEq)]
struct Notes {
    advice: Option<Advice>,
    warning: Option<String>,
}

impl Job {
    /// Runs until the receiver of verdicts is dropped, or the task is aborted.
    pub(crate) async fn run(self, start: Start) {
        let Check { interval, fast_interval, timeout, rise, fall, .. } = self.check;
        let state = *self.state.borrow();
        let timeout = timeout + GRACE;
        let rules = Rules { interval, fast_interval, timeout, rise, fall };
        let mut machine = Machine::new(rules, state, start, self.seed);
        self.net.is_open(self.check.via).await;
        let begin = Instant::now();
        let mut flight: Option<Flight<'_>> = None;
        let mut found = Notes::default();
        while !self.verdicts.is_closed() {
            let due = machine.next_timeout().unwrap_or_default();
            let (input, report) = match next_event(&machine, begin, &mut flight).await {
                Event::Timer => {
                    self.lateness.woken(begin.elapsed().saturating_sub(due));
                    (Input::Timer, None)
                }
                Event::Done(id, report) => (Input::ProbeDone(id, outcome(&report)), Some(report)),
            };
            if matches!(input, Input::ProbeDone(_, Outcome::Bad(_))) {
                self.recent.failed();
            }
            let before = found.clone();
            if let Some(Report { took, warning, result: Ok(answer), .. }) = &report {
                if !answer.stale {
                    self.recent.add(*took);
                }
                found = Notes { advice: answer.advice, warning: warning.clone() };
            }
            let mut sent = false;
            for output in machine.handle(input, begin.elapsed()) {
                match output {
                    Output::StartProbe { id, deadline: _ } => {
                        self.lateness.started();
                        flight = Some((id, self.probe()));
                    }
                    Output::AbandonProbe { id: _ } => {
                        self.recent.failed();
                        flight = None;
                    }
                    Output::Changed { from: _, to, reason } => {
                        self.state.send_replace(to);
                        self.send(to, explain(report.as_ref(), reason), &found);
                        sent = true;
                    }
                    Output::Explained { reason } => {
                        self.send(machine.state(), explain(report.as_ref(), reason), &found);
                        sent = true;
                    }
                }
            }
            if !sent && found != before {
                self.send(machine.state(), None, &found);
            }
        }
    }

    /// A probe with its own time limit, because only the probe knows what it was waiting for. The
    /// machine's limit covers a probe that exceeds its own.
    fn probe(&self) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(probe::run_after(&self.agent, &self.check, self.subject, &self.net))
    }

    fn send(&self, state: State, reason: Option<String>, found: &Notes) {
        let Subject { service, server, port: _ } = self.subject;
        let Notes { advice, warning } = found.clone();
        debug!(%server, ?state, reason, "check");
        let verdict = Verdict { service, server, index: self.index, state, reason, advice, warning };
        // The loop in `run` ends when the receiver is dropped.
        let _ = self.verdicts.send(verdict);
    }
}

fn outcome(report: &Report) -> Outcome {
    match &report.result {
        Ok(_) => Outcome::Good(report.took),
        Err(failure) if failure.is_local() => Outcome::Void(failure.to_string()),
        Err(failure) => Outcome::Bad(failure.to_string()),
    }
}

/// The machine's reason, with the steps that the probe had completed. The machine does not see the
/// steps: their times differ from probe to probe, and each difference would be a change.
fn explain(report: Option<&Report>, reason: Option<String>) -> Option<String> {
    let reason = reason?;
    match report {
        Some(report) if report.result.is_err() => Some(report.explain(&reason)),
        _ => Some(reason),
    }
}

enum Event {
    Timer,
    Done(ProbeId, Report),
}

/// Waits for the probe in flight or the machine's deadline. A result takes precedence, even if this
/// task was delayed and the deadline has passed.
async fn next_event(machine: &Machine, begin: Instant, flight: &mut Option<Flight<'_>>) -> Event {
    let timeout = machine.next_timeout();
    let running = async {
        match flight {
            Some((id, probe)) => (*id, probe.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        (id, report) = running => {
            *flight = None;
            Event::Done(id, report)
        }
        () = sleep_until(timeout.map(|at| begin + at)) => Event::Timer,
    }
}
