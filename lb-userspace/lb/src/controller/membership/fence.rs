//! The fence command as the cluster's member runs it.

use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_cluster::hooks;
use lb_cluster::member::fencing::Fence;
use lb_model::Cluster;
use lb_system::command::environment;

/// `None`: the configuration has no fence command.
pub(super) fn fence(cluster: &Cluster, findings: &Findings) -> Option<Fence> {
    let findings = findings.clone();
    let command = cluster.fence.clone()?;
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let me = nodes.get(cluster.me.index()).cloned().unwrap_or_default();
    // Called on the heartbeat thread; what it returns runs on the holder's.
    Some(Box::new(move |node, group| {
        let node = nodes.get(node.index()).cloned().unwrap_or_default();
        let group = group.to_owned();
        let (command, me, findings) = (command.clone(), me.clone(), findings.clone());
        Box::pin(async move {
            let record = |level, event, text| {
                findings.note(Record::new(level, event, text).node(node.clone()).group(group.clone()));
            };
            let text = format!("fencing node {node} before group {group} is taken");
            record(Level::Warning, "fencing", text);
            let environment = environment([("NODE", &me), ("DEAD_NODE", &node), ("GROUP", &group)]);
            hooks::fence(&command, &environment).await.map_err(|why| {
                record(Level::Error, "fencing_failed", format!("fencing node {node} has failed: {why}"));
                format!("fencing {node}: {why}")
            })
        })
    }))
}
