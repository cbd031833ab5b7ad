//! Nodes that are silent. Their programs may serve on as long as their hosts are there, which ARP
//! tells.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lb_model::ids::NodeId;

/// The kernel finds that a host does not answer within three seconds of being asked.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Silent {
    nodes: BTreeSet<NodeId>,
    /// `None`: at once.
    asked: Option<Instant>,
}

impl Silent {
    pub(super) fn add(&mut self, node: NodeId) {
        self.nodes.insert(node);
        self.asked = None;
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// Those about which the kernel is to be asked now.
    pub(super) fn due(&mut self, now: Instant) -> BTreeSet<NodeId> {
        if self.nodes.is_empty() || self.asked.is_some_and(|asked| now < asked + AGAIN) {
            return BTreeSet::new();
        }
        self.asked = Some(now);
        self.nodes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_silent_nodes_are_asked_at_once_and_then_every_second() {
        let mut silent = Silent::default();
        let start = Instant::now();
        let due = |silent: &mut Silent, ms| silent.due(start + Duration::from_millis(ms)).len();
        assert_eq!(due(&mut silent, 0), 0);
        silent.add(NodeId(1));
        assert_eq!([100, 150, 1099, 1100].map(|ms| due(&mut silent, ms)), [1, 0, 0, 1]);
        silent.add(NodeId(2));
        assert_eq!(due(&mut silent, 1200), 2, "a second one");
        silent.remove(NodeId(1));
        silent.remove(NodeId(2));
        assert_eq!(due(&mut silent, 5000), 0);
    }
}
