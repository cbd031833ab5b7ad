//! What is true of the whole node: time, readiness, peers. The groups look at it, and only the
//! machine changes it.

use std::time::Duration;

use super::peer::{Peer, node_bit};
use super::{
    Cause, Event, GroupId, GroupSettings, Heartbeat, LocalReadiness, NodeId, Output, Readiness, Settings,
};

/// How well a node is placed to serve, worst first. Only none or some is compared: two nodes that
/// look at the same world count a little differently all the time, and no group should move for
/// that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fitness {
    pub any_reference: bool,
    pub any_server: bool,
}

impl Fitness {
    pub fn of(readiness: &Readiness) -> Self {
        Self { any_reference: readiness.references > 0, any_server: readiness.servers > 0 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub settings: Settings,
    pub now: Duration,
    /// The clock of attention: stands still while the machine is not called for more than one and a
    /// half intervals.
    pub watched: Duration,
    /// Where the clock of attention stood when the last absence began.
    absent_from: Duration,
    /// The present call comes after the end of the lease.
    pub was_absent: bool,
    pub local: LocalReadiness,
    /// By an operator.
    pub standby: bool,
    pub maintenance: bool,
    /// Readiness and `hears` of the last heartbeat sent: what the others judge this node by.
    pub said: (Readiness, u16),
    pub peers: Vec<Peer>,
}

impl Node {
    pub(super) fn new(settings: Settings, now: Duration) -> Self {
        let peers = (0..settings.nodes).map(NodeId).filter(|&id| id != settings.me).map(Peer::new).collect();
        let readiness = Readiness {
            data_path: false,
            link: false,
            maintenance: settings.maintenance,
            servers: 0,
            references: 0,
        };
        Self {
            maintenance: settings.maintenance,
            settings,
            now,
            watched: Duration::ZERO,
            absent_from: Duration::ZERO,
            was_absent: false,
            local: LocalReadiness::default(),
            standby: false,
            said: (readiness, 0),
            peers,
        }
    }

    /// Returns how long ago the last call was. A clock that goes back stands still here.
    pub(super) fn pass_time(&mut self, now: Duration) -> Duration {
        let now = now.max(self.now);
        let pause = now - self.now;
        self.now = now;
        let attention = self.settings.interval.saturating_mul(3) / 2;
        if pause > attention {
            self.absent_from = self.watched;
        }
        self.watched = self.watched.saturating_add(pause.min(attention));
        pause
    }

    /// Whether so much attention was paid since then.
    pub(super) fn patient(&self, since: Duration, patience: Duration) -> bool {
        self.watched >= since.saturating_add(patience)
    }

    /// How long a node that has just become ready, or come back, looks around before it acts: long
    /// enough that everyone has heard of it, or it of them.
    pub(super) fn settling_time(&self) -> Duration {
        if self.peers.is_empty() { Duration::ZERO } else { self.settings.dead }
    }

    /// How long a node that could not serve goes on saying so after the fault has ended: two
    /// intervals, so that one lost heartbeat cannot hide the fault from a peer. Otherwise the node
    /// would look around once more, and a peer that did not notice would end its own waiting at the
    /// same moment.
    pub(super) fn fault_hold(&self) -> Duration {
        if self.peers.is_empty() { Duration::ZERO } else { self.settings.interval.saturating_mul(2) }
    }

    /// How long an active node waits for a rival that should give way, before it does so itself:
    /// the rival does not hear it. One that hears obeys at once, and it is told at once and every
    /// interval after that; so this is long enough for one lost heartbeat, being two intervals by
    /// default and never less than one and two thirds. And it is so short that the dead time has
    /// room for an interval until the rival is heard, a message's way, and a clock that is slow by
    /// 5 %.
    pub(super) fn rival_timeout(&self) -> Duration {
        self.settings.dead / 2
    }

    /// `age`: how long the message has waited. It counts as heard when it came; in an absence, by
    /// what the clock of attention showed then.
    pub(super) fn receive(&mut self, message: Heartbeat, age: Duration, outputs: &mut Vec<Output>) {
        let watched = self.watched.saturating_sub(age).max(self.absent_from);
        let (settings, ours) = (&self.settings, self.settings.config_digest);
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == message.from) else { return };
        if !peer.is_news(&message) {
            return;
        }
        let mut events = Vec::new();
        let theirs = message.config_digest;
        peer.receive(message, watched, settings, &mut events);
        peer.compare_digests(ours, theirs, &mut events);
        outputs.extend(events.into_iter().map(Output::Event));
    }

    pub(super) fn detect_dead_peers(&mut self, outputs: &mut Vec<Output>) {
        for peer in self.peers.iter_mut().filter(|peer| peer.alive) {
            let silent = self.watched.saturating_sub(peer.heard);
            if silent >= self.settings.dead {
                peer.alive = false;
                outputs.push(Output::Event(Event::PeerDead { peer: peer.id, silent }));
            }
        }
    }

    pub(super) fn peer(&self, id: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    pub(super) fn living(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.alive)
    }

    /// The peer that has the group; of two that claim it, the newer claim.
    pub(super) fn holder(&self, group: GroupId) -> Option<NodeId> {
        let holders = self.peers.iter().filter(|peer| peer.holds(group));
        holders.max_by_key(|peer| peer.group(group).map(|status| status.term)).map(|peer| peer.id)
    }

    /// Whether the peer would not know connections that this node knows.
    pub(super) fn is_behind(&self, peer: NodeId) -> bool {
        self.local.behind & node_bit(peer) != 0
    }

    /// Whether a node that is heard knows connections that this one does not know.
    pub(super) fn has_to_learn(&self) -> bool {
        self.living().any(|peer| self.local.unlearned & node_bit(peer.id) != 0)
    }

    /// Whether this node would not know connections that the peer knows.
    pub(super) fn has_to_learn_from(&self, peer: NodeId) -> bool {
        self.local.unlearned & node_bit(peer) != 0
    }

    /// Why this node could not serve the group.
    pub(super) fn hindrance(&self, group: &GroupSettings) -> Option<Cause> {
        let hindrances = [
            (!group.preference.contains(&self.settings.me), Cause::NotListed),
            (self.maintenance, Cause::Maintenance),
            (self.standby, Cause::StandbyCommand),
            (!self.local.data_path, Cause::NoDataPath),
            (!self.local.link, Cause::NoLink),
            (group.anycast.is_some_and(|anycast| !self.local.is_usable(anycast.number)), Cause::NoServer),
        ];
        hindrances.into_iter().find_map(|(hinders, cause)| hinders.then_some(cause))
    }

    pub(super) fn fitness(&self) -> Fitness {
        Fitness::of(&self.readiness())
    }

    fn readiness(&self) -> Readiness {
        let LocalReadiness { data_path, link, servers, references, behind: _, unlearned: _, usable: _ } =
            self.local;
        Readiness { data_path, link, maintenance: self.maintenance || self.standby, servers, references }
    }

    /// What the others should know of the node; when it changes, they are told at once.
    pub(super) fn to_say(&self) -> (Readiness, u16) {
        (self.readiness(), self.living().fold(0, |hears, peer| hears | node_bit(peer.id)))
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> {
        self.living().map(|peer| peer.heard.saturating_add(self.settings.dead))
    }
}
