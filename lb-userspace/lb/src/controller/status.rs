//! The running director as operators ask for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use lb_api::status::{
    BoundClient, CheckStatus, Count, FragmentsStatus, HashStatus, PersistenceStatus, QuorumStatus,
    ServerStatus, ServiceStatus, Status, TableStatus, TimeoutsStatus, Transitions,
};
use lb_common::reason::{Fate, Reason, TableEvent};
use lb_common::service::binding::{Binding, Key};
use lb_datapath::attach::Mode;
use lb_datapath::plan::Target;
use lb_health::Outcomes;
use lb_health::probe::micros;
use lb_health::quorum::Quorum;
use lb_health::server::Machine;
use lb_model::{Config, Fallback, Health, Server, Service, Timeouts, TunnelKind};
use lb_system::clock::now_ns;

use super::announcer::Announcer;
use super::desired::RuntimeState as _;
use super::lifecycle::Lifecycle;
use super::notifications::fallback;
use super::origin::Origin;
use super::program::Program;
use super::runtime::Runtime;
use super::standing::Standing;
use super::workers::Workers;

/// The rooms of the controller that the status is read from.
pub(super) struct View<'a> {
    pub config: &'a Config,
    pub origin: &'a Origin,
    pub runtime: &'a Runtime,
    pub program: &'a Program,
    pub workers: &'a Workers,
    pub standing: &'a Standing,
    pub announcer: &'a Announcer,
    pub lifecycle: &'a Lifecycle,
}

impl View<'_> {
    /// This moment.
    pub(super) fn status(&self) -> Status {
        let bound = self.bound();
        let services = self.config.services.iter().map(|service| {
            let mut status = self.service_status(service);
            let own = self.bound_to(service, &bound);
            for server in &mut status.servers {
                let is_its = |(_, binding): &&(Key, Binding)| IpAddr::from(binding.server) == server.address;
                server.bound = own.iter().filter(is_its).count() as u64;
            }
            ServiceStatus { persistence: self.persistence_status(service, own), ..status }
        });
        let departed = self.runtime.draining.services();
        let departed = departed.map(|service| self.departed_status(service));
        let services: Vec<ServiceStatus> = services.chain(departed).collect();
        // Counters that cannot be read show as 0.
        let counters = self.program.forwarder.counters();
        let (reasons, events) =
            (counters.reasons().unwrap_or_default(), counters.events().unwrap_or_default());
        let held = count(&reasons, Reason::FragmentHeld as usize);
        let [sent, passed, given_up] = self.program.forwarder.held_fragments();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            interface: self.config.interface.clone(),
            other_interfaces: self.program.ingresses.status(),
            mode: self.program.interface.mode().map_or("none", Mode::name).to_owned(),
            uptime_s: self.lifecycle.age().as_secs(),
            stopping: self.lifecycle.is_leaving(),
            config: self.origin.file.path().display().to_string(),
            config_error: self.origin.file.error().map(str::to_owned),
            config_since: self.origin.file.since(),
            findings: self.announcer.findings().status(),
            overlay: self.origin.overlay.status(),
            table: self.table_status(&events, &services),
            timeouts: timeouts(&self.config.timeouts),
            checks: self.workers.checks.status(),
            alerts: self.announcer.alerts.status(),
            cluster: None,
            services,
            drops: drops(&reasons, given_up),
            passes: counts(&reasons, Fate::Pass),
            answers: counts(&reasons, Fate::Answer),
            relayed: count(&events, TableEvent::Relayed as usize),
            fragments: FragmentsStatus { held, sent, passed, given_up },
            quic_moved: count(&events, TableEvent::QuicMoved as usize),
            bindings_lost: count(&events, TableEvent::BindingLost as usize),
            partial_checksums: count(&events, TableEvent::PartialChecksum as usize),
        }
    }

    fn table_status(&self, events: &[u64], services: &[ServiceStatus]) -> TableStatus {
        let table = self.program.forwarder.table();
        let census = self.program.forwarder.census();
        let full = count(events, TableEvent::Full as usize);
        let scheduled: u64 = services
            .iter()
            .map(|service| {
                let servers = service.servers.iter().chain(&service.fallback_server);
                let servers: u64 = servers.map(|server| server.connections).sum();
                servers + service.departed.connections
            })
            .sum();
        TableStatus {
            capacity: table.v4.slots(),
            capacity_v6: table.v6.slots(),
            configured: u64::from(self.config.connections),
            used: census.used,
            used_v6: census.used_v6,
            memory_bytes: table.bytes() as u64,
            // Each connection that was scheduled got an entry, but for those that found no slot.
            inserted: scheduled.saturating_sub(full),
            expired: census.expired,
            evicted: count(events, TableEvent::Evicted as usize),
            full,
            contended: count(events, TableEvent::Contended as usize),
        }
    }

    /// Of a service that left the configuration: its servers drain, and no fallback serves it.
    fn departed_status(&self, service: &Service) -> ServiceStatus {
        let departed = Service { servers: Vec::new(), fallback: Fallback::None, ..service.clone() };
        ServiceStatus { draining: true, on_fallback: false, ..self.service_status(&departed) }
    }

    fn service_status(&self, service: &Service) -> ServiceStatus {
        let applied = self.program.forwarder.applied().services.get(&service.key);
        let fallback = fallback(service);
        let mut members = applied.into_iter().flat_map(|applied| applied.members());
        let on_fallback = members.all(|server| server.target == fallback);
        let status = |server: &Server, health| self.server_status(service, server, health);
        let configured = service.servers.iter().map(|server| status(server, Health::Unknown));
        let draining = self.runtime.draining.of(&service.key);
        let draining = draining.map(|server| self.draining_status(service, server));
        let fallback_server = service.fallback_server();
        let (fallback_ready, fallback_error) = self.fallback_status(service);
        ServiceStatus {
            name: service.name.clone(),
            vip: service.key.vip,
            port: service.key.port,
            ports: service.ports.to_string(),
            protocol: service.key.protocol.name().to_owned(),
            scheduler: service.scheduler.name().to_owned(),
            hash: HashStatus { port: service.hashing.port, fallback: service.hashing.fallback },
            ops: service.ops,
            fallback: service.fallback.to_string(),
            on_fallback,
            fallback_ready,
            fallback_error,
            draining: false,
            source: self.origin.overlay.source_of_service(service),
            quorum: self.quorum_status(service),
            persistence: None,
            servers: configured.chain(draining).collect(),
            fallback_server: fallback_server.map(|server| status(&server, Health::Unchecked)),
            departed: self.program.forwarder.departed_totals(&service.key),
            zeroed_departed: self.program.forwarder.zeroed_departed(&service.key),
        }
    }

    /// Its checks go on, and what they find against it is shown: without quiescent mode it is given
    /// up when they fail.
    fn draining_status(&self, service: &Service, server: &Server) -> ServerStatus {
        let status = self.server_status(service, server, Health::Draining);
        let since = self.runtime.draining.since(&service.key, server.address);
        let since_s = since.map_or(0, |since| since.elapsed().as_secs());
        let orders = Vec::new();
        ServerStatus { weight: 0, health: Health::Draining, weight_reason: None, since_s, orders, ..status }
    }

    /// Whether it could serve, and what is wrong with it.
    fn fallback_status(&self, service: &Service) -> (bool, Option<String>) {
        match service.fallback {
            Fallback::None | Fallback::Refuse => (false, None),
            Fallback::Local => (true, None),
            Fallback::Sorry(_) => {
                let listens = service.addresses().all(|address| self.workers.sorry.listens(&address));
                (listens, service.addresses().find_map(|address| self.workers.sorry.trouble(&address)))
            }
            Fallback::Server(address) => {
                let reached = self.runtime.mac(address).is_some();
                (reached, (!reached).then(|| self.without_mac(address)))
            }
        }
    }

    /// The clients that are bound now, by group.
    fn bound(&self) -> HashMap<u64, Vec<(Key, Binding)>> {
        let mut bound: HashMap<u64, Vec<(Key, Binding)>> = HashMap::new();
        if self.config.services.iter().any(|service| service.persistence.is_some()) {
            for (key, binding) in self.program.forwarder.bindings() {
                bound.entry(key.group).or_default().push((key, binding));
            }
        }
        bound
    }

    /// Those of the service's group.
    fn bound_to<'a>(
        &self,
        service: &Service,
        bound: &'a HashMap<u64, Vec<(Key, Binding)>>,
    ) -> &'a [(Key, Binding)] {
        let applied = self.program.forwarder.applied().services.get(&service.key);
        let number = applied.and_then(|applied| applied.settings.persistence).map(|own| own.group);
        number.and_then(|number| bound.get(&number)).map(Vec::as_slice).unwrap_or_default()
    }

    fn persistence_status(&self, service: &Service, bound: &[(Key, Binding)]) -> Option<PersistenceStatus> {
        const LISTED: usize = 1000;
        let lb_model::Persistence { timeout, prefix, group, keeps } = service.persistence.as_ref()?;
        let now = now_ns();
        let client = |(key, binding): &(Key, Binding)| BoundClient {
            client: key.client.into(),
            server: binding.server.into(),
            expires_in_s: Duration::from_nanos(binding.until_ns.saturating_sub(now)).as_secs(),
        };
        let mut clients: Vec<BoundClient> = bound.iter().map(client).collect();
        clients.sort();
        clients.truncate(LISTED);
        Some(PersistenceStatus {
            timeout_s: timeout.as_secs(),
            prefix: *prefix,
            group: group.clone(),
            keeps_at_weight_zero: *keeps,
            bound: bound.len() as u64,
            clients,
        })
    }

    fn quorum_status(&self, service: &Service) -> QuorumStatus {
        let lb_model::Quorum { weight, hysteresis } = service.quorum;
        let quorum = self.runtime.quorum(&service.key);
        QuorumStatus {
            weight,
            hysteresis,
            usable: quorum.map_or(0, Quorum::sum),
            won: quorum.is_some_and(Quorum::is_won),
            since_s: self.seconds_since(quorum.map_or(Duration::ZERO, Quorum::since)),
        }
    }

    /// `default` is the health of a server that no health machine has: one that drains, or the
    /// fallback.
    fn server_status(&self, service: &Service, server: &Server, default: Health) -> ServerStatus {
        let target = Target::Real(server.address);
        let counts = self.program.forwarder.counts(&service.key, target);
        let totals = self.program.forwarder.totals(&service.key, target);
        let mac = self.runtime.mac(server.address);
        let machine = self.runtime.server(&service.key, server.address);
        let applied = self.program.forwarder.applied().services.get(&service.key);
        let member = applied.and_then(|applied| applied.server(target)).filter(|server| server.usable);
        ServerStatus {
            name: server.name.clone(),
            address: server.address,
            port: server.port,
            method: lb_model::Forwarding::of_server(server.method(), mac, self.program.forwarder.mac()),
            tunnel: server.tunnel.map(|tunnel| tunnel.kind.name().to_owned()),
            tunnel_port: server.tunnel.filter(|one| one.kind == TunnelKind::Gue).map(|one| one.port),
            weight: server.weight,
            effective_weight: member.map_or(0, |server| server.weight),
            upper_threshold: server.thresholds.upper(),
            lower_threshold: server.thresholds.lower(),
            full: self.program.forwarder.is_full(&service.key, target),
            orders: self.standing.status(service, server),
            weight_reason: machine
                .and_then(Machine::weight_limiter)
                .map(|limiter| limiter.as_str().to_owned()),
            active: counts.active(),
            inactive: counts.inactive(),
            bound: 0,
            health: machine.map_or(default, Machine::health),
            source: self.origin.overlay.source_of_server(service, server),
            reason: machine
                .and_then(Machine::reason)
                .or_else(|| mac.is_none().then(|| self.without_mac(server.address))),
            warning: machine.and_then(Machine::warning),
            checks: self.check_status(service, server),
            transitions: machine.map(transitions).unwrap_or_default(),
            since_s: self.seconds_since(machine.map_or(Duration::ZERO, Machine::since)),
            mac: mac.map(|mac| mac.to_string()),
            connections: totals.connections,
            packets: totals.packets,
            bytes: totals.bytes,
            zeroed: self.program.forwarder.zeroed(&service.key, target),
        }
    }

    fn check_status(&self, service: &Service, server: &Server) -> Vec<CheckStatus> {
        let outcomes = self.workers.checks.outcomes(service.key, server.address, server.checks.len());
        let each = server.checks.iter().zip(outcomes);
        each.map(|(check, Outcomes { latencies, failures })| CheckStatus {
            check: check.probe.name().to_owned(),
            latencies_us: latencies.iter().map(|latency| micros(*latency)).collect(),
            failures,
        })
        .collect()
    }

    fn seconds_since(&self, moment: Duration) -> u64 {
        self.lifecycle.age().saturating_sub(moment).as_secs()
    }

    fn without_mac(&self, address: IpAddr) -> String {
        format!("{} on {}", self.runtime.silence(address), self.config.interface)
    }
}

fn transitions(machine: &Machine) -> Transitions {
    let lb_health::server::Transitions { up, down, maintenance } = machine.transitions();
    Transitions { up, down, maintenance }
}

fn timeouts(timeouts: &Timeouts) -> TimeoutsStatus {
    let Timeouts { syn_recv, established, fin_wait, closed, udp, unproven } = timeouts;
    TimeoutsStatus {
        syn_recv_s: syn_recv.as_secs(),
        established_s: established.as_secs(),
        unproven_s: unproven.as_secs(),
        fin_wait_s: fin_wait.as_secs(),
        closed_s: closed.as_secs(),
        udp_s: udp.as_secs(),
    }
}

fn count(counters: &[u64], index: usize) -> u64 {
    counters.get(index).copied().unwrap_or_default()
}

/// With what the program knows nothing of.
fn drops(counters: &[u64], given_up: u64) -> Vec<Count> {
    let given_up = Count { reason: "fragment_given_up".to_owned(), count: given_up };
    counts(counters, Fate::Drop).into_iter().chain([given_up]).collect()
}

fn counts(counters: &[u64], fate: Fate) -> Vec<Count> {
    let reasons = Reason::ALL.iter().filter(|reason| reason.fate() == fate);
    reasons
        .map(|reason| Count { reason: reason.label().to_owned(), count: count(counters, *reason as usize) })
        .collect()
}
