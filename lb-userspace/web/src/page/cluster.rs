//! The cluster: roles, nodes, heartbeat paths, connection synchronisation.

use lb_api::status::{ClusterStatus, GroupStatus, Status, SyncStatus};
use lb_api::words;
use maud::{Markup, html};

use super::{class, orders, state};

pub(super) fn section(status: &Status, may_order: bool) -> Markup {
    let Some(cluster) = &status.cluster else { return html! {} };
    let groups = &cluster.groups;
    html! {
        section aria-labelledby="cluster" {
            h2 id="cluster" { "Cluster " (cluster.name) ", node " (cluster.node) }
            ul class="roles" {
                @for group in groups { (role(group, cluster, status.stopping, may_order)) }
            }
            div class="tables" {
                (nodes(cluster))
                (paths(cluster))
                @if let Some(sync) = &cluster.sync { (synchronisation(sync)) }
            }
        }
    }
}

fn role(group: &GroupStatus, cluster: &ClusterStatus, stopping: bool, may_order: bool) -> Markup {
    let (tone, role) = group.role_words(stopping);
    let (holder_tone, holder) = group.holder_words();
    let (note_tone, note) = group.notes(stopping);
    html! {
        li class=(class(tone)) {
            strong { (state(tone, role)) }
            span {
                (group.name) " (" (group.vips_words()) "), for " (words::since(group.since_s)) ": " (group.cause) "; "
                "on " (state(holder_tone, &holder)) ", preferred " (group.preferred_words())
            }
            @if !note.is_empty() { span { "; " (state(note_tone, note)) } }
            @if may_order && !group.is_anycast() {
                span class="links" {
                    " "
                    @if group.role == "active" { (orders::link("failover", &[("group", &group.name)], "Fail over")) }
                    @if group.holder.as_ref() != Some(&group.preferred) && cluster.nodes.len() > 1 {
                        (orders::link("failback", &[("group", &group.name)], "Fail back"))
                    }
                }
            }
        }
    }
}

/// A table that can be scrolled by keyboard.
pub(super) fn scrolling(name: &str, table: &Markup) -> Markup {
    html! { div class="scroll" role="region" aria-label=(name) tabindex="0" { (table) } }
}

fn nodes(cluster: &ClusterStatus) -> Markup {
    let table = html! {
        table {
            caption { "Nodes" }
            thead { tr { th scope="col" { "Node" } th scope="col" { "Address" } th scope="col" { "State" }
                th scope="col" class="number" { "Servers" } } }
            tbody {
                @for node in &cluster.nodes {
                    @let (tone, words) = node.state_words();
                    tr {
                        th scope="row" { (node.name) @if node.name == cluster.node { " (this node)" } }
                        td { (node.address) }
                        td { (state(tone, &words)) }
                        td class="number" {
                            @if let Some(readiness) = node.readiness.filter(|_| node.alive) { (readiness.servers) }
                        }
                    }
                }
            }
        }
    };
    scrolling("Nodes", &table)
}

fn paths(cluster: &ClusterStatus) -> Markup {
    let table = html! {
        table {
            caption { "Heartbeat paths" }
            thead { tr { th scope="col" { "Path" } th scope="col" { "State" } th scope="col" { "Last heard" } } }
            tbody {
                @for path in &cluster.paths {
                    @let (tone, word) = path.state_words();
                    @let (heard_tone, heard) = path.heard_words();
                    tr {
                        th scope="row" { (path.name) }
                        td { (state(tone, word)) }
                        td class=(class(heard_tone)) { (heard) }
                    }
                }
            }
        }
    };
    html! { @if !cluster.paths.is_empty() { (scrolling("Heartbeat paths", &table)) } }
}

fn synchronisation(sync: &SyncStatus) -> Markup {
    let table = html! {
        table {
            caption { "Connections are told to" }
            thead { tr { th scope="col" { "Node" } th scope="col" { "State" } th scope="col" class="number" { "Lag" }
                th scope="col" class="number" { "Alike" } } }
            tbody {
                @for peer in &sync.peers {
                    @let (tone, word) = peer.state_words();
                    tr {
                        th scope="row" { (peer.node) }
                        td { (state(tone, &word)) }
                        td class="number" { (format!("{:.0} ms", peer.lag_ms)) }
                        td class="number" {
                            @if let Some(share) = peer.agreement { (format!("{:.1} %", (share * 1000.0).floor() / 10.0)) }
                        }
                    }
                }
            }
        }
    };
    html! { @if !sync.peers.is_empty() { (scrolling("Connection synchronisation", &table)) } }
}
