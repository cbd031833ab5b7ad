//! The cluster as operators ask for it.

use std::sync::atomic::Ordering::Relaxed;

use lb_api::status::{ClusterStatus, Count, GroupStatus, Heard, NodeReadiness, NodeStatus, PathStatus};
use lb_cluster::reason::DropReason;
use lb_cluster::transport::statistics::Statistics;
use lb_cluster::words::{self, Names};
use lb_model::Group;
use lb_model::ids::NodeId;
use lb_system::clock::now;

use super::Membership;

impl Membership {
    /// `None`: this director is alone.
    pub(in crate::controller) async fn status(&self, groups: &[Group]) -> Option<ClusterStatus> {
        let clustered = self.clustered()?;
        let snapshot = clustered.member.snapshot().await.ok()?;
        let names = clustered.names();
        let nodes = clustered.cluster.nodes.iter().zip(&snapshot.nodes).map(|(node, snapshot)| NodeStatus {
            name: node.name.clone(),
            address: node.address,
            alive: snapshot.alive,
            readiness: snapshot.readiness.map(|readiness| NodeReadiness {
                data_path: readiness.data_path,
                link: readiness.link,
                maintenance: readiness.maintenance,
                servers: readiness.servers,
                references: readiness.references,
            }),
            config_agrees: snapshot.config_agrees,
        });
        let groups = groups.iter().filter_map(|group| {
            let (snapshot, here) = (snapshot.groups.get(&group.id())?, clustered.roles.get(&group.id())?);
            Some((group, snapshot, here))
        });
        let groups = groups.map(|(group, snapshot, here)| GroupStatus {
            name: group.name.clone(),
            vips: group.vips.iter().map(|vip| vip.address).collect(),
            role: words::role(snapshot.role).to_owned(),
            since_s: here.since.elapsed().as_secs(),
            cause: here.cause.clone(),
            kind: if group.anycast().is_some() { "anycast" } else { "failover" }.to_owned(),
            serving: snapshot.active.iter().map(|node| names.node(*node)).collect(),
            holder: snapshot.holder.map(|node| names.node(node)),
            // Of one that every node serves this one is to serve it.
            preferred: match group.anycast() {
                Some(_) => names.node(clustered.cluster.me),
                None => group.nodes.first().map(|&node| names.node(node)).unwrap_or_default(),
            },
            has_successor: snapshot.has_successor,
            serves_on: snapshot.serves_on,
            takeovers: here.takeovers(),
        });
        Some(ClusterStatus {
            name: clustered.cluster.name.clone(),
            node: names.node(clustered.cluster.me),
            nodes: nodes.collect(),
            groups: groups.collect(),
            sync: clustered
                .synchronisation
                .as_ref()
                .map(|synchronisation| synchronisation.status(|node| names.node(node))),
            paths: clustered.member.statistics().iter().map(|path| path_status(path, names)).collect(),
        })
    }
}

fn path_status(path: &Statistics, names: Names<'_>) -> PathStatus {
    let now = now();
    let nodes = (0..=u8::MAX).map(NodeId).take(names.cluster.nodes.len());
    let heard = nodes.filter_map(|node| {
        let ago = now.saturating_sub(path.last_heard(node)?);
        Some(Heard { node: names.node(node), ago_ms: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX) })
    });
    PathStatus {
        name: path.name.clone(),
        open: path.open.load(Relaxed),
        sent: path.sent.load(Relaxed),
        send_errors: path.send_errors.load(Relaxed),
        received: path.received.load(Relaxed),
        heard: heard.collect(),
        dropped: DropReason::ALL
            .iter()
            .map(|reason| Count { reason: reason.label().to_owned(), count: path.dropped(*reason) })
            .collect(),
    }
}
