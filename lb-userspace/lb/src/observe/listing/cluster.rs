//! The cluster's part of the listing: nodes, paths, groups.

use lb_api::status::{ClusterStatus, GroupStatus, NodeStatus, PathStatus, SyncPeer, SyncStatus};

use lb_api::words;

use super::Tone;
use super::table::{Cell, Table};

/// `stopping`: this node was told to.
pub(super) fn render(cluster: &ClusterStatus, stopping: bool, colour: bool) -> String {
    let mut nodes = Table::new("", colour);
    nodes.row(["Node", "Address", "State", "Servers"].map(Cell::plain));
    cluster.nodes.iter().for_each(|node| nodes.row(node_row(node, &cluster.node)));

    let mut paths = Table::new("", colour);
    paths.row(["Heartbeats by", "State", "Last heard"].map(Cell::plain));
    cluster.paths.iter().for_each(|path| paths.row(path_row(path)));

    let mut sync = Table::new("", colour);
    if let Some(SyncStatus { peers, .. }) = &cluster.sync {
        sync.row(["Connections with", "State", "Lag", "Alike", "Waiting"].map(Cell::plain));
        peers.iter().for_each(|peer| sync.row(sync_row(peer)));
    }

    let mut groups = Table::new("", colour);
    groups.row(["Group", "VIPs", "Is on", "Preferred", "Here", ""].map(Cell::plain));
    cluster.groups.iter().for_each(|group| groups.row(group_row(group, stopping)));

    let heading = Tone::Strong.paint(&format!("Cluster {}", words::printable(&cluster.name)), colour) + "\n";
    let ways = nodes.lines().chain(paths.lines()).chain(sync.lines());
    [heading].into_iter().chain(ways).chain(groups.lines()).collect()
}

fn node_row(node: &NodeStatus, me: &str) -> [Cell; 4] {
    let name = if node.name == me { format!("{} (this node)", node.name) } else { node.name.clone() };
    let servers = node.readiness.filter(|_| node.alive).map(|readiness| readiness.servers.to_string());
    [
        Cell::new(&name, Tone::Strong),
        Cell::plain(&node.address.to_string()),
        Cell::of(node.state_words()),
        Cell::plain(servers.as_deref().unwrap_or("")),
    ]
}

fn path_row(path: &PathStatus) -> [Cell; 3] {
    [Cell::plain(&path.name), Cell::of(path.state_words()), Cell::of(path.heard_words())]
}

fn sync_row(peer: &SyncPeer) -> [Cell; 5] {
    let agreement = peer.agreement.map(|share| format!("{:.1} %", (share * 1000.0).floor() / 10.0));
    [
        Cell::new(&peer.node, Tone::Strong),
        Cell::of(peer.state_words()),
        Cell::plain(&format!("{:.0} ms", peer.lag_ms)),
        Cell::plain(agreement.as_deref().unwrap_or("")),
        Cell::plain(&if peer.backlog == 0 { String::new() } else { format!("{} datagrams", peer.backlog) }),
    ]
}

fn group_row(group: &GroupStatus, stopping: bool) -> [Cell; 6] {
    let (tone, role) = group.role_words(stopping);
    [
        Cell::new(&group.name, Tone::Strong),
        Cell::plain(&group.vips_words()),
        Cell::of(group.holder_words()),
        Cell::plain(group.preferred_words()),
        Cell::of((tone, format!("{role} {}", words::since(group.since_s)))),
        Cell::of(group.notes(stopping)),
    ]
}
