//! This director alone, or one of several: what the rest of the controller need not tell apart.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Controller;
use super::files::Watched;
use crate::cluster::conflict::{Claim, Listener};
use crate::cluster::hooks::{self, Hooks};
use crate::cluster::machine::{self, Cause, Event, LocalReadiness, Refusal};
use crate::cluster::member::driver::{Fence, Report, Sight, Told};
use crate::cluster::member::{Member, Place};
use crate::cluster::message::{GroupId, NodeId, Role};
use crate::cluster::reason::DropReason;
use crate::cluster::references::References;
use crate::cluster::takeover::holder::{self, Holder};
use crate::cluster::transport::now;
use crate::cluster::transport::statistics::Statistics;
use crate::cluster::words::{self, Names};
use crate::command::environment;
use crate::config::{Cluster, Config, Group};
use crate::dataplane::lease::Leases;
use crate::observe::inquiries::Order;
use crate::observe::view::{
    ClusterStatus, Count, GroupStatus, Heard, Move, NodeReadiness, NodeStatus, PathStatus,
};

/// How often a stopping director looks whether connections still run through it.
const LOOK: Duration = Duration::from_millis(20);
/// How long a stop waits for hooks.
pub(super) const HOOKS: Duration = Duration::from_secs(5);
/// A director through which nothing came for so long is not needed any more.
const QUIET: Duration = Duration::from_millis(250);

pub(super) enum Membership {
    /// Always active; the holder has the groups' VIPs.
    Alone(Holder),
    Clustered(Box<Clustered>),
}

/// One node of several.
pub(super) struct Clustered {
    cluster: Cluster,
    member: Member,
    key_file: Watched,
    /// Of each group here, and since when and why.
    roles: Vec<RoleHere>,
    paths: Vec<String>,
    hooks: Hooks,
    /// This node's own on the VIPs' interface: announcements with it are no conflict.
    mac: [u8; 6],
    _references: Option<References>,
}

/// What the cluster's part of the controller is told.
pub(super) enum News {
    Told(Told),
    /// Somebody announces an address.
    Claim(Claim),
    /// So many reference hosts answer.
    References(u8),
}

struct RoleHere {
    since: Instant,
    /// Why the group was taken, released or cannot be taken; not merely that this is done.
    cause: String,
    /// The last one that was neither acquiring nor releasing.
    settled: Role,
}

impl Membership {
    /// Needs a tokio runtime around it. A director that is alone hears no news.
    pub(super) fn start(
        config: &Config,
        interface: u32,
        mac: [u8; 6],
        leases: Leases,
    ) -> Result<(Self, UnboundedReceiver<News>)> {
        let (sender, news) = unbounded_channel();
        let Some(cluster) = &config.cluster else {
            let holder = Holder::start(interface, mac, holder::orders(), |_| {})?;
            return Ok((Self::Alone(holder), news));
        };
        let maintenance = cluster.maintenance_file().is_file();
        if maintenance {
            tracing::warn!("this node is in maintenance: it stays out until `lb maintenance off`");
        }
        let place = Place { interface, mac, leases, maintenance, fence: fence(config, cluster) };
        let reports = sender.clone();
        // Before it is read, so that no change is missed.
        let key_file = Watched::new(cluster.key_file.clone());
        let member = Member::start(config, cluster, place, move |told| drop(reports.send(News::Told(told))))?;
        listen_for_claims(interface, sender.clone())?;
        let references = watch_references(cluster, interface, sender)?;
        let started =
            || RoleHere { since: Instant::now(), cause: "starting".to_owned(), settled: Role::Fault };
        let clustered = Clustered {
            key_file,
            paths: member.statistics().iter().map(|statistics| statistics.name.clone()).collect(),
            roles: config.groups.iter().map(|_| started()).collect(),
            hooks: Hooks::new(cluster.hooks.clone()),
            mac,
            _references: references,
            cluster: cluster.clone(),
            member,
        };
        Ok((Self::Clustered(Box::new(clustered)), news))
    }

    fn clustered(&self) -> Option<&Clustered> {
        match self {
            Self::Alone(_) => None,
            Self::Clustered(clustered) => Some(clustered),
        }
    }

    /// The data path is in place: a director that is alone takes its VIPs.
    pub(super) fn begin(&mut self, groups: &[Group]) {
        match self {
            Self::Alone(holder) => holder.orders().hold_all(groups),
            Self::Clustered(clustered) => {
                clustered.member.set_readiness(|readiness| readiness.data_path = true);
            }
        }
    }

    pub(super) fn set_readiness(&mut self, change: impl FnOnce(&mut LocalReadiness)) {
        if let Self::Clustered(clustered) = self {
            clustered.member.set_readiness(change);
        }
    }

    pub(super) fn set_config(&self, config: &Config) {
        match self {
            Self::Alone(holder) => holder.orders().hold_all(&config.groups),
            Self::Clustered(clustered) => clustered.member.set_config(config),
        }
    }

    pub(super) fn set_mac(&mut self, mac: [u8; 6]) {
        match self {
            Self::Alone(holder) => holder.orders().set_mac(mac),
            Self::Clustered(clustered) => {
                clustered.mac = mac;
                clustered.member.set_mac(mac);
            }
        }
    }

    /// The MAC of another node's address.
    pub(super) fn set_node_mac(&self, address: IpAddr, mac: [u8; 6]) {
        let Some(Clustered { cluster, member, .. }) = self.clustered() else { return };
        if let Some(node) = (0..=u8::MAX).zip(&cluster.nodes).find(|(_, node)| node.address == address) {
            member.set_node_mac(node.0, mac);
        }
    }

    /// Reads the key file again if it has changed.
    pub(super) fn look_at_keys(&mut self) {
        if let Self::Clustered(clustered) = self
            && clustered.key_file.changed()
        {
            self.reload_keys();
        }
    }

    pub(super) fn reload_keys(&mut self) {
        let Self::Clustered(clustered) = self else { return };
        clustered.key_file.seen();
        match clustered.member.reload_keys(&clustered.cluster) {
            Ok(()) => tracing::info!("heartbeat keys reloaded"),
            Err(error) => tracing::error!("heartbeat keys refused, the old ones stay in force: {error:#}"),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        match self {
            Self::Alone(holder) => holder.has_failed(),
            Self::Clustered(clustered) => clustered.member.has_failed(),
        }
    }

    /// Gives all VIPs up; in a cluster another node takes them.
    pub(super) async fn release(&self) {
        if let Some(clustered) = self.clustered() {
            clustered.member.release().await;
        }
    }

    pub(super) async fn end(self) {
        match self {
            Self::Alone(holder) => holder.end(),
            Self::Clustered(clustered) => {
                clustered.member.end();
                clustered.hooks.finish(HOOKS).await;
            }
        }
    }
}

/// Without a fence command nothing is waited for.
fn fence(config: &Config, cluster: &Cluster) -> Option<Fence> {
    let command = cluster.fence.clone()?;
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let groups: Vec<String> = config.groups.iter().map(|group| group.name.clone()).collect();
    let me = nodes.get(usize::from(cluster.me)).cloned().unwrap_or_default();
    // Called on the heartbeat thread; what it returns runs on the holder's.
    Some(Box::new(move |silent, group| {
        let name = |names: &[String], place: u8| names.get(usize::from(place)).cloned().unwrap_or_default();
        let silent: Vec<String> = silent.iter().map(|node| name(&nodes, node.0)).collect();
        let (command, me, group) = (command.clone(), me.clone(), name(&groups, group.0));
        Box::pin(async move {
            for node in silent {
                tracing::warn!("fencing node {node} before group {group} is taken");
                let environment = environment([("NODE", &me), ("DEAD_NODE", &node), ("GROUP", &group)]);
                let fenced = hooks::fence(&command, &environment).await;
                fenced.map_err(|why| format!("fencing {node}: {why}"))?;
            }
            Ok(())
        })
    }))
}

fn listen_for_claims(interface: u32, news: UnboundedSender<News>) -> Result<()> {
    let mut listener =
        Listener::open(interface).context("cannot listen for others that announce the VIPs")?;
    tokio::spawn(async move {
        loop {
            match listener.next().await {
                Ok(claim) if news.send(News::Claim(claim)).is_err() => return,
                Ok(_) => {}
                Err(error) => {
                    return tracing::error!("announcements of VIPs by others are not seen any more: {error}");
                }
            }
        }
    });
    Ok(())
}

fn watch_references(
    cluster: &Cluster,
    interface: u32,
    news: UnboundedSender<News>,
) -> Result<Option<References>> {
    if cluster.references.is_empty() {
        return Ok(None);
    }
    let report = move |reached| drop(news.send(News::References(reached)));
    References::start(cluster.references.clone(), interface, report).map(Some).context("reference hosts")
}

impl Clustered {
    fn role_changed(&mut self, group: GroupId, to: Role, cause: &Cause, groups: &[Group]) {
        let (text, node) = {
            let names = self.names(groups);
            (words::cause(cause, names), names.node(NodeId(self.cluster.me)))
        };
        let place = usize::from(group.0);
        let (Some(here), Some(config)) = (self.roles.get_mut(place), groups.get(place)) else { return };
        here.since = Instant::now();
        if *cause != Cause::Done {
            here.cause = text;
        }
        let event = match to {
            Role::Active => hooks::Event::Active,
            Role::Standby => hooks::Event::Standby,
            Role::Fault if words::is_meant(cause) => return here.settled = to,
            Role::Fault => hooks::Event::Fault,
            Role::Acquiring | Role::Releasing => return,
        };
        let previous = std::mem::replace(&mut here.settled, to);
        if previous == to {
            return;
        }
        let vips: Vec<String> = config.vips.iter().map(|vip| vip.address.to_string()).collect();
        let environment = environment([
            ("GROUP", &config.name),
            ("ROLE", event.name()),
            ("PREVIOUS_ROLE", words::role(previous)),
            ("CAUSE", &here.cause),
            ("NODE", &node),
            ("VIPS", &vips.join(" ")),
        ]);
        self.hooks.run(&config.name, event, environment);
    }

    fn names<'a>(&'a self, groups: &'a [Group]) -> Names<'a> {
        Names { cluster: &self.cluster, groups, paths: &self.paths }
    }
}

/// Of all groups together: what must not be cut off when this director stops.
#[derive(Debug, PartialEq, Eq)]
struct Traffic {
    established: u64,
    packets: u64,
}

impl Controller {
    /// Something happened in the cluster.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Told(told) => self.told(&told),
            News::Claim(claim) => self.claimed(claim),
            News::References(reached) => {
                self.membership.set_readiness(|readiness| readiness.references = reached);
            }
        }
    }

    fn told(&mut self, Told { at, report }: &Told) {
        let Membership::Clustered(clustered) = &mut self.membership else { return };
        let record = words::record(report, clustered.names(&self.config.groups));
        if let Report::Event(Event::RoleChanged { group, to, cause, .. }) = report {
            clustered.role_changed(*group, *to, cause, &self.config.groups);
        }
        self.events.record(record.at(*at));
    }

    /// Somebody announces an address: a conflict if it is one of ours and somebody else. The machine knows whether this
    /// node means to have it.
    fn claimed(&self, claim: Claim) {
        let Some(clustered) = self.membership.clustered() else { return };
        if claim.mac == clustered.mac {
            return;
        }
        if let Some(group) = self.config.group_of(claim.address) {
            tracing::debug!("{} is announced by {}", claim.address, super::report::mac(claim.mac));
            clustered.member.conflict(group);
        }
    }

    /// Which groups move because of the order; or why it is refused.
    pub(super) async fn order(&mut self, order: Order) -> Result<Vec<Move>, String> {
        let Some(clustered) = self.membership.clustered() else {
            return Err("this director is alone: its configuration has no `cluster`".to_owned());
        };
        let groups = &self.config.groups;
        let sight = clustered.member.look().await.map_err(|error| format!("{error:#}"))?;
        let ordered = Ordered { clustered, groups, sight };
        match order {
            Order::Failover(group) => ordered.move_groups(group, machine::Command::Failover).await,
            Order::Failback(group) => ordered.move_groups(group, machine::Command::Failback).await,
            Order::Standby => ordered.leave(machine::Command::Standby).await,
            Order::Resume => ordered.tell(machine::Command::Resume).await,
            Order::Maintenance(on) => {
                remember(&clustered.cluster, on).map_err(|error| format!("{error:#}"))?;
                let command = machine::Command::Maintenance(on);
                if on { ordered.leave(command).await } else { ordered.tell(command).await }
            }
        }
    }

    pub(super) async fn cluster_status(&self) -> Option<ClusterStatus> {
        let clustered = self.membership.clustered()?;
        let sight = clustered.member.look().await.ok()?;
        let names = clustered.names(&self.config.groups);
        let nodes = clustered.cluster.nodes.iter().zip(&sight.nodes).map(|(node, sight)| NodeStatus {
            name: node.name.clone(),
            address: node.address,
            alive: sight.alive,
            readiness: sight.readiness.map(|readiness| NodeReadiness {
                data_path: readiness.data_path,
                link: readiness.link,
                maintenance: readiness.maintenance,
                servers: readiness.servers,
                references: readiness.references,
            }),
            config_agrees: sight.config_agrees,
        });
        let groups = self.config.groups.iter().zip(&sight.groups).zip(&clustered.roles);
        let groups = groups.map(|((group, sight), here)| GroupStatus {
            name: group.name.clone(),
            vips: group.vips.iter().map(|vip| vip.address).collect(),
            role: words::role(sight.role).to_owned(),
            since_s: here.since.elapsed().as_secs(),
            cause: here.cause.clone(),
            holder: sight.holder.map(|node| names.node(node)),
            preferred: group.nodes.first().map(|&node| names.node(NodeId(node))).unwrap_or_default(),
            serves_on: sight.serves_on,
        });
        Some(ClusterStatus {
            name: clustered.cluster.name.clone(),
            node: names.node(NodeId(clustered.cluster.me)),
            nodes: nodes.collect(),
            groups: groups.collect(),
            paths: clustered.member.statistics().iter().map(|path| path_status(path, names)).collect(),
        })
    }

    /// Waits for the connections that still run through this director after another has taken its groups.
    pub(super) async fn linger(&mut self, news: &mut UnboundedReceiver<News>) {
        while let Ok(news) = news.try_recv() {
            self.hear(news);
        }
        let Some(clustered) = self.membership.clustered() else { return };
        // This node itself is one of them.
        let living = |sight: &Sight| sight.nodes.iter().filter(|node| node.alive).count();
        if clustered.member.look().await.is_ok_and(|sight| living(&sight) < 2) {
            return;
        }
        let deadline = Instant::now() + clustered.cluster.linger;
        let (mut last, mut quiet_since) = (self.traffic(), Instant::now());
        while Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
            while let Ok(news) = news.try_recv() {
                self.hear(news);
            }
            let traffic = self.traffic();
            if traffic.packets != last.packets {
                quiet_since = Instant::now();
            }
            last = traffic;
            if last.established == 0 && quiet_since.elapsed() >= QUIET {
                return;
            }
        }
        if last.established > 0 {
            tracing::warn!("stopping while {} connections still run through this director", last.established);
        }
    }

    fn traffic(&self) -> Traffic {
        let services =
            self.config.services.iter().filter(|service| self.config.group_of(service.key.vip).is_some());
        let mut traffic = Traffic { established: 0, packets: 0 };
        for service in services {
            for (active, totals) in self.carried(&service.key) {
                traffic.established += u64::from(active);
                traffic.packets += totals.packets;
            }
        }
        traffic
    }

    /// `None`: nothing that the cluster goes by has changed. Otherwise what may not change while `lb` runs.
    pub(super) fn cluster_change(&self, new: &Config) -> Option<&'static str> {
        self.config.cluster.as_ref()?;
        let fixed = |group: &Group| (group.name.clone(), group.nodes.clone(), group.failback);
        let same = self.config.groups.iter().map(fixed).eq(new.groups.iter().map(fixed));
        (!same).then_some("groups (their names, order, `nodes` and `failback`)")
    }
}

/// An order, and what it is about.
struct Ordered<'a> {
    clustered: &'a Clustered,
    groups: &'a [Group],
    sight: Sight,
}

impl Ordered<'_> {
    /// The outer error: nobody could be asked.
    async fn give(&self, command: machine::Command) -> Result<Result<(), Refusal>, String> {
        self.clustered.member.command(command).await.map_err(|error| format!("{error:#}"))
    }

    /// For commands that are never refused.
    async fn tell(&self, command: machine::Command) -> Result<Vec<Move>, String> {
        self.give(command).await.map(|_| Vec::new())
    }

    /// The named group, or all that the command is for. Those it is not for are passed over, unless none is left.
    async fn move_groups(
        &self,
        group: Option<String>,
        command: fn(GroupId) -> machine::Command,
    ) -> Result<Vec<Move>, String> {
        let numbered: Vec<(GroupId, &Group)> = (0..=u8::MAX).map(GroupId).zip(self.groups).collect();
        let chosen = match &group {
            None => numbered,
            Some(name) => {
                let found = numbered.iter().find(|(_, group)| group.name == *name);
                let known = || self.groups.iter().map(|group| &*group.name).collect::<Vec<_>>().join(", ");
                vec![*found.ok_or_else(|| format!("there is no group {name:?}; there are: {}", known()))?]
            }
        };
        let (mut moves, mut refused, mut not_meant) = (Vec::new(), Vec::new(), Vec::new());
        for (id, group) in chosen {
            let why = match self.give(command(id)).await? {
                Ok(()) => {
                    moves.extend(self.leaving(id, group));
                    continue;
                }
                Err(why) => why,
            };
            let text = format!("{}: {}", group.name, words::refusal(why, self.clustered.names(self.groups)));
            let passed_over = matches!(why, Refusal::NotHere { .. } | Refusal::AlreadyThere);
            if passed_over { not_meant.push(text) } else { refused.push(text) }
        }
        if refused.is_empty() && !moves.is_empty() {
            return Ok(moves);
        }
        refused.extend(moves.iter().map(|moved| format!("{}: leaves {}", moved.group, moved.from)));
        Err(if refused.is_empty() { not_meant } else { refused }.join("\n"))
    }

    /// Everything that is here goes.
    async fn leave(&self, command: machine::Command) -> Result<Vec<Move>, String> {
        self.tell(command).await?;
        let here = (0..=u8::MAX).map(GroupId).zip(self.groups).filter(|(id, _)| self.is_here(*id));
        let another_lives = self.sight.nodes.iter().filter(|node| node.alive).count() > 1;
        Ok(if another_lives {
            here.filter_map(|(id, group)| self.leaving(id, group)).collect()
        } else {
            Vec::new()
        })
    }

    fn is_here(&self, id: GroupId) -> bool {
        self.sight
            .groups
            .get(usize::from(id.0))
            .is_some_and(|group| matches!(group.role, Role::Active | Role::Acquiring))
    }

    fn leaving(&self, id: GroupId, group: &Group) -> Option<Move> {
        let holder = self.sight.groups.get(usize::from(id.0))?.holder?;
        let names = self.clustered.names(self.groups);
        Some(Move { group: group.name.clone(), from: names.node(holder) })
    }
}

/// Maintenance outlives a restart.
fn remember(cluster: &Cluster, maintenance: bool) -> Result<()> {
    let file = cluster.maintenance_file();
    let remember = || match maintenance {
        true => {
            fs::create_dir_all(&cluster.state)?;
            fs::write(&file, "Made by `lb maintenance on`; `lb maintenance off` removes it.\n")
        }
        false => match fs::remove_file(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        },
    };
    remember().with_context(|| format!("cannot remember maintenance mode in {}", file.display()))
}

fn path_status(path: &Statistics, names: Names<'_>) -> PathStatus {
    use std::sync::atomic::Ordering::Relaxed;
    let now = now();
    let nodes = (0..=u8::MAX).map(NodeId).take(names.cluster.nodes.len());
    let heard = nodes.filter_map(|node| {
        let ago = now.saturating_sub(path.last_heard(node)?);
        Some(Heard { node: names.node(node), ago_ms: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX) })
    });
    PathStatus {
        name: path.name.clone(),
        open: path.open.load(Relaxed),
        sent: path.sent.load(Relaxed),
        send_errors: path.send_errors.load(Relaxed),
        received: path.received.load(Relaxed),
        heard: heard.collect(),
        dropped: DropReason::ALL
            .iter()
            .map(|reason| Count { reason: reason.label().to_owned(), count: path.dropped(*reason) })
            .collect(),
    }
}
