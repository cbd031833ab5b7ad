//! Health checks: a pure state machine per check, one file per type of probe, and the tasks that
//! drive them. A state machine per server combines the results of its checks, and a quorum per
//! service those of its servers.

pub mod machine;
pub mod net;
pub mod probe;
pub mod quorum;
pub mod server;

mod descriptors;
#[cfg(test)]
mod fuzz;
mod lateness;
mod recent;
mod task;

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lb_model::{Check, Service, ServiceKey};
use lb_net::xsk::Xsk;
use lb_system::vital_signs::Pulse;
use lb_system::worker::Worker;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use self::lateness::TimerLateness;
use self::machine::{Start, State};
use self::net::{Net, VipNet};
use self::probe::agent::Memory;
use self::probe::{Advice, Report, Subject};
use self::recent::Recent;
use self::task::Job;

/// Delay between the starts of new checks; shorter if they would not fit into the interval.
const STAGGER: Duration = Duration::from_millis(5);

/// The result of a check, sent when it changes, not for every probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub service: ServiceKey,
    pub server: IpAddr,
    /// Index of the check among the server's checks.
    pub index: usize,
    pub state: State,
    /// Why the server is down, or what the last probe found wrong; `None` if nothing is wrong.
    pub reason: Option<String>,
    pub advice: Option<Advice>,
    pub warning: Option<String>,
}

/// What became of a check's probes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Of the last successful ones, the newest first.
    pub latencies: Vec<Duration>,
    /// Number of those that have failed since the check began; what this host is to blame for does
    /// not count.
    pub failures: u64,
}

/// Identifies a task: a check of a server of a service.
type Id = (ServiceKey, IpAddr, usize);

const THREAD: &str = "checks";

/// Runs the checks of all services, each as a task on the checks' thread, and sends their verdicts.
///
/// It sends nothing for servers without a check, and nothing when a check is removed. Dropping it
/// ends all checks.
#[derive(Debug)]
pub struct Checker {
    thread: Worker,
    net: Net,
    sender: mpsc::UnboundedSender<Verdict>,
    lateness: TimerLateness,
    /// Maximum number of open files of this process.
    descriptors: u64,
    running: HashMap<Id, Running>,
}

#[derive(Debug)]
struct Running {
    check: Check,
    subject: Subject,
    state: watch::Receiver<State>,
    recent: Recent,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checker {
    pub fn start(sender: mpsc::UnboundedSender<Verdict>, net: Net) -> io::Result<Self> {
        let (thread, lateness) = (Worker::start(THREAD)?, TimerLateness::default());
        let descriptors = descriptors::raise_limit()?;
        Ok(Self { thread, net, sender, lateness, descriptors, running: HashMap::new() })
    }

    /// Runs the checks of `services` and ends all others.
    ///
    /// An unchanged check of an unchanged server continues undisturbed. A server whose check has
    /// changed keeps its state until the first result of the new check, which decides alone.
    pub fn set(&mut self, services: &[Service]) {
        let expected: Vec<_> = services.iter().flat_map(checks).collect();
        if let Some(text) = descriptors::too_few(expected.len(), self.descriptors) {
            warn!("{text}");
        }
        let ids: HashSet<Id> = expected.iter().map(|(id, ..)| *id).collect();
        self.running.retain(|id, _| ids.contains(id));
        let new: Vec<_> = expected
            .into_iter()
            .filter(|(id, subject, check)| {
                !self.running.get(id).is_some_and(|old| old.subject == *subject && old.check == **check)
            })
            .collect();
        let count = u32::try_from(new.len()).unwrap_or(u32::MAX).max(1);
        for (turn, (id, subject, check)) in (0..).zip(new) {
            let beat = (check.interval / count).min(STAGGER).saturating_mul(turn);
            // The first round is a third faster, so that the last verdict comes at most one
            // interval and one time-out after the director's start.
            let start = Start { first: beat * 2 / 3, beat };
            self.begin(id, subject, check, start);
        }
    }

    /// The thread, by its name, gives signs of life.
    pub fn pulse(&self) -> (&'static str, Pulse) {
        (THREAD, self.thread.pulse())
    }

    /// The network of probes through VIPs.
    pub fn vip(&self) -> &VipNet {
        &self.net.vip
    }

    /// Adds AF_XDP sockets for probes through VIPs.
    pub fn add_sockets(&self, place: usize, sockets: Vec<Xsk>) -> io::Result<()> {
        self.net.vip.add_sockets(place, sockets, self.thread.handle())
    }

    /// Number of running checks.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    pub fn timer_lateness(&self) -> &TimerLateness {
        &self.lateness
    }

    /// What became of the probes of a server, by check.
    pub fn outcomes(&self, service: ServiceKey, server: IpAddr, checks: usize) -> Vec<Outcomes> {
        let running = |index| self.running.get(&(service, server, index));
        let outcomes = |Running { recent, .. }: &Running| Outcomes {
            latencies: recent.all(),
            failures: recent.failures(),
        };
        (0..checks).map(|index| running(index).map(outcomes).unwrap_or_default()).collect()
    }

    /// Runs one probe of each of these checks at once, in addition to the periodic ones; the
    /// receiver gets the reports.
    pub fn probe(&self, subject: Subject, checks: Arc<[Check]>) -> oneshot::Receiver<Vec<Report>> {
        let (sender, reports) = oneshot::channel();
        let net = self.net.clone();
        self.thread.handle().spawn(async move {
            let probes = checks.iter().map(|check| probe::run(check, subject, &net));
            // The receiver may have been dropped.
            let _ = sender.send(join_all(probes).await);
        });
        reports
    }

    fn begin(&mut self, id: Id, subject: Subject, check: &Check, start: Start) {
        let old = self.running.remove(&id);
        let before = old.as_ref().map_or(State::Unknown, |old| *old.state.borrow());
        let (state_sender, state) = watch::channel(before);
        let recent = Recent::default();
        let (_, _, index) = id;
        let job = Job {
            subject,
            index,
            check: check.clone(),
            net: self.net.clone(),
            verdicts: self.sender.clone(),
            state: state_sender,
            recent: recent.clone(),
            agent: Memory::default(),
            seed: seed(&id),
            lateness: self.lateness.clone(),
        };
        let task = self.thread.handle().spawn(job.run(start));
        self.running.insert(id, Running { check: check.clone(), subject, state, recent, task });
    }
}

/// A seed that depends only on the check.
fn seed(id: &Id) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// All checks of a service's servers.
fn checks(service: &Service) -> impl Iterator<Item = (Id, Subject, &Check)> {
    service.servers.iter().flat_map(move |server| {
        let subject = Subject { service: service.key, server: server.address, port: server.port };
        let each = server.checks.iter().enumerate();
        each.map(move |(index, check)| ((service.key, server.address, index), subject, check))
    })
}

#[cfg(test)]
mod tests;
