//! The parts of the YAML, as the readers fill them.

use std::net::IpAddr;

use crate::Known;
use crate::hosts::Hosts;
use crate::ledger::Ledger;
use crate::mail::Receivers;
use crate::report::At;
use crate::tree::{Item, Map, Value};

const ROOT: [&str; 8] =
    ["interface", "interfaces", "maintenance_dir", "alerts", "timeouts", "cluster", "groups", "services"];
const CLUSTER: [&str; 10] =
    ["nodes", "node", "key_file", "interval", "dead", "late", "initial_dead", "paths", "references", "hooks"];
const GROUP: [&str; 8] =
    ["vips", "name", "interface", "label", "refresh", "nodes", "failback", "failback_delay"];
const SERVICE: [&str; 16] = [
    "vip",
    "name",
    "protocol",
    "scheduler",
    "hash",
    "ops",
    "persistence",
    "fallback",
    "forward",
    "quiescent",
    "quorum",
    "hysteresis",
    "hooks",
    "timeouts",
    "check",
    "servers",
];
const SERVER: [&str; 7] =
    ["address", "name", "forward", "weight", "upper_threshold", "lower_threshold", "check"];
const CHECK: [&str; 6] = ["type", "via", "interval", "fast_interval", "timeout", "fall"];

pub(crate) struct Parts<'k> {
    pub known: &'k Known,
    pub hosts: Hosts,
    /// Keys at the top of the file.
    pub top: Map,
    /// Interfaces that the source names, the first one is the main one.
    interfaces: Vec<(String, At)>,
    pub cluster: Map,
    pub nodes: Vec<Item>,
    pub paths: Vec<Item>,
    pub groups: Vec<Item>,
    pub services: Vec<Item>,
    pub receivers: Receivers,
}

impl<'k> Parts<'k> {
    pub(crate) fn new(known: &'k Known) -> Self {
        Self {
            known,
            hosts: Hosts::new(&known.hosts),
            top: Map::default(),
            interfaces: Vec::new(),
            cluster: Map::default(),
            nodes: Vec::new(),
            paths: Vec::new(),
            groups: Vec::new(),
            services: Vec::new(),
            receivers: Receivers::default(),
        }
    }

    /// Notes an interface of the source that VIPs are on.
    pub(crate) fn interface(&mut self, name: &str, at: At) {
        let fits = (1..=15).contains(&name.len())
            && !name.contains(|char: char| "/:".contains(char) || char.is_whitespace() || char.is_control())
            && name != "."
            && name != "..";
        if fits && !self.interfaces.iter().any(|(known, _)| known == name) {
            self.interfaces.push((name.to_owned(), at));
        }
    }

    /// The address of a node by its name, from the command line or the hosts file.
    pub(crate) fn node_address(&self, name: &str) -> Option<IpAddr> {
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let given = &self.known.addresses;
        let exact = given.iter().find(|(known, _)| known == name);
        let near = || given.iter().find(|(known, _)| short(known) == short(name));
        exact.or_else(near).map(|(_, address)| *address).or_else(|| self.hosts.address(name))
    }

    /// What a firewall mark stands for.
    pub(crate) fn mark(&self, mark: u32) -> Option<&str> {
        self.known.marks.iter().find(|(known, _)| *known == mark).map(|(_, vip)| vip.as_str())
    }

    /// The tree of the whole file, and the host name that it is checked for.
    pub(crate) fn finish(mut self, ledger: &mut Ledger) -> (Item, String) {
        let mut root = std::mem::take(&mut self.top);
        self.name_interfaces(&mut root, ledger);
        let host = self.finish_cluster(&mut root, ledger);
        self.serve_vips(ledger);
        for group in &mut self.groups {
            sort(group, &GROUP);
        }
        for service in &mut self.services {
            sort_service(service);
        }
        if !self.groups.is_empty() {
            root.set("groups", Value::List(self.groups), &[]);
        }
        root.set("services", Value::List(self.services), &[]);
        if let Some((alerts, from)) = self.receivers.finish(&self.known.host, ledger) {
            root.set("alerts", alerts, &from);
        }
        root.sort(&ROOT);
        (Item::new(root, &[]), host)
    }

    fn name_interfaces(&mut self, root: &mut Map, ledger: &mut Ledger) {
        let (interfaces, from): (Vec<String>, Vec<At>) = match &self.known.interface {
            Some(name) => (vec![name.clone()], Vec::new()),
            None => std::mem::take(&mut self.interfaces).into_iter().unzip(),
        };
        match interfaces.as_slice() {
            [] => {
                let note =
                    "`interface: eth0`; say `--interface NAME` where clients' packets come in by another one";
                ledger.assume(note.to_owned());
                root.set("interface", "eth0", &[]);
            }
            [one] => root.set("interface", one.as_str(), &from),
            several => root.set("interfaces", Value::Words(several.to_vec()), &from),
        }
        // Groups need to say where they are only if there is more than one place.
        for group in &mut self.groups {
            if let Value::Map(map) = &mut group.value
                && map.text("interface").is_some_and(|name| {
                    interfaces.first().is_none_or(|main| main == name)
                        || !interfaces.iter().any(|one| one == name)
                })
            {
                map.remove("interface");
            }
        }
    }

    fn finish_cluster(&mut self, root: &mut Map, ledger: &mut Ledger) -> String {
        let names = self.nodes.iter().filter_map(|node| match &node.value {
            Value::Map(map) => map.text("name").map(str::to_owned),
            _ => None,
        });
        let names: Vec<String> = names.collect();
        let host = &self.known.host;
        let short = host.split('.').next().unwrap_or_default();
        let Some(first) = names.first() else { return host.clone() };
        let mut cluster = std::mem::take(&mut self.cluster);
        cluster.set("nodes", Value::List(std::mem::take(&mut self.nodes)), &[]);
        cluster.set("paths", Value::List(std::mem::take(&mut self.paths)), &[]);
        if !names.iter().any(|name| name == host || name == short) {
            cluster.set("node", first.as_str(), &[]);
            let note = format!(
                "`node: {first}`, as this host has no node's name: on each other node put its own name there, or take \
                 the line out where hosts are called like their nodes"
            );
            if let Some((_, item)) = cluster.0.iter_mut().find(|(key, _)| key == "node") {
                item.above
                    .push("On each node its own name; without this line the host's name counts.".to_owned());
            }
            ledger.assume(note);
        }
        let note = "`key_file: /etc/lb/keys`, which must be there on all nodes before `lb` starts: `umask 077; echo \"1 \
                    $(openssl rand -hex 32)\" > /etc/lb/keys` once, and a copy to each";
        ledger.assume(note.to_owned());
        cluster.set("key_file", "/etc/lb/keys", &[]);
        cluster.sort(&CLUSTER);
        root.set("cluster", cluster, &[]);
        first.clone()
    }

    /// VIPs without any service are the active director's own: a file needs a service, so one says
    /// it.
    fn serve_vips(&mut self, ledger: &mut Ledger) {
        let vips = self.groups.iter().filter_map(|group| match &group.value {
            Value::Map(map) => map.get("vips")?.as_texts().first().map(|vip| (*vip).to_owned()),
            _ => None,
        });
        let vips: Vec<String> = vips.collect();
        if !self.services.is_empty() {
            return;
        }
        let Some(vip) = vips.first() else { return };
        let address = vip.split('/').next().unwrap_or_default();
        let Ok(address) = address.parse() else { return };
        let mut service = Map::default();
        service.set("vip", crate::hosts::endpoint(address, "*"), &[]);
        service.set("fallback", "local", &[]);
        let mut item = Item::new(service, &[]);
        item.above
            .push("What comes to the VIP is the active director's own; put your services here.".to_owned());
        self.services.push(item);
        let note = "a service of all TCP ports of the first VIP with `fallback: local`, as the source has none and a file \
                    needs one: the active director's own host serves, as before";
        ledger.assume(note.to_owned());
    }
}

fn sort(item: &mut Item, order: &[&str]) {
    if let Value::Map(map) = &mut item.value {
        map.sort(order);
    }
}

fn sort_service(service: &mut Item) {
    sort(service, &SERVICE);
    let Value::Map(map) = &mut service.value else { return };
    for (key, item) in &mut map.0 {
        match (key.as_str(), &mut item.value) {
            ("check", _) => sort_check(item),
            ("servers", Value::List(servers)) => {
                for server in servers {
                    sort(server, &SERVER);
                    if let Value::Map(map) = &mut server.value {
                        map.0
                            .iter_mut()
                            .filter(|(key, _)| key == "check")
                            .for_each(|(_, item)| sort_check(item));
                    }
                }
            }
            _ => {}
        }
    }
}

fn sort_check(item: &mut Item) {
    match &mut item.value {
        Value::Map(map) => map.sort(&CHECK),
        Value::List(items) => items.iter_mut().for_each(|item| sort(item, &CHECK)),
        _ => {}
    }
}
