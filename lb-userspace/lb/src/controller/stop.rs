//! The way out: the groups go to other nodes, and the program stays with the connections that it
//! knows: a director that is alone forwards on, one of several serves what the others relay to it.
//! For good (`lb stop --release`) the connections are waited for, and then all is taken away that
//! would outlive the process.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_api::events::{Level, Record};
use lb_cluster::member::driver::Snapshot;
use lb_model::lease::SERVE_ON;
use lb_model::{Config, Group};
use lb_system::worker::Worker;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::lives::{End, Estate};
use super::membership::HOOKS;
use super::service_manager::Step;
use super::{Controller, service_manager};

/// How often a stopping director looks whether it is needed any longer.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// How long the groups may take to be released before the stop goes on without that.
const RELEASE: Duration = Duration::from_secs(3);
/// A director through which nothing came for so long is not needed any more.
const QUIET: Duration = Duration::from_millis(250);

/// A director whose program stays waits no longer than clients may need to hear where the VIPs are
/// now: after two seconds the new one announces them no more than every few seconds.
const HEARD_OF: Duration = Duration::from_secs(2);

/// How long an answer to `lb stop` may take to its asker.
const ANSWER: Duration = Duration::from_millis(200);

/// What takes everything away that a stop leaves.
const RELEASE_ALL: &str = "`lb stop --release` takes the program and the VIPs away";

/// What the process is told by signals, from its start to its end: they are heard on a thread of
/// their own, whose runtime outlives the director's.
pub(super) struct Signals {
    told: UnboundedReceiver<Signal>,
    _thread: Worker,
}

pub(super) enum Signal {
    /// By the signal of this name.
    Stop(&'static str),
    Reload,
}

impl Signals {
    pub(super) fn start() -> Result<Self> {
        let thread = Worker::start("signals").context("cannot start the signals' thread")?;
        let (sender, told) = unbounded_channel();
        let (mut terminate, mut interrupt, mut hangup) = {
            let _runtime = thread.handle().enter();
            (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            )
        };
        thread.handle().spawn(async move {
            loop {
                let what = tokio::select! {
                    _ = terminate.recv() => Signal::Stop("SIGTERM"),
                    _ = interrupt.recv() => Signal::Stop("SIGINT"),
                    _ = hangup.recv() => Signal::Reload,
                };
                if sender.send(what).is_err() {
                    return;
                }
            }
        });
        Ok(Self { told, _thread: thread })
    }

    pub(super) async fn next(&mut self) -> Signal {
        match self.told.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}

/// Why a director leaves.
enum Cause {
    Asked,
    Failed(anyhow::Error),
    InterfaceGone,
    /// Another one than the main interface is there again: the next life goes on with what this one
    /// leaves.
    InterfaceBack,
}

/// A director on its way out.
pub(super) struct Leaving {
    since: Instant,
    cause: Cause,
    /// How long the release may take.
    release_within: Duration,
    /// It was told again: nothing is waited for any longer.
    at_once: bool,
    /// For good: nothing is left behind.
    release: bool,
    /// Whoever ordered it has the answer by then.
    not_before: Instant,
    lingering: Option<Lingering>,
}

impl Leaving {
    fn new(since: Instant, cause: Cause) -> Self {
        let release_within = RELEASE;
        Self {
            since,
            cause,
            release_within,
            at_once: false,
            release: false,
            not_before: since,
            lingering: None,
        }
    }

    /// Only one that was told to waits for connections: no others can be saved.
    const fn is_told(&self) -> bool {
        matches!(self.cause, Cause::Asked)
    }

    /// The next life, or the next `lb`, goes on with the program.
    const fn leaves_behind(&self) -> bool {
        !self.release && matches!(self.cause, Cause::Asked | Cause::InterfaceBack)
    }

    /// `linger`: how long connections are waited for.
    fn is_over(&mut self, now: Instant, snapshot: &Snapshot, traffic: Traffic, linger: Duration) -> bool {
        if self.at_once {
            return true;
        }
        if let Some(lingering) = &mut self.lingering {
            return !matches!(self.cause, Cause::Asked) || lingering.is_over(now, traffic);
        }
        if !snapshot.idle {
            let within = self.release_within;
            if now - self.since < within {
                return false;
            }
            tracing::warn!("not everything could be released within {within:?}; stopping all the same");
        }
        self.lingering = Some(Lingering { until: now + linger, last: traffic, quiet_since: now });
        // This node itself is one of them.
        let living = snapshot.nodes.iter().filter(|node| node.alive).count();
        !self.is_told() || living < 2
    }
}

/// Of all groups together: what must not be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Traffic {
    established: u64,
    packets: u64,
}

/// Waits for connections that run through this director after another one has taken its groups.
#[derive(Debug)]
struct Lingering {
    until: Instant,
    last: Traffic,
    quiet_since: Instant,
}

impl Lingering {
    fn is_over(&mut self, now: Instant, traffic: Traffic) -> bool {
        if traffic.packets != self.last.packets {
            self.quiet_since = now;
        }
        self.last = traffic;
        let done = traffic.established == 0 && now - self.quiet_since >= QUIET;
        done || now >= self.until
    }
}

/// The event of a stop that was asked for by `signal`.
pub(super) fn stopping(signal: &str) -> Record {
    Record::new(Level::Info, "stopping", format!("{signal}: stopping")).cause(signal.to_owned())
}

impl Controller {
    /// The first time its groups go; the second time it goes itself.
    pub(super) fn request_stop(&mut self, signal: &str) {
        let Some(leaving) = &mut self.lifecycle.leaving else {
            self.announcer.record(stopping(signal));
            return self.leave(Cause::Asked);
        };
        let again = if leaving.is_told() { " again" } else { "" };
        let text = format!("{signal}{again}: stopping at once");
        let record = Record::new(Level::Warning, "stopping_at_once", text);
        self.announcer.record(record.cause(signal.to_owned()));
        leaving.at_once = true;
        if matches!(leaving.cause, Cause::InterfaceGone | Cause::InterfaceBack) {
            // It is not to come back.
            leaving.cause = Cause::Asked;
            service_manager::stopping();
        }
    }

    /// By `lb stop`; returns what there is to say of it.
    pub(super) fn stop_by_command(&mut self, release: bool) -> String {
        self.request_stop("lb stop");
        if let Some(leaving) = &mut self.lifecycle.leaving {
            leaving.release |= release;
            leaving.not_before = Instant::now() + ANSWER;
        }
        let interface = &self.config.interface;
        match (self.stays_behind(), &self.config.cluster) {
            (true, None) => format!("{interface} goes on forwarding until lb runs again; {RELEASE_ALL}"),
            (true, Some(_)) => format!("{}; {RELEASE_ALL}", serves_on(interface)),
            (false, _) => "stopping".to_owned(),
        }
    }

    /// Whether the program stays where it is, and the next `lb` goes on with the connections. The
    /// VIPs of one that is alone stay too; those of a cluster go to other directors.
    fn stays_behind(&self) -> bool {
        let told = self.lifecycle.leaving.as_ref().is_some_and(Leaving::leaves_behind);
        told && self.program.can_stay()
    }

    /// It cannot go on.
    pub(super) fn fail(&mut self, error: anyhow::Error) {
        match &mut self.lifecycle.leaving {
            None => {
                let text = format!("stopping: {error:#}");
                self.announcer.record(Record::new(Level::Error, "failed", text));
                self.leave(Cause::Failed(error));
            }
            Some(leaving) if leaving.is_told() => leaving.cause = Cause::Failed(error),
            Some(_) => {}
        }
    }

    /// It ends in order, to begin again when the interface is back.
    pub(super) fn interface_gone(&mut self) {
        if !self.lifecycle.is_leaving() {
            let text = format!(
                "interface {} is gone: all that runs on it ends until it is back",
                self.config.interface
            );
            self.announcer.record(Record::new(Level::Error, "interface_gone", text));
            self.leave(Cause::InterfaceGone);
        }
    }

    /// It ends in order, to begin again with an interface that is there again.
    pub(super) fn interface_back(&mut self) {
        let text = "an interface is there again: lb begins anew with it, and goes on with all connections";
        self.announcer.record(Record::new(Level::Warning, "interface_back", text.to_owned()));
        self.leave(Cause::InterfaceBack);
    }

    fn leave(&mut self, cause: Cause) {
        if !matches!(cause, Cause::InterfaceGone | Cause::InterfaceBack) {
            service_manager::stopping();
        }
        self.membership.leave();
        let anycast = self.config.groups.iter().filter_map(Group::anycast);
        let wait = anycast.map(|anycast| anycast.withdraw_wait).max().unwrap_or_default();
        let leaving = Leaving::new(Instant::now(), cause);
        self.lifecycle.leaving = Some(Leaving { release_within: RELEASE + wait, ..leaving });
    }

    /// Whether nobody needs this director any longer.
    pub(super) async fn has_left(&mut self) -> bool {
        let snapshot = self.membership.snapshot().await;
        let traffic = self.traffic();
        let longest = if self.stays_behind() { HEARD_OF } else { Duration::MAX };
        match (&mut self.lifecycle.leaving, &self.config.cluster, snapshot) {
            (Some(leaving), Some(cluster), Some(snapshot)) => {
                leaving.is_over(Instant::now(), &snapshot, traffic, cluster.linger.min(longest))
            }
            (Some(leaving), ..) => Instant::now() >= leaving.not_before,
            _ => true,
        }
    }

    fn traffic(&self) -> Traffic {
        // Those of routers have gone elsewhere by now.
        let groups = self.config.groups.iter().filter(|group| group.anycast().is_none());
        let grouped: BTreeSet<IpAddr> = groups.flat_map(|group| &group.vips).map(|vip| vip.address).collect();
        let services = self.config.services.iter().chain(self.runtime.draining.services());
        let services = services.filter(|service| grouped.contains(&service.key.vip));
        let mut traffic = Traffic { established: 0, packets: 0 };
        for service in services {
            for (active, totals) in self.program.forwarder.carried(&service.key) {
                traffic.established += u64::from(active);
                traffic.packets += totals.packets;
            }
        }
        traffic
    }

    /// Gives up what is left of the VIPs, takes the program off the interface and the control
    /// socket away, if they are not left to the next `lb`. All else (maps, checks) goes with the
    /// controller and its runtime. The error is why it could not go on.
    pub(super) async fn close(mut self) -> Result<End> {
        Step::begin("ending: giving up what is not left behind");
        self.end_trace();
        let established = self.traffic().established;
        let stays = self.stays_behind();
        if established > 0 && self.config.cluster.is_some() && !stays {
            tracing::warn!("stopping while {established} connections still run through this director");
        }
        let released = if stays {
            self.membership.leave_behind().await
        } else {
            self.membership.tell_that_nothing_stays();
            self.membership.end().await
        };
        self.program.ingresses.leave(stays || !released);
        match self.program.interface.take_attachment() {
            Some(_) if !released => tracing::error!(
                "VIPs may be left on the interface, and so the XDP program is: it keeps the host silent about them \
                 until lb runs again"
            ),
            Some(_) if stays => {
                let text = stays_text(&self.config, established);
                self.announcer.record(Record::new(Level::Info, "left_forwarding", text));
            }
            Some(attachment) => {
                if let Err(error) = attachment.detach_for_good() {
                    tracing::warn!("{error:#}");
                }
            }
            None => {}
        }
        let events = self.announcer.notifier.finish(HOOKS).await;
        let path = &self.config.control.socket;
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(%error, "cannot remove {}", path.display());
        }
        match self.lifecycle.leaving.map_or(Cause::Asked, |leaving| leaving.cause) {
            Cause::Asked => Ok(End::Stopped),
            Cause::Failed(error) => Err(error),
            Cause::InterfaceGone | Cause::InterfaceBack => {
                let (file, overlay) = self.origin.into_parts();
                Ok(End::InterfaceGone(Box::new(Estate {
                    config: self.config,
                    overlay,
                    file,
                    events,
                    alerts: self.announcer.alerts,
                    fresh: false,
                    confinement: self.lifecycle.confinement,
                })))
            }
        }
    }
}

/// What becomes of the connections of a director of a cluster whose program stays.
fn serves_on(interface: &str) -> String {
    let minutes = SERVE_ON.as_secs() / 60;
    format!(
        "the groups go to other nodes, which relay to the program on {interface} what it knows, for {minutes} min or until lb \
         runs again"
    )
}

fn stays_text(config: &Config, established: u64) -> String {
    let interface = &config.interface;
    let goes_on = match config.cluster {
        None => format!("the program on {interface} forwards on until lb runs again"),
        Some(_) => serves_on(interface),
    };
    format!(
        "{goes_on}, with {established} established connections; nobody looks after its servers meanwhile; {RELEASE_ALL}"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use anyhow::anyhow;

    use super::*;
    use lb_cluster::member::driver::NodeSnapshot;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// When it is over, of traffic that is told every 50 ms.
    fn lingers(traffic: impl Fn(u64) -> Traffic) -> Duration {
        let start = Instant::now();
        let mut lingering =
            Lingering { until: start + Duration::from_secs(5), last: traffic(0), quiet_since: start };
        let over = (1..).map(|step| step * 50);
        let over = over.into_iter().find(|&at| lingering.is_over(start + millis(at), traffic(at)));
        millis(over.expect("it ends"))
    }

    #[test]
    fn it_lingers_until_connections_have_ended_and_nothing_comes_any_more() {
        let none = Traffic { established: 0, packets: 7 };
        assert_eq!(lingers(|_| none), QUIET);
        assert_eq!(lingers(|at| Traffic { established: u64::from(at < 1000), ..none }), millis(1000));
        let until = |end: u64| move |at: u64| Traffic { established: 0, packets: at.min(end) };
        assert_eq!(lingers(until(1000)), millis(1000) + QUIET);
    }

    #[test]
    fn it_lingers_no_longer_than_it_may() {
        assert_eq!(lingers(|_| Traffic { established: 1, packets: 7 }), Duration::from_secs(5));
        assert_eq!(lingers(|at| Traffic { established: 0, packets: at }), Duration::from_secs(5));
    }

    /// With one other node, which lives or not.
    fn snapshot(idle: bool, other_lives: bool) -> Snapshot {
        let node = |alive| NodeSnapshot { alive, readiness: None, config_agrees: true };
        Snapshot { idle, groups: BTreeMap::new(), nodes: vec![node(true), node(other_lives)] }
    }

    /// How it stands after so long with a connection that does not end.
    fn is_over(leaving: &mut Leaving, after: Duration, snapshot: &Snapshot) -> bool {
        let busy = Traffic { established: 1, packets: 1 };
        leaving.is_over(leaving.since + after, snapshot, busy, Duration::from_secs(60))
    }

    #[test]
    fn it_waits_for_the_release_and_then_for_connections() {
        let mut leaving = Leaving::new(Instant::now(), Cause::Asked);
        assert!(!is_over(&mut leaving, millis(100), &snapshot(false, true)));
        assert!(!is_over(&mut leaving, millis(200), &snapshot(true, true)));
        assert!(
            !is_over(&mut leaving, millis(60_100), &snapshot(true, false)),
            "they run on whoever else dies"
        );
        assert!(is_over(&mut leaving, millis(60_200), &snapshot(true, true)), "a minute after the release");
    }

    #[test]
    fn a_release_that_does_not_end_is_not_waited_for_without_end() {
        let mut leaving = Leaving::new(Instant::now(), Cause::Asked);
        assert!(!is_over(&mut leaving, RELEASE - millis(1), &snapshot(false, true)));
        assert!(is_over(&mut leaving, RELEASE, &snapshot(false, false)), "nobody else lives");
    }

    #[test]
    fn nothing_is_lingered_for_without_another_node_after_an_error_or_when_told_again() {
        assert!(is_over(
            &mut Leaving::new(Instant::now(), Cause::Asked),
            millis(100),
            &snapshot(true, false)
        ));

        for cause in [Cause::Failed(anyhow!("a thread has ended")), Cause::InterfaceGone] {
            let mut failed = Leaving::new(Instant::now(), cause);
            assert!(
                !is_over(&mut failed, millis(100), &snapshot(false, true)),
                "the groups still go in order"
            );
            assert!(is_over(&mut failed, millis(200), &snapshot(true, true)));
        }

        let mut hurried = Leaving::new(Instant::now(), Cause::Asked);
        assert!(!is_over(&mut hurried, millis(100), &snapshot(true, true)));
        hurried.at_once = true;
        assert!(is_over(&mut hurried, millis(200), &snapshot(true, true)));
    }
}
