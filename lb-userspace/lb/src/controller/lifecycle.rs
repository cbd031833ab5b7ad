//! One life of the director: since when it lives, whether it leaves, and what it tells the service
//! manager about that.

use std::time::{Duration, Instant};

use lb_api::events::Record;

use super::service_manager::ServiceManager;
use super::stop::Leaving;
use crate::confinement::Confinement;

pub(super) struct Lifecycle {
    pub started: Instant,
    /// Set once it stops.
    pub leaving: Option<Leaving>,
    pub service_manager: ServiceManager,
    /// What the process has given up, also for the next life.
    pub confinement: Confinement,
}

impl Lifecycle {
    /// It begins now.
    pub(super) fn begin(confinement: Confinement) -> Self {
        Self {
            started: Instant::now(),
            leaving: None,
            service_manager: ServiceManager::default(),
            confinement,
        }
    }

    /// Time since the start.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Gives the service manager its signs of life; the event is that a thread hangs, or does not
    /// any more.
    pub(super) fn check_threads(&mut self) -> Option<Record> {
        self.service_manager.check(self.leaving.is_some())
    }
}
