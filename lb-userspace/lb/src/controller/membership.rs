//! This director alone, or one of several: what the rest of the controller need not tell apart.
//!
//! - [`orders`]: what operators want done
//! - [`roles`]: the groups' roles here, and their hooks
//! - [`status`]: the cluster as operators ask for it
//! - [`fence`]: the fence command
//! - [`groups`]: groups that come and go by reload
//! - [`keys`]: another node signs with a key that this one does not have
//! - [`silent`]: nodes that are silent, and whether their hosts are there
//! - [`split_brains`]: which reports of two active nodes are worth a line
//! - [`sync_watch`]: nodes that do not answer to what they are told of connections
//! - [`watches`]: whether anybody else answers for the VIPs

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_cluster::auth;
use lb_cluster::hooks::Hooks;
use lb_cluster::machine::{Event, LocalReadiness};
use lb_cluster::member::driver::{Report, Snapshot, TimedReport};
use lb_cluster::member::{LocalContext, Member};
use lb_cluster::references::References;
use lb_cluster::takeover::segments::{self, Holders, Station};
use lb_cluster::words::{self, Names};
use lb_common::mac::Mac;
use lb_model::ids::{GroupId, NodeId};
use lb_model::lease::Leases;
use lb_model::{Cluster, Config, Group, Node};
use lb_net::segment::claimant::Machines;
use lb_net::segment::watch::{Response, Watch};
use lb_system::clock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::fence::fence;
use self::groups::Groups;
use self::keys::KeyWatch;
use self::orders::Out;
use self::roles::RoleHere;
use self::silent::Silent;
use self::split_brains::SplitBrains;
use self::sync_watch::SyncWatch;
use self::watches::{respond, vips_on, watch_segments};
use super::files::{FileChange, Watched};
use super::forwarder::Forwarder;
use super::synchronisation::{Connections, Synchronisation};

mod fence;
mod groups;
mod keys;
mod orders;
mod roles;
mod silent;
mod split_brains;
mod status;
mod sync_watch;
mod watches;

/// How long a stop waits for hooks.
pub(super) const HOOKS: Duration = Duration::from_secs(5);

pub(super) enum Membership {
    Alone(Alone),
    Clustered(Box<Clustered>),
}

/// A director that is always active.
pub(super) struct Alone {
    /// Have the groups' VIPs.
    holders: Holders,
    segments: Vec<Watch>,
}

/// What the membership finds where the director runs.
pub(super) struct Surrounding {
    /// The interfaces of the VIPs, in the order of `Config::interfaces`, and behind them the others
    /// that packets come in by.
    pub stations: Vec<Station>,
    pub leases: Leases,
    pub findings: Findings,
    /// What other directors are told of.
    pub connections: Connections,
}

/// One node of several.
pub(super) struct Clustered {
    cluster: Cluster,
    member: Member,
    /// `None`: it is off.
    synchronisation: Option<Synchronisation>,
    sync_watch: SyncWatch,
    findings: Findings,
    key_file: Watched,
    groups: Groups,
    roles: BTreeMap<GroupId, RoleHere>,
    paths: Vec<String>,
    hooks: Hooks,
    out: Out,
    segments: Vec<Watch>,
    keys: KeyWatch,
    split_brains: SplitBrains,
    silent: Silent,
    _references: Option<References>,
}

/// What happens in the cluster.
pub(super) enum ClusterInput {
    /// The heartbeat thread reports it.
    Member(TimedReport),
    /// So many reference hosts answer.
    References(u8),
}

impl Membership {
    /// Needs a tokio runtime around it. A director that is alone gets no inputs.
    pub(super) async fn start(
        config: &Config,
        surrounding: Surrounding,
    ) -> Result<(Self, UnboundedReceiver<ClusterInput>)> {
        let Surrounding { stations, leases, findings, connections } = surrounding;
        let (sender, inputs) = unbounded_channel();
        let Some(cluster) = &config.cluster else {
            let orders = segments::orders(stations.len());
            let holders = Holders::start(&stations, orders, &findings, |_| true, |_| {})?;
            let orders = holders.orders().clone();
            orders.set_rate(config.announce_rate);
            let respond =
                move |(Response::Conflict(group, ..) | Response::Announce(group))| orders.announce(group);
            return match watch_segments(config, &stations, (&leases, None), &findings, respond).await {
                Ok(segments) => Ok((Self::Alone(Alone { holders, segments }), inputs)),
                Err(error) => {
                    holders.end();
                    Err(error)
                }
            };
        };
        let maintenance = cluster.maintenance_file().is_file();
        if maintenance {
            let text = "this node is in maintenance: it stays out until `lb maintenance off`";
            findings.note(Record::new(Level::Warning, "node_maintenance", text.to_owned()));
        }
        let fence = fence(cluster, &findings);
        let (leases_here, findings_here) = (leases.clone(), findings.clone());
        let stations_here = stations.clone();
        let local = LocalContext {
            stations: stations_here,
            leases: leases_here,
            maintenance,
            fence,
            findings: findings_here,
        };
        let reports = sender.clone();
        // Before it is read, so that no change is missed.
        let key_file = Watched::new(cluster.key_file.clone());
        let member = Member::start(config, cluster, local, move |told| {
            drop(reports.send(ClusterInput::Member(told)));
        })?;
        let respond = respond(member.conflicts(), member.orders().clone());
        let disputes = member.disputes();
        let segments =
            watch_segments(config, &stations, (&leases, Some(&disputes)), &findings, respond).await;
        let main = stations.first().map_or(0, |station| station.interface);
        let watches = segments.and_then(|segments| Ok((segments, watch_references(cluster, main, sender)?)));
        let (segments, references) = match watches {
            Ok(watches) => watches,
            Err(error) => {
                member.end();
                return Err(error);
            }
        };
        let start = |sync| Synchronisation::start(cluster, sync, connections);
        let synchronisation = match cluster.sync.map(start).transpose() {
            Ok(synchronisation) => synchronisation,
            Err(error) => {
                member.end();
                return Err(error);
            }
        };
        let clustered = Clustered {
            key_file,
            synchronisation,
            sync_watch: SyncWatch::default(),
            findings: findings.clone(),
            paths: member.statistics().iter().map(|statistics| statistics.name.clone()).collect(),
            groups: Groups::new(&config.groups),
            roles: config.groups.iter().map(|group| (group.id(), RoleHere::starting(group))).collect(),
            hooks: Hooks::new(cluster.hooks.clone()),
            out: Out { standby: false, maintenance },
            segments,
            keys: KeyWatch::new(findings),
            split_brains: SplitBrains::default(),
            silent: Silent::default(),
            _references: references,
            cluster: cluster.clone(),
            member,
        };
        Ok((Self::Clustered(Box::new(clustered)), inputs))
    }

    fn clustered(&self) -> Option<&Clustered> {
        match self {
            Self::Alone(_) => None,
            Self::Clustered(clustered) => Some(clustered),
        }
    }

    /// The data path is in place: a director that is alone takes its VIPs.
    pub(super) fn begin(&mut self, config: &Config) {
        match self {
            Self::Alone(alone) => alone.holders.orders().hold_all(config),
            Self::Clustered(_) => {
                // Before this node is ready for anything.
                self.follow_synchronisation();
                self.set_readiness(|readiness| readiness.data_path = true);
            }
        }
    }

    pub(super) fn set_readiness(&mut self, change: impl FnOnce(&mut LocalReadiness)) {
        if let Self::Clustered(clustered) = self {
            clustered.member.set_readiness(change);
        }
    }

    pub(super) fn set_config(&mut self, config: &Config) {
        for (segment, watch) in self.segments().iter().enumerate() {
            watch.change(|ours| ours.vips = vips_on(config, segment));
        }
        match self {
            Self::Alone(alone) => {
                alone.holders.orders().set_rate(config.announce_rate);
                alone.holders.orders().hold_all(config);
            }
            Self::Clustered(clustered) => {
                clustered.member.set_config(config, &clustered.cluster);
                clustered.groups.follow(&config.groups);
                for group in &config.groups {
                    clustered.roles.entry(group.id()).or_insert_with(|| RoleHere::starting(group));
                }
            }
        }
    }

    /// The maps hold other servers.
    pub(super) fn set_servers(&self, forwarder: &Forwarder, groups: &[Group]) {
        if let Some(synchronisation) =
            self.clustered().and_then(|clustered| clustered.synchronisation.as_ref())
        {
            let number = |service: &_, target| forwarder.server_id(service, target);
            synchronisation.set_servers(forwarder.applied(), groups, number);
        }
    }

    /// Which nodes know the connections that this one knows.
    pub(super) fn follow_synchronisation(&mut self) {
        if let Self::Clustered(clustered) = self
            && let Some(synchronisation) = &clustered.synchronisation
        {
            let (behind, now) = (synchronisation.behind(&clustered.cluster), Instant::now());
            let unlearned = synchronisation.unlearned(&clustered.cluster);
            clustered.member.set_readiness(|readiness| {
                (readiness.behind, readiness.unlearned) = (behind, unlearned);
            });
            for (node, known) in numbered(&clustered.cluster) {
                let is_silent = clustered.is_heard(node) && !synchronisation.is_up(node);
                if node != clustered.cluster.me && clustered.sync_watch.check(node, is_silent, now) {
                    sync_watch::raise(&clustered.findings, &known.name, synchronisation.port());
                }
            }
        }
    }

    /// The MAC of one of the VIPs' interfaces has changed.
    pub(super) fn set_mac(&self, segment: usize, mac: Mac) {
        if let Some(watch) = self.segments().get(segment) {
            watch.change(|ours| ours.mac = mac);
        }
        match self {
            Self::Alone(alone) => alone.holders.orders().set_mac(segment, mac),
            Self::Clustered(clustered) => clustered.member.set_mac(segment, mac),
        }
    }

    /// The machines that are known on the segments.
    pub(super) fn set_machines(&self, machines: Machines) {
        self.segments().iter().for_each(|watch| watch.change(|ours| ours.machines = machines.clone()));
    }

    fn segments(&self) -> &[Watch] {
        match self {
            Self::Alone(alone) => &alone.segments,
            Self::Clustered(clustered) => &clustered.segments,
        }
    }

    /// The MAC of another node's address; `None`: nobody answers for it.
    pub(super) fn set_node_mac(&self, address: IpAddr, mac: Option<Mac>) {
        let Some(Clustered { cluster, member, .. }) = self.clustered() else { return };
        if let Some((node, _)) = numbered(cluster).find(|(_, known)| known.address == address) {
            member.set_node_mac(node, mac);
        }
    }

    /// Addresses of the nodes that are silent and about which the kernel should be asked again:
    /// whether their hosts still answer.
    pub(super) fn silent_nodes(&mut self) -> Vec<IpAddr> {
        let Self::Clustered(clustered) = self else { return Vec::new() };
        let Clustered { cluster, silent, .. } = clustered.as_mut();
        let due = silent.due(Instant::now());
        numbered(cluster).filter(|(node, _)| due.contains(node)).map(|(_, known)| known.address).collect()
    }

    /// Reads the key file again if it has changed.
    pub(super) fn poll_keys(&mut self) -> Option<Record> {
        let Self::Clustered(clustered) = self else { return None };
        let has_changed = clustered.key_file.poll(Instant::now()) == FileChange::Whole;
        let record = if has_changed { clustered.reload_keys() } else { None };
        clustered.keys.check(&clustered.cluster, clustered.member.statistics());
        record
    }

    /// Returns the event; `None` while the file is being written, which is looked at again.
    pub(super) fn reload_keys(&mut self) -> Option<Record> {
        match self {
            Self::Alone(_) => None,
            Self::Clustered(clustered) => clustered.reload_keys(),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        match self {
            Self::Alone(alone) => alone.holders.has_failed(),
            Self::Clustered(clustered) => clustered.member.has_failed(),
        }
    }

    /// The cluster as this node sees it; `None`: it is alone, or can see nothing any more.
    pub(super) async fn snapshot(&self) -> Option<Snapshot> {
        self.clustered()?.member.snapshot().await.ok()
    }

    /// Has other nodes take what is here.
    pub(super) fn leave(&self) {
        if let Some(clustered) = self.clustered() {
            clustered.member.leave();
        }
    }

    /// Leaves the VIPs of a director that is alone on the interface, for the next `lb`; those of
    /// several are given up. `false`: some may still be there that should not.
    pub(super) async fn leave_behind(self) -> bool {
        match self {
            Self::Alone(_) => true,
            Self::Clustered(_) => self.end().await,
        }
    }

    /// The program goes: others shall not count on it.
    pub(super) fn tell_that_nothing_stays(&mut self) {
        self.set_readiness(|readiness| readiness.data_path = false);
    }

    /// Gives up what VIPs are left. `false`: some may still be on the interface.
    pub(super) async fn end(self) -> bool {
        match self {
            Self::Alone(alone) => alone.holders.end(),
            Self::Clustered(clustered) => {
                let released = clustered.member.end();
                clustered.hooks.finish(HOOKS).await;
                released
            }
        }
    }
}

fn numbered(cluster: &Cluster) -> impl Iterator<Item = (NodeId, &Node)> {
    (0..=u8::MAX).map(NodeId).zip(&cluster.nodes)
}

fn watch_references(
    cluster: &Cluster,
    interface: u32,
    inputs: UnboundedSender<ClusterInput>,
) -> Result<Option<References>> {
    if cluster.references.is_empty() {
        return Ok(None);
    }
    let report = move |reached| drop(inputs.send(ClusterInput::References(reached)));
    References::start(cluster.references.clone(), interface, report).map(Some).context("reference hosts")
}

impl Clustered {
    /// No other node knows what this one knows.
    fn is_alone_in_step(&self) -> bool {
        let behind = |synchronisation: &Synchronisation| synchronisation.behind(&self.cluster).count_ones();
        let others = self.cluster.nodes.len().saturating_sub(1);
        self.synchronisation.as_ref().is_some_and(|known| others > 0 && behind(known) as usize == others)
    }

    fn reload_keys(&mut self) -> Option<Record> {
        let read = self.key_file.read(auth::file::read)?;
        let set = |keys: auth::Keys| {
            if let Some(synchronisation) = &self.synchronisation {
                synchronisation.set_keys(keys.clone());
            }
            self.member.set_keys(keys);
        };
        Some(match read.map(set) {
            Ok(()) => Record::new(Level::Info, "keys_reloaded", "heartbeat keys reloaded".to_owned()),
            Err(error) => {
                let text = format!("heartbeat keys refused, the old ones stay in force: {error:#}");
                Record::new(Level::Error, "keys_refused", text).cause(format!("{error:#}"))
            }
        })
    }

    /// Whether the node was heard within the dead time, by any path.
    fn is_heard(&self, node: NodeId) -> bool {
        let dead = self.cluster.dead;
        let heard = self.member.statistics().iter().filter_map(|path| path.last_heard(node));
        heard.max().is_some_and(|at| clock::now().saturating_sub(at) < dead)
    }

    fn names(&self) -> Names<'_> {
        Names { cluster: &self.cluster, groups: self.groups.known(), paths: &self.paths }
    }
}

impl Membership {
    /// Something happened in the cluster; returns the event. `groups` are the configuration's.
    pub(super) fn receive(&mut self, input: ClusterInput, groups: &[Group]) -> Option<Record> {
        match input {
            ClusterInput::Member(report) => self.report(&report, groups),
            ClusterInput::References(reached) => {
                self.set_readiness(|readiness| readiness.references = reached);
                None
            }
        }
    }

    fn report(&mut self, TimedReport { at, report }: &TimedReport, groups: &[Group]) -> Option<Record> {
        let Self::Clustered(clustered) = self else { return None };
        if !clustered.split_brains.is_recorded(report) {
            return None;
        }
        let record = words::record(report, clustered.names());
        match report {
            Report::Event(Event::PeerDead { peer, .. }) => clustered.silent.add(*peer),
            Report::Event(Event::PeerUp { peer, .. }) => clustered.silent.remove(*peer),
            Report::Event(Event::RoleChanged { group, to, cause, .. }) => {
                clustered.role_changed(*group, *to, cause);
            }
            // It may be back by now.
            Report::Event(Event::GroupRemoved { group }) if clustered.groups.forget(*group, groups) => {
                clustered.roles.remove(group);
            }
            _ => {}
        }
        Some(record.at(*at))
    }

    /// Gives the groups their numbers; the error is what cannot change while `lb` runs.
    pub(super) fn number_groups(&self, groups: &mut [Group]) -> Result<()> {
        // One that is alone holds all groups at any time, whatever their numbers.
        self.clustered().map_or(Ok(()), |clustered| clustered.groups.number(groups))
    }
}
