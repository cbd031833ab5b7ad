//! The running director as operators ask for it.

use std::net::IpAddr;
use std::time::Duration;

use lb_common::reason::{Action, Reason, TableEvent};

use super::desired::Knowledge as _;
use super::notices::fallback;
use super::{Controller, report};
use crate::config::{Server, Service, ServiceKey};
use crate::dataplane::maps::{Counters, read_totals};
use crate::health::server::Machine;
use crate::observe::inquiries::Inquiry;
use crate::observe::view::{Count, Health, ServerStatus, ServiceStatus, Status, TableStatus, Totals};
use crate::plan::Target;

impl Controller {
    pub(super) async fn answer(&mut self, inquiry: Inquiry) {
        // Whoever asked may have gone; that is no concern of ours.
        match inquiry {
            Inquiry::Status(reply) => {
                let status = Status { cluster: self.cluster_status().await, ..self.status() };
                let _ = reply.send(status);
            }
            Inquiry::Events(reply) => drop(reply.send(self.events.recent())),
            Inquiry::Order(order, reply) => {
                let done = self.order(order).await;
                let _ = reply.send(done);
            }
            Inquiry::Probe(order, reply) => drop(reply.send(self.probe(&order))),
        }
    }

    /// This moment.
    fn status(&self) -> Status {
        let services: Vec<ServiceStatus> =
            self.config.services.iter().map(|service| self.service_status(service)).collect();
        let counters = &self.data_path.executor.maps().counters;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            interface: self.config.interface.clone(),
            mode: self.attachment.as_ref().map_or("none", |attachment| attachment.mode().name()).to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            stopping: self.leaving.is_some(),
            config: self.file.path().display().to_string(),
            config_error: self.config_error.clone(),
            table: self.table_status(counters, &services),
            cluster: None,
            services,
            drops: counts(counters, Action::Drop),
            passes: counts(counters, Action::Pass),
            relayed: counters.event(TableEvent::Relayed).unwrap_or_default(),
        }
    }

    fn table_status(&self, counters: &Counters, services: &[ServiceStatus]) -> TableStatus {
        let table = &self.data_path.table;
        let (used, expired) = self.sweeper.census();
        let full = counters.event(TableEvent::Full).unwrap_or_default();
        let scheduled: u64 = services
            .iter()
            .map(|service| {
                let servers: u64 = service.servers.iter().map(|server| server.connections).sum();
                servers + service.former.connections
            })
            .sum();
        TableStatus {
            capacity: table.slots(),
            configured: u64::from(self.config.connections),
            used,
            memory_bytes: table.bytes() as u64,
            // Each connection that was scheduled got an entry, but for those that found no slot.
            inserted: scheduled.saturating_sub(full),
            expired,
            evicted: counters.event(TableEvent::Evicted).unwrap_or_default(),
            full,
        }
    }

    fn service_status(&self, service: &Service) -> ServiceStatus {
        let applied = self.data_path.applied().services.get(&service.key);
        let fallback = fallback(service);
        let mut members = applied.into_iter().flat_map(|applied| applied.members());
        let on_fallback = members.all(|server| server.target == fallback);
        let configured = service.servers.iter().map(|server| self.server_status(service, server, false));
        let draining = self.knowledge.draining.of(&service.key);
        let draining = draining.map(|server| self.server_status(service, server, true));
        let mut former = self.former.get(&service.key).copied().unwrap_or_default();
        let local = self.totals(service, Target::Local);
        former.connections += local.connections;
        former.packets += local.packets;
        former.bytes += local.bytes;
        ServiceStatus {
            name: service.name.clone(),
            vip: service.key.vip,
            port: service.key.port,
            protocol: service.key.protocol.name().to_owned(),
            scheduler: service.scheduler.name().to_owned(),
            fallback: service.fallback.to_string(),
            on_fallback,
            servers: configured.chain(draining).collect(),
            former,
        }
    }

    fn server_status(&self, service: &Service, server: &Server, draining: bool) -> ServerStatus {
        let id = self.data_path.executor.server_id(&service.key, Target::Real(server.address));
        let counts = id.map(|id| self.data_path.table.counts(id)).unwrap_or_default();
        let totals = self.totals(service, Target::Real(server.address));
        let mac = self.knowledge.mac(server.address);
        let machine = self.knowledge.server(&service.key, server.address).filter(|_| !draining);
        let now = self.started.elapsed();
        ServerStatus {
            name: server.name.clone(),
            address: server.address,
            port: server.port,
            method: "Route".to_owned(),
            weight: if draining { 0 } else { server.weight },
            active: counts.active(),
            inactive: counts.inactive(),
            health: machine.map_or(Health::Draining, Machine::health),
            reason: machine
                .and_then(Machine::reason)
                .or_else(|| mac.is_none().then(|| self.without_mac(server.address))),
            since_s: now.saturating_sub(machine.map_or(Duration::ZERO, Machine::since)).as_secs(),
            mac: mac.map(report::mac),
            connections: totals.connections,
            packets: totals.packets,
            bytes: totals.bytes,
        }
    }

    /// Established connections and totals of each server that the service has or is about to lose.
    pub(super) fn carried(&self, service: &ServiceKey) -> Vec<(u32, Totals)> {
        let applied = self.data_path.applied().services.get(service);
        let servers = applied.into_iter().flat_map(|service| &service.servers);
        let executor = &self.data_path.executor;
        let ids = servers.filter_map(|server| executor.server_id(service, server.target));
        ids.map(|id| (self.data_path.table.counts(id).active(), read_totals(&executor.maps().stats, id)))
            .collect()
    }

    fn without_mac(&self, address: IpAddr) -> String {
        format!("no answer to ARP for {address} on {}", self.config.interface)
    }

    fn totals(&self, service: &Service, target: Target) -> Totals {
        let executor = &self.data_path.executor;
        let id = executor.server_id(&service.key, target);
        id.map(|id| read_totals(&executor.maps().stats, id)).unwrap_or_default()
    }
}

fn counts(counters: &Counters, action: Action) -> Vec<Count> {
    let reasons = Reason::ALL.iter().filter(|reason| reason.action() == action);
    reasons
        .map(|reason| Count {
            reason: reason.label().to_owned(),
            count: counters.reason(*reason).unwrap_or_default(),
        })
        .collect()
}
