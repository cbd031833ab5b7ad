//! A node that is alive and does not answer to what it is told of connections: a take-over would
//! break them, and automatic failback waits for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lb_api::findings::{Finding, Findings, Kind};
use lb_model::ids::NodeId;

/// A node that has just started, or comes back, answers sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the finding stands after the last check that saw it.
const LASTS: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct SyncWatch {
    /// Since when nodes are alive without an answer.
    silent: BTreeMap<NodeId, Instant>,
}

impl SyncWatch {
    /// `is_silent`: the node's heartbeats are heard, and nothing of it about connections.
    pub(super) fn check(&mut self, node: NodeId, is_silent: bool, now: Instant) -> bool {
        if !is_silent {
            self.silent.remove(&node);
            return false;
        }
        now.duration_since(*self.silent.entry(node).or_insert(now)) >= PATIENCE
    }
}

pub(super) fn raise(findings: &Findings, node: &str, port: u16) {
    let finding = Finding {
        kind: Kind::SyncSilent,
        subject: node.to_owned(),
        text: format!(
            "{node} is alive and does not answer on UDP port {port}: it does not learn of connections, so a take-over \
             would break them, and automatic failback waits"
        ),
        mend: format!(
            "let UDP port {port} through between the nodes; the same `sync` and `sync_port` on all of them; the same \
             version of lb"
        ),
    };
    findings.raise_for(finding, LASTS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_some_seconds_and_an_answer_ends_it() {
        let (mut watch, begin) = (SyncWatch::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert!(!watch.check(NodeId(1), true, begin));
        assert!(!watch.check(NodeId(1), true, after(4)));
        assert!(watch.check(NodeId(1), true, after(5)));
        assert!(!watch.check(NodeId(2), true, after(5)), "each by itself");
        assert!(!watch.check(NodeId(1), false, after(6)));
        assert!(!watch.check(NodeId(1), true, after(7)), "anew");
    }
}
