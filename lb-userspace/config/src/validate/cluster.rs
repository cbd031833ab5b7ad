//! The `cluster` section: nodes, times, reference hosts.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use lb_model::ids::{MAX_NODES, NodeId};
use lb_model::{Cluster, ConnectionSync, Node};

use super::{Surroundings, Unique, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

const MOST_REFERENCES: usize = 16;

const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_INTERVAL: Duration = Duration::from_millis(50);
/// `dead` in intervals, at least. The longest lease is then 2.6 of them, and two must fit into it
/// (`Settings::longest_lease`, `Settings::check`).
const LEAST_DEAD: u32 = 4;
const DEFAULT_DEAD: Duration = Duration::from_millis(200);
const DEFAULT_INITIAL_DEAD: Duration = Duration::from_secs(1);
/// Of `dead`, and of the times that depend on it.
const LONGEST: Duration = Duration::from_secs(10 * 60);
const DEFAULT_LINGER: Duration = Duration::from_secs(5);
const LONGEST_LINGER: Duration = Duration::from_secs(60 * 60);
/// Of `sync_rate`, in Mbit/s.
const MOST_SYNC_RATE: u64 = 100_000;
const BYTES_PER_MBIT: u64 = 125_000;

/// Placeholder for a missing or wrong address.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The node `text` of those with these names.
pub(super) fn node(names: &[String], text: &str) -> Result<NodeId, String> {
    let index = names.iter().position(|name| name == text).and_then(|index| u8::try_from(index).ok());
    index.map(NodeId).ok_or_else(|| match values::nearest(text, known(names)) {
        Some(name) => format!("unknown node, did you mean {name:?}?"),
        None => format!("expected a node of the cluster: {}", listed(names)),
    })
}

/// Without the placeholders of missing or wrong names.
fn known(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str).filter(|name| !name.is_empty())
}

fn listed(names: &[String]) -> String {
    known(names).collect::<Vec<_>>().join(", ")
}

struct Times {
    interval: Duration,
    dead: Duration,
    late: Duration,
    initial_dead: Duration,
}

impl Validator {
    /// The names of the nodes in the order of the file; a missing or wrong name is empty.
    pub(super) fn node_names(&mut self, cluster: &yaml::Cluster, span: SourceSpan<'_>) -> Vec<String> {
        let list = span.key("nodes");
        let given = cluster.nodes.as_deref().unwrap_or_default();
        if given.is_empty() {
            self.mistake(span.key_at(), "`nodes` is missing or empty, expected all directors of the cluster");
        }
        self.at_most(MAX_NODES, given.len(), "nodes", list);
        let mut taken = Unique::default();
        let each = given.iter().enumerate();
        let names = each.map(|(index, node)| {
            let value = Value::of(&node.name, "name", list.item(index));
            let name = self.needed(value, "the node's name, usually its host's", values::name)?;
            if let Err(line) = taken.insert(name.clone(), value.span()) {
                self.wrong(value, &format!("the node in line {line} already has this name"));
            }
            Some(name)
        });
        names.map(Option::unwrap_or_default).collect()
    }

    pub(super) fn cluster(
        &mut self,
        cluster: &yaml::Cluster,
        span: SourceSpan<'_>,
        around: &Surroundings<'_>,
    ) -> Cluster {
        let value = |scalar, key| Value::of(scalar, key, span);
        let Times { interval, dead, late, initial_dead } = self.cluster_times(cluster, span);
        let nodes = self.nodes(cluster, span.key("nodes"), around);
        let references = self.references(cluster, span.key("references"), around, &nodes);
        let paths = self.paths(cluster, span, around, &nodes);
        let key_file = self
            .optional(value(&cluster.key_file, "key_file"), |text| values::file_path(text, "/etc/lb/keys"));
        let state = self.optional(value(&cluster.state, "state"), |text| values::folder(text, "/var/lib/lb"));
        let linger = self.optional(value(&cluster.linger, "linger"), |text| {
            values::time(text, Duration::ZERO..=LONGEST_LINGER)
        });
        Cluster {
            name: self.optional(value(&cluster.name, "name"), values::name).unwrap_or_else(|| "lb".into()),
            me: self.me(value(&cluster.node, "node"), around).unwrap_or(NodeId(0)),
            nodes,
            key_file: key_file.unwrap_or_else(|| PathBuf::from("/etc/lb/keys")),
            interval,
            dead,
            late,
            initial_dead,
            linger: linger.unwrap_or(DEFAULT_LINGER),
            paths,
            references,
            state: state.unwrap_or_else(|| PathBuf::from("/var/lib/lb")),
            hooks: self.hooks(cluster.hooks.as_ref(), span.key("hooks")),
            fence: self.command(cluster.fence.as_ref(), span.key("fence")),
            sync: self.sync(cluster, span),
        }
    }

    fn sync(&mut self, cluster: &yaml::Cluster, span: SourceSpan<'_>) -> Option<ConnectionSync> {
        let value = |scalar, key| Value::of(scalar, key, span);
        let default = ConnectionSync::default();
        let port =
            self.optional(value(&cluster.sync_port, "sync_port"), |text| values::whole(text, 1..=65_535));
        let rate = self.optional(value(&cluster.sync_rate, "sync_rate"), |text| {
            values::whole(text, 1..=MOST_SYNC_RATE).map(|rate: u64| rate * BYTES_PER_MBIT)
        });
        let is_on = self.one_of(value(&cluster.sync, "sync"), &values::SWITCH, true);
        is_on.then(|| ConnectionSync {
            port: port.unwrap_or(default.port),
            rate: rate.unwrap_or(default.rate),
        })
    }

    /// Each time has a minimum that depends on the times before it. If one of these is wrong, its
    /// own minimum counts.
    fn cluster_times(&mut self, cluster: &yaml::Cluster, span: SourceSpan<'_>) -> Times {
        let value = |scalar, key| Value::of(scalar, key, span);
        let interval = value(&cluster.interval, "interval");
        let interval = match interval.text {
            None => DEFAULT_INTERVAL,
            Some(_) => self
                .optional(interval, |text| values::time(text, SHORTEST_INTERVAL..=LONGEST_INTERVAL))
                .unwrap_or(SHORTEST_INTERVAL),
        };
        let mut at_least = |value: Value<'_>, least: Duration, what: &str, default: Duration| {
            let read = self.optional(value, |text| {
                values::time(text, least..=LONGEST).map_err(|wrong| format!("{wrong}; the minimum is {what}"))
            });
            read.unwrap_or(if value.text.is_some() { least } else { default.max(least) })
        };
        let dead = at_least(value(&cluster.dead, "dead"), interval * LEAST_DEAD, "4 intervals", DEFAULT_DEAD);
        let late = at_least(value(&cluster.late, "late"), interval, "one interval", dead / 2);
        let initial_dead = at_least(
            value(&cluster.initial_dead, "initial_dead"),
            dead,
            "the dead time",
            DEFAULT_INITIAL_DEAD,
        );
        Times { interval, dead, late, initial_dead }
    }

    fn me(&mut self, value: Value<'_>, around: &Surroundings<'_>) -> Option<NodeId> {
        let Surroundings { names, host, .. } = around;
        // Without nodes, which `node_names` reports, no name can be right.
        if names.is_empty() {
            return None;
        }
        if value.text.is_some() {
            return self.optional(value, |text| {
                let hint = format!("the default is this host's name, {host:?}");
                node(names, text).map_err(|wrong| format!("{wrong} ({hint})"))
            });
        }
        let short = host.split('.').next().unwrap_or_default();
        let found = node(names, host).or_else(|_| node(names, short));
        if found.is_err() {
            let names = listed(names);
            let message = format!(
                "`node` is missing and no node has this host's name, {host:?}: expected `node` with one of {names}"
            );
            self.mistake(value.map.key_at(), message);
        }
        found.ok()
    }

    fn nodes(
        &mut self,
        cluster: &yaml::Cluster,
        list: SourceSpan<'_>,
        around: &Surroundings<'_>,
    ) -> Vec<Node> {
        let mut taken = Unique::default();
        let each = cluster.nodes.iter().flatten().zip(&around.names).enumerate();
        let nodes = each.map(|(index, (node, name))| {
            let value = Value::of(&node.address, "address", list.item(index));
            let address = self.needed(value, values::NODE, |text| {
                let address = values::node_address(text)?;
                around.not_a_vip(address)?;
                taken.only(address, "address", value.span())
            });
            Node { name: name.clone(), address: address.unwrap_or(NO_ADDRESS) }
        });
        nodes.collect()
    }

    fn references(
        &mut self,
        cluster: &yaml::Cluster,
        list: SourceSpan<'_>,
        around: &Surroundings<'_>,
        nodes: &[Node],
    ) -> Vec<IpAddr> {
        let given = cluster.references.as_deref().unwrap_or_default();
        self.at_most(MOST_REFERENCES, given.len(), "references", list);
        let mut taken = Unique::default();
        self.items(given, "references", list, |text, at| {
            let address = values::any_host(text)?;
            around.not_a_vip(address)?;
            // A node always reaches itself, so its answer would mean nothing.
            if nodes.iter().any(|node| node.address == address) {
                return Err("a node has this address, expected a host outside the cluster".into());
            }
            taken.only(address, "address", at)
        })
    }
}

impl Surroundings<'_> {
    /// Refuses VIPs: a VIP moves from node to node, so it is not the address of one host.
    pub(super) fn not_a_vip(&self, address: IpAddr) -> Result<(), String> {
        if self.vips.contains(&address) {
            Err("this address is a VIP of this configuration, expected a host's own address".into())
        } else {
            Ok(())
        }
    }
}
