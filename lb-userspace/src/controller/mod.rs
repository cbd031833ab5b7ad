//! `lb run`: one task that owns everything and is told what happens.
//!
//! Whatever happens (a verdict, a MAC, a reload) changes what is known; then the desired state is made anew and the
//! difference is carried out. There is no other way into the maps.
//!
//! - [`desired`]: from what is known to what the maps shall hold: pure
//! - `draining`: servers on their way out
//! - `inputs`: what it is told
//! - [`instance`]: one `lb` per interface
//! - `membership`: alone, or one of several directors
//! - `files`: notices that the configuration file changed
//! - `pace`: how often the difference is carried out
//! - `report`: what operators read in the log; `status`: what they ask for; `probing`: checks that they ask for

pub mod desired;
mod draining;
mod files;
mod inputs;
pub mod instance;
mod membership;
mod pace;
mod probing;
mod report;
mod status;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lb_common::server::ServerId;
use nix::net::if_::if_nametoindex;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use self::desired::Knowledge as _;
use self::draining::Draining;
use self::files::Watched;
use self::inputs::{Finding, Findings, Inputs};
use self::instance::Instance;
use self::membership::{Membership, News};
use self::pace::Pace;
use crate::config::{self, Cluster, Config, Service, ServiceKey};
use crate::dataplane::attach::{self, Attachment};
use crate::dataplane::lease::Start;
use crate::dataplane::neighbours::{self, Neighbours};
use crate::dataplane::object::{self, Sizes};
use crate::dataplane::program_log;
use crate::dataplane::sweep::Sweeper;
use crate::dataplane::{Applied, DataPath, maps::read_totals};
use crate::health::net::Net;
use crate::health::{Checker, Verdict};
use crate::observe::events::Events;
use crate::observe::inquiries::{Inquiries, Inquiry};
use crate::observe::view::{Health, Status, Totals};
use crate::observe::{http, socket};
use crate::plan::{self, State, Target};

/// How often the controller looks after what nobody tells it: purged servers, drained servers, the file.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// How long a starting director waits for the first results of checks and for MACs.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// From one look at what is known by then to the next.
const LOOK: Duration = Duration::from_millis(5);

/// What is known of a server's health.
#[derive(Debug, Clone)]
struct Record {
    health: Health,
    reason: Option<String>,
    since: Instant,
}

/// All that is known besides the configuration.
#[derive(Default)]
struct Knowledge {
    health: HashMap<(ServiceKey, IpAddr), Record>,
    macs: HashMap<IpAddr, [u8; 6]>,
    draining: Draining,
}

impl desired::Knowledge for Knowledge {
    fn health(&self, service: &Service, server: IpAddr) -> Health {
        let checked = service.servers.iter().any(|one| one.address == server && !one.checks.is_empty());
        match (checked, self.health.get(&(service.key, server))) {
            (false, _) => Health::Unchecked,
            (true, Some(record)) => record.health,
            (true, None) => Health::Unknown,
        }
    }
    fn mac(&self, server: IpAddr) -> Option<[u8; 6]> {
        self.macs.get(&server).copied()
    }
    fn draining(&self, service: &ServiceKey) -> Vec<IpAddr> {
        self.draining.of(service).map(|server| server.address).collect()
    }
}

/// The running director.
pub struct Controller {
    config: Config,
    file: Watched,
    config_error: Option<String>,
    started: Instant,
    /// Held from the end of the start on.
    attachment: Option<Attachment>,
    data_path: DataPath,
    sweeper: Sweeper,
    checker: Checker,
    neighbours: Neighbours,
    membership: Membership,
    events: Events,
    knowledge: Knowledge,
    pace: Pace,
    /// Totals of servers that have left, by service.
    former: HashMap<ServiceKey, Totals>,
    /// Servers being purged, and whose they were.
    purging: HashMap<ServerId, ServiceKey>,
    _instance: Instance,
}

/// Runs the director of `path` until it is told to stop (SIGTERM, SIGINT).
pub async fn run(path: PathBuf) -> Result<()> {
    let config = config::load(&path)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (mut controller, mut inputs) = Controller::start(config, path).await?;
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = terminate.recv() => break tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => break tracing::info!("SIGINT: stopping"),
            _ = hangup.recv() => controller.reload("SIGHUP"),
            what = inputs.findings.next() => {
                controller.find_out(what)?;
                while let Some(what) = inputs.findings.waiting() {
                    controller.find_out(what)?;
                }
                controller.pace.want();
            }
            () = at(controller.pace.due()) => controller.refresh(),
            Some(news) = inputs.news.recv() => controller.hear(news),
            Some(inquiry) = inputs.inquiries.recv() => controller.answer(inquiry).await,
            _ = housekeeping.tick() => controller.keep_house()?,
        }
    }
    tell_supervisor(NotifyState::Stopping);
    controller.close(&mut inputs.news).await;
    Ok(())
}

impl Controller {
    async fn start(config: Config, path: PathBuf) -> Result<(Self, Inputs)> {
        let instance = Instance::claim(&config.interface)?;
        let index = if_nametoindex(config.interface.as_str()).with_context(|| {
            format!("interface {}: not found; `ip link` lists those there are", config.interface)
        })?;
        let sizes = Sizes::for_connections(config.connections);
        let start = if config.cluster.is_some() { Start::Standby } else { Start::Active };
        let mac = attach::mac_of(&config.interface)?;
        let data_path = DataPath::new(object::load(&sizes)?, sizes, mac, random_keys()?, start)?;
        report::table(&data_path.table, config.connections);
        let sweeper =
            Sweeper::start(Arc::clone(&data_path.table)).context("cannot start the sweep's thread")?;

        let (membership, news) = Membership::start(&config, index, mac, data_path.leases())?;
        let (verdict_sender, verdicts) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        let (inquiries, requests) = Inquiries::new();
        let mut controller = Self {
            file: Watched::new(path),
            config_error: None,
            started: Instant::now(),
            attachment: None,
            data_path,
            sweeper,
            checker: Checker::start(verdict_sender, Net::default())
                .context("cannot start the checks' thread")?,
            neighbours: Neighbours::start(index, event_sender)?,
            membership,
            events: Events::default(),
            knowledge: Knowledge::default(),
            pace: Pace::new(Instant::now()),
            former: HashMap::new(),
            purging: HashMap::new(),
            _instance: instance,
            config,
        };
        let findings = Findings { verdicts, neighbours: events };
        let mut inputs = Inputs { findings, inquiries: requests, news };
        program_log::follow(&mut controller.data_path.ebpf)?;
        object::load_program(&mut controller.data_path.ebpf, object::PROGRAM)?;
        controller.data_path.executor.set_vips(&desired::vips(&controller.config.groups))?;
        controller.follow_servers();
        // What is not known by then comes in as it does while running.
        let _ = tokio::time::timeout(FIRST_LOOK, controller.look_around(&mut inputs.findings)).await;
        controller.refresh();
        controller.serve(inquiries).await?;
        controller.attach(index)?;
        controller.membership.begin(&controller.config.groups);
        tell_supervisor(NotifyState::Ready);
        Ok((controller, inputs))
    }

    /// Takes in what is told until something is known of every server and node: a director that starts should not send
    /// its first clients to the fallback because it has not looked yet.
    async fn look_around(&mut self, findings: &mut Findings) -> Result<()> {
        while !self.has_seen_all() {
            let what = findings.next().await;
            self.find_out(what)?;
            // More comes meanwhile: with thousands of servers a look at all of them is work.
            tokio::time::sleep(LOOK).await;
            while let Some(what) = findings.waiting() {
                self.find_out(what)?;
            }
        }
        Ok(())
    }

    fn has_seen_all(&self) -> bool {
        let mut nodes = self.config.cluster.iter().flat_map(Cluster::others);
        let nodes_seen = nodes.all(|node| self.knowledge.mac(node.address).is_some());
        nodes_seen
            && self.config.services.iter().all(|service| {
                service.servers.iter().all(|server| match self.knowledge.health(service, server.address) {
                    Health::Unknown => false,
                    Health::Down => true,
                    _ => self.knowledge.mac(server.address).is_some(),
                })
            })
    }

    /// The maps are filled by now: the first packet finds everything in its place. Nothing that can fail comes after
    /// this, so that a start that failed leaves no program behind.
    fn attach(&mut self, index: u32) -> Result<()> {
        let interface = &self.config.interface;
        let program = object::program(&mut self.data_path.ebpf, object::PROGRAM)?;
        let attachment = Attachment::new(program, interface, index)?;
        if self.config.cluster.is_some() && !attachment.is_pinned() {
            attachment.detach()?;
            bail!(
                "a cluster needs the BPF file system, where the program stays when lb is killed and gives the addresses \
                 up by itself: mount -t bpf bpf /sys/fs/bpf"
            );
        }
        tracing::info!("XDP program attached to {interface} ({} mode)", attachment.mode().name());
        self.attachment = Some(attachment);
        report::missing_vips(&self.config);
        Ok(())
    }

    async fn serve(&self, inquiries: Inquiries) -> Result<()> {
        let path = &self.config.control.socket;
        let listener = socket::bind(path)?;
        tokio::spawn(told("control socket", socket::serve(listener, inquiries.clone())));
        if let Some(metrics) = &self.config.metrics {
            let listener = tokio::net::TcpListener::bind(metrics.listen).await.with_context(|| {
                format!("metrics: cannot listen on {}: is another program there?", metrics.listen)
            })?;
            tracing::info!("metrics on http://{}/metrics", metrics.listen);
            tokio::spawn(told("metrics", http::serve(listener, inquiries)));
        }
        Ok(())
    }

    /// Makes checks, neighbours and maps those of the configuration.
    fn follow_configuration(&mut self) {
        self.follow_servers();
        self.refresh();
    }

    /// Checks the configuration's servers and follows their MACs, and forgets what was known of others.
    fn follow_servers(&mut self) {
        self.checker.set(&self.config.services);
        let servers = self.config.services.iter().flat_map(|service| &service.servers);
        let nodes = self.config.cluster.iter().flat_map(Cluster::others).map(|node| node.address);
        let addresses: BTreeSet<IpAddr> = servers
            .map(|server| server.address)
            .chain(self.knowledge.draining.addresses())
            .chain(nodes)
            .collect();
        self.knowledge.macs.retain(|address, _| addresses.contains(address));
        self.neighbours.want(addresses);
        self.knowledge.health.retain(|(key, address), _| {
            let service = self.config.services.iter().find(|service| service.key == *key);
            service.is_some_and(|service| service.servers.iter().any(|server| server.address == *address))
        });
    }

    /// Reads the file again. What is wrong with it is told, and the running state stays as it is.
    fn reload(&mut self, why: &str) {
        tell_supervisor(NotifyState::Reloading);
        self.membership.reload_keys();
        match self.reloaded() {
            Ok(config) => {
                tracing::info!("{why}: configuration {} reloaded", self.file.path().display());
                let old = std::mem::replace(&mut self.config, config);
                self.knowledge.draining.reload(&old.services, &self.config.services, Instant::now());
                self.config_error = None;
                if let Err(error) = self.data_path.executor.set_vips(&desired::vips(&self.config.groups)) {
                    tracing::error!("the data path could not be changed: {error:#}");
                }
                self.follow_configuration();
                self.membership.set_config(&self.config);
            }
            Err(error) => {
                tracing::error!("{why}: configuration refused, the old one stays in force: {error:#}");
                self.config_error = Some(format!("{error:#}"));
            }
        }
        tell_supervisor(NotifyState::Ready);
    }

    fn reloaded(&mut self) -> Result<Config> {
        self.file.seen();
        let new = config::load(self.file.path())?;
        let Config {
            interface,
            connections,
            control,
            metrics,
            timeouts: _,
            maintenance: _,
            cluster,
            groups: _,
            services: _,
        } = &self.config;
        for (key, changed) in [
            ("interface", *interface != new.interface),
            ("connections", *connections != new.connections),
            ("control", *control != new.control),
            ("metrics", *metrics != new.metrics),
            ("cluster", *cluster != new.cluster),
        ] {
            if changed {
                bail!("{}: `{key}` cannot change while lb runs; restart it", self.file.path().display());
            }
        }
        if let Some(changed) = self.cluster_change(&new) {
            bail!(
                "{}: {changed} cannot change while lb runs in a cluster; restart it",
                self.file.path().display()
            );
        }
        Ok(new)
    }

    fn find_out(&mut self, what: Finding) -> Result<()> {
        match what {
            Finding::Verdict(verdict) => self.verdict(verdict),
            Finding::Neighbour(event) => self.neighbour(event)?,
        }
        Ok(())
    }

    fn verdict(&mut self, verdict: Verdict) {
        let Verdict { service, server, place: _, state, reason, advice: _, warning: _ } = verdict;
        let health = Health::from(state);
        let known = self.config.services.iter().find(|candidate| candidate.key == service);
        if !known.is_some_and(|service| service.servers.iter().any(|candidate| candidate.address == server)) {
            return; // it was under way when the server left the configuration
        }
        if reason.is_some() {
            // It may have another MAC now, which the kernel would notice only half a minute later.
            self.neighbours.verify(server);
        }
        let now = Instant::now();
        let record = self.knowledge.health.entry((service, server)).or_insert(Record {
            health: Health::Unknown,
            reason: None,
            since: now,
        });
        if record.health != health {
            record.since = now;
        }
        record.health = health;
        record.reason = reason;
    }

    fn neighbour(&mut self, event: neighbours::Event) -> Result<()> {
        if let neighbours::Event::Neighbour(address, Some(mac)) = &event {
            self.membership.set_node_mac(*address, *mac);
        }
        match event {
            neighbours::Event::Neighbour(address, Some(mac)) => {
                if self.knowledge.macs.insert(address, mac) != Some(mac) {
                    tracing::info!("{address} is at {}", report::mac(mac));
                }
            }
            neighbours::Event::Neighbour(address, None) => {
                if self.knowledge.macs.remove(&address).is_some() {
                    tracing::warn!("{address} does not answer ARP on {} any more", self.config.interface);
                }
            }
            neighbours::Event::Interface { mac, up } => {
                self.data_path.executor.set_mac(mac);
                self.membership.set_mac(mac);
                self.membership.set_readiness(|readiness| readiness.link = up);
            }
            neighbours::Event::InterfaceGone => bail!("interface {} is gone", self.config.interface),
        }
        Ok(())
    }

    /// Brings the maps to what is known now.
    fn refresh(&mut self) {
        let began = Instant::now();
        let desired = desired::state(&self.config, &self.knowledge);
        let before: State = self.data_path.applied().clone();
        let Applied { changes, purge, errors } = self.data_path.apply(desired);
        for change in &changes {
            tracing::debug!("{change}");
        }
        for error in &errors {
            tracing::error!("the data path could not be changed: {error:#}");
        }
        report::membership(&before, self.data_path.applied(), &self.config, |key, address| {
            self.knowledge.health.get(&(key, address)).and_then(|record| record.reason.clone())
        });
        for (service, server) in purge {
            self.purging.insert(server, service);
            self.sweeper.purge(server);
        }
        self.tell_servers();
        self.pace.done(began, Instant::now());
    }

    /// How many servers this director could send clients to.
    fn tell_servers(&mut self) {
        let real = |server: &&plan::Server| matches!(server.target, Target::Real(_));
        let services = self.data_path.applied().services.values();
        let servers = services.flat_map(plan::Service::members).filter(real).count();
        self.membership.set_readiness(|readiness| readiness.servers = servers.try_into().unwrap_or(u16::MAX));
    }

    fn keep_house(&mut self) -> Result<()> {
        if self.membership.has_failed() {
            bail!("the thread of the heartbeats or the one that holds the VIPs has ended");
        }
        for server in self.sweeper.purged() {
            self.purged(server);
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
        self.membership.look_at_keys();
        let attached = self.attachment.as_ref().is_some_and(Attachment::is_attached);
        self.membership.set_readiness(|readiness| readiness.data_path = attached);
        if self.file.changed() {
            self.reload("the file changed");
        }
        Ok(())
    }

    /// Gives the VIPs up, takes the program off the interface and the control socket away. All else (maps, checks) goes
    /// with the process.
    async fn close(mut self, news: &mut UnboundedReceiver<News>) {
        self.membership.release().await;
        self.linger(news).await;
        if let Some(Err(error)) = self.attachment.map(Attachment::detach) {
            tracing::warn!("{error:#}");
        }
        self.membership.end().await;
        let path = &self.config.control.socket;
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(%error, "cannot remove {}", path.display());
        }
    }

    async fn answer(&mut self, inquiry: Inquiry) {
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

    fn purged(&mut self, server: ServerId) {
        let totals = read_totals(&self.data_path.executor.maps().stats, server);
        if let Some(service) = self.purging.remove(&server) {
            let former = self.former.entry(service).or_default();
            former.connections += totals.connections;
            former.packets += totals.packets;
            former.bytes += totals.bytes;
        }
        self.data_path.executor.purged(server);
        self.former.retain(|key, _| self.config.services.iter().any(|service| service.key == *key));
    }
}

/// An endpoint that fails leaves the data path alone, but not in silence.
async fn told(what: &str, serving: impl Future<Output = Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!("{what}: {error:#}");
    }
}

/// Then, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// To systemd, if it started us; without it, to nobody.
fn tell_supervisor(state: NotifyState) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

/// Keys of the connection table's hash.
fn random_keys() -> Result<[u64; 2]> {
    let mut keys = [0; 2];
    for key in &mut keys {
        *key = getrandom::u64().context("no random numbers for the connection table's keys")?;
    }
    Ok(keys)
}
