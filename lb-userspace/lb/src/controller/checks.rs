//! The servers' checks: those that run all the time, and those that an operator asks for.

use std::io;
use std::net::IpAddr;

use lb_api::status::ChecksStatus;
use lb_health::net::Net;
use lb_health::{Checker, Outcomes, Verdict};
use lb_model::{Config, Service, ServiceKey};
use lb_system::vital_signs::Pulse;
use tokio::sync::mpsc::UnboundedSender;

use super::probing;
use super::vip_checks::{Needs, VipChecks};
use crate::observe::requests::{ProbeOrder, Probing};

pub(super) struct Checks {
    checker: Checker,
    vip: VipChecks,
}

impl Checks {
    /// # Errors
    /// The checks' thread cannot be started.
    pub(super) fn start(verdicts: UnboundedSender<Verdict>) -> io::Result<Self> {
        Ok(Self { checker: Checker::start(verdicts, Net::default())?, vip: VipChecks::default() })
    }

    /// The thread, by its name, gives signs of life.
    pub(super) fn pulse(&self) -> (&'static str, Pulse) {
        self.checker.pulse()
    }

    /// These services' servers are checked from now on, and no others.
    pub(super) fn set(&mut self, services: &[Service]) {
        self.checker.set(services);
    }

    /// Gives checks through the VIP all that they need.
    pub(super) fn follow_vip(&mut self, needs: Needs<'_>) {
        self.vip.follow(&self.checker, needs);
    }

    /// Tries again what checks through the VIP could not have.
    pub(super) fn retry_vip(&mut self, needs: Needs<'_>) {
        if self.vip.lacks_something() {
            self.follow_vip(needs);
        }
    }

    /// Checks through the VIP learn where the servers are.
    pub(super) fn publish_stations(&self, needs: &Needs<'_>) {
        self.vip.publish_stations(&self.checker, needs);
    }

    /// Closes the sockets of checks through the VIP; [`Self::follow_vip`] opens new ones.
    pub(super) fn close_sockets(&self) {
        self.checker.vip().close();
    }

    /// Makes the checks of one server at once. The error says what cannot be found, and what there
    /// is.
    pub(super) fn probe(&self, order: &ProbeOrder, config: &Config) -> Result<Probing, String> {
        probing::start(&self.checker, order, config)
    }

    pub(super) fn status(&self) -> ChecksStatus {
        let lateness = self.checker.timer_lateness();
        ChecksStatus {
            running: self.checker.count() as u64,
            started: lateness.starts(),
            late: lateness.late(),
        }
    }

    /// What became of the probes of each of a server's checks.
    pub(super) fn outcomes(&self, service: ServiceKey, server: IpAddr, checks: usize) -> Vec<Outcomes> {
        self.checker.outcomes(service, server, checks)
    }
}
