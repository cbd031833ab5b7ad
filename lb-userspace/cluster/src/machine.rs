//! Who is active for each group of virtual addresses: the decisions of one node of the cluster, and
//! nothing else.
//!
//! The machine owns what this node knows of the others, the role of each group here, and the lease.
//! It has no socket, no clock and no randomness, does not authenticate messages, and does not touch
//! addresses. Its driver hands in what happened and the time since some fixed moment, does what
//! comes out in the order in which it comes out, and calls again with [`Input::Timer`] at
//! [`Machine::next_timeout`]. Work on a group (take-over, release) is done one after the other and
//! answered in that order.
//!
//! # How two are never active at once
//! - **Lease.** The data path is active for a group only until the end of the lease, which is
//!   renewed with each heartbeat sent. It is shorter than the dead time by one interval and a tenth
//!   ([`Settings::longest_lease`]): when a peer finds this node dead, its lease is over, even if
//!   its last heartbeat was lost and the clocks differ by 5 %.
//! - **Late is not early.** Dead times and all other patience are measured on a clock of attention,
//!   which stands still while the machine is not called: a node that was frozen does not take its
//!   own absence for the silence of others. A node that comes back after its lease holds still for
//!   a dead time, and goes on only if nobody took over.
//! - **Release first.** A planned hand-over names its receiver (`offered_to`), which takes the
//!   group on the message "released" and not before. A node that says `Releasing` may still act;
//!   nobody takes the group from it.
//! - **One after the other.** The first in the order of preference among the nodes that say
//!   `Standby` takes a free group at once; each of the next waits three more dead times. A node
//!   that becomes ready says so for one dead time before it claims anything, so that no two find
//!   themselves first at once. Nor does it claim anything on the word of messages that waited
//!   while it was frozen, nor within a dead time after an offer to another node: that one may have
//!   it, and be heard later than the one that offered it.
//! - **After a partition** the two compare what they last told each other: more reference hosts
//!   reached, then any servers at all, then the newer claim (the higher term: it announced last, so
//!   caches point to it already), then the order of preference. The loser releases; the winner
//!   announces again. If the path is cut one way, the one that hears and is not heard gives way
//!   after half a dead time, whatever the comparison says, because the other cannot know.
//!
//! # What is promised, and what that takes for granted
//! 1. **Never two at one moment**, as long as between two working nodes at most one heartbeat in a
//!    row is lost on all paths, or all paths together are late by at most one interval. Beyond that
//!    it is a partition, and two may be active until one hears the other: for instance when two
//!    heartbeats are lost and the sender freezes in just that moment.
//! 2. **Never two for longer than the dead time while a path works between them**, whatever was
//!    lost or late before. The time counts from the moment at which the path works again, and while
//!    both nodes run: one that is frozen or killed stops with its lease, by itself. If heartbeats
//!    come through both ways, of two in a row at least one, it is over after two intervals and a
//!    message's way. If they come through one way only, it takes an interval, a message's way and
//!    half a dead time; here a lost heartbeat starts the time anew.
//!
//! Both take nodes that are configured alike, and clocks that are fast or slow by up to 5 % (1 %,
//! if a lost heartbeat, a late one and a pause come together within one lease). The second takes
//! messages that arrive within a seventh of the dead time. A path on which they queue up for longer
//! (a slow serial line) keeps a node from being found dead, but does not count here. With more than
//! two nodes, two that hear a third but not each other are partitioned for as long as that lasts.
//!
//! # How groups come and go
//! Nodes learn of a group one after the other, and forget it one after the other. A heartbeat names
//! the groups that its sender knows, and a peer that does not name a group neither has it nor could
//! take it. A node that learns of a group knows at once from the last heartbeats who has it, and
//! begins as it does at its start: it removes what an earlier life may have left, looks around for
//! a dead time, and only then claims. One that forgets a group gives it up first, and says so.
//!
//! # Groups that every node serves
//! Of a group of `kind: anycast` nobody is elected: each node that could serve it does (`anycast`).
//! Its lease keeps nobody else away and goes on by itself for minutes; what ends it is that routers
//! send nothing more.
//!
//! # How groups do not swap without end
//! A group leaves a working node by itself only for a node that is better placed ([`Fitness`]) or
//! that is equal and preferred, and only after it has been so without a break for the configured
//! delay: with readiness that does not change, at most two moves. A node whose take-over failed
//! stays out, twice as long after each failure.
//!
//! All of this is tried in a small world (`world`): every placement of few faults (`model`, which
//! tells its bounds), and many faults at random (`simulation`).

use std::time::Duration;

use lb_model::Failback;
use lb_model::ids::{GroupId, MAX_GROUPS, MAX_NODES, NodeId};

use super::message::{Heartbeat, Readiness, Role};
use group::Group;
pub use io::{Cause, Change, Command, Event, Input, LocalReadiness, Output, Refusal, Seen};
pub use node::Fitness;
use node::Node;
pub use settings::{Anycast, GroupSettings, Settings, SettingsError};

mod anycast;
mod change;
mod commands;
mod group;
mod held;
mod idle;
mod io;
mod node;
mod peer;
mod settings;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    node: Node,
    /// By rising id; those too that left the configuration and are not given up yet.
    groups: Vec<Group>,
    started: bool,
    sequence: u64,
    last_beat: Duration,
    next_beat: Duration,
    /// The end of the lease that went with the last heartbeat, whether a group was held or not: the
    /// peers cannot have found this node dead before.
    lease_until: Duration,
}

impl Machine {
    /// `settings` have passed [`Settings::check`]; with others the machine does not panic, but
    /// promises nothing.
    ///
    /// The first call of [`Machine::handle`] should follow at once: it starts with the release of
    /// all groups.
    pub fn new(settings: Settings, now: Duration) -> Self {
        let node = Node::new(settings, now);
        let mut groups: Vec<Group> =
            node.settings.groups.iter().map(|settings| Group::new(settings.clone(), &node)).collect();
        groups.sort_by_key(|group| group.id);
        let lease_until = now.saturating_add(node.settings.lease);
        Self { node, groups, started: false, sequence: 0, last_beat: now, next_beat: now, lease_until }
    }

    pub fn settings(&self) -> &Settings {
        &self.node.settings
    }

    /// The group's role here; `Fault` for a group that does not exist.
    pub fn role(&self, group: GroupId) -> Role {
        self.group(group).map_or(Role::Fault, |group| group.role(&self.node))
    }

    /// Who has the group, as far as this node knows.
    pub fn holder(&self, group: GroupId) -> Option<NodeId> {
        let here = self.group(group)?.is_held();
        if here { Some(self.node.settings.me) } else { self.node.holder(group) }
    }

    /// From when on somebody else who announces the group's addresses disputes them: before that
    /// another node had them, as planned, or this one was away.
    pub fn disputed_from(&self, group: GroupId) -> Duration {
        self.group(group).map_or(Duration::ZERO, |group| group.disputed_from)
    }

    /// All that serve the group, as far as this node knows.
    pub fn active(&self, group: GroupId) -> Vec<NodeId> {
        let here = (self.role(group) == Role::Active).then_some(self.node.settings.me);
        let there = self.node.living().filter(|peer| peer.role(group) == Some(Role::Active));
        let mut active: Vec<NodeId> = here.into_iter().chain(there.map(|peer| peer.id)).collect();
        active.sort_unstable();
        active
    }

    fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// Whether a peer was heard within the dead time.
    pub fn hears(&self, peer: NodeId) -> bool {
        self.node.peer(peer).is_some_and(|peer| peer.alive)
    }

    /// What the others are told of this node.
    pub fn readiness(&self) -> Readiness {
        self.node.to_say().0
    }

    /// Nothing is held or being released: a controller that wants to stop can do so.
    pub fn is_idle(&self) -> bool {
        self.groups.iter().all(Group::is_idle)
    }

    /// When [`Input::Timer`] is wanted.
    pub fn next_timeout(&self) -> Option<Duration> {
        let watched = self.node.watched;
        let patience =
            self.node.deadlines().chain(self.groups.iter().flat_map(|group| group.deadlines(&self.node)));
        let patience = patience.filter(|&deadline| deadline > watched).min();
        let patience = patience.map(|deadline| self.node.now.saturating_add(deadline - watched));
        Some(patience.map_or(self.next_beat, |patience| patience.min(self.next_beat)))
    }

    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.pass_time(now, &mut outputs);
        if !std::mem::replace(&mut self.started, true) {
            outputs.extend(self.groups.iter().map(Group::first_release));
        }
        match input {
            Input::Timer => {}
            Input::Heartbeat(message) => self.node.receive(message, Duration::ZERO, &mut outputs),
            Input::LateHeartbeat { message, age } => self.node.receive(message, age, &mut outputs),
            Input::Readiness(local) => self.node.local = local,
            Input::Changed(change) => self.change(change, &mut outputs),
            Input::Command(command) => self.command(command, &mut outputs),
            Input::TakeoverDone { group } => self.on(group, Group::takeover_done),
            Input::TakeoverFailed { group, why } => {
                let cause = Cause::TakeoverFailed { why };
                self.on(group, |group, node| group.takeover_failed(cause, node, &mut outputs));
            }
            Input::ReleaseDone { group } => self.on(group, Group::release_done),
            Input::Conflict { group, rival, came } => {
                self.on(group, |group, node| group.conflict(rival, came, node, &mut outputs));
            }
        }
        self.node.detect_dead_peers(&mut outputs);
        for group in &mut self.groups {
            group.review(&self.node, &mut outputs);
        }
        self.speak(&mut outputs);
        self.forget_the_removed(&mut outputs);
        self.check_invariants();
        outputs
    }

    fn on(&mut self, group: GroupId, act: impl FnOnce(&mut Group, &Node)) {
        if let Some(group) = self.groups.iter_mut().find(|known| known.id == group) {
            act(group, &self.node);
        }
    }

    /// Time goes on; a call that is late finds out here what that means.
    fn pass_time(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        let pause = self.node.pass_time(now);
        if pause > self.node.settings.late {
            outputs.push(Output::Event(Event::Stalled { pause }));
        }
        self.node.was_absent = self.lease_until <= self.node.now;
        if self.node.was_absent && self.groups.iter().any(Group::may_lose_lease) {
            outputs.push(Output::LeaseLost);
            for group in self.groups.iter_mut().filter(|group| group.may_lose_lease()) {
                group.lose_lease(&self.node, outputs);
            }
        }
    }

    /// Sends a heartbeat when it is due or when something changed that the others must know, and
    /// renews the lease.
    fn speak(&mut self, outputs: &mut Vec<Output>) {
        let mut changed = false;
        for group in &mut self.groups {
            changed |= group.tell(&self.node, outputs);
        }
        changed |= self.node.said != self.node.to_say();
        let now = self.node.now;
        if !changed && now < self.next_beat {
            return;
        }
        let until = self.lease_from(now);
        (self.lease_until, self.next_beat, self.last_beat) = (until, self.beat_after(now), now);
        outputs.push(Output::Send(self.heartbeat()));
        for group in self.groups.iter().filter(|group| group.is_entitled()) {
            outputs.push(Output::RenewLease { group: group.id, until });
        }
    }

    /// A heartbeat that is late renews the lease as if it had been in time: if just this one is
    /// lost, the peers count the dead time from the one before. After the end of the lease nothing
    /// is held, and the count starts anew.
    fn lease_from(&self, now: Duration) -> Duration {
        let Settings { interval, lease, .. } = self.node.settings;
        let anew = self.node.was_absent || self.node.peers.is_empty();
        let counted = if anew { now } else { now.min(self.last_beat.saturating_add(interval)) };
        counted.saturating_add(lease)
    }

    /// Beats keep their time; one that came out of turn or too late sets it anew.
    fn beat_after(&self, now: Duration) -> Duration {
        let interval = self.node.settings.interval;
        let in_time = now >= self.next_beat && now - self.next_beat < interval / 2;
        if in_time { self.next_beat } else { now }.saturating_add(interval)
    }

    fn heartbeat(&mut self) -> Heartbeat {
        self.sequence = self.sequence.saturating_add(1);
        self.node.said = self.node.to_say();
        let (readiness, hears) = self.node.said;
        Heartbeat {
            from: self.node.settings.me,
            session: self.node.settings.session,
            sequence: self.sequence,
            readiness,
            hears,
            config_digest: self.node.settings.config_digest,
            groups: self.groups.iter().map(|group| group.status(&self.node)).collect(),
            standing: None,
        }
    }

    fn check_invariants(&self) {
        for group in &self.groups {
            let fit = group.hindrance(&self.node).is_none();
            debug_assert!(fit || !group.is_held(), "a node that cannot serve holds {:?}", group.id);
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
