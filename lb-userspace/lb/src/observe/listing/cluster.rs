//! The cluster's part of the listing: nodes, paths, groups.

use std::net::IpAddr;

use lb_api::status::{
    ClusterStatus, GroupStatus, Heard, NodeReadiness, NodeStatus, PathStatus, SyncPeer, SyncStatus,
};

use super::table::{Cell, Table};
use super::{Tone, words};

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
        state_cell(node),
        Cell::plain(servers.as_deref().unwrap_or("")),
    ]
}

fn state_cell(node: &NodeStatus) -> Cell {
    let Some(readiness) = node.readiness.filter(|_| node.alive) else {
        let text = if node.readiness.is_some() { "DEAD" } else { "never heard" };
        return Cell::new(text, Tone::Bad);
    };
    let hindrances = hindrances(readiness);
    let config = (!node.config_agrees).then_some("ANOTHER CONFIGURATION");
    let all: Vec<&str> = hindrances.into_iter().chain(config).collect();
    match all.is_empty() {
        true => Cell::new("up", Tone::Good),
        false => Cell::new(&format!("up: {}", all.join(", ")), Tone::Warning),
    }
}

/// What keeps a node from serving.
fn hindrances(readiness: NodeReadiness) -> Vec<&'static str> {
    let NodeReadiness { data_path, link, maintenance, servers: _, references: _ } = readiness;
    let all = [(maintenance, "standby or maintenance"), (!data_path, "no XDP program"), (!link, "no link")];
    all.into_iter().filter_map(|(hinders, word)| hinders.then_some(word)).collect()
}

fn path_row(path: &PathStatus) -> [Cell; 3] {
    let heard: Vec<String> =
        path.heard.iter().map(|Heard { node, ago_ms }| format!("{node} {ago_ms} ms ago")).collect();
    [
        Cell::plain(&path.name),
        if path.open { Cell::new("open", Tone::Good) } else { Cell::new("CLOSED", Tone::Bad) },
        if heard.is_empty() {
            Cell::new("nobody yet", Tone::Warning)
        } else {
            Cell::plain(&heard.join(", "))
        },
    ]
}

/// How much of what one knows the other knows, too.
fn sync_row(peer: &SyncPeer) -> [Cell; 5] {
    let state = match (peer.up, peer.knows_ours && peer.knows_theirs) {
        (false, _) => Cell::new("NO ANSWER", Tone::Bad),
        (true, false) => Cell::new("catching up", Tone::Warning),
        (true, true) => Cell::new("in step", Tone::Good),
    };
    let agreement = peer.agreement.map(|share| format!("{:.1} %", (share * 1000.0).floor() / 10.0));
    [
        Cell::new(&peer.node, Tone::Strong),
        state,
        Cell::plain(&format!("{:.0} ms", peer.lag_ms)),
        Cell::plain(agreement.as_deref().unwrap_or("")),
        Cell::plain(&if peer.backlog == 0 { String::new() } else { format!("{} datagrams", peer.backlog) }),
    ]
}

/// The first ones, and how many there are besides.
fn vips(vips: &[IpAddr]) -> String {
    const SHOWN: usize = 4;
    let shown = if vips.len() > SHOWN + 1 { SHOWN } else { vips.len() };
    let (shown, rest) = vips.split_at(shown);
    let text = shown.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if rest.is_empty() { text } else { format!("{text} and {} more", rest.len()) }
}

fn group_row(group: &GroupStatus, stopping: bool) -> [Cell; 6] {
    let away = group.holder.as_ref() != Some(&group.preferred);
    let role = if stopping && group.role == "fault" { "stopping" } else { &*group.role };
    let tone = match role {
        "active" => Tone::Good,
        "fault" => Tone::Bad,
        "standby" => Tone::Plain,
        _ => Tone::Warning,
    };
    [
        Cell::new(&group.name, Tone::Strong),
        Cell::plain(&vips(&group.vips)),
        match &group.holder {
            Some(holder) => Cell::new(holder, if away { Tone::Warning } else { Tone::Good }),
            None => Cell::new("NOBODY", Tone::Bad),
        },
        Cell::plain(&group.preferred),
        Cell::new(&format!("{role} {}", words::since(group.since_s)), tone),
        // Why a node is active or standby is in the event log; why it cannot be is asked here.
        match role {
            "fault" => Cell::new(&group.cause, Tone::Bad),
            "active" if !group.has_successor => Cell::new("no other node is ready", Tone::Warning),
            _ if group.serves_on => Cell::plain("serves its earlier connections on"),
            _ => Cell::plain(""),
        },
    ]
}
