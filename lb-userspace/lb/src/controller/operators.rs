//! What operators want of servers: those that they keep out on this director, and orders that hold
//! on all directors.

use std::collections::BTreeSet;

use lb_api::findings::Findings;
use lb_cluster::standing::Order;
use lb_model::{Config, Server, Service};

use super::maintenance::{self, Maintenance};
use super::runtime::Orders;
use super::standing::{self, Standing};
use crate::observe::requests::ServerOrder;

pub(super) struct Operators {
    maintenance: Maintenance,
    standing: Standing,
}

impl Operators {
    /// Reads the standing orders; the folder of maintenance is read by [`Self::poll`].
    pub(super) fn open(config: &Config, findings: &Findings) -> Self {
        Self { maintenance: Maintenance::default(), standing: Standing::open(config, findings) }
    }

    pub(super) const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Looks into the folder of maintenance. True if something has changed there.
    pub(super) fn poll(&mut self, config: &Config, findings: &Findings) -> bool {
        self.maintenance.poll(config, findings)
    }

    /// Other directors have told these orders. True if there is something new in them.
    pub(super) fn learn(&mut self, orders: Vec<Order>, findings: &Findings) -> bool {
        self.standing.learn(orders, findings)
    }

    /// Writes what could not be written when it came.
    pub(super) fn write_later(&mut self, findings: &Findings) {
        self.standing.write_later(findings);
    }

    /// Carries an operator's order out. Returns what there is to say of it, and what other
    /// directors shall hear; or why it is refused. `enabled`: a file kept the server out until now.
    pub(super) fn give(
        &mut self,
        order: &ServerOrder,
        enabled: bool,
        config: &Config,
    ) -> Result<(String, Vec<Order>), String> {
        self.standing.give(order, enabled, config)
    }

    /// Removes the files that keep the servers of an order out. True if there were any.
    pub(super) fn remove_maintenance(
        &mut self,
        order: &ServerOrder,
        config: &Config,
        findings: &Findings,
    ) -> Result<bool, String> {
        self.poll(config, findings);
        let meant: BTreeSet<String> =
            standing::meant(config, &order.about)?.into_iter().map(maintenance::shown).collect();
        let removed = self.maintenance.enable(&order.about.server, &meant, config);
        self.poll(config, findings);
        removed
    }

    /// What holds for a server.
    pub(super) fn orders(&self, service: &Service, server: &Server) -> Orders {
        let drained = || self.standing.drain(service, server).map(standing::why_drained);
        Orders {
            kept_out: self.maintenance.reason(server).or_else(drained),
            weight: self.standing.weight(service, server),
        }
    }
}
