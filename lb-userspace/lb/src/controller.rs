//! `lb run`: one task that owns everything and to which everything that happens comes.
//!
//! Whatever happens (a verdict, a MAC, a reload) changes the runtime state; then the desired state
//! is made anew and the difference is carried out. There is no other way into the maps.
//!
//! The controller's rooms, each with its own data, none of which knows the controller:
//!
//! - `runtime`: the runtime state of servers and services; in it `reach` (MACs, and which servers
//!   are gone), `draining`, `ways` (by which interface and which route), `clients`
//!   (the ways back to clients)
//! - `forwarder`: the data path; in it `accounts`, what departed servers have carried
//! - `interface`: the program attached, native or generic; `ingresses`: on further interfaces;
//!   [`instance`]: one `lb` per interface
//! - `checks`: of servers; in it `vip_checks`, what checks through the VIP need, and `probing`,
//!   checks that operators ask for
//! - `membership`: alone, or one of several directors; in it `synchronisation`: connections that
//!   the other directors know, too
//! - `notifications`: events, findings and hooks
//! - `inspections`: what is wrong around the director; in it `topology` (machines that are director
//!   and server, or server and gateway), `checksums` (those that native mode forwards unfinished)
//!   and [`sources`] (which no VIP may be), with [`placement`] (on which interface VIPs are)
//! - `config_file`: the file, with `files` (notices changes) and `writers` (whether somebody still
//!   writes to it)
//! - `standing`: what operators have ordered for servers on all directors; `maintenance`: servers
//!   that they keep out on this one
//! - `overlay`: what operators change at run time
//! - `tracer`: packets told one by one, for `lb trace`; `connections`: entries of the connection
//!   table, for `lb connections`; `top_clients`: who has most of them; `table_walk`: over the
//!   table, for both; `prefix`: clients that operators ask for
//! - `throttle`: how soon the maps follow the runtime state
//!
//! What the controller does with them:
//!
//! - `start`: before the first packet, with `host`, what it finds there; `inheritance`: what an
//!   `lb` before has left; `reload`: when the configuration has changed, with `difference`, what;
//!   `stop`: the way out; `service_manager`: what systemd is told; `lives`: from one life to the
//!   next, when the interface comes late or goes and comes back
//! - `inputs`: what comes to the controller; `requests`: what operators ask for, with `status`;
//!   `endpoints`: where
//! - [`desired`]: from the runtime state to what the maps shall hold: pure
//! - `report`: which servers are in service, for the log; `stations`: the machines of the
//!   configuration by their MACs

mod accounts;
mod checks;
mod checksums;
mod clients;
mod config_file;
mod connections;
pub(crate) mod desired;
mod difference;
mod draining;
mod endpoints;
mod files;
mod forwarder;
mod host;
mod ingresses;
mod inheritance;
mod inputs;
mod inspections;
pub(crate) mod instance;
mod interface;
mod lives;
mod maintenance;
pub(crate) mod masq;
mod membership;
mod neighbourhood;
mod notifications;
mod overlay;
pub(crate) mod placement;
mod prefix;
mod probing;
mod reach;
mod release;
mod reload;
mod report;
mod requests;
mod runtime;
mod service_manager;
pub(crate) mod sources;
mod standing;
mod start;
mod stations;
mod status;
mod stop;
mod synchronisation;
mod table_walk;
mod throttle;
mod top_clients;
mod topology;
mod tracer;
mod vip_checks;
mod ways;
mod writers;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use lb_alerts::Alerts;
use lb_api::findings::Kind;
use lb_cluster::member::driver::{Report, Told};
use lb_common::mac::Mac;
use lb_datapath::plan::Target;
use lb_health::Verdict;
use lb_health::server::Machine;
use lb_model::{Config, ServiceKey, XdpMode};
use lb_net::neighbours;
use lb_net::routes::{self, Routes};
use lb_system::worker::Worker;

use self::checks::Checks;
use self::config_file::ConfigFile;
use self::connections::Listings;
use self::files::FileChange;
use self::forwarder::Forwarder;
use self::ingresses::Ingresses;
use self::inputs::{Inputs, Observation};
use self::inspections::Inspections;
use self::interface::{Interface, ModeChange};
use self::lives::End;
pub(crate) use self::lives::run;
use self::maintenance::Maintenance;
use self::membership::{ClusterInput, Membership};
use self::neighbourhood::Neighbourhood;
use self::notifications::Notifier;
use self::overlay::Overlay;
pub(crate) use self::release::release;
use self::runtime::{Notification, Runtime};
use self::service_manager::ServiceManager;
use self::standing::Standing;
use self::stop::{Leaving, Signals};
use self::throttle::Throttle;
use self::tracer::Tracer;
use self::vip_checks::Needs;
use crate::confinement::Confinement;
use crate::sorry::Sorry;

/// How often the controller looks after what nobody reports: purged servers, drained servers, the
/// file.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// The running director.
pub(crate) struct Controller {
    config: Config,
    config_file: ConfigFile,
    started: Instant,
    /// Set once it stops.
    leaving: Option<Leaving>,
    interface: Interface,
    ingresses: Ingresses,
    forwarder: Forwarder,
    throttle: Throttle,
    runtime: Runtime,
    checks: Checks,
    neighbours: Neighbourhood,
    routes: Routes,
    /// Servers of direct routing, fallbacks and nodes, which must be on the segment.
    segment: BTreeSet<IpAddr>,
    membership: Membership,
    inspections: Inspections,
    notifier: Notifier,
    alerts: Alerts,
    maintenance: Maintenance,
    standing: Standing,
    sorry: Sorry,
    tracer: Tracer,
    listings: Listings,
    overlay: Overlay,
    service_manager: ServiceManager,
    /// The thread of the page and the HTTP API.
    _web: Option<Worker>,
    confinement: Confinement,
}

impl Controller {
    /// From the end of the start to the end of this life.
    async fn run(mut self, mut inputs: Inputs, signals: &mut Signals) -> Result<End> {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop_polls = tokio::time::interval(stop::LOOK);
        stop_polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut trace_polls = tokio::time::interval(tracer::LOOK);
        trace_polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    stop::Told::Stop(signal) => self.request_stop(signal),
                    stop::Told::Reload => drop(self.reload("SIGHUP")),
                },
                observation = inputs.observations.next() => {
                    self.observe(observation);
                    while let Some(observation) = inputs.observations.waiting() {
                        self.observe(observation);
                    }
                    self.plan_refresh();
                }
                () = self.throttle.due() => self.refresh(),
                Some(input) = inputs.cluster.recv() => self.receive(input),
                Some(request) = inputs.requests.recv() => self.answer(request).await,
                _ = housekeeping.tick() => self.keep_house(),
                _ = trace_polls.tick(), if self.tracer.is_on() => self.poll_trace(),
                _ = stop_polls.tick(), if self.leaving.is_some() => if self.has_left().await {
                    break;
                },
            }
        }
        // Hooks are run for what has happened up to now.
        while let Ok(input) = inputs.cluster.try_recv() {
            self.receive(input);
        }
        self.close().await
    }

    fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Verdict(verdict) => self.verdict(verdict),
            Observation::Neighbour(interface, event) if interface == self.interface.index() => {
                self.neighbour(event);
            }
            Observation::Neighbour(interface, event) => self.neighbour_elsewhere(interface, event),
            Observation::Route(event) => self.route(event),
            Observation::Table(table) => {
                self.runtime.set_table(table);
                self.want_neighbours();
            }
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        if verdict.reason.is_some() {
            // It may have another MAC now, which the kernel would notice only half a minute later.
            self.neighbours.verify(verdict.server);
        }
        let notifications = self.runtime.verdict(verdict, self.started.elapsed());
        self.notify(notifications);
    }

    /// Has the kernel ask whether the hosts of silent nodes are still there.
    fn verify_silent_nodes(&mut self) {
        for address in self.membership.silent_nodes() {
            self.neighbours.verify(address);
        }
    }

    fn neighbour(&mut self, event: neighbours::Event) {
        if let neighbours::Event::Neighbour(address, mac) = &event {
            if let Some(mac) = mac
                && let Some(directors) = self.inspections.director_is_at(*address, *mac, &self.config)
                && let Err(error) = self.forwarder.set_directors(directors)
            {
                self.forwarder.note_failure(&error);
            }
            self.membership.set_node_mac(*address, *mac);
        }
        match event {
            neighbours::Event::Neighbour(address, mac) => {
                let behind = self.runtime.ways.set_mac(self.interface.index(), address, mac);
                self.runtime.set_client_hop(address, mac);
                // A server with a tunnel has the MAC of its next hop, which may be itself.
                let itself = (!self.runtime.ways.is_elsewhere(address)).then_some(address);
                behind.into_iter().chain(itself).for_each(|server| self.set_mac(server, mac));
            }
            neighbours::Event::Interface { mac, up } => {
                self.interface.set_mac(mac);
                self.forwarder.set_mac(mac);
                self.membership.set_mac(0, mac);
                self.membership.set_readiness(|readiness| readiness.link = up);
                self.follow_vip_checks();
            }
            neighbours::Event::InterfaceGone => self.interface_gone(),
        }
    }

    /// As [`Self::neighbour`], on another interface's segment. Whether that interface is there its
    /// routes tell.
    fn neighbour_elsewhere(&mut self, interface: u32, event: neighbours::Event) {
        match event {
            neighbours::Event::Neighbour(address, mac) => {
                let behind = self.runtime.ways.set_mac(interface, address, mac);
                behind.into_iter().for_each(|server| self.set_mac(server, mac));
            }
            neighbours::Event::Interface { mac, up: _ } => {
                if let Some(place) = self.ingresses.set_mac(interface, mac) {
                    self.membership.set_mac(place, mac);
                    if let Err(error) = self.ingresses.tell(self.interface.index(), &mut self.forwarder) {
                        self.forwarder.note_failure(&error);
                    }
                }
            }
            neighbours::Event::InterfaceGone => {}
        }
    }

    fn set_mac(&mut self, address: IpAddr, mac: Option<Mac>) {
        let (before, notifications) = self.runtime.set_mac(address, mac, self.started.elapsed());
        match mac {
            Some(mac) if before != Some(mac) => {
                tracing::info!("{address} is at {mac}");
            }
            // Where there is no way any more, that was told.
            None if before.is_some() && self.runtime.ways.trouble(address).is_none() => {
                tracing::warn!("{} any more", self.runtime.silence(address));
            }
            _ => {}
        }
        self.notify(notifications);
    }

    /// Something was found about the way to a server.
    fn route(&mut self, event: routes::Event) {
        let server = event.address;
        if let Err(trouble) = &event.found {
            tracing::warn!("{trouble}");
        }
        let mac = self.runtime.set_route(event);
        if let Some(route) = self.runtime.ways.route(server)
            && self.runtime.ways.is_elsewhere(server)
        {
            let interface = neighbourhood::name(route.exit.interface);
            tracing::info!("{server} is reached by way of {} on {interface}", route.next_hop);
        }
        self.routes.want_table(self.runtime.ways.translated());
        self.want_neighbours();
        if let Some(mac) = mac {
            self.set_mac(server, mac);
        }
    }

    /// Has the maps brought to what is known now, if that is not what they hold.
    fn plan_refresh(&mut self) {
        if self.runtime.take_changed() {
            self.throttle.request();
        }
    }

    /// Brings the maps to what is known now.
    fn refresh(&mut self) {
        let before_work = throttle::worked();
        let notifications = self.runtime.count(&self.config.services, self.started.elapsed());
        self.notify(notifications);
        let before = self.forwarder.apply(desired::state(&self.config, &self.runtime));
        if before != *self.forwarder.applied() {
            self.membership.set_servers(&self.forwarder, &self.config.groups);
        }
        self.forwarder.set_routes(self.runtime.clients.take_changed());
        let records = report::changes_in_service(
            &before,
            self.forwarder.applied(),
            &self.config,
            |service, address| self.runtime.server(&service, address).and_then(Machine::reason),
        );
        records.into_iter().for_each(|record| self.notifier.record(record));
        self.notifier.publish_fallbacks(&self.config.services, self.forwarder.applied());
        let Self { config, runtime, forwarder, interface, ingresses, checks, notifier, .. } = self;
        let findings = notifier.findings();
        checks.publish_stations(&Needs { config, runtime, forwarder, interface, ingresses, findings });
        self.inspections.check_own_vips(&self.config, &self.runtime, &self.forwarder);
        let main = self.ingresses.is_any_native().then(|| self.interface.index());
        self.inspections.follow_exits(&self.runtime.ways, main, self.interface.mode());
        let unusable = self.runtime.ways.findings(&self.config);
        for kind in [Kind::TunnelUnusable, Kind::InterfaceUnusable] {
            let of_kind = unusable.iter().filter(|finding| finding.kind == kind);
            self.notifier.findings().set(kind, of_kind.cloned().collect());
        }
        let no_way_back = self.runtime.clients.finding(&self.config);
        self.notifier.findings().set(Kind::NoWayBack, no_way_back.into_iter().collect());
        // How many servers this director could send clients to.
        let serving = self.runtime.serving();
        let usable = desired::usable_groups(&self.config.groups, self.forwarder.applied());
        self.membership.set_readiness(|readiness| {
            readiness.servers = serving.try_into().unwrap_or(u16::MAX);
            readiness.usable = usable;
        });
        self.membership.set_machines(stations::machines(&self.config, &self.runtime));
        self.throttle.done(throttle::worked().saturating_sub(before_work), Instant::now());
    }

    fn keep_house(&mut self) {
        self.tell_service_manager();
        if self.membership.has_failed() {
            self.fail(anyhow!("the thread of the heartbeats or the one that holds the VIPs has ended"));
        }
        let Self { config, runtime, forwarder, .. } = self;
        let services = || config.services.iter().chain(runtime.draining.services());
        if forwarder.settle_purged(|key| services().any(|service| service.key == *key)) {
            // Their numbers are free for servers that there were none left for.
            self.refresh();
        }
        let is_idle = |service: &_, address| self.forwarder.is_idle(service, address);
        if self.runtime.draining.finish(Instant::now(), is_idle) {
            self.follow_configuration();
        }
        let full = |service: &ServiceKey, server| self.forwarder.is_full(service, Target::Real(server));
        self.notifier.publish_full(&self.config.services, full);
        self.poll_maintenance();
        self.standing.write_later(self.notifier.findings());
        let notifications = self.runtime.pass_time(self.started.elapsed());
        self.notify(notifications);
        self.plan_refresh();
        self.inspections.check(&self.config, &self.runtime, &self.forwarder, &self.interface);
        self.notifier.findings().set(Kind::OverlayUnreadable, self.overlay.findings());
        self.notifier.collect_findings();
        // With auto, when the far end of a veth has lost its program: nothing gets through any
        // more.
        if self.config.xdp_mode == XdpMode::Auto && self.leaving.is_none() && self.interface.loses_frames() {
            self.change_mode("what native mode sends gets lost");
        }
        self.look_after_ingresses();
        let Self { config, runtime, forwarder, interface, ingresses, checks, notifier, .. } = self;
        let findings = notifier.findings();
        checks.retry_vip(Needs { config, runtime, forwarder, interface, ingresses, findings });
        let keys = self.membership.poll_keys();
        keys.into_iter().for_each(|record| self.notifier.record(record));
        self.verify_silent_nodes();
        if self.interface.is_gone() {
            // The kernel's word of it was lost.
            self.interface_gone();
        }
        self.membership.follow_synchronisation();
        let attached = self.interface.is_attached();
        self.membership.set_readiness(|readiness| readiness.data_path = attached);
        match self.config_file.poll(Instant::now()) {
            _ if self.leaving.is_some() => {}
            FileChange::None => {}
            FileChange::Whole => drop(self.reload("the file changed")),
            FileChange::StillWritten => self.wait_for_writer("the file changed"),
        }
    }

    fn look_after_ingresses(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        if self.config.xdp_mode == XdpMode::Auto {
            self.change_mode_of_ingresses("what native mode sends gets lost", true);
        }
        if self.ingresses.look(self.notifier.findings()) {
            self.interface_back();
        }
    }

    fn change_mode_of_ingresses(&mut self, why: &str, lossy: bool) {
        match self.ingresses.change_mode(&mut self.forwarder, self.config.xdp_mode, why, lossy) {
            Ok(records) => records.into_iter().for_each(|record| self.notifier.record(record)),
            Err(error) => self.fail(error),
        }
    }

    /// Something happened in the cluster.
    fn receive(&mut self, input: ClusterInput) {
        if let ClusterInput::Member(Told { report: Report::Standing(_, orders), .. }) = &input
            && self.standing.learn(orders.clone(), self.notifier.findings())
        {
            self.follow_orders();
            self.plan_refresh();
        }
        if let Some(record) = self.membership.receive(input, &self.config.groups) {
            self.notifier.record(record);
        }
        self.verify_silent_nodes();
    }

    fn notify(&mut self, notifications: Vec<Notification>) {
        self.notifier.publish(notifications, &self.config.services, &self.runtime);
    }

    fn follow_vip_checks(&mut self) {
        let Self { config, runtime, forwarder, interface, ingresses, checks, notifier, .. } = self;
        let findings = notifier.findings();
        checks.follow_vip(Needs { config, runtime, forwarder, interface, ingresses, findings });
    }

    /// Goes over to the best mode that the interface can have now.
    fn change_mode(&mut self, why: &str) {
        match self.interface.change_mode(&mut self.forwarder, self.config.xdp_mode, why) {
            Ok(ModeChange { is_anew, records }) => {
                if is_anew {
                    self.inspections.forget_checksums(&self.config, &self.forwarder, &self.interface);
                }
                // Sockets that share their memory with the driver are bound to its mode.
                if is_anew && self.config.zero_copy {
                    self.checks.close_sockets();
                    self.follow_vip_checks();
                }
                records.into_iter().for_each(|record| self.notifier.record(record));
            }
            Err(error) => self.fail(error),
        }
    }
}
