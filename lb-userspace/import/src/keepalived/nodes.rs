//! The cluster: which nodes there are, and which of them is preferred, from the files of one node
//! or of several.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::statement::Statement;
use super::vrrp::{Instance, Vrrp};
use crate::Original;
use crate::keywords::{self, Keyword, Verdict};
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::{Item, Map, Value};

/// A node, and how much it wants a group.
#[derive(Debug)]
struct Node {
    name: String,
    address: Option<IpAddr>,
    from: Vec<At>,
    /// By the name of an instance: MASTER, and the priority.
    wishes: Vec<(String, bool, u64)>,
}

impl Node {
    fn wish(&self, instance: &str) -> (u64, bool) {
        let own = self.wishes.iter().find(|(name, ..)| name == instance);
        own.map_or((0, false), |(_, master, priority)| (*priority, *master))
    }
}

pub(super) fn finish(
    first: usize,
    vrrp: &Vrrp,
    others: &[(usize, Vec<Statement>)],
    ledger: &mut Ledger,
    parts: &mut Parts<'_>,
) {
    let mut scratch = Vec::new();
    for (file, statements) in others {
        scratch.push((*file, other_file(first, *file, statements, ledger, parts)));
    }
    let groups = vrrp.groups(ledger);
    let nodes = nodes(first, vrrp, &scratch, ledger, parts);
    let complete = nodes.len() > 1 && nodes.iter().all(|node| node.address.is_some());
    if !complete && !groups.is_empty() {
        alone(&nodes, vrrp, ledger);
    }
    for (mut group, members) in groups {
        let Value::Map(map) = &mut group.value else { continue };
        if complete {
            let member = members.first().map_or("", |instance| instance.name.as_str());
            let mut order: Vec<&Node> = nodes.iter().collect();
            order.sort_by_key(|node| std::cmp::Reverse(node.wish(member)));
            let names = order.iter().map(|node| node.name.clone()).collect();
            let from: Vec<At> = members.iter().flat_map(|instance| instance.of_cluster.clone()).collect();
            map.set("nodes", Value::Words(names), &from);
        } else {
            ["failback", "failback_delay"].iter().for_each(|key| map.remove(key));
        }
        parts.groups.push(group);
    }
    if !complete {
        return;
    }
    for (_, at) in vrrp.instances.iter().flat_map(|instance| &instance.peers) {
        ledger.kept(*at, "the addresses of `nodes`");
    }
    for node in nodes {
        let mut map = Map::default();
        map.set("name", node.name.as_str(), &node.from);
        if let Some(address) = node.address {
            map.set("address", address.to_string(), &node.from);
        }
        parts.nodes.push(Item::new(map, &node.from));
    }
    let mut path = Map::default();
    path.set("type", "unicast", &[]);
    parts.paths.push(Item::new(path, &[]));
    ledger.assume("a path of type unicast between the nodes' addresses; best add a second one".to_owned());
    if !vrrp.hooks.is_empty() {
        parts.cluster.set("hooks", vrrp.hooks.clone(), &[]);
    }
}

/// Without the other nodes' addresses there is no cluster.
fn alone(nodes: &[Node], vrrp: &Vrrp, ledger: &mut Ledger) {
    let missing: Vec<&str> =
        nodes.iter().filter(|node| node.address.is_none()).map(|node| node.name.as_str()).collect();
    let why = match missing.as_slice() {
        [] => {
            "there is no `cluster`, because this file names no other node: give the files of all of them, as \
               `lb1=FILE lb2=FILE`"
                .to_owned()
        }
        missing => format!(
            "there is no `cluster` without the nodes' addresses: give `--address {}=ADDRESS`, or `--hosts FILE`",
            missing.join("=ADDRESS --address ")
        ),
    };
    let lines = vrrp.instances.iter().flat_map(|instance| {
        let peers = instance.peers.iter().map(|(_, at)| *at);
        instance.of_cluster.iter().copied().chain(peers).chain(instance.own.map(|(_, at)| at))
    });
    for at in lines.chain(vrrp.hooks.0.iter().flat_map(|(_, item)| item.all_from())) {
        ledger.lost(at, why.clone());
    }
}

fn wishes(vrrp: &Vrrp) -> Vec<(String, bool, u64)> {
    let wish = |one: &Instance| (one.name.clone(), one.is_master, one.priority.unwrap_or(100));
    vrrp.instances.iter().map(wish).collect()
}

fn nodes(
    first: usize,
    vrrp: &Vrrp,
    others: &[(usize, Vrrp)],
    ledger: &mut Ledger,
    parts: &Parts<'_>,
) -> Vec<Node> {
    let own = |vrrp: &Vrrp| vrrp.instances.iter().find_map(|instance| instance.own);
    let mut nodes = Vec::new();
    let named = ledger.node(first).map(str::to_owned);
    for (file, vrrp) in [(first, vrrp)].into_iter().chain(others.iter().map(|(file, vrrp)| (*file, vrrp))) {
        let address = own(vrrp);
        let name = ledger.node(file).map(str::to_owned).or_else(|| {
            let (address, _) = address?;
            Some(parts.hosts.name(address).map_or_else(|| address.to_string(), str::to_owned))
        });
        let Some(name) = name else { continue };
        let from: Vec<At> = address.map(|(_, at)| at).into_iter().collect();
        from.iter().for_each(|at| ledger.kept(*at, format!("the address of {name} in `nodes`")));
        let address = address.map(|(address, _)| address).or_else(|| parts.node_address(&name));
        nodes.push(Node { name, address, from, wishes: wishes(vrrp) });
    }
    if named.is_none() {
        peers(vrrp, &mut nodes, parts);
    }
    nodes
}

/// The nodes that a single file tells of: all that is known of them is whether this one is MASTER.
fn peers(vrrp: &Vrrp, nodes: &mut Vec<Node>, parts: &Parts<'_>) {
    let mut seen: BTreeSet<IpAddr> = nodes.iter().filter_map(|node| node.address).collect();
    for (address, at) in vrrp.instances.iter().flat_map(|instance| &instance.peers) {
        if seen.insert(*address) {
            let name = parts.hosts.name(*address).map_or_else(|| address.to_string(), str::to_owned);
            let wish = |one: &Instance| (one.name.clone(), !one.is_master, one.priority.unwrap_or(100));
            let wishes = vrrp.instances.iter().map(wish).collect();
            nodes.push(Node { name, address: Some(*address), from: vec![*at], wishes });
        }
    }
}

/// Another node's file: what differs from the first one is its state, priority and address.
fn other_file(
    first: usize,
    file: usize,
    statements: &[Statement],
    ledger: &mut Ledger,
    parts: &mut Parts<'_>,
) -> Vrrp {
    let name = ledger.name(first).to_owned();
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let known: BTreeSet<String> = ledger.lines(first).iter().map(|(_, line)| plain(line)).collect();
    let mut vrrp = Vrrp::default();
    // Its lines are looked at without a trace in the report or in the parts.
    let mut unseen = Ledger::default();
    let mut aside = Parts::new(parts.known);
    std::mem::swap(&mut aside.hosts, &mut parts.hosts);
    for statement in statements.iter().filter(|statement| statement.name() == "vrrp_instance") {
        vrrp.instance(statement, &mut unseen, &mut aside);
    }
    std::mem::swap(&mut aside.hosts, &mut parts.hosts);
    let peers: BTreeSet<At> =
        vrrp.instances.iter().flat_map(|one| one.peers.iter().map(|(_, at)| *at)).collect();
    for (at, line) in ledger.lines(file) {
        let text = plain(&line);
        let word = text.split_whitespace().next().unwrap_or_default();
        if matches!(word, "state" | "priority") {
            ledger.changed(at, "the order of `nodes`: the preferred one comes first");
        } else if matches!(word, "unicast_src_ip" | "mcast_src_ip") || peers.contains(&at) {
            ledger.kept(at, "the addresses of `nodes`");
        } else if word == "router_id" {
            ledger.needless(at, "nodes are called as `nodes` of the cluster names them");
        } else if let Some(Keyword { verdict: Verdict::Needless, note, .. }) =
            keywords::find(Original::Keepalived, &["vrrp", "global", "check"], word)
        {
            ledger.needless(at, note);
        } else if word.starts_with(['#', '!']) || text.is_empty() {
            // A comment, which the lexer has noted.
        } else if known.contains(&text) {
            ledger.needless(at, format!("{name} has the same line, which was imported"));
        } else {
            ledger.lost(
                at,
                format!(
                    "{name} does not have this line, and nodes of `lb` share one file: put it there, too"
                ),
            );
        }
    }
    vrrp
}
