//! The start: everything is made, filled and looked at before the first packet is taken.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_alerts::Alerts;
use lb_api::findings::Findings;
use lb_cluster::takeover::segments::Station;
use lb_datapath::kernel;
use lb_datapath::lease::Start;
use lb_model::{Cluster, Config};
use lb_net::routes::Routes;
use lb_system::vital_signs::Watch;
use tokio::sync::mpsc;

use super::announcer::Announcer;
use super::desired::RuntimeState as _;
use super::forwarder::Forwarder;
use super::host;
use super::ingresses::{self, Ingresses};
use super::inheritance::{self, Predecessor};
use super::inputs::{Inputs, Observations};
use super::inspections::Inspections;
use super::interface::{Interface, Role};
use super::lifecycle::Lifecycle;
use super::lives::Estate;
use super::membership::{Membership, Surrounding};
use super::neighbourhood::Neighbourhood;
use super::network::Network;
use super::operators::Operators;
use super::origin::Origin;
use super::program::Program;
use super::runtime::Runtime;
use super::service_manager::{ServiceManager, Step};
use super::viewers::Viewers;
use super::workers::Workers;
use super::{Controller, endpoints, report, service_manager};
use crate::confinement::Confinement;
use crate::device;
use crate::observe::requests::Requests;

/// How long a starting director waits for the first results of checks and for MACs.
const FIRST_RESULTS: Duration = Duration::from_secs(1);

/// What is wrong, told by those who were there before the controller too.
fn findings_of(confinement: &Confinement, alerts: &Alerts, config: &Config) -> Findings {
    let findings = Findings::default();
    confinement.report_to(&findings);
    alerts.begin_life(&findings);
    alerts.follow(config);
    findings
}

impl Controller {
    pub(super) async fn start(estate: Estate) -> Result<(Self, Inputs)> {
        let Estate { config, overlay, file, mut events, alerts, fresh, confinement } = estate;
        if let Some(warning) = kernel::check()? {
            events.record(host::old_kernel(warning));
        }
        let findings = findings_of(&confinement, &alerts, &config);
        let interface = Interface::claim(Role::Main, &config.interface, findings.clone())?;
        let index = interface.index();
        let sizes = inheritance::sizes(&config);
        let mut inherited = match fresh {
            true => None,
            false => inheritance::find(&config.interface, index, &sizes, &mut events),
        };
        let ingresses = Ingresses::claim(&config, index, inherited.as_ref(), &findings).await?;
        let sizes = sizes.with_numbers_of(inherited.as_ref().map_or(&[], |found| &found.servers));
        let (data_path, pinned_maps) = inheritance::data_path(
            inherited.as_mut(),
            &config.interface,
            sizes,
            interface.mac(),
            if config.cluster.is_some() { Start::Standby } else { Start::Active },
            &mut events,
        )?;
        let mut predecessor = Predecessor { inherited, pinned_maps };
        report::table(&data_path.table, config.connections);
        let leases = data_path.leases();
        let forwarder =
            Forwarder::start(data_path, findings.clone()).context("cannot start the sweep's thread")?;

        let connections = forwarder.connections()?;
        let stations: Vec<Station> = [interface.station()].into_iter().chain(ingresses.stations()).collect();
        let always = stations.iter().map(|station| station.interface).collect();
        let surrounding = Surrounding { stations, leases, findings: findings.clone(), connections };
        let (membership, cluster) = Membership::start(&config, surrounding).await?;
        let operators = Operators::open(&config, &findings);
        membership.tell_standing(operators.standing().orders());
        let (verdict_sender, verdicts) = mpsc::unbounded_channel();
        let (neighbour_sender, neighbours) = mpsc::unbounded_channel();
        let (route_sender, routes) = mpsc::unbounded_channel();
        let (table_sender, tables) = mpsc::unbounded_channel();
        let (requests, waiting) = Requests::new();
        let lifecycle = Lifecycle::begin(confinement);
        let neighbourhood = Neighbourhood::start(always, neighbour_sender)?;
        let mut controller = Self {
            origin: Origin::new(file, overlay),
            operators,
            lifecycle,
            program: Program::new(interface, ingresses, forwarder),
            runtime: Runtime::default(),
            workers: Workers::start(verdict_sender).context("cannot start the checks' thread")?,
            network: Network::new(neighbourhood, Routes::start(index, route_sender, table_sender)?),
            membership,
            inspections: Inspections::start(findings.clone())?,
            announcer: Announcer::new(events, findings, alerts),
            viewers: Viewers::default(),
            config,
        };
        let others = controller.program.ingresses.iter().map(Interface::index).collect();
        controller.runtime.ways.set_interfaces(index, others);
        let observations = Observations { verdicts, neighbours, routes, tables };
        let mut inputs = Inputs { observations, requests: waiting, cluster };
        match controller.begin(&mut inputs.observations, requests, &mut predecessor).await {
            Ok(()) => Ok((controller, inputs)),
            Err(error) => {
                controller.membership.end().await;
                Err(error)
            }
        }
    }

    async fn begin(
        &mut self,
        observations: &mut Observations,
        requests: Requests,
        predecessor: &mut Predecessor,
    ) -> Result<()> {
        self.program.forwarder.follow_program_log()?;
        // Checks run meanwhile: the kernel takes its time to verify the programs.
        self.follow_servers();
        let step = Step::begin("starting: the kernel verifies the programs");
        let desired = super::desired::state(&self.config, &self.runtime);
        self.program.forwarder.load_programs(&desired, &|| step.goes_on())?;
        Step::begin("starting: waiting for the first results of checks");
        self.program.forwarder.set_vips(&self.config)?;
        self.presume();
        self.poll_maintenance();
        if let Some(inherited) = &predecessor.inherited {
            self.presume_what_was_known(inherited);
        }
        // What is not known by then comes in as it does while running.
        let _ = tokio::time::timeout(FIRST_RESULTS, self.wait_for_first_results(observations)).await;
        // Before a map is filled: what an lb before this one has left goes on if one is refused.
        // Its servers may need more programs than those of the file.
        let step = Step::begin("starting: the kernel verifies the programs of these services");
        let desired = super::desired::state(&self.config, &self.runtime);
        self.program.forwarder.load_for(&desired, &|| step.goes_on())?;
        Step::begin("starting: filling the maps");
        self.refresh();
        let web = endpoints::serve(&self.config, self.announcer.findings(), requests).await?;
        self.workers.keep_web(web);
        device::prepare(&self.config, self.announcer.findings()).await;
        Step::begin("starting: attaching the program");
        self.take_over(predecessor)?;
        self.follow_vip_checks();
        self.membership.begin(&self.config);
        ingresses::remove_left(&self.config);
        self.lifecycle.service_manager = ServiceManager::new(self.threads());
        service_manager::ready(&self.summary());
        Ok(())
    }

    /// Those without which a director is none.
    fn threads(&self) -> Watch {
        let mut threads = Watch::default();
        let pulses = self.program.forwarder.pulses().into_iter().chain([self.workers.checks.pulse()]);
        for (name, pulse) in pulses.chain(self.membership.pulses()) {
            threads.add(name, pulse);
        }
        threads
    }

    /// Takes verdicts and MACs in until something is known of every server and node: a director
    /// that starts should not send its first clients to the fallback because it has not looked yet.
    async fn wait_for_first_results(&mut self, observations: &mut Observations) {
        while !self.has_seen_all() {
            let observation = observations.next().await;
            self.observe(observation);
        }
    }

    /// Checks through the VIP are answered only once the program is there. Until then their servers
    /// are taken to be well: a restart should take nobody out.
    fn presume(&mut self) {
        let notifications = self.runtime.presume(&self.config, self.lifecycle.age());
        self.notify(notifications);
    }

    fn has_seen_all(&self) -> bool {
        let mut nodes = self.config.cluster.iter().flat_map(Cluster::others);
        nodes.all(|node| self.runtime.mac(node.address).is_some()) && self.runtime.has_seen_all()
    }

    /// Nothing that can fail comes after this, so that a start that failed leaves no program
    /// behind.
    pub(super) fn attach(&mut self) -> Result<()> {
        self.announcer.record_all(self.program.attach(&self.config)?);
        report::missing_vips(&self.config);
        self.inspections.follow_configuration(&self.config);
        Ok(())
    }
}
