//! `lb run`: one task that owns everything and is told what happens.
//!
//! Whatever happens (a verdict, a MAC, a reload) changes what is known; then the desired state is made anew and the
//! difference is carried out. There is no other way into the maps.
//!
//! - `start`: before the first packet; `reload`: when the configuration has changed
//! - `knowledge`: what there is besides the configuration; `draining`: servers on their way out
//! - `reach`: MACs, and who has none for too long
//! - `maintenance`: servers that operators keep out
//! - [`desired`]: from what is known to what the maps shall hold: pure
//! - `inputs`: what it is told; `pace`: how soon the maps follow
//! - [`instance`]: one `lb` per interface
//! - `lives`: from one life to the next, when the interface comes late or goes and comes back
//! - `membership`: alone, or one of several directors
//! - `files`: notices that the configuration file changed; `writers`: whether somebody still writes to it
//! - `report`: what operators read in the log; `notices`: what becomes of servers; `status`: what they ask for;
//!   `probing`: checks that they ask for; `endpoints`: where
//! - `stations`: the machines of the configuration by their MACs
//! - [`sources`]: the source of this host's own packets to the servers, which no VIP may be
//! - `stop`: the way out
//! - `topology`: machines that are director and server, or server and gateway
//! - `vip_checks`: what checks through the VIP need
//! - `xdp_mode`: native or generic; `checksums`: those that native mode forwards unfinished

mod checksums;
pub(crate) mod desired;
mod draining;
mod endpoints;
mod files;
mod inheritance;
mod inputs;
pub(crate) mod instance;
mod knowledge;
mod lives;
mod maintenance;
mod membership;
mod notices;
mod pace;
mod probing;
mod reach;
mod release;
mod reload;
mod report;
pub(crate) mod sources;
mod start;
mod stations;
mod status;
mod stop;
mod topology;
mod vip_checks;
mod writers;
mod xdp_mode;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use lb_api::events::Events;
use lb_api::findings::Findings;
use lb_common::server::ServerId;
use lb_datapath::attach::Attachment;
use lb_datapath::device::watch::Watch;
use lb_datapath::inherited::{Inherited, PinnedMaps};
use lb_datapath::plan::{State, Target};
use lb_datapath::sweep::Sweeper;
use lb_datapath::{Applied, DataPath, maps::read_totals};
use lb_health::server::Machine;
use lb_health::{Checker, Verdict};
use lb_model::Totals;
use lb_model::{Config, ServiceKey};
use lb_net::neighbours::{self, Neighbours};
use lb_system::command::queue::Queues;
use nix::net::if_::if_indextoname;
use sd_notify::NotifyState;

use self::files::{Look, Watched};
use self::inputs::{Inputs, Observation};
use self::instance::Instance;
use self::knowledge::Knowledge;
use self::lives::End;
pub(crate) use self::lives::run;
use self::maintenance::Maintenance;
use self::membership::Membership;
use self::notices::Fallbacks;
use self::pace::Pace;
pub(crate) use self::release::release;
use self::sources::Sources;
use self::stop::{Leaving, Signals};
use self::topology::Topology;
use self::vip_checks::VipChecks;
use crate::firewall::Firewall;
use crate::sorry::Sorry;

/// How often the controller looks after what nobody tells it: purged servers, drained servers, the file.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// The running director.
pub(crate) struct Controller {
    config: Config,
    /// Of the interface.
    index: u32,
    file: Watched,
    config_error: Option<String>,
    started: Instant,
    /// Held from the end of the start on.
    attachment: Option<Attachment>,
    device: Watch,
    data_path: DataPath,
    sweeper: Sweeper,
    checker: Checker,
    neighbours: Neighbours,
    membership: Membership,
    events: Events,
    findings: Findings,
    sources: Sources,
    firewall: Firewall,
    /// Connections that began with an unfinished checksum, at the last look.
    unfinished: u64,
    /// Set once it stops.
    leaving: Option<Leaving>,
    knowledge: Knowledge,
    pace: Pace,
    fallbacks: Fallbacks,
    maintenance: Maintenance,
    sorry: Sorry,
    vip_checks: VipChecks,
    topology: Topology,
    /// Of services and servers.
    hooks: Queues,
    /// What an lb before this one left, until it is taken over.
    inherited: Option<Inherited>,
    /// Removes the pins of the maps, should the start come to nothing.
    pinned_maps: PinnedMaps,
    /// Totals of servers that have left, by service.
    former: HashMap<ServiceKey, Totals>,
    /// Servers being purged, and whose they were.
    purging: HashMap<ServerId, ServiceKey>,
    _instance: Instance,
}

impl Controller {
    /// From the end of the start to the end of this life.
    async fn run(mut self, mut inputs: Inputs, signals: &mut Signals) -> Result<End> {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = tokio::time::interval(stop::LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    stop::Told::Stop(signal) => self.told_to_stop(signal),
                    stop::Told::Reload => self.reload("SIGHUP"),
                },
                what = inputs.observations.next() => {
                    self.find_out(what);
                    while let Some(what) = inputs.observations.waiting() {
                        self.find_out(what);
                    }
                    self.plan_refresh();
                }
                () = self.pace.due() => self.refresh(),
                Some(news) = inputs.news.recv() => self.hear(news),
                Some(inquiry) = inputs.inquiries.recv() => self.answer(inquiry).await,
                _ = housekeeping.tick() => self.keep_house(),
                _ = looks.tick(), if self.leaving.is_some() => if self.has_left().await {
                    break;
                },
            }
        }
        // Hooks are run for what has happened up to now.
        while let Ok(news) = inputs.news.try_recv() {
            self.hear(news);
        }
        self.close().await
    }

    fn find_out(&mut self, what: Observation) {
        match what {
            Observation::Verdict(verdict) => self.verdict(verdict),
            Observation::Neighbour(event) => self.neighbour(event),
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        if verdict.reason.is_some() {
            // It may have another MAC now, which the kernel would notice only half a minute later.
            self.neighbours.verify(verdict.server);
        }
        let notices = self.knowledge.verdict(verdict, self.started.elapsed());
        self.tell(notices);
    }

    fn neighbour(&mut self, event: neighbours::Event) {
        if let neighbours::Event::Neighbour(address, mac) = &event {
            if let Some(mac) = mac {
                self.director_is_at(*address, *mac);
            }
            self.membership.set_node_mac(*address, *mac);
        }
        match event {
            neighbours::Event::Neighbour(address, mac) => {
                let (before, notices) = self.knowledge.set_mac(address, mac, self.started.elapsed());
                match mac {
                    Some(mac) if before != Some(mac) => {
                        tracing::info!("{address} is at {}", report::mac(mac));
                    }
                    None if before.is_some() => {
                        tracing::warn!("{address} does not answer ARP on {} any more", self.config.interface);
                    }
                    _ => {}
                }
                self.tell(notices);
            }
            neighbours::Event::Interface { mac, up } => {
                self.data_path.executor.set_mac(mac);
                self.membership.set_mac(mac);
                self.membership.set_readiness(|readiness| readiness.link = up);
                self.follow_vip_checks();
            }
            neighbours::Event::InterfaceGone => self.interface_gone(),
        }
    }

    /// Has the maps brought to what is known now, if that is not what they hold.
    fn plan_refresh(&mut self) {
        if self.knowledge.take_changed() {
            self.pace.want();
        }
    }

    /// Brings the maps to what is known now.
    fn refresh(&mut self) {
        let before_work = pace::worked();
        let notices = self.knowledge.count(&self.config.services, self.started.elapsed());
        self.tell(notices);
        let desired = desired::state(&self.config, &self.knowledge);
        let before: State = self.data_path.applied().clone();
        let Applied { changes, purge, errors } = self.data_path.apply(desired);
        for change in &changes {
            tracing::debug!("{change}");
        }
        for error in &errors {
            tracing::error!("the data path could not be changed: {error:#}");
        }
        let records = report::membership(&before, self.data_path.applied(), &self.config, |key, address| {
            self.knowledge.server(&key, address).and_then(Machine::reason)
        });
        records.into_iter().for_each(|record| self.events.record(record));
        self.tell_fallbacks();
        self.tell_stations();
        self.look_at_own_vips();
        for (service, server) in purge {
            self.purging.insert(server, service);
            self.sweeper.purge(server);
        }
        self.tell_servers();
        self.membership.set_machines(stations::machines(&self.config, &self.knowledge));
        self.pace.done(pace::worked().saturating_sub(before_work), Instant::now());
    }

    /// How many servers this director could send clients to.
    fn tell_servers(&mut self) {
        let servers = self.knowledge.serving();
        self.membership.set_readiness(|readiness| readiness.servers = servers.try_into().unwrap_or(u16::MAX));
    }

    fn keep_house(&mut self) {
        if self.membership.has_failed() {
            self.fail(anyhow!("the thread of the heartbeats or the one that holds the VIPs has ended"));
        }
        let purged = self.sweeper.purged();
        for server in &purged {
            self.purged(*server);
        }
        if !purged.is_empty() {
            // Their numbers are free for servers that there were none left for.
            self.refresh();
        }
        let executor = &self.data_path.executor;
        let table = &self.data_path.table;
        let finished = self.knowledge.draining.finish(Instant::now(), |service, address| {
            let id = executor.server_id(service, Target::Real(address));
            id.is_none_or(|id| table.counts(id).active() == 0 && table.counts(id).inactive() == 0)
        });
        if finished {
            self.follow_configuration();
        }
        self.look_at_maintenance();
        self.look_for_loops();
        let notices = self.knowledge.pass_time(self.started.elapsed());
        self.tell(notices);
        self.plan_refresh();
        self.sources.look(&self.config, &self.findings, Instant::now());
        self.record_findings();
        self.follow_device();
        self.look_at_checksums();
        self.retry_vip_checks();
        self.membership.look_at_keys();
        self.look_for_silent_nodes();
        let attached = self.attachment.as_ref().is_some_and(Attachment::is_attached);
        if !attached && if_indextoname(self.index).is_err() {
            // The kernel's word of it was lost.
            self.interface_gone();
        }
        self.membership.set_readiness(|readiness| readiness.data_path = attached);
        match self.file.look(Instant::now()) {
            _ if self.leaving.is_some() => {}
            Look::Nothing => {}
            Look::Read => self.reload("the file changed"),
            Look::StillWritten => self.wait_for_writer("the file changed"),
        }
    }

    /// What was found and what was noted stands among the events from now on.
    fn record_findings(&mut self) {
        self.findings.take_noted().into_iter().for_each(|record| self.events.keep(record));
        for record in self.findings.take_records() {
            self.events.record(record);
        }
    }

    fn purged(&mut self, server: ServerId) {
        let totals = read_totals(&self.data_path.executor.maps().stats, server);
        if let Some(service) = self.purging.remove(&server) {
            self.former.entry(service).or_default().add(totals);
        }
        self.data_path.executor.purged(server);
        let Self { former, config, knowledge, .. } = self;
        let services = || config.services.iter().chain(knowledge.draining.services());
        former.retain(|key, _| services().any(|service| service.key == *key));
    }
}

/// To systemd, if it started us; without it, to nobody.
fn tell_supervisor(state: NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
