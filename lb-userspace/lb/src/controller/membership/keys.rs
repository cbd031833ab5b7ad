//! Another node signs its heartbeats with a key that this one does not have: neither hears the
//! other, both are active, and the cause is a file that was not copied.

use std::sync::Arc;
use std::time::Duration;

use lb_api::findings::{Finding, Findings, Kind};
use lb_cluster::transport::statistics::Statistics;
use lb_model::Cluster;
use lb_model::ids::NodeId;

/// Messages in a row whose signature does not fit: one may have been damaged on its way.
const ENOUGH: u64 = 3;

/// How long the finding stands after the last check that saw it.
const LASTS: Duration = Duration::from_secs(10);

pub(super) struct KeyWatch {
    findings: Findings,
    /// Messages refused of each node at the last check, by path.
    before: Vec<Vec<u64>>,
}

impl KeyWatch {
    pub(super) fn new(findings: Findings) -> Self {
        Self { findings, before: Vec::new() }
    }

    /// Whether more messages of a node were refused since the last check, and none of its messages
    /// accepted.
    pub(super) fn check(&mut self, cluster: &Cluster, paths: &[Arc<Statistics>]) {
        let nodes = || (0..=u8::MAX).zip(&cluster.nodes);
        let refused =
            |path: &Statistics| nodes().map(|(id, _)| path.refused(NodeId(id))).collect::<Vec<u64>>();
        let now: Vec<Vec<u64>> = paths.iter().map(|path| refused(path)).collect();
        for (id, node) in nodes() {
            let of = |counts: &[Vec<u64>]| -> Vec<u64> {
                counts.iter().map(|path| path.get(usize::from(id)).copied().unwrap_or(0)).collect()
            };
            if goes_on(&of(&self.before), &of(&now)) {
                self.findings.raise_for(finding(&node.name, &cluster.key_file), LASTS);
            }
        }
        self.before = now;
    }
}

/// `before` and `now`: messages in a row that were refused, by path.
fn goes_on(before: &[u64], now: &[u64]) -> bool {
    let grew =
        |(path, count): (usize, &u64)| *count >= ENOUGH && before.get(path).is_some_and(|was| was < count);
    now.iter().enumerate().any(grew)
}

fn finding(node: &str, key_file: &std::path::Path) -> Finding {
    let file = key_file.display();
    Finding {
        kind: Kind::KeyMismatch,
        subject: node.to_owned(),
        text: format!(
            "messages from {node} are signed with another key than this node's {file} holds, so they are not believed"
        ),
        mend: format!(
            "copy {file} from the node that has the right one to all others; lb reads it when it changes"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_several_refused_messages_in_a_row_and_more_of_them() {
        assert!(!goes_on(&[], &[9]), "the first look has nothing to compare with");
        assert!(!goes_on(&[1], &[2]), "two may have been damaged");
        assert!(goes_on(&[1], &[3]));
        assert!(!goes_on(&[3], &[3]), "no more came");
        assert!(!goes_on(&[7], &[0]), "one was accepted");
        assert!(goes_on(&[0, 3], &[0, 4]), "by any path");
    }
}
