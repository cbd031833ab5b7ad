//! What is known of another node: its last heartbeat, and whether it lives.

use std::time::Duration;

use super::super::message::{GroupStatus, Readiness};
use super::{Event, Fitness, GroupId, Heartbeat, NodeId, Role, Settings};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub id: NodeId,
    /// Heard within the dead time.
    pub alive: bool,
    /// When the last message came, on the machine's clock of attention.
    pub heard: Duration,
    /// Of the last heartbeat; none was heard in this life of ours if it is missing.
    pub last: Option<Last>,
    /// What its earlier life had when that was last heard, and this one does not know: the lease
    /// may run until then.
    left: Vec<(GroupStatus, Duration)>,
    /// The peer's digest, if it differs and that has been said.
    odd_digest: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Last {
    pub session: u64,
    pub sequence: u64,
    pub readiness: Readiness,
    pub hears: u16,
    pub groups: Vec<GroupStatus>,
}

impl Peer {
    pub(super) fn new(id: NodeId) -> Self {
        Self { id, alive: false, heard: Duration::ZERO, last: None, left: Vec::new(), odd_digest: None }
    }

    /// Whether the message is newer than all before; a copy over a second path or one that was
    /// overtaken says nothing.
    pub(super) fn is_news(&self, message: &Heartbeat) -> bool {
        let newest = self.last.as_ref().map(|last| (last.session, last.sequence));
        newest.is_none_or(|newest| newest < (message.session, message.sequence))
    }

    /// Takes a message in that is news.
    pub(super) fn receive(
        &mut self,
        message: Heartbeat,
        watched: Duration,
        settings: &Settings,
        events: &mut Vec<Event>,
    ) {
        let (peer, session) = (self.id, message.session);
        let silent = watched.saturating_sub(self.heard);
        let known = self.last.as_ref().map(|last| last.session);
        if !self.alive {
            events.push(Event::PeerUp { peer, session });
        } else if known != Some(session) {
            events.push(Event::PeerRestarted { peer, session });
        } else if silent > settings.late {
            events.push(Event::PeerLate { peer, silent });
        }
        if known.is_some_and(|known| known != session) {
            self.leave(self.heard.saturating_add(settings.dead));
        }
        let Heartbeat { from: _, session, sequence, readiness, hears, config_digest: _, mut groups, .. } =
            message;
        self.left.retain(|(status, until)| {
            watched < *until && groups.iter().all(|group| group.group != status.group)
        });
        groups.extend(self.left.iter().map(|(status, _)| *status));
        // One that has waited may have come before another one, by another path.
        (self.alive, self.heard) = (true, self.heard.max(watched));
        self.last = Some(Last { session, sequence, readiness, hears, groups });
    }

    /// Its life is over. What it had, nobody takes before its lease must have run out: the next
    /// life may not know of it.
    fn leave(&mut self, until: Duration) {
        let had = self.last.iter().flat_map(|last| &last.groups);
        let had = had.filter(|status| !matches!(status.role, Role::Fault | Role::Standby));
        let had = had.map(|status| GroupStatus { role: Role::Releasing, offered_to: None, ..*status });
        self.left = had.map(|status| (status, until)).collect();
    }

    pub(super) fn compare_digests(&mut self, ours: u64, theirs: u64, events: &mut Vec<Event>) {
        let odd = (ours != theirs).then_some(theirs);
        if odd != self.odd_digest {
            events.push(match odd {
                Some(theirs) => Event::ConfigDiffers { peer: self.id, ours, theirs },
                None => Event::ConfigAgrees { peer: self.id },
            });
            self.odd_digest = odd;
        }
    }

    /// How the group stands there, as far as a living peer told.
    pub(super) fn group(&self, group: GroupId) -> Option<&GroupStatus> {
        self.told(group).filter(|_| self.alive)
    }

    /// What the peer last told of `group`, whether the peer is dead or alive.
    pub(super) fn told(&self, group: GroupId) -> Option<&GroupStatus> {
        self.last.as_ref()?.groups.iter().find(|status| status.group == group)
    }

    pub(super) fn role(&self, group: GroupId) -> Option<Role> {
        self.group(group).map(|status| status.role)
    }

    /// Has the group and means to keep it.
    pub(super) fn holds(&self, group: GroupId) -> bool {
        matches!(self.role(group), Some(Role::Acquiring | Role::Active))
    }

    /// May still act for the group.
    pub(super) fn blocks(&self, group: GroupId) -> bool {
        self.holds(group) || self.role(group) == Some(Role::Releasing)
    }

    /// Could take the group.
    pub(super) fn waits(&self, group: GroupId) -> bool {
        self.role(group) == Some(Role::Standby)
    }

    pub(super) fn yielded(&self, group: GroupId) -> bool {
        self.group(group).is_some_and(|status| status.yielded)
    }

    pub(super) fn hears(&self, node: NodeId) -> bool {
        self.alive && self.last.as_ref().is_some_and(|last| last.hears & node_bit(node) != 0)
    }

    pub(super) fn fitness(&self) -> Fitness {
        self.last.as_ref().map(|last| Fitness::of(&last.readiness)).unwrap_or_default()
    }

    pub(super) fn servers(&self) -> u16 {
        self.last.as_ref().map_or(0, |last| last.readiness.servers)
    }

    pub(super) fn references(&self) -> u8 {
        self.last.as_ref().map_or(0, |last| last.readiness.references)
    }

    pub(super) fn session(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.session)
    }
}

/// The node's place in [`Heartbeat::hears`].
pub(super) fn node_bit(node: NodeId) -> u16 {
    1u16.checked_shl(node.0.into()).unwrap_or(0)
}
