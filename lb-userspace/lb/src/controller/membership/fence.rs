//! The fence command as the cluster's member runs it.

use lb_cluster::hooks;
use lb_cluster::member::fencing::Fence;
use lb_model::Cluster;
use lb_system::command::environment;

/// `None`: the configuration has no fence command.
pub(super) fn fence(cluster: &Cluster) -> Option<Fence> {
    let command = cluster.fence.clone()?;
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let me = nodes.get(usize::from(cluster.me)).cloned().unwrap_or_default();
    // Called on the heartbeat thread; what it returns runs on the holder's.
    Some(Box::new(move |node, group| {
        let node = nodes.get(usize::from(node.0)).cloned().unwrap_or_default();
        let group = group.to_owned();
        let (command, me) = (command.clone(), me.clone());
        Box::pin(async move {
            tracing::warn!("fencing node {node} before group {group} is taken");
            let environment = environment([("NODE", &me), ("DEAD_NODE", &node), ("GROUP", &group)]);
            hooks::fence(&command, &environment).await.map_err(|why| format!("fencing {node}: {why}"))
        })
    }))
}
