//! The running director as operators ask for it.

use std::net::IpAddr;
use std::time::Duration;

use lb_api::status::{
    CheckStatus, ChecksStatus, Count, QuorumStatus, ServerStatus, ServiceStatus, Status, TableStatus,
};
use lb_common::reason::{Action, Reason, TableEvent};
use lb_datapath::maps::{Counters, read_totals};
use lb_datapath::plan::Target;
use lb_health::probe::micros;
use lb_health::quorum::Quorum;
use lb_health::server::Machine;
use lb_model::{Fallback, Server, Service, ServiceKey};
use lb_model::{Health, Totals};

use super::desired::Knowledge as _;
use super::notices::fallback;
use super::{Controller, report};
use crate::observe::inquiries::Inquiry;

impl Controller {
    pub(super) async fn answer(&mut self, inquiry: Inquiry) {
        // Whoever asked may have gone; that is no concern of ours.
        match inquiry {
            Inquiry::Status(reply) => {
                // A server that is shown as up gets connections.
                if self.pace.is_wanted() {
                    self.refresh();
                }
                let status = Status { cluster: self.cluster_status().await, ..self.status() };
                let _ = reply.send(status);
            }
            Inquiry::Events(reply) => {
                // Whoever has seen a finding in the status finds it here.
                self.record_findings();
                drop(reply.send(self.events.recent()));
            }
            Inquiry::Order(order, reply) => {
                let done = self.order(order).await;
                let _ = reply.send(done);
            }
            Inquiry::Stop { release, reply } => {
                let told = self.told_to_stop_by_order(release);
                let _ = reply.send(Ok(told));
            }
            Inquiry::Server(order, reply) => drop(reply.send(self.order_server(&order))),
            Inquiry::Probe(order, reply) => drop(reply.send(self.probe(&order))),
        }
    }

    /// This moment.
    fn status(&self) -> Status {
        let services = self.config.services.iter().map(|service| self.service_status(service));
        let departed = self.knowledge.draining.services();
        let departed = departed.map(|service| self.departed_status(service));
        let services: Vec<ServiceStatus> = services.chain(departed).collect();
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
            findings: self.findings.status(),
            table: self.table_status(counters, &services),
            checks: self.checks_status(),
            cluster: None,
            services,
            drops: counts(counters, Action::Drop),
            passes: counts(counters, Action::Pass),
            answers: counts(counters, Action::Answer),
            relayed: counters.event(TableEvent::Relayed).unwrap_or_default(),
        }
    }

    fn checks_status(&self) -> ChecksStatus {
        let lateness = self.checker.timer_lateness();
        ChecksStatus {
            running: self.checker.count() as u64,
            started: lateness.starts(),
            late: lateness.late(),
        }
    }

    fn table_status(&self, counters: &Counters, services: &[ServiceStatus]) -> TableStatus {
        let table = &self.data_path.table;
        let (used, expired) = self.sweeper.census();
        let full = counters.event(TableEvent::Full).unwrap_or_default();
        let scheduled: u64 = services
            .iter()
            .map(|service| {
                let servers = service.servers.iter().chain(&service.fallback_server);
                let servers: u64 = servers.map(|server| server.connections).sum();
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

    /// Of a service that left the configuration: its servers drain, and no fallback serves it.
    fn departed_status(&self, service: &Service) -> ServiceStatus {
        let departed = Service { servers: Vec::new(), fallback: Fallback::None, ..service.clone() };
        ServiceStatus { draining: true, on_fallback: false, ..self.service_status(&departed) }
    }

    fn service_status(&self, service: &Service) -> ServiceStatus {
        let applied = self.data_path.applied().services.get(&service.key);
        let fallback = fallback(service);
        let mut members = applied.into_iter().flat_map(|applied| applied.members());
        let on_fallback = members.all(|server| server.target == fallback);
        let status = |server: &Server, health| self.server_status(service, server, health);
        let configured = service.servers.iter().map(|server| status(server, Health::Unknown));
        let draining = self.knowledge.draining.of(&service.key);
        let draining = draining.map(|server| self.draining_status(service, server));
        let fallback_server = service.fallback_server();
        let (fallback_ready, fallback_error) = self.fallback_status(service);
        ServiceStatus {
            name: service.name.clone(),
            vip: service.key.vip,
            port: service.key.port,
            protocol: service.key.protocol.name().to_owned(),
            scheduler: service.scheduler.name().to_owned(),
            fallback: service.fallback.to_string(),
            on_fallback,
            fallback_ready,
            fallback_error,
            draining: false,
            quorum: self.quorum_status(service),
            servers: configured.chain(draining).collect(),
            fallback_server: fallback_server.map(|server| status(&server, Health::Unchecked)),
            former: self.former_totals(service),
        }
    }

    /// Its checks go on, and what they find against it is told: without quiescent mode it is given up when they fail.
    fn draining_status(&self, service: &Service, server: &Server) -> ServerStatus {
        let status = self.server_status(service, server, Health::Draining);
        let since = self.knowledge.draining.since(&service.key, server.address);
        let since_s = since.map_or(0, |since| since.elapsed().as_secs());
        ServerStatus { weight: 0, health: Health::Draining, weight_reason: None, since_s, ..status }
    }

    /// Whether it could serve, and what is wrong with it.
    fn fallback_status(&self, service: &Service) -> (bool, Option<String>) {
        match service.fallback {
            Fallback::None | Fallback::Refuse => (false, None),
            Fallback::Local => (true, None),
            Fallback::Sorry(_) => {
                let address = service.key.address();
                (self.sorry.listens(&address), self.sorry.trouble(&address))
            }
            Fallback::Server(address) => {
                let reached = self.knowledge.mac(address).is_some();
                (reached, (!reached).then(|| self.without_mac(address)))
            }
        }
    }

    fn quorum_status(&self, service: &Service) -> QuorumStatus {
        let lb_model::Quorum { weight, hysteresis } = service.quorum;
        let quorum = self.knowledge.quorum(&service.key);
        QuorumStatus {
            weight,
            hysteresis,
            usable: quorum.map_or(0, Quorum::sum),
            won: quorum.is_some_and(Quorum::is_won),
            since_s: self.seconds_since(quorum.map_or(Duration::ZERO, Quorum::since)),
        }
    }

    /// What the director's host and servers that have left have carried, those included that are just being purged.
    fn former_totals(&self, service: &Service) -> Totals {
        let mut former = self.former.get(&service.key).copied().unwrap_or_default();
        former.add(self.totals(service, Target::Local));
        let purging = self.purging.iter().filter(|(_, key)| **key == service.key);
        purging.for_each(|(id, _)| former.add(read_totals(&self.data_path.executor.maps().stats, *id)));
        former
    }

    /// `plain` is the health of one that is not among the service's servers in service.
    fn server_status(&self, service: &Service, server: &Server, plain: Health) -> ServerStatus {
        let target = Target::Real(server.address);
        let id = self.data_path.executor.server_id(&service.key, target);
        let counts = id.map(|id| self.data_path.table.counts(id)).unwrap_or_default();
        let totals = self.totals(service, target);
        let mac = self.knowledge.mac(server.address);
        let machine = self.knowledge.server(&service.key, server.address);
        let applied = self.data_path.applied().services.get(&service.key);
        let member = applied.and_then(|applied| applied.server(target)).filter(|server| server.usable);
        ServerStatus {
            name: server.name.clone(),
            address: server.address,
            port: server.port,
            method: if mac == Some(self.data_path.executor.mac()) { "Local" } else { "Route" }.to_owned(),
            weight: server.weight,
            effective_weight: member.map_or(0, |server| server.weight),
            weight_reason: machine
                .and_then(Machine::weight_limiter)
                .map(|limiter| limiter.as_str().to_owned()),
            active: counts.active(),
            inactive: counts.inactive(),
            health: machine.map_or(plain, Machine::health),
            reason: machine
                .and_then(Machine::reason)
                .or_else(|| mac.is_none().then(|| self.without_mac(server.address))),
            warning: machine.and_then(Machine::warning),
            checks: self.check_status(service, server),
            since_s: self.seconds_since(machine.map_or(Duration::ZERO, Machine::since)),
            mac: mac.map(report::mac),
            connections: totals.connections,
            packets: totals.packets,
            bytes: totals.bytes,
        }
    }

    fn check_status(&self, service: &Service, server: &Server) -> Vec<CheckStatus> {
        let latencies = self.checker.latencies(service.key, server.address, server.checks.len());
        let each = server.checks.iter().zip(latencies);
        each.map(|(check, latencies)| CheckStatus {
            check: check.probe.name().to_owned(),
            latencies_us: latencies.iter().map(|latency| micros(*latency)).collect(),
        })
        .collect()
    }

    fn seconds_since(&self, moment: Duration) -> u64 {
        self.started.elapsed().saturating_sub(moment).as_secs()
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
