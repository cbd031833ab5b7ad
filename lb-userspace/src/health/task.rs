//! The task behind one check: gives the machine time and results, makes the probes it asks for, tells what changed.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::machine::{Input, Machine, Outcome, Output, ProbeId, Rules, State};
use super::{Id, Verdict, probe};
use crate::config::Check;

/// One check of one server.
pub struct Job {
    pub id: Id,
    pub target: SocketAddr,
    pub check: Check,
    pub verdicts: mpsc::UnboundedSender<Verdict>,
    /// The machine's state, for whoever takes over from this task.
    pub state: watch::Sender<State>,
}

type Flight = (ProbeId, Pin<Box<dyn Future<Output = Outcome> + Send>>);

impl Job {
    /// Runs until nobody wants to hear of it any more, or the task is aborted.
    pub async fn run(self, first: Duration) {
        let Check { probe: _, interval, timeout, rise, fall, port: _ } = self.check;
        let state = *self.state.borrow();
        let mut machine = Machine::new(Rules { interval, timeout, rise, fall }, state, first);
        let begin = Instant::now();
        let mut flight: Option<Flight> = None;
        while !self.verdicts.is_closed() {
            let input = next_input(&machine, begin, &mut flight).await;
            let latency = match &input {
                Input::ProbeDone(_, Outcome::Good(latency)) => Some(*latency),
                _ => None,
            };
            for output in machine.handle(input, begin.elapsed()) {
                match output {
                    Output::StartProbe { id, deadline: _ } => flight = Some((id, self.probe())),
                    Output::AbandonProbe { id: _ } => flight = None,
                    Output::Changed { from, to, reason } => self.changed(from, to, reason, latency),
                    Output::Explained { reason } => self.tell(machine.state(), reason, latency),
                }
            }
        }
    }

    /// A probe as the machine wants it. It has the machine's own time limit inside, because it alone can say what was
    /// waited for; the machine's is there for a probe that does not keep to it.
    fn probe(&self) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let (service, _) = self.id;
        let (kind, target, timeout) = (self.check.probe.clone(), self.target, self.check.timeout);
        Box::pin(async move {
            let start = Instant::now();
            match probe::probe(&kind, target, service, timeout).await {
                Ok(()) => Outcome::Good(start.elapsed()),
                Err(failure) if failure.is_local() => Outcome::Void(failure.to_string()),
                Err(failure) => Outcome::Bad(failure.to_string()),
            }
        })
    }

    fn changed(&self, from: State, to: State, reason: Option<String>, latency: Option<Duration>) {
        let (service, server) = self.id;
        let (vip, port, protocol) = (service.vip, service.port, service.protocol.name());
        match (to, reason.as_deref()) {
            (State::Down, Some(why)) => warn!(%vip, port, protocol, %server, "server is down: {why}"),
            _ => info!(%vip, port, protocol, %server, ?from, "server is {to:?}"),
        }
        self.state.send_replace(to);
        self.tell(to, reason, latency);
    }

    fn tell(&self, state: State, reason: Option<String>, latency: Option<Duration>) {
        let (service, server) = self.id;
        debug!(%server, ?state, reason, ?latency, "check");
        // Nobody listening ends the loop in `run`.
        let _ = self.verdicts.send(Verdict { service, server, health: state.into(), reason, latency });
    }
}

/// Waits for the probe in flight or the machine's time-out. The probe goes first: a result that is there counts, even
/// if this task was held up and the deadline has passed.
async fn next_input(machine: &Machine, begin: Instant, flight: &mut Option<Flight>) -> Input {
    let timeout = machine.next_timeout();
    let running = async {
        match flight {
            Some((id, probe)) => (*id, probe.await),
            None => std::future::pending().await,
        }
    };
    let timer = async {
        match timeout {
            Some(at) => tokio::time::sleep_until(begin + at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        (id, outcome) = running => {
            *flight = None;
            Input::ProbeDone(id, outcome)
        }
        () = timer => Input::Timer,
    }
}
