//! Health checks: a pure machine per server, one file per kind of probe, and the tasks that drive them.

pub mod machine;
pub mod probe;

mod task;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::machine::State;
use self::task::Job;
use crate::config::{Check, Service, ServiceKey};
use crate::observe::view::Health;

/// Checks started together follow each other at this distance, or closer if the interval would not hold them all.
const STAGGER: Duration = Duration::from_millis(5);

/// What a check says of a server. Sent when the health or its reason changes, not for every probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub service: ServiceKey,
    pub server: IpAddr,
    pub health: Health,
    /// Why the server is down, or what the last probe found against it; `None` when all is well.
    pub reason: Option<String>,
    /// How long the last good probe took, if it was the last of all.
    pub latency: Option<Duration>,
}

/// What a check belongs to: one server of one service.
type Id = (ServiceKey, IpAddr);

/// Runs the checks of all services, each in a task of its own, and sends what they find.
///
/// It says nothing about servers of services without a check, and nothing when a check goes away. Dropping it ends
/// all checks.
#[derive(Debug)]
pub struct Checker {
    sender: mpsc::UnboundedSender<Verdict>,
    running: HashMap<Id, Running>,
}

#[derive(Debug)]
struct Running {
    check: Check,
    target: SocketAddr,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checker {
    pub fn new(sender: mpsc::UnboundedSender<Verdict>) -> Self {
        Self { sender, running: HashMap::new() }
    }

    /// Makes the running checks those of `services`; needs a tokio runtime around it.
    ///
    /// An unchanged check of an unchanged server runs on as if nothing had happened. When the check of a server
    /// changed, its state stays until the first result of the new check, which then decides alone.
    pub fn set(&mut self, services: &[Service]) {
        let wanted: Vec<_> = services.iter().flat_map(checks).collect();
        let ids: HashSet<Id> = wanted.iter().map(|(id, ..)| *id).collect();
        self.running.retain(|id, _| ids.contains(id));
        let new: Vec<_> = wanted
            .into_iter()
            .filter(|(id, target, check)| {
                !self.running.get(id).is_some_and(|old| old.target == *target && old.check == **check)
            })
            .collect();
        let count = u32::try_from(new.len()).unwrap_or(u32::MAX).max(1);
        for (place, (id, target, check)) in (0..).zip(new) {
            let first = (check.interval / count).min(STAGGER).saturating_mul(place);
            self.start(id, target, check, first);
        }
    }

    fn start(&mut self, id: Id, target: SocketAddr, check: &Check, first: Duration) {
        let before = self.running.remove(&id).map_or(State::Unknown, |old| *old.state.borrow());
        let (state_sender, state) = watch::channel(before);
        let job =
            Job { id, target, check: check.clone(), verdicts: self.sender.clone(), state: state_sender };
        let task = tokio::spawn(job.run(first));
        self.running.insert(id, Running { check: check.clone(), target, state, task });
    }
}

/// The checks that a service wants, one per server.
fn checks(service: &Service) -> impl Iterator<Item = (Id, SocketAddr, &Check)> {
    service.check.iter().flat_map(move |check| {
        service.servers.iter().map(move |server| {
            let target = SocketAddr::new(server.address, check.port.unwrap_or(server.port));
            ((service.key, server.address), target, check)
        })
    })
}

impl From<State> for Health {
    fn from(state: State) -> Self {
        match state {
            State::Unknown => Self::Unknown,
            State::Up => Self::Up,
            State::Down => Self::Down,
        }
    }
}

#[cfg(test)]
mod tests;
