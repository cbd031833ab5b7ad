//! One group of addresses on this node: its phase, what it remembers, and how it tells the others.
//!
//! What it does while it is held is in `held`, while it is not in `idle`.

use std::time::Duration;

use super::super::message::GroupStatus;
use super::anycast::LEARNING;
use super::node::Node;
use super::{Cause, Event, GroupId, GroupSettings, NodeId, Output, Role};

/// Times are on the clock of attention, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub id: GroupId,
    pub settings: GroupSettings,
    /// The group left the configuration, and is to be given up.
    pub removed: bool,
    pub phase: Phase,
    /// The claim by which the group is held here; otherwise the newest one heard of.
    pub term: u64,
    /// Why the present phase was entered, or why the node is no candidate.
    pub cause: Cause,
    /// The start is not over: who has the group is not known yet.
    pub listening: bool,
    /// Until then the node advertises that it could not serve, see [`Node::fault_hold`].
    pub fault_until: Duration,
    /// Since when the node could take the group, and says so.
    pub candidate_since: Option<Duration>,
    pub offer: Option<Offer>,
    /// A peer holds the group, or gives it up.
    pub sees_holder: bool,
    /// The group is offered to another node,
    pub sees_offer: bool,
    /// and was so at the last a moment ago.
    pub offered_elsewhere: Option<Duration>,
    /// An operator wants it here: since when the holder is asked for it.
    pub asked_since: Option<Duration>,
    /// An operator's order that waits until a node knows the connections.
    pub ordered: Option<Ordered>,
    pub yielded: bool,
    pub blocked_until: Option<Duration>,
    /// Take-overs that failed in a row.
    pub failures: u32,
    pub turn: Option<Turn>,
    pub plan: Option<Plan>,
    pub rival: Option<Rival>,
    /// A split brain was over a moment ago: until then no planned move begins, so that each change
    /// of the holder has come to its end before the next one.
    pub settles_until: Option<Duration>,
    /// The last peer seen with the group.
    pub holder: Option<NodeId>,
    /// When a foreign announcement was last answered.
    pub defended: Option<Duration>,
    /// From when on a foreign announcement counts, by the clock on the wall.
    pub disputed_from: Duration,
    told: PublishedRole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// This node holds nothing of the group.
    Idle,
    Acquiring {
        since: Duration,
    },
    Active,
    /// Held without a lease: this node was away too long and looks whether someone took over.
    Doubt {
        since: Duration,
    },
    Releasing {
        since: Duration,
    },
}

/// A hand-over that the receiver has not taken up yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Offer {
    pub to: NodeId,
    pub since: Duration,
}

/// On the node that holds the group: it shall go. On another one a failback: it shall come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ordered {
    pub what: Move,
    pub since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Move {
    Failover,
    Failback,
}

/// Waiting while others come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Turn {
    pub ahead: u16,
    pub since: Duration,
}

/// A move to a peer that waits for its delay to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub to: NodeId,
    pub session: u64,
    pub why: PlanWhy,
    pub since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PlanWhy {
    BetterPlaced,
    Failback,
}

/// Another active node that should give way to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rival {
    pub peer: NodeId,
    pub since: Duration,
}

/// The role as last told, and since when by the clock on the wall.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PublishedRole {
    role: Role,
    since: Duration,
    status: Option<GroupStatus>,
    /// Since there was a rival.
    rival: bool,
}

impl Group {
    pub(super) fn new(settings: GroupSettings, node: &Node) -> Self {
        Self {
            id: settings.id,
            settings,
            removed: false,
            phase: Phase::Releasing { since: node.watched },
            term: 0,
            cause: Cause::Start,
            listening: true,
            fault_until: node.watched.saturating_add(node.fault_hold()),
            candidate_since: None,
            offer: None,
            sees_holder: false,
            sees_offer: false,
            offered_elsewhere: None,
            asked_since: None,
            ordered: None,
            yielded: false,
            blocked_until: None,
            failures: 0,
            turn: None,
            plan: None,
            rival: None,
            settles_until: None,
            holder: None,
            defended: None,
            disputed_from: Duration::ZERO,
            told: PublishedRole { role: Role::Releasing, since: node.now, status: None, rival: false },
        }
    }

    /// An earlier life may have left addresses and a lease; until they are gone, the others must
    /// wait.
    pub(super) fn first_release(&self) -> Output {
        Output::Release { group: self.id, why: Cause::Start }
    }

    pub(super) fn role(&self, node: &Node) -> Role {
        match self.phase {
            Phase::Idle if self.candidate_since.is_some() => Role::Standby,
            Phase::Idle => Role::Fault,
            Phase::Acquiring { .. } => Role::Acquiring,
            Phase::Active => Role::Active,
            Phase::Doubt { .. } => Role::Releasing,
            // The lease is over by now in any case: a release that hangs must not keep the others
            // waiting.
            Phase::Releasing { since } if node.patient(since, self.release_patience(node)) => Role::Fault,
            Phase::Releasing { .. } => Role::Releasing,
        }
    }

    pub(super) fn status(&self, node: &Node) -> GroupStatus {
        let asked = self.asked_since.map(|_| node.settings.me);
        let offered_to = self.offer.map(|offer| offer.to).or(asked);
        GroupStatus {
            group: self.id,
            role: self.role(node),
            term: self.term,
            offered_to,
            yielded: self.yielded,
        }
    }

    /// Why this node could not serve the group.
    pub(super) fn hindrance(&self, node: &Node) -> Option<Cause> {
        self.removed.then_some(Cause::Removed).or_else(|| node.hindrance(&self.settings))
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Acquiring { .. } | Phase::Active | Phase::Doubt { .. })
    }

    /// The lease may be renewed.
    pub(super) fn is_entitled(&self) -> bool {
        matches!(self.phase, Phase::Acquiring { .. } | Phase::Active)
    }

    /// That of a group that every node serves outlasts any absence.
    pub(super) fn may_lose_lease(&self) -> bool {
        self.is_entitled() && self.settings.anycast.is_none()
    }

    /// After so long a release does not keep others waiting.
    pub(super) fn release_patience(&self, node: &Node) -> Duration {
        let wait = self.settings.anycast.map_or(Duration::ZERO, |anycast| anycast.withdraw_wait);
        node.settings.dead.saturating_add(wait)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Decides what follows from all that is known now.
    pub(super) fn review(&mut self, node: &Node, outputs: &mut Vec<Output>) {
        self.remember(node);
        match self.phase {
            Phase::Idle if self.settings.anycast.is_some() => self.review_idle_anycast(node, outputs),
            Phase::Idle => self.review_idle(node, outputs),
            Phase::Releasing { since } => {
                if node.patient(since, self.release_patience(node)) {
                    self.cause = Cause::ReleaseStuck;
                }
            }
            Phase::Acquiring { .. } | Phase::Active | Phase::Doubt { .. } => self.review_held(node, outputs),
        }
    }

    fn remember(&mut self, node: &Node) {
        if self.is_held() {
            // A take-over that fails is tried again for the same reason: a dead node is fenced then
            // too.
            if self.phase == Phase::Active {
                self.holder = None;
            }
            return;
        }
        self.term = self.term.max(self.newest_term(node));
        if let Some(peer) = node.living().find(|peer| peer.blocks(self.id)) {
            self.holder = Some(peer.id);
        }
    }

    pub(super) fn newest_term(&self, node: &Node) -> u64 {
        node.peers.iter().filter_map(|peer| peer.told(self.id)).map(|status| status.term).max().unwrap_or(0)
    }

    pub(super) fn release(&mut self, why: Cause, node: &Node, outputs: &mut Vec<Output>) {
        self.phase = Phase::Releasing { since: node.watched };
        self.cause = why.clone();
        (self.plan, self.rival, self.turn) = (None, None, None);
        (self.settles_until, self.ordered) = (None, None);
        outputs.push(Output::Release { group: self.id, why });
    }

    /// A release with a receiver.
    pub(super) fn hand_over(&mut self, to: NodeId, why: Cause, node: &Node, outputs: &mut Vec<Output>) {
        self.release(why, node, outputs);
        self.offer = Some(Offer { to, since: node.watched });
    }

    pub(super) fn release_done(&mut self, node: &Node) {
        if !matches!(self.phase, Phase::Releasing { .. }) {
            return;
        }
        self.phase = Phase::Idle;
        self.cause = Cause::Done;
        self.candidate_since = None;
        if let Some(offer) = &mut self.offer {
            offer.since = node.watched;
        }
    }

    /// Reports a change of role; true if there is anything that the others should know at once.
    pub(super) fn tell(&mut self, node: &Node, outputs: &mut Vec<Output>) -> bool {
        let status = self.status(node);
        if status.role != self.told.role {
            let (group, from, to, cause) = (self.id, self.told.role, status.role, self.cause.clone());
            let after = node.now.saturating_sub(self.told.since);
            outputs.push(Output::Event(Event::RoleChanged { group, from, to, cause, after }));
            (self.told.role, self.told.since) = (status.role, node.now);
        }
        // A new rival may not know of this node, and is waited for only for so long, see
        // [`Node::rival_timeout`].
        let had = std::mem::replace(&mut self.told.rival, self.rival.is_some());
        let met = self.rival.is_some() && !had;
        self.told.status.replace(status) != Some(status) || met
    }

    /// How the group stands here, as the others were told last.
    pub(super) fn last_told(&self) -> Option<GroupStatus> {
        self.told.status
    }

    pub(super) fn place_of(&self, node: NodeId) -> Option<usize> {
        self.settings.preference.iter().position(|&listed| listed == node)
    }

    /// On the clock of attention; those that have passed are of no interest any more.
    pub(super) fn deadlines(&self, node: &Node) -> impl Iterator<Item = Duration> {
        let settings = &node.settings;
        let after = |since: Duration, patience: Duration| Some(since.saturating_add(patience));
        let phase = match self.phase {
            Phase::Idle | Phase::Active => None,
            Phase::Acquiring { since } => after(since, settings.takeover),
            Phase::Doubt { since } => after(since, node.settling_time()),
            Phase::Releasing { since } => after(since, self.release_patience(node)),
        };
        let deadlines = [
            phase,
            self.listening.then_some(settings.initial_dead),
            self.candidate_since.and_then(|since| after(since, node.settling_time())),
            self.candidate_since.and_then(|since| after(since, self.learning_time())),
            self.offer.and_then(|offer| after(offer.since, settings.dead / 2)),
            self.offered_elsewhere.and_then(|seen| after(seen, settings.dead)),
            self.ordered.and_then(|ordered| after(ordered.since, LEARNING)),
            self.asked_since.and_then(|since| after(since, self.ask_for(node))),
            self.blocked_until,
            self.settles_until,
            Some(self.fault_until),
            self.turn.and_then(|turn| after(turn.since, self.claim_delay(turn.ahead, node))),
            self.plan.and_then(|plan| after(plan.since, self.plan_delay(plan.why, node))),
            self.rival.and_then(|rival| after(rival.since, node.rival_timeout())),
        ];
        deadlines.into_iter().flatten()
    }
}
