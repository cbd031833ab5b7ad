//! The start: everything is made, filled and looked at before the first packet is taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_datapath::attach::{self, Attachment};
use lb_datapath::device::watch::Watch;
use lb_datapath::kernel;
use lb_datapath::lease::Start;
use lb_datapath::object::{self, Sizes};
use lb_datapath::program_log;
use lb_datapath::sweep::Sweeper;
use lb_health::Checker;
use lb_health::net::Net;
use lb_model::Cluster;
use lb_net::neighbours::Neighbours;
use lb_system::command::queue::Queues;
use nix::net::if_::if_nametoindex;
use sd_notify::NotifyState;
use tokio::sync::mpsc;

use super::desired::Knowledge as _;
use super::inheritance;
use super::inputs::{Inputs, Observations};
use super::instance::Instance;
use super::knowledge::Knowledge;
use super::lives::Estate;
use super::maintenance::Maintenance;
use super::membership::{Membership, Surrounding};
use super::notices::Fallbacks;
use super::pace::Pace;
use super::sources::Sources;
use super::topology::Topology;
use super::vip_checks::VipChecks;
use super::{Controller, report, tell_supervisor};
use crate::firewall::Firewall;
use crate::observe::inquiries::Inquiries;
use crate::sorry::Sorry;

/// How long a starting director waits for the first results of checks and for MACs.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Hooks of servers and services that run at once.
const HOOKS_TOGETHER: usize = 64;

impl Controller {
    pub(super) async fn start(estate: Estate) -> Result<(Self, Inputs)> {
        let Estate { config, file, mut events, fresh } = estate;
        kernel::check()?;
        let instance = Instance::claim(&config.interface)?;
        let index = if_nametoindex(config.interface.as_str()).with_context(|| {
            format!("interface {}: not found; `ip link` lists those there are", config.interface)
        })?;
        let sizes = Sizes::for_connections(config.connections);
        let start = if config.cluster.is_some() { Start::Standby } else { Start::Active };
        let mac = attach::mac_of(&config.interface)?;
        let mut inherited = match fresh {
            true => None,
            false => inheritance::find(&config.interface, index, &sizes, &mut events),
        };
        let (data_path, pinned_maps) =
            inheritance::data_path(inherited.as_mut(), &config.interface, sizes, mac, start)?;
        report::table(&data_path.table, config.connections);
        let sweeper =
            Sweeper::start(Arc::clone(&data_path.table)).context("cannot start the sweep's thread")?;

        let findings = Findings::default();
        let surrounding =
            Surrounding { interface: index, mac, leases: data_path.leases(), findings: findings.clone() };
        let (membership, news) = Membership::start(&config, surrounding).await?;
        let (verdict_sender, verdicts) = mpsc::unbounded_channel();
        let (neighbour_sender, neighbours) = mpsc::unbounded_channel();
        let (inquiries, requests) = Inquiries::new();
        let mut controller = Self {
            file,
            config_error: None,
            started: Instant::now(),
            attachment: None,
            device: Watch::start(&config.interface, index, findings.clone())
                .context("cannot start the thread that watches the interface")?,
            data_path,
            sweeper,
            checker: Checker::start(verdict_sender, Net::default())
                .context("cannot start the checks' thread")?,
            neighbours: Neighbours::start(index, neighbour_sender)?,
            membership,
            events,
            firewall: Firewall::start(findings.clone())
                .context("cannot start the thread that looks at the host's firewall")?,
            findings,
            sources: Sources::default(),
            unfinished: 0,
            leaving: None,
            knowledge: Knowledge::default(),
            pace: Pace::new(Instant::now()),
            fallbacks: Fallbacks::default(),
            maintenance: Maintenance::default(),
            sorry: Sorry::default(),
            vip_checks: VipChecks::default(),
            topology: Topology::default(),
            hooks: Queues::new(HOOKS_TOGETHER),
            inherited,
            pinned_maps,
            former: HashMap::new(),
            purging: HashMap::new(),
            _instance: instance,
            config,
            index,
        };
        let observations = Observations { verdicts, neighbours };
        let mut inputs = Inputs { observations, inquiries: requests, news };
        match controller.begin(&mut inputs.observations, inquiries).await {
            Ok(()) => Ok((controller, inputs)),
            Err(error) => {
                controller.membership.end().await;
                Err(error)
            }
        }
    }

    async fn begin(&mut self, observations: &mut Observations, inquiries: Inquiries) -> Result<()> {
        program_log::follow(&mut self.data_path.ebpf)?;
        // Checks run meanwhile: the kernel takes its time to verify the programs.
        self.follow_servers();
        self.data_path.load_programs()?;
        self.data_path.executor.set_vips(&Vec::from_iter(self.config.grouped_vips()))?;
        self.presume();
        self.look_at_maintenance();
        self.presume_what_was_known();
        // What is not known by then comes in as it does while running.
        let _ = tokio::time::timeout(FIRST_LOOK, self.look_around(observations)).await;
        self.refresh();
        self.serve(inquiries).await?;
        self.take_over()?;
        self.follow_vip_checks();
        self.membership.begin(&self.config.groups);
        tell_supervisor(NotifyState::Ready);
        tell_supervisor(NotifyState::Status(&format!("running on {}", self.config.interface)));
        Ok(())
    }

    /// Takes in what is told until something is known of every server and node: a director that starts should not send
    /// its first clients to the fallback because it has not looked yet.
    async fn look_around(&mut self, observations: &mut Observations) {
        while !self.has_seen_all() {
            let what = observations.next().await;
            self.find_out(what);
        }
    }

    /// Checks through the VIP are answered only once the program is there. Until then their servers are taken to be well:
    /// a restart should take nobody out.
    fn presume(&mut self) {
        let notices = self.knowledge.presume(&self.config, self.started.elapsed());
        self.tell(notices);
    }

    fn has_seen_all(&self) -> bool {
        let mut nodes = self.config.cluster.iter().flat_map(Cluster::others);
        nodes.all(|node| self.knowledge.mac(node.address).is_some()) && self.knowledge.has_seen_all()
    }

    /// The maps are filled by now: the first packet finds everything in its place. Nothing that can fail comes after
    /// this, so that a start that failed leaves no program behind.
    pub(super) fn attach(&mut self) -> Result<()> {
        let modes = self.modes();
        let interface = &self.config.interface;
        let program = object::program(&mut self.data_path.ebpf, object::PROGRAM)?;
        let attachment = Attachment::new(program, interface, self.index, modes)?;
        if self.config.cluster.is_some() && !attachment.is_pinned() {
            attachment.detach_for_good()?;
            bail!(
                "a cluster needs the BPF file system, where the program stays when lb is killed and gives the addresses \
                 up by itself: mount -t bpf bpf /sys/fs/bpf, or start lb with CAP_SYS_ADMIN, and it does so itself"
            );
        }
        let text = format!("XDP program attached to {interface} ({} mode)", attachment.mode().name());
        self.events.record(Record::new(Level::Info, "attached", text));
        self.attachment = Some(attachment);
        self.watch_device();
        report::missing_vips(&self.config);
        self.firewall.look(&self.config);
        Ok(())
    }
}
