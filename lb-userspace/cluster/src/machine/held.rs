//! A group that this node holds: when it must go, when another node should have it, and who gives
//! way to whom.

use std::cmp::Reverse;
use std::time::Duration;

use super::super::message::GroupStatus;
use super::anycast::LEARNING;
use super::group::{Group, Move, Offer, Ordered, Phase, Plan, PlanWhy, Rival};
use super::node::Node;
use super::peer::Peer;
use super::{Cause, Command, Event, Failback, NodeId, Output, Refusal, Role, Seen};

/// A foreign announcement is answered at most so often: two that both mean to be right would flood
/// the network.
const DEFENCE_PAUSE: Duration = Duration::from_secs(1);

/// The pause after failed take-overs grows up to `retry << MAX_DOUBLINGS`.
const MAX_DOUBLINGS: u32 = 6;

impl Group {
    pub(super) fn review_held(&mut self, node: &Node, outputs: &mut Vec<Output>) {
        if let Some(hindrance) = self.hindrance(node) {
            return self.leave(hindrance, node, outputs);
        }
        match self.phase {
            Phase::Doubt { since } => return self.review_doubt(since, node, outputs),
            Phase::Acquiring { since } if node.patient(since, node.settings.takeover) => {
                return self.takeover_failed(Cause::TakeoverTimedOut, node, outputs);
            }
            _ => {}
        }
        if self.settings.anycast.is_some() {
            return;
        }
        self.review_rivals(node, outputs);
        if self.phase == Phase::Active {
            self.review_plan(node, outputs);
        }
    }

    /// An operator wants this node out: a node that knows the connections takes the group, if the
    /// first one that could does not know them. Else the nodes settle among themselves who does.
    fn leave(&mut self, why: Cause, node: &Node, outputs: &mut Vec<Output>) {
        let is_planned = matches!(why, Cause::StandbyCommand | Cause::Maintenance);
        let first = self.takers(node).next().map(|peer| peer.id);
        let knows = self.takers(node).find(|peer| !node.is_behind(peer.id)).map(|peer| peer.id);
        let to = knows.filter(|to| is_planned && first != Some(*to) && self.phase == Phase::Active);
        self.release(why, node, outputs);
        self.offer = to.map(|to| Offer { to, since: node.watched });
    }

    pub(super) fn takeover_done(&mut self, _: &Node) {
        if matches!(self.phase, Phase::Acquiring { .. }) {
            self.phase = Phase::Active;
            self.cause = Cause::Done;
            self.failures = 0;
        }
    }

    pub(super) fn takeover_failed(&mut self, why: Cause, node: &Node, outputs: &mut Vec<Output>) {
        if self.is_held() {
            self.back_off(node);
            self.release(why, node, outputs);
        }
    }

    fn back_off(&mut self, node: &Node) {
        let pause = node.settings.retry.saturating_mul(1 << self.failures.min(MAX_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        self.blocked_until = Some(node.watched.saturating_add(pause));
    }

    /// The machine was away for longer than the lease. A take-over that was under way is not worth
    /// saving.
    pub(super) fn lose_lease(&mut self, node: &Node, outputs: &mut Vec<Output>) {
        if self.phase == Phase::Active {
            self.phase = Phase::Doubt { since: node.watched };
            self.cause = Cause::LeaseLost;
            (self.plan, self.rival) = (None, None);
        } else {
            self.release(Cause::LeaseLost, node, outputs);
        }
    }

    fn review_doubt(&mut self, since: Duration, node: &Node, outputs: &mut Vec<Output>) {
        if let Some(peer) = node.holder(self.id) {
            return self.release(Cause::PeerTookOver { peer }, node, outputs);
        }
        if node.was_absent && !node.peers.is_empty() {
            self.phase = Phase::Doubt { since: node.watched };
        } else if node.patient(since, node.settling_time()) {
            self.phase = Phase::Active;
            self.cause = Cause::LeaseRegained;
            self.undisputed_for(Duration::ZERO, node);
            outputs.push(Output::Announce { group: self.id });
        }
    }

    /// Gives way to another holder, or waits until it does.
    fn review_rivals(&mut self, node: &Node, outputs: &mut Vec<Output>) {
        let holders = || node.living().filter(|peer| peer.holds(self.id));
        if let Some(winner) = holders().find(|peer| self.loses_to(peer, node)).map(|peer| peer.id) {
            self.report_rival(winner, outputs);
            return self.release(Cause::SplitBrain { winner }, node, outputs);
        }
        match (holders().next(), self.rival) {
            (Some(peer), None) => {
                self.report_rival(peer.id, outputs);
                self.rival = Some(Rival { peer: peer.id, since: node.watched });
            }
            (Some(peer), Some(rival)) => {
                // Even if it says that it hears us: it may have heard only what we said long ago.
                if node.patient(rival.since, node.rival_timeout()) {
                    self.release(Cause::NotHeard { peer: peer.id }, node, outputs);
                }
            }
            (None, Some(rival)) => self.resolve_split_brain(rival, node, outputs),
            (None, None) => {}
        }
    }

    fn report_rival(&self, peer: NodeId, outputs: &mut Vec<Output>) {
        if self.rival.is_none() {
            let event = Event::SplitBrain { group: self.id, seen: Seen::Heartbeat { peer } };
            outputs.push(Output::Event(event));
        }
    }

    /// The rival does not hold the group any more. Once the rival has released it too, this node
    /// announces its addresses again.
    fn resolve_split_brain(&mut self, rival: Rival, node: &Node, outputs: &mut Vec<Output>) {
        if node.living().any(|peer| peer.blocks(self.id)) {
            return;
        }
        self.rival = None;
        self.settles_until = Some(node.watched.saturating_add(node.settling_time()));
        self.undisputed_for(node.settling_time(), node);
        let lasted = node.watched.saturating_sub(rival.since);
        outputs.push(Output::Announce { group: self.id });
        let winner = node.settings.me;
        outputs.push(Output::Event(Event::SplitBrainResolved { group: self.id, winner, lasted }));
    }

    /// The comparison of two holders, by what each last told the other, so that both come to the
    /// same end.
    fn loses_to(&self, peer: &Peer, node: &Node) -> bool {
        let said = &node.said.0;
        let place = |id| Reverse(self.place_of(id).unwrap_or(usize::MAX));
        // One that serves comes before one that is only about to, and may still be fencing the
        // other.
        let serves = |status: &GroupStatus| (status.role == Role::Active, status.term);
        let (active, term) = self.last_told().map_or((false, self.term), |status| serves(&status));
        let ours = (said.references, said.servers > 0, active, term, place(node.settings.me));
        let (active, term) = peer.group(self.id).map_or((false, 0), serves);
        let theirs = (peer.references(), peer.servers() > 0, active, term, place(peer.id));
        ours < theirs
    }

    /// A foreign announcement without a heartbeat to compare with: one that reaches no reference
    /// host at all is most likely the one that is cut off; any other says again where the addresses
    /// are. But not against a node of the cluster that is not heard: it has taken over because it
    /// does not hear this one either, and each change of the clients' caches costs the connections
    /// under way. The last word stands, until the two hear each other.
    ///
    /// One that came before this node had the group alone tells of nothing but that: after planned
    /// moves to and fro it would be taken for a split brain.
    pub(super) fn conflict(
        &mut self,
        rival: Option<NodeId>,
        came: Duration,
        node: &Node,
        outputs: &mut Vec<Output>,
    ) {
        if !self.is_entitled() || self.settings.anycast.is_some() || came < self.disputed_from {
            return;
        }
        let recent = self.defended.is_some_and(|then| !node.patient(then, DEFENCE_PAUSE));
        if recent {
            return;
        }
        self.defended = Some(node.watched);
        outputs.push(Output::Event(Event::SplitBrain { group: self.id, seen: Seen::Announcement }));
        if node.settings.references > 0 && node.local.references == 0 {
            self.takeover_failed(Cause::AddressConflict, node, outputs);
        } else if rival.and_then(|rival| node.peer(rival)).is_some_and(|peer| !peer.alive) {
            outputs.push(Output::PauseAnnouncements { group: self.id });
        } else {
            outputs.push(Output::Announce { group: self.id });
        }
    }

    /// What others announce up to then disputes nothing.
    pub(super) fn undisputed_for(&mut self, time: Duration, node: &Node) {
        self.disputed_from = node.now.saturating_add(time);
    }

    /// Carries out an operator's order, once the node that shall have the group knows the
    /// connections or was waited for long enough.
    pub(super) fn review_ordered(&mut self, node: &Node, outputs: &mut Vec<Output>) -> Result<(), Refusal> {
        let Some(Ordered { what, since }) = self.ordered else { return Ok(()) };
        let to = match what {
            // Rather not to one from which an operator has moved it away before.
            Move::Failover => {
                self.takers(node).min_by_key(|peer| (node.is_behind(peer.id), peer.yielded(self.id)))
            }
            Move::Failback => self.preferred_taker(node, |_| true),
        };
        let Some(to) = to.map(|peer| peer.id) else {
            self.ordered = None;
            return Err(Refusal::NobodyReady);
        };
        if self.phase == Phase::Active && node.is_behind(to) && !node.patient(since, LEARNING) {
            return Ok(());
        }
        let cause = match what {
            Move::Failover => Cause::Failover { to },
            Move::Failback => Cause::Failback { to },
        };
        self.hand_over(to, cause, node, outputs);
        self.yielded |= what == Move::Failover;
        Ok(())
    }

    /// Hands over to a peer that asks for the group, is better placed, or is preferred; or as an
    /// operator has ordered.
    fn review_plan(&mut self, node: &Node, outputs: &mut Vec<Output>) {
        if let Some(Ordered { what, .. }) = self.ordered {
            if let Err(why) = self.review_ordered(node, outputs) {
                let command = match what {
                    Move::Failover => Command::Failover(self.id),
                    Move::Failback => Command::Failback(self.id),
                };
                outputs.push(Output::Event(Event::CommandRefused { command, why }));
            }
            return;
        }
        if let Some(to) = self.asker(node) {
            return self.hand_over(to, Cause::Failback { to }, node, outputs);
        }
        self.settles_until = self.settles_until.filter(|until| node.watched < *until);
        let found = self.better(node).map(|(peer, why)| (peer.id, peer.session(), peer.servers(), why));
        let Some((to, session, servers, why)) = found else {
            self.plan = None;
            return;
        };
        let same = self.plan.filter(|plan| (plan.to, plan.session, plan.why) == (to, session, why));
        let plan = same.unwrap_or(Plan { to, session, why, since: node.watched });
        self.plan = Some(plan);
        // A node that has just started finds its servers one by one: not before it has found as
        // many.
        let checked = why == PlanWhy::BetterPlaced || servers >= node.local.servers;
        let waited = node.patient(plan.since, self.plan_delay(why, node));
        if checked && waited && self.settles_until.is_none() {
            let cause = match why {
                PlanWhy::BetterPlaced => Cause::BetterPlaced { to },
                PlanWhy::Failback => Cause::Failback { to },
            };
            self.hand_over(to, cause, node, outputs);
        }
    }

    fn asker(&self, node: &Node) -> Option<NodeId> {
        let asks =
            |peer: &&Peer| peer.group(self.id).is_some_and(|status| status.offered_to == Some(peer.id));
        self.takers(node).find(asks).map(|peer| peer.id)
    }

    /// Peers that could take the group and would hear of it, in the order of preference.
    pub(super) fn takers<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Peer> {
        let peers = self.settings.preference.iter().filter_map(|&id| node.peer(id));
        peers.filter(|peer| peer.waits(self.id) && peer.hears(node.settings.me))
    }

    fn better<'a>(&'a self, node: &'a Node) -> Option<(&'a Peer, PlanWhy)> {
        let ours = node.fitness();
        // Of several that are equally well placed one that knows the connections, and of those the
        // first, not the last as `max_by_key` has it.
        let best = self.takers(node).min_by_key(|peer| (Reverse(peer.fitness()), node.is_behind(peer.id)));
        if let Some(peer) = best.filter(|peer| peer.fitness() > ours) {
            return Some((peer, PlanWhy::BetterPlaced));
        }
        if self.settings.failback == Failback::Manual {
            return None;
        }
        let suits =
            |peer: &Peer| !peer.yielded(self.id) && peer.fitness() >= ours && !node.is_behind(peer.id);
        self.preferred_taker(node, suits).map(|peer| (peer, PlanWhy::Failback))
    }

    /// The first taker that comes before this node.
    pub(super) fn preferred_taker<'a>(
        &'a self,
        node: &'a Node,
        suits: impl Fn(&Peer) -> bool,
    ) -> Option<&'a Peer> {
        let here = self.place_of(node.settings.me)?;
        self.takers(node)
            .find(|peer| suits(peer))
            .filter(|peer| self.place_of(peer.id).is_some_and(|there| there < here))
    }

    pub(super) fn plan_delay(&self, why: PlanWhy, node: &Node) -> Duration {
        match (why, self.settings.failback) {
            (PlanWhy::Failback, Failback::Auto { delay }) => delay,
            (PlanWhy::Failback, Failback::Manual) => Duration::MAX,
            (PlanWhy::BetterPlaced, _) => node.settings.give_way,
        }
    }
}
