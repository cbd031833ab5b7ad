//! What there is to know of a scene before it begins, and what operators do in it.

use std::time::Duration;

use super::super::*;

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What an operator does at a director.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Failover,
    Failback,
    Standby,
    Resume,
    Maintenance(bool),
    /// By reload the group leaves the configuration, or comes back.
    Forget,
    Learn,
    /// SIGTERM.
    Stop,
    /// SIGKILL.
    Kill,
    Start,
    /// SIGSTOP and SIGCONT, so many milliseconds later.
    Freeze(u64),
    /// It catches up with the connections from now on, or has caught up.
    Behind(bool),
}

/// How long heartbeats are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delays {
    /// All of them.
    pub least: Duration,
    /// Each one up to so much longer, at random.
    pub spread: Duration,
    pub seed: u64,
}

/// What there is to know of a scene before it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    pub directors: usize,
    pub vips: usize,
    pub failback: Failback,
    pub delays: Delays,
    /// How long a take-over or a release takes.
    pub work: Duration,
    /// How late a watch reads what has come: the controller's thread is busy.
    pub watch_late: Duration,
}
