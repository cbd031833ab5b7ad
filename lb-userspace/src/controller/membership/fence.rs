//! The fence command as the cluster's member runs it.

use crate::cluster::hooks;
use crate::cluster::member::fencing::Fence;
use crate::command::environment;
use crate::config::{Cluster, Config};

/// `None`: the configuration has no fence command.
pub(super) fn fence(config: &Config, cluster: &Cluster) -> Option<Fence> {
    let command = cluster.fence.clone()?;
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let groups: Vec<String> = config.groups.iter().map(|group| group.name.clone()).collect();
    let me = nodes.get(usize::from(cluster.me)).cloned().unwrap_or_default();
    // Called on the heartbeat thread; what it returns runs on the holder's.
    Some(Box::new(move |node, group| {
        let name = |names: &[String], place: u8| names.get(usize::from(place)).cloned().unwrap_or_default();
        let (node, group) = (name(&nodes, node.0), name(&groups, group.0));
        let (command, me) = (command.clone(), me.clone());
        Box::pin(async move {
            tracing::warn!("fencing node {node} before group {group} is taken");
            let environment = environment([("NODE", &me), ("DEAD_NODE", &node), ("GROUP", &group)]);
            hooks::fence(&command, &environment).await.map_err(|why| format!("fencing {node}: {why}"))
        })
    }))
}
