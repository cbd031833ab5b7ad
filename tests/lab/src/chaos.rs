//! Chaos: faults of every kind, drawn from a seed, on the talk's cluster, while clients check every
//! byte; and the verdict on what may never happen.
//!
//! - [`schedule`]: which fault when, to whom, for how long: pure, the same for the same seed
//! - [`fault`]: how each is made and undone
//! - [`servers`], [`clients`]: who answers, who asks, and what became of each connection
//! - [`event_log`]: what the directors tell of it themselves
//! - [`watch`]: who answers for the VIP
//! - [`growth`]: what the directors' processes take, and its trend
//! - [`verdict`]: which fault may lose what, and what is left that nothing excuses

pub mod clients;
pub mod event_log;
pub mod fault;
pub mod growth;
pub mod schedule;
pub mod servers;
pub mod verdict;
pub mod watch;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lb_api::status::Status;

use self::clients::Clients;
use self::event_log::EventWatch;
use self::fault::Stage;
use self::growth::Growth;
use self::schedule::{Episode, Schedule};
use self::servers::Servers;
use self::verdict::{Injected, Verdict};
use self::watch::OwnerWatch;
use crate::cluster::Talk;
use crate::cluster::pair::{Pair, Settings};
use crate::lab::Director;

/// What the directors take for dead on a machine that is busy with all of this.
pub const DEAD: Duration = Duration::from_secs(1);
/// How long the cluster may take to be whole again after a fault.
const RECOVERY: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);
/// Lines of each director's events that a failure shows.
const LAST_EVENTS: usize = 40;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Faults begin until so long after the start.
    pub lasts: Duration,
    pub seed: u64,
    /// Of the lab.
    pub name: String,
    /// What upgrades go to and come from; `None`: the same build by another path.
    pub other_build: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub lasted: Duration,
    pub injected: Vec<Injected>,
    pub verdict: Verdict,
    pub growth: Vec<Growth>,
    /// Of both directors, if anything is against the rules.
    pub last_events: String,
}

impl Report {
    pub fn passed(&self) -> bool {
        self.verdict.violations.is_empty()
    }
}

/// A running cluster under chaos.
struct Chaos {
    stage: Stage,
    clients: Clients,
    owners: OwnerWatch,
    events: EventWatch,
    growth: Vec<Growth>,
    injected: Vec<Injected>,
    begin: Instant,
}

/// Runs the schedule of `options`; `tell` gets a line for each step.
///
/// # Errors
/// The lab cannot be made. What the directors do wrong is in the report.
pub fn run(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut chaos = Chaos::start(options)?;
    let outcome = chaos.go(options, tell);
    let broken = outcome.err().map(|error| format!("{error:#}"));
    Ok(chaos.finish(options.seed, broken))
}

impl Chaos {
    fn start(options: &Options) -> Result<Self> {
        let talk = Talk::new(&options.name)?;
        let servers = Servers::start(&talk)?;
        let begin = Instant::now();
        let (launchers, disks) = (fault::launchers(&talk)?, fault::disks(&talk)?);
        let builds = fault::builds(&talk, options.other_build.as_deref())?;
        let settings = Settings { interval: Duration::from_millis(50), dead: DEAD, serial: false };
        let configuration = servers::configuration();
        let pair = Pair::start_behind_each(&launchers, &talk, settings, &configuration, "")?;
        let clients = Clients::start(&talk.client)?;
        let owners = OwnerWatch::start(&talk.client)?;
        let events = EventWatch::start([&pair.ha1, &pair.ha2])?;
        let growth = [&pair.ha1, &pair.ha2].map(Growth::of).into_iter().collect();
        let stage = Stage { talk, pair, servers, launchers, builds, disks, refusing: None };
        Ok(Self { stage, clients, owners, events, growth, injected: Vec::new(), begin })
    }

    fn go(&mut self, options: &Options, tell: &mut dyn FnMut(&str)) -> Result<()> {
        self.settle().context("before the first fault")?;
        self.measure();
        for episode in Schedule::new(options.seed) {
            if self.begin.elapsed() >= options.lasts {
                break;
            }
            let Episode { main, beside, pause } = &episode;
            std::thread::sleep(*pause);
            tell(&format!("{episode}"));
            let first = self.begin_fault(main)?;
            let second = beside.as_ref().map(|fault| self.begin_fault(fault)).transpose()?;
            std::thread::sleep(main.lasts);
            self.end_fault(first)?;
            if let (Some(second), Some(beside)) = (second, beside) {
                std::thread::sleep(beside.lasts.saturating_sub(main.lasts));
                self.end_fault(second)?;
            }
            let since = Instant::now();
            self.settle().with_context(|| format!("after {episode}"))?;
            self.measure();
            tell(&format!("whole again after {:.1} s", since.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    /// The place in `injected`.
    fn begin_fault(&mut self, fault: &schedule::Fault) -> Result<usize> {
        let holder = self.stage.holder();
        self.injected.push(Injected { fault: fault.clone(), holder, begin: Instant::now(), end: None });
        self.stage.begin(fault).with_context(|| format!("cannot begin: {fault}"))?;
        Ok(self.injected.len() - 1)
    }

    fn end_fault(&mut self, place: usize) -> Result<()> {
        let fault = self.injected[place].fault.clone();
        self.stage.end(&fault).with_context(|| format!("after {fault}"))?;
        self.injected[place].end = Some(Instant::now());
        Ok(())
    }

    /// Until both directors are ready, agree on who is active, and know each other's connections.
    fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + RECOVERY;
        while !self.is_whole() {
            if Instant::now() > deadline {
                bail!("the cluster is not whole again within {RECOVERY:?}: {}", self.stage.pair.shown());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        let Pair { ha1, ha2 } = &self.stage.pair;
        let (Ok(one), Ok(other)) = (ha1.status(), ha2.status()) else { return false };
        let in_step = |status: &Status| {
            let sync = status.cluster.as_ref().and_then(|cluster| cluster.sync.as_ref());
            sync.is_some_and(|sync| {
                sync.peers.iter().all(|peer| peer.up && peer.knows_ours && peer.knows_theirs)
            })
        };
        let ready = |status: &Status| status.serves("www1") && status.serves("www2") && in_step(status);
        // ha1 is preferred, and gets the group back by itself.
        ready(&one)
            && ready(&other)
            && one.hears("ha2")
            && other.hears("ha1")
            && one.held_by("ha1")
            && other.held_by("ha1")
    }

    fn measure(&mut self) {
        let Pair { ha1, ha2 } = &self.stage.pair;
        for (growth, director) in self.growth.iter_mut().zip([ha1, ha2]) {
            growth.measure(director);
        }
    }

    fn finish(self, seed: u64, broken: Option<String>) -> Report {
        let Self { stage, clients, owners, events, growth, injected, begin } = self;
        let seen = clients.finish();
        let owners = owners.finish();
        let told = events.finish();
        let mut verdict = verdict::judge(&injected, &seen, &owners, &told, &growth);
        verdict.violations.extend(broken);
        let last_events = if verdict.violations.is_empty() {
            String::new()
        } else {
            [&stage.pair.ha1, &stage.pair.ha2].map(last_events).join("\n")
        };
        Report { seed, lasted: begin.elapsed(), injected, verdict, growth, last_events }
    }
}

fn last_events(director: &Director) -> String {
    let name = director.node().name();
    let events = director.logged_events().unwrap_or_default();
    let last = &events[events.len().saturating_sub(LAST_EVENTS)..];
    let lines: Vec<String> =
        last.iter().map(|event| format!("  {} [{}] {}", event.time, event.event, event.text)).collect();
    format!("The last events of {name}:\n{}", lines.join("\n"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, lasted, injected, verdict, growth, last_events } = self;
        writeln!(f, "chaos with seed {seed}, {:.0} s", lasted.as_secs_f64())?;
        writeln!(f, "injected: {}", verdict::counted(injected))?;
        write!(f, "{verdict}")?;
        for growth in growth {
            writeln!(f, "{growth}")?;
        }
        if self.passed() {
            writeln!(f, "verdict: nothing against the rules")
        } else {
            writeln!(f, "{last_events}")?;
            writeln!(f, "verdict: {} against the rules; --seed {seed} repeats it", verdict.violations.len())
        }
    }
}
