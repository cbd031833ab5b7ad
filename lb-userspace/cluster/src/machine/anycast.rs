//! A group that every node serves which could: nobody is asked and nobody gives way.
//!
//! A node that becomes ready first learns the connections that the others know, so that routers may
//! send it whatever they like; but not without end, for a node that is not told serves better than
//! none.

use std::time::Duration;

use super::group::Group;
use super::node::Node;
use super::{Cause, Output};

/// Nobody waits longer until a node knows connections that others know. A million of them take
/// three seconds.
pub(super) const LEARNING: Duration = Duration::from_secs(10);

impl Group {
    pub(super) fn review_idle_anycast(&mut self, node: &Node, outputs: &mut Vec<Output>) {
        self.listening &= !hears_all(node);
        self.blocked_until = self.blocked_until.filter(|&until| node.watched < until);
        self.review_candidacy(node);
        let Some(since) = self.candidate_since else { return };
        if node.has_to_learn() && !node.patient(since, LEARNING) {
            self.cause = Cause::NotInStep;
        } else {
            self.take(Cause::Ready, node, outputs);
        }
    }

    pub(super) const fn learning_time(&self) -> Duration {
        match self.settings.anycast {
            Some(_) => LEARNING,
            None => Duration::ZERO,
        }
    }
}

/// The start is over: whoever knows connections has been heard, or will not be soon.
fn hears_all(node: &Node) -> bool {
    node.patient(Duration::ZERO, node.settings.initial_dead) || node.peers.iter().all(|peer| peer.alive)
}
