//! A group that this node does not hold: whether it could, and when it is its turn to take it.

use std::time::Duration;

use super::anycast::LEARNING;
use super::group::{Group, Ordered, Phase, Turn};
use super::node::Node;
use super::peer::{Peer, node_bit};
use super::{Cause, NodeId, Output, Role};

impl Group {
    pub(super) fn review_idle(&mut self, node: &Node, outputs: &mut Vec<Output>) {
        self.listening &= !self.has_heard_enough(node);
        self.blocked_until = self.blocked_until.filter(|&until| node.watched < until);
        self.review_candidacy(node);
        self.review_offer(node);
        self.see_offers(node);
        self.review_wish(node);
        self.asked_since = self
            .asked_since
            .filter(|&since| self.candidate_since.is_some() && !node.patient(since, self.ask_for(node)));
        if let Some(why) = self.claim(node) {
            self.take(why, node, outputs);
        }
    }

    /// The start is over: the initial dead time has passed, or everything is known without it.
    fn has_heard_enough(&self, node: &Node) -> bool {
        let held = || node.living().any(|peer| peer.holds(self.id));
        let all_start = || node.peers.iter().all(|peer| peer.role(self.id) == Some(Role::Fault));
        node.patient(Duration::ZERO, node.settings.initial_dead) || held() || all_start()
    }

    pub(super) fn review_candidacy(&mut self, node: &Node) {
        let waiting = self.blocked_until.map(|_| Cause::Waiting);
        // The messages that waited during an absence tell of a world that may be gone: a peer that
        // could not serve then may be active now. Nothing is claimed on their word.
        let absence = node.was_absent.then_some(Cause::Absence);
        let hindrance = self.hindrance(node).or(waiting).or(absence);
        if hindrance.is_some() {
            self.fault_until = node.watched.saturating_add(node.fault_hold());
        }
        let start = self.listening.then_some(Cause::Start);
        let shy = node.watched < self.fault_until;
        match hindrance.or(start) {
            Some(hindrance) => {
                self.candidate_since = None;
                self.cause = hindrance;
            }
            None if self.candidate_since.is_none() && !shy => {
                self.candidate_since = Some(node.watched);
                if self.cause != Cause::Done {
                    self.cause = Cause::Ready;
                }
            }
            None => {}
        }
    }

    /// An offer is over when it is taken up, or after half a dead time. A group that nobody took is
    /// free again; this node may claim it like one that has just become ready, but a dead time
    /// later: the offer may have been taken up, and both messages may take a dead time. That is
    /// still before one that waits behind it.
    fn review_offer(&mut self, node: &Node) {
        let Some(offer) = self.offer else { return };
        let taken = node.living().any(|peer| peer.holds(self.id));
        let expired = node.patient(offer.since, node.settings.dead / 2);
        if taken || expired {
            self.offer = None;
            let under_way = if taken { Duration::ZERO } else { node.settings.dead };
            self.candidate_since = self.candidate_since.map(|_| node.watched.saturating_add(under_way));
        }
    }

    /// Who offers a group hears at once that it is taken, and may say that the offer is over before
    /// this node hears who has the group. It waits a dead time for that; also if the offer itself
    /// was not heard: a holder that stands by afterwards has made one.
    fn see_offers(&mut self, node: &Node) {
        let elsewhere = |to| to != node.settings.me;
        let sees = node.living().any(|peer| self.offered_to(peer).is_some_and(elsewhere));
        let saw = std::mem::replace(&mut self.sees_offer, sees);
        let is_held = node.living().any(|peer| peer.blocks(self.id));
        let was_held = std::mem::replace(&mut self.sees_holder, is_held);
        let last = self.holder.and_then(|holder| node.peer(holder));
        let handed_over = was_held && !is_held && last.is_some_and(|peer| peer.waits(self.id));
        if sees || saw || handed_over {
            self.offered_elsewhere = Some(node.watched);
        }
        self.offered_elsewhere =
            self.offered_elsewhere.filter(|&seen| !node.patient(seen, node.settings.dead));
    }

    /// An operator wants the group here: its holder is asked once this node knows the connections,
    /// or has waited long enough for that.
    pub(super) fn review_wish(&mut self, node: &Node) {
        self.ordered = self.ordered.filter(|_| self.candidate_since.is_some());
        let Some(Ordered { since, .. }) = self.ordered else { return };
        let learns = node.holder(self.id).is_some_and(|holder| node.has_to_learn_from(holder));
        if !learns || node.patient(since, LEARNING) {
            (self.asked_since, self.ordered) = (Some(node.watched), None);
        }
    }

    /// Whether the group is to be taken now, and why.
    fn claim(&mut self, node: &Node) -> Option<Cause> {
        let free = !node.living().any(|peer| peer.blocks(self.id));
        let since = self.candidate_since.filter(|_| free && self.offer.is_none());
        let Some(since) = since else {
            self.turn = None;
            return None;
        };
        if let Some(by) = self.offered_by(node) {
            return Some(Cause::Offered { by });
        }
        if !node.patient(since, node.settling_time()) {
            self.turn = None;
            return None;
        }
        let is_our_turn = self.is_our_turn(node) && self.offered_elsewhere.is_none();
        is_our_turn.then(|| self.why_free(node))
    }

    /// The peer that released the group for this node to take.
    fn offered_by(&self, node: &Node) -> Option<NodeId> {
        let offers = |peer: &&Peer| self.offered_to(peer) == Some(node.settings.me);
        node.living().find(offers).map(|peer| peer.id)
    }

    fn offered_to(&self, peer: &Peer) -> Option<NodeId> {
        peer.group(self.id)?.offered_to.filter(|&to| to != peer.id)
    }

    /// Nobody comes first, or those who do have let their time pass.
    fn is_our_turn(&mut self, node: &Node) -> bool {
        let ahead = self.ahead(node);
        // A change starts the wait again: those who wait behind the same nodes must not all come to
        // its end at once.
        let same = self.turn.filter(|turn| turn.ahead == ahead);
        let turn = Turn { ahead, since: same.map_or(node.watched, |turn| turn.since) };
        self.turn = Some(turn);
        node.patient(turn.since, self.claim_delay(ahead, node))
    }

    /// The nodes that could take the group and come first: preferred ones, and one that it is
    /// offered to.
    fn ahead(&self, node: &Node) -> u16 {
        let here = self.place_of(node.settings.me);
        let first = |peer: &&Peer| {
            let offered = node.living().any(|by| self.offered_to(by) == Some(peer.id));
            let preferred = self.place_of(peer.id).is_some_and(|there| here.is_none_or(|here| there < here));
            peer.waits(self.id) && (offered || preferred)
        };
        node.living().filter(first).fold(0, |ahead, peer| ahead | node_bit(peer.id))
    }

    /// Three dead times for each that comes first. It claims after one, but one by its own clock of
    /// attention: pauses shorter than the lease can make nearly two of it, and then its claim must
    /// be heard.
    pub(super) fn claim_delay(&self, ahead: u16, node: &Node) -> Duration {
        node.settings.dead.saturating_mul(3).saturating_mul(ahead.count_ones())
    }

    fn why_free(&self, node: &Node) -> Cause {
        match self.holder.and_then(|holder| node.peer(holder)) {
            Some(peer) if peer.alive => Cause::PeerGaveUp { peer: peer.id },
            Some(peer) => Cause::PeerDead { peer: peer.id },
            None => Cause::NobodyHasIt,
        }
    }

    pub(super) fn take(&mut self, why: Cause, node: &Node, outputs: &mut Vec<Output>) {
        self.term = self.term.saturating_add(1);
        self.phase = Phase::Acquiring { since: node.watched };
        self.cause = why.clone();
        // The one that had it announced its addresses to the last; what is under way, or waits to
        // be read, disputes nothing.
        let is_planned = matches!(why, Cause::Offered { .. } | Cause::PeerGaveUp { .. });
        self.undisputed_for(if is_planned { node.settling_time() } else { Duration::ZERO }, node);
        (self.candidate_since, self.turn, self.asked_since, self.yielded) = (None, None, None, false);
        self.ordered = None;
        outputs.push(Output::Acquire { group: self.id, why });
    }

    /// How long the holder is asked for the group before the operator's wish is dropped.
    pub(super) fn ask_for(&self, node: &Node) -> Duration {
        node.settings.dead.saturating_mul(2)
    }
}
