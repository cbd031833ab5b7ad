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
//! - `program`: the XDP program. In it `forwarder`: the data path, with `accounts`, what departed
//!   servers have carried; `interface`: where it is attached, native or generic; `ingresses`:
//!   further interfaces; `throttle`: how soon the maps follow the runtime state. [`instance`]: one
//!   `lb` per interface
//! - `network`: who is to be on the segment; in it `neighbourhood` (MACs), and routes
//! - `workers`: threads that follow the configuration. In it `checks`: of servers, with
//!   `vip_checks`, what checks through the VIP need, and `probing`, checks that operators ask for
//! - `membership`: alone, or one of several directors; in it `synchronisation`: connections that
//!   the other directors know, too
//! - `announcer`: who hears of what happens; in it `notifications`: events, findings and hooks
//! - `inspections`: what is wrong around the director; in it `topology` (machines that are director
//!   and server, or server and gateway), `checksums` (those that native mode forwards unfinished)
//!   and [`sources`] (which no VIP may be), with [`placement`] (on which interface VIPs are)
//! - `origin`: where the configuration comes from. In it `config_file`: the file, with `files`
//!   (notices changes) and `writers` (whether somebody still writes to it); `overlay`: what
//!   operators change at run time
//! - `operators`: what they want of servers. In it `standing`: orders that hold on all directors;
//!   `maintenance`: servers that they keep out on this one
//! - `viewers`: who looks on. In it `tracer`: packets told one by one, for `lb trace`;
//!   `connections`: entries of the connection table, for `lb connections`; `top_clients`: who has
//!   most of them; `table_walk`: over the table, for both; `prefix`: clients that operators ask for
//! - `lifecycle`: since when the director lives, and whether it leaves
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
mod announcer;
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
mod lifecycle;
mod lives;
mod maintenance;
pub(crate) mod masq;
mod membership;
mod neighbourhood;
mod network;
mod notifications;
mod operators;
mod origin;
mod overlay;
pub(crate) mod placement;
mod prefix;
mod probing;
mod program;
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
mod viewers;
mod vip_checks;
mod ways;
mod workers;
mod writers;

use std::cell::LazyCell;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use lb_api::findings::Kind;
use lb_cluster::member::driver::{Report, TimedReport};
use lb_common::mac::Mac;
use lb_datapath::plan::Target;
use lb_health::Verdict;
use lb_health::server::Machine;
use lb_model::{Config, ServiceKey, XdpMode};
use lb_net::neighbours;
use lb_net::routes;

use self::announcer::Announcer;
use self::checks::Checks;
use self::files::FileChange;
use self::inputs::{Inputs, Observation};
use self::inspections::Inspections;
use self::interface::ModeChange;
use self::lifecycle::Lifecycle;
use self::lives::End;
pub(crate) use self::lives::run;
use self::membership::{ClusterInput, Membership};
use self::network::Network;
use self::operators::Operators;
use self::origin::Origin;
use self::program::Program;
pub(crate) use self::release::release;
use self::runtime::{Notification, Runtime};
use self::stop::Signals;
use self::viewers::Viewers;
use self::vip_checks::Needs;
use self::workers::Workers;

/// How often the controller looks after what nobody reports: purged servers, drained servers, the
/// file.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// The running director.
pub(crate) struct Controller {
    /// In force.
    config: Config,
    origin: Origin,
    operators: Operators,
    lifecycle: Lifecycle,
    program: Program,
    runtime: Runtime,
    workers: Workers,
    network: Network,
    membership: Membership,
    inspections: Inspections,
    announcer: Announcer,
    viewers: Viewers,
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
                    stop::Signal::Stop(signal) => self.request_stop(signal),
                    stop::Signal::Reload => drop(self.reload("SIGHUP")),
                },
                observation = inputs.observations.next() => {
                    self.observe(observation);
                    while let Some(observation) = inputs.observations.waiting() {
                        self.observe(observation);
                    }
                    self.plan_refresh();
                }
                () = self.program.throttle.due() => self.refresh(),
                Some(input) = inputs.cluster.recv() => self.receive(input),
                Some(request) = inputs.requests.recv() => self.answer(request).await,
                _ = housekeeping.tick() => self.keep_house(),
                _ = trace_polls.tick(), if self.viewers.tracer.is_on() => self.poll_trace(),
                _ = stop_polls.tick(), if self.lifecycle.is_leaving() => if self.has_left().await {
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
            Observation::Neighbour(interface, event) if interface == self.program.interface.index() => {
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
            self.network.verify(verdict.server);
        }
        let notifications = self.runtime.verdict(verdict, self.lifecycle.age());
        self.notify(notifications);
    }

    /// Has the kernel ask whether the hosts of silent nodes are still there.
    fn verify_silent_nodes(&mut self) {
        for address in self.membership.silent_nodes() {
            self.network.verify(address);
        }
    }

    fn neighbour(&mut self, event: neighbours::Event) {
        if let neighbours::Event::Neighbour(address, mac) = &event {
            if let Some(mac) = mac
                && let Some(directors) = self.inspections.director_is_at(*address, *mac, &self.config)
                && let Err(error) = self.program.forwarder.set_directors(directors)
            {
                self.program.forwarder.note_failure(&error);
            }
            self.membership.set_node_mac(*address, *mac);
        }
        match event {
            neighbours::Event::Neighbour(address, mac) => {
                let behind = self.runtime.ways.set_mac(self.program.interface.index(), address, mac);
                self.runtime.set_client_hop(None, address, mac);
                // A server with a tunnel has the MAC of its next hop, which may be itself.
                let itself = (!self.runtime.ways.is_elsewhere(address)).then_some(address);
                behind.into_iter().chain(itself).for_each(|server| self.set_mac(server, mac));
            }
            neighbours::Event::Interface { mac, up } => {
                self.program.set_mac(mac);
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
                self.runtime.set_client_hop(Some(interface), address, mac);
                behind.into_iter().for_each(|server| self.set_mac(server, mac));
            }
            neighbours::Event::Interface { mac, up: _ } => {
                if let Some(place) = self.program.set_mac_of_ingress(interface, mac) {
                    self.membership.set_mac(place, mac);
                }
            }
            neighbours::Event::InterfaceGone => {}
        }
    }

    fn set_mac(&mut self, address: IpAddr, mac: Option<Mac>) {
        let (before, notifications) = self.runtime.set_mac(address, mac, self.lifecycle.age());
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
        self.network.want_table(self.runtime.ways_back(&self.config.services));
        self.want_neighbours();
        if let Some(mac) = mac {
            self.set_mac(server, mac);
        }
    }

    /// Has the maps brought to what is known now, if that is not what they hold.
    fn plan_refresh(&mut self) {
        if self.runtime.take_changed() {
            self.program.throttle.request();
        }
    }

    /// Brings the maps to what is known now.
    fn refresh(&mut self) {
        let before_work = throttle::worked();
        let notifications = self.runtime.count(&self.config.services, self.lifecycle.age());
        self.notify(notifications);
        let before = self.program.forwarder.apply(desired::state(&self.config, &self.runtime));
        if before != *self.program.forwarder.applied() {
            self.membership.set_servers(&self.program.forwarder, &self.config.groups);
        }
        self.program.forwarder.set_routes(self.runtime.clients.take_changed());
        let records = report::changes_in_service(
            &before,
            self.program.forwarder.applied(),
            &self.config,
            |service, address| self.runtime.server(&service, address).and_then(Machine::reason),
        );
        self.announcer.record_all(records);
        self.announcer.notifier.publish_fallbacks(&self.config.services, self.program.forwarder.applied());
        let (checks, needs) = self.checks_and_needs();
        checks.publish_stations(&needs);
        self.inspections.check_own_vips(&self.config, &self.runtime, &self.program.forwarder);
        let main = self.program.ingresses.is_any_native().then(|| self.program.interface.index());
        self.inspections.follow_exits(&self.runtime.ways, main, self.program.interface.mode());
        let unusable = self.runtime.ways.findings(&self.config);
        for kind in [Kind::TunnelUnusable, Kind::InterfaceUnusable] {
            let of_kind = unusable.iter().filter(|finding| finding.kind == kind);
            self.announcer.findings().set(kind, of_kind.cloned().collect());
        }
        let no_way_back = self.runtime.clients.finding(&self.config);
        self.announcer.findings().set(Kind::NoWayBack, no_way_back.into_iter().collect());
        // How many servers this director could send clients to.
        let serving = self.runtime.serving();
        let usable = desired::usable_groups(&self.config.groups, self.program.forwarder.applied());
        self.membership.set_readiness(|readiness| {
            readiness.servers = serving.try_into().unwrap_or(u16::MAX);
            readiness.usable = usable;
        });
        self.membership.set_machines(stations::machines(&self.config, &self.runtime));
        self.program.throttle.done(throttle::worked().saturating_sub(before_work), Instant::now());
    }

    fn keep_house(&mut self) {
        self.tell_service_manager();
        if self.membership.has_failed() {
            self.fail(anyhow!("the thread of the heartbeats or the one that holds the VIPs has ended"));
        }
        let Self { config, runtime, program, .. } = self;
        let known = LazyCell::new(|| -> HashSet<ServiceKey> {
            config.services.iter().chain(runtime.draining.services()).map(|service| service.key).collect()
        });
        let settled = program.forwarder.settle_purged(|key| known.contains(key));
        drop(known);
        if settled {
            // Their numbers are free for servers that there were none left for.
            self.refresh();
        }
        let is_idle = |service: &_, address| self.program.forwarder.is_idle(service, address);
        if self.runtime.draining.finish(Instant::now(), is_idle) {
            self.follow_configuration();
        }
        let full =
            |service: &ServiceKey, server| self.program.forwarder.is_full(service, Target::Real(server));
        self.announcer.notifier.publish_full(&self.config.services, full);
        self.poll_maintenance();
        self.operators.write_later(self.announcer.findings());
        let notifications = self.runtime.pass_time(self.lifecycle.age());
        self.notify(notifications);
        self.plan_refresh();
        self.inspections.check(&self.config, &self.runtime, &self.program.forwarder, &self.program.interface);
        self.announcer.findings().set(Kind::OverlayUnreadable, self.origin.overlay.findings());
        self.announcer.notifier.collect_findings();
        // With auto, when the far end of a veth has lost its program: nothing gets through any
        // more.
        if self.config.xdp_mode == XdpMode::Auto
            && !self.lifecycle.is_leaving()
            && self.program.interface.loses_frames()
        {
            self.change_mode("what native mode sends gets lost");
        }
        self.look_after_ingresses();
        let (checks, needs) = self.checks_and_needs();
        checks.retry_vip(needs);
        let keys = self.membership.poll_keys();
        self.announcer.record_all(keys);
        self.verify_silent_nodes();
        if self.program.interface.is_gone() {
            // The kernel's word of it was lost.
            self.interface_gone();
        }
        self.membership.follow_synchronisation();
        let attached = self.program.interface.is_attached();
        self.membership.set_readiness(|readiness| readiness.data_path = attached);
        match self.origin.file.poll(Instant::now()) {
            _ if self.lifecycle.is_leaving() => {}
            FileChange::None => {}
            FileChange::Whole => drop(self.reload("the file changed")),
            FileChange::StillWritten => self.wait_for_writer("the file changed"),
        }
    }

    fn look_after_ingresses(&mut self) {
        if self.lifecycle.is_leaving() {
            return;
        }
        if self.config.xdp_mode == XdpMode::Auto {
            self.change_mode_of_ingresses("what native mode sends gets lost", true);
        }
        if self.program.ingresses.look(self.announcer.findings()) {
            self.interface_back();
        }
    }

    fn change_mode_of_ingresses(&mut self, why: &str, lossy: bool) {
        match self.program.change_mode_of_ingresses(self.config.xdp_mode, why, lossy) {
            Ok(records) => self.announcer.record_all(records),
            Err(error) => self.fail(error),
        }
    }

    /// Something happened in the cluster.
    fn receive(&mut self, input: ClusterInput) {
        if let ClusterInput::Member(TimedReport { report: Report::Standing(_, orders), .. }) = &input
            && self.operators.learn(orders.clone(), self.announcer.findings())
        {
            self.follow_orders();
            self.plan_refresh();
        }
        if let Some(record) = self.membership.receive(input, &self.config.groups) {
            self.announcer.record(record);
        }
        self.verify_silent_nodes();
    }

    fn notify(&mut self, notifications: Vec<Notification>) {
        self.announcer.notifier.publish(notifications, &self.config.services, &self.runtime);
    }

    fn follow_vip_checks(&mut self) {
        let (checks, needs) = self.checks_and_needs();
        checks.follow_vip(needs);
    }

    /// The checks, and what those through the VIP take from the other rooms.
    fn checks_and_needs(&mut self) -> (&mut Checks, Needs<'_>) {
        let Self { config, runtime, program, workers, announcer, .. } = self;
        (&mut workers.checks, Needs { config, runtime, program, findings: announcer.findings() })
    }

    /// Goes over to the best mode that the interface can have now.
    fn change_mode(&mut self, why: &str) {
        match self.program.change_mode(self.config.xdp_mode, why) {
            Ok(ModeChange { is_anew, records }) => {
                if is_anew {
                    self.inspections.forget_checksums(
                        &self.config,
                        &self.program.forwarder,
                        &self.program.interface,
                    );
                }
                // Sockets that share their memory with the driver are bound to its mode.
                if is_anew && self.config.zero_copy {
                    self.workers.checks.close_sockets();
                    self.follow_vip_checks();
                }
                self.announcer.record_all(records);
            }
            Err(error) => self.fail(error),
        }
    }
}
