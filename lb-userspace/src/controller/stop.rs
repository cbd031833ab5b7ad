//! The way out: the groups go to other nodes, the connections that run through this one come to their end, and then all
//! is taken away that would outlive the process.

use std::time::{Duration, Instant};

use anyhow::Result;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::membership::HOOKS;
use super::{Controller, tell_supervisor};
use crate::cluster::member::driver::Sight;

/// How often a stopping director looks whether it is needed any longer.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// How long the groups may take to be released before the stop goes on without that.
const RELEASE: Duration = Duration::from_secs(3);
/// A director through which nothing came for so long is not needed any more.
const QUIET: Duration = Duration::from_millis(250);

/// What the process is told by signals.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

pub(super) enum Told {
    /// By the signal of this name.
    Stop(&'static str),
    Reload,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

/// A director on its way out.
pub(super) struct Leaving {
    since: Instant,
    /// What went wrong; without it, it was told to.
    error: Option<anyhow::Error>,
    /// It was told again: nothing is waited for any longer.
    at_once: bool,
    lingering: Option<Lingering>,
}

impl Leaving {
    fn new(since: Instant, error: Option<anyhow::Error>) -> Self {
        Self { since, error, at_once: false, lingering: None }
    }

    fn is_over(&mut self, now: Instant, sight: &Sight, traffic: Traffic, linger: Duration) -> bool {
        if self.at_once {
            return true;
        }
        if let Some(lingering) = &mut self.lingering {
            return self.error.is_some() || lingering.is_over(now, traffic);
        }
        if !sight.idle {
            if now - self.since < RELEASE {
                return false;
            }
            tracing::warn!("not everything could be released within {RELEASE:?}; stopping all the same");
        }
        self.lingering = Some(Lingering { until: now + linger, last: traffic, quiet_since: now });
        // This node itself is one of them.
        let living = sight.nodes.iter().filter(|node| node.alive).count();
        self.error.is_some() || living < 2
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

impl Controller {
    /// The first time its groups go; the second time it goes itself.
    pub(super) fn told_to_stop(&mut self, signal: &str) {
        match &mut self.leaving {
            None => {
                tracing::info!("{signal}: stopping");
                self.leave(None);
            }
            Some(leaving) => {
                tracing::warn!("{signal} again: stopping at once");
                leaving.at_once = true;
            }
        }
    }

    /// It cannot go on.
    pub(super) fn fail(&mut self, error: anyhow::Error) {
        match &mut self.leaving {
            None => {
                tracing::error!("stopping: {error:#}");
                self.leave(Some(error));
            }
            Some(leaving) => _ = leaving.error.get_or_insert(error),
        }
    }

    fn leave(&mut self, error: Option<anyhow::Error>) {
        tell_supervisor(NotifyState::Stopping);
        self.membership.leave();
        self.leaving = Some(Leaving::new(Instant::now(), error));
    }

    /// Whether nobody needs this director any longer.
    pub(super) async fn has_left(&mut self) -> bool {
        let sight = self.membership.look().await;
        let traffic = self.traffic();
        match (&mut self.leaving, &self.config.cluster, sight) {
            (Some(leaving), Some(cluster), Some(sight)) => {
                leaving.is_over(Instant::now(), &sight, traffic, cluster.linger)
            }
            _ => true,
        }
    }

    fn traffic(&self) -> Traffic {
        let services =
            self.config.services.iter().filter(|service| self.config.group_of(service.key.vip).is_some());
        let mut traffic = Traffic { established: 0, packets: 0 };
        for service in services {
            for (active, totals) in self.carried(&service.key) {
                traffic.established += u64::from(active);
                traffic.packets += totals.packets;
            }
        }
        traffic
    }

    /// Gives up what is left of the VIPs, takes the program off the interface and the control socket away. All else (maps,
    /// checks) goes with the process. The error is why it could not go on.
    pub(super) async fn close(self) -> Result<()> {
        let established = self.traffic().established;
        if established > 0 && self.config.cluster.is_some() {
            tracing::warn!("stopping while {established} connections still run through this director");
        }
        let released = self.membership.end().await;
        match self.attachment {
            Some(attachment) if released => {
                if let Err(error) = attachment.detach() {
                    tracing::warn!("{error:#}");
                }
            }
            Some(_) => tracing::error!(
                "VIPs may be left on the interface, and so the XDP program is: it keeps the host silent about them \
                 until lb runs again"
            ),
            None => {}
        }
        self.hooks.finish(HOOKS).await;
        let path = &self.config.control.socket;
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(%error, "cannot remove {}", path.display());
        }
        self.leaving.and_then(|leaving| leaving.error).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::cluster::member::driver::NodeSight;

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
    fn sight(idle: bool, other_lives: bool) -> Sight {
        let node = |alive| NodeSight { alive, readiness: None, config_agrees: true };
        Sight { idle, groups: Vec::new(), nodes: vec![node(true), node(other_lives)] }
    }

    /// How it stands after so long with a connection that does not end.
    fn is_over(leaving: &mut Leaving, after: Duration, sight: &Sight) -> bool {
        let busy = Traffic { established: 1, packets: 1 };
        leaving.is_over(leaving.since + after, sight, busy, Duration::from_secs(60))
    }

    #[test]
    fn it_waits_for_the_release_and_then_for_connections() {
        let mut leaving = Leaving::new(Instant::now(), None);
        assert!(!is_over(&mut leaving, millis(100), &sight(false, true)));
        assert!(!is_over(&mut leaving, millis(200), &sight(true, true)));
        assert!(!is_over(&mut leaving, millis(60_100), &sight(true, false)), "they run on whoever else dies");
        assert!(is_over(&mut leaving, millis(60_200), &sight(true, true)), "a minute after the release");
    }

    #[test]
    fn a_release_that_does_not_end_is_not_waited_for_without_end() {
        let mut leaving = Leaving::new(Instant::now(), None);
        assert!(!is_over(&mut leaving, RELEASE - millis(1), &sight(false, true)));
        assert!(is_over(&mut leaving, RELEASE, &sight(false, false)), "nobody else lives");
    }

    #[test]
    fn nothing_is_lingered_for_without_another_node_after_an_error_or_when_told_again() {
        assert!(is_over(&mut Leaving::new(Instant::now(), None), millis(100), &sight(true, false)));

        let mut failed = Leaving::new(Instant::now(), Some(anyhow!("the interface is gone")));
        assert!(!is_over(&mut failed, millis(100), &sight(false, true)), "the groups still go in order");
        assert!(is_over(&mut failed, millis(200), &sight(true, true)));

        let mut hurried = Leaving::new(Instant::now(), None);
        assert!(!is_over(&mut hurried, millis(100), &sight(true, true)));
        hurried.at_once = true;
        assert!(is_over(&mut hurried, millis(200), &sight(true, true)));
    }
}
