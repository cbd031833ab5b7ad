//! ha.cf, of one node or of several.

use std::net::IpAddr;

use super::node;
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::{Item, Map, Value};
use crate::{Original, keywords};

/// What the files say of the cluster.
#[derive(Debug, Default)]
pub(super) struct HaCf {
    pub nodes: Vec<(String, At)>,
    /// Addresses that nodes are reached at, by whose file says so, if that is known.
    unicast: Vec<Unicast>,
    port: Option<(u16, At)>,
    baud: Option<(String, At)>,
    /// Times in milliseconds.
    times: Vec<(&'static str, u64, At)>,
    references: Vec<(String, At)>,
    pub failback: Option<(bool, At)>,
}

#[derive(Debug)]
struct Unicast {
    interface: String,
    address: IpAddr,
    /// The node whose file has the line: the address is another node's.
    of: Option<String>,
    at: At,
}

/// Seconds with a fraction, or milliseconds: `2`, `1.7`, `500ms`, `10s`.
fn time(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok().filter(|number: &f64| (0.0..1e9).contains(number))?;
    let factor = match &text[digits.len()..] {
        "" | "s" | "sec" => 1000.0,
        "ms" | "msec" => 1.0,
        "us" | "usec" => 0.001,
        "m" | "min" => 60_000.0,
        "h" | "hr" => 3_600_000.0,
        _ => return None,
    };
    // At most 3.6e15: exact.
    Some((number * factor).round() as u64)
}

pub(super) fn read(files: &[usize], ledger: &mut Ledger, parts: &mut Parts<'_>) -> HaCf {
    let mut cluster = HaCf::default();
    for file in files {
        let of = ledger.node(*file).map(str::to_owned);
        for (at, line) in ledger.lines(*file) {
            let text = match line.split_once('#') {
                Some((text, comment)) => {
                    ledger.comment(at, comment);
                    text
                }
                None => &line,
            };
            let words: Vec<&str> = text.split_whitespace().collect();
            if let Some((name, values)) = words.split_first() {
                cluster.directive(name, values, of.as_deref(), at, ledger, parts);
            }
        }
    }
    cluster
}

impl HaCf {
    fn directive(
        &mut self,
        name: &str,
        values: &[&str],
        of: Option<&str>,
        at: At,
        ledger: &mut Ledger,
        parts: &mut Parts<'_>,
    ) {
        let first = values.first().copied().unwrap_or_default();
        match name {
            "node" => self.add_nodes(values, at, ledger),
            "keepalive" => self.time("interval", first, at, ledger),
            "deadtime" => self.time("dead", first, at, ledger),
            "warntime" => self.time("late", first, at, ledger),
            "initdead" => self.time("initial_dead", first, at, ledger),
            "udpport" => match crate::hosts::port(first) {
                Some(port) => {
                    self.port = Some((port, at));
                    ledger.kept(at, "`port` of the paths");
                }
                None => ledger.lost(at, "expected a port"),
            },
            "baud" => {
                self.baud = Some((first.to_owned(), at));
                ledger.kept(at, "`baud` of the serial paths");
            }
            "serial" => self.serial(values, at, ledger, parts),
            // Its name in the first versions.
            "udp" | "bcast" => self.broadcast(values, at, ledger, parts),
            "mcast" | "mcast6" => self.multicast(values, at, ledger, parts),
            "ucast" | "ucast6" => self.add_unicast(values, of, at, ledger, parts),
            "ping" => self.add_references(values, "`references`", at, ledger, parts),
            "ping_group" => {
                let rest = values.get(1..).unwrap_or_default();
                self.add_references(rest, "", at, ledger, parts);
                ledger.changed(at, "`references`: each counts by itself, not one of them for all");
            }
            "auto_failback" | "nice_failback" => self.add_failback(name, first, at, ledger),
            "respawn" => respawn(values, at, ledger),
            name => {
                // The last word is most devices' password.
                if let ("stonith" | "stonith_host", Some(secret)) = (name, values.last()) {
                    ledger.hide(at, secret);
                }
                keywords::tell(Original::Heartbeat, &["ha.cf"], name, at, ledger);
            }
        }
    }

    fn add_nodes(&mut self, names: &[&str], at: At, ledger: &mut Ledger) {
        for name in names {
            if !self.nodes.iter().any(|(known, _)| known == name) {
                self.nodes.push(((*name).to_owned(), at));
            }
        }
        ledger.kept(at, "`nodes`");
    }

    fn time(&mut self, key: &'static str, text: &str, at: At, ledger: &mut Ledger) {
        match time(text) {
            Some(time) => {
                if let Some((_, known, other)) = self.times.iter().find(|(known, _, _)| *known == key)
                    && *known != time
                {
                    let note =
                        format!("{}:{} has another time, which counts", ledger.name(other.file), other.line);
                    ledger.changed(at, note);
                } else {
                    self.times.push((key, time, at));
                    // Whether the interval can stay depends on the dead time.
                    if key != "interval" {
                        ledger.kept(at, format!("`{key}: {time}ms`"));
                    }
                }
            }
            None => ledger.lost(at, "expected a time, such as 2, 1.5 or 500ms"),
        }
    }

    fn add_failback(&mut self, name: &str, value: &str, at: At, ledger: &mut Ledger) {
        let on = match value.to_ascii_lowercase().as_str() {
            "on" | "yes" | "true" | "y" | "1" | "legacy" => true,
            "off" | "no" | "false" | "n" | "0" => false,
            _ => {
                ledger.lost(at, "expected on, off or legacy");
                return;
            }
        };
        // nice_failback on meant that nothing is given back.
        let auto = on == (name == "auto_failback");
        self.failback = Some((auto, at));
        ledger.kept(at, format!("`failback: {}` of the groups", if auto { "auto" } else { "manual" }));
    }

    fn serial(&mut self, devices: &[&str], at: At, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        for device in devices {
            let mut path = Map::default();
            path.set("type", "serial", &[at]);
            path.set("device", *device, &[at]);
            add_path(path, at, parts);
        }
        ledger.kept(at, "a path of type serial");
    }

    fn broadcast(&mut self, interfaces: &[&str], at: At, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        for interface in interfaces {
            let mut path = Map::default();
            path.set("type", "broadcast", &[at]);
            path.set("interface", *interface, &[at]);
            path.set("address", "255.255.255.255", &[at]);
            add_path(path, at, parts);
        }
        ledger.changed(
            at,
            "a path of type broadcast, to 255.255.255.255: better name the network's own address",
        );
    }

    /// `mcast DEV GROUP PORT TTL LOOP`
    fn multicast(&mut self, values: &[&str], at: At, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        let (Some(interface), Some(group)) = (values.first(), values.get(1)) else {
            ledger.lost(at, "expected an interface, a group and a port");
            return;
        };
        let port = values.get(2).copied().unwrap_or("694");
        let mut path = Map::default();
        path.set("type", "multicast", &[at]);
        path.set("interface", *interface, &[at]);
        let group = match group.parse() {
            Ok(address) => crate::hosts::endpoint(address, port),
            Err(_) => format!("{group}:{port}"),
        };
        path.set("group", group, &[at]);
        add_path(path, at, parts);
        match values.get(3) {
            None | Some(&"1") => ledger.kept(at, "a path of type multicast"),
            Some(ttl) => {
                ledger.changed(at, format!("a path of type multicast, with a time to live of 1, not {ttl}"));
            }
        }
    }

    fn add_unicast(
        &mut self,
        values: &[&str],
        of: Option<&str>,
        at: At,
        ledger: &mut Ledger,
        parts: &mut Parts<'_>,
    ) {
        let (Some(interface), Some(address)) = (values.first(), values.get(1)) else {
            ledger.lost(at, "expected an interface and an address");
            return;
        };
        match parts.hosts.address(address) {
            Some(address) => {
                let interface = (*interface).to_owned();
                self.unicast.push(Unicast { interface, address, of: of.map(str::to_owned), at });
            }
            None => ledger.lost(at, format!("{address:?} has no address: give `--hosts FILE` with it")),
        }
    }

    fn add_references(
        &mut self,
        values: &[&str],
        kept: &str,
        at: At,
        ledger: &mut Ledger,
        parts: &Parts<'_>,
    ) {
        for value in values {
            match parts.hosts.address(value) {
                Some(address) if !self.references.iter().any(|(known, _)| *known == address.to_string()) => {
                    self.references.push((address.to_string(), at));
                }
                Some(_) => {}
                None => ledger.lost(at, format!("{value:?} has no address: give `--hosts FILE` with it")),
            }
        }
        if !kept.is_empty() {
            ledger.kept(at, kept);
        }
    }

    /// The address of a node: given, or from the others' `ucast` lines.
    fn address(&self, name: &str, parts: &Parts<'_>) -> Option<(IpAddr, Option<At>)> {
        if let Some(address) = parts.node_address(name) {
            return Some((address, None));
        }
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        // With two nodes, what one of them sends to is the other one.
        let other = |of: &str| self.nodes.len() == 2 && short(of) != short(name);
        let theirs = self.unicast.iter().find(|line| line.of.as_deref().is_some_and(other));
        theirs.map(|line| (line.address, Some(line.at)))
    }

    pub(super) fn finish(mut self, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        let addresses: Vec<_> =
            self.nodes.iter().map(|(name, at)| (name.clone(), self.address(name, parts), *at)).collect();
        let missing: Vec<&str> = addresses
            .iter()
            .filter(|(_, address, _)| address.is_none())
            .map(|(name, ..)| name.as_str())
            .collect();
        if self.nodes.is_empty() {
            self.lose("ha.cf names no `node`, so there is no cluster", ledger, parts);
            return;
        }
        if !missing.is_empty() {
            let why = format!(
                "there is no `cluster` without the addresses of its nodes, which ha.cf does not tell: give `--address \
                 {}=ADDRESS`, or `--hosts FILE` with its name",
                missing.join("=ADDRESS --address ")
            );
            self.lose(&why, ledger, parts);
            return;
        }
        for (name, address, at) in &addresses {
            if let Some((address, from)) = address {
                let mut item = node(name, *address, *at);
                item.from.extend(*from);
                parts.nodes.push(item);
            }
        }
        self.finish_unicast(ledger, parts);
        self.finish_paths(ledger, parts);
        self.finish_times(ledger, parts);
        if !self.references.is_empty() {
            let from: Vec<At> = self.references.iter().map(|(_, at)| *at).collect();
            let words = self.references.drain(..).map(|(address, _)| address).collect();
            parts.cluster.set("references", Value::Words(words), &from);
        }
    }

    /// All `ucast` lines together are one path, by the nodes' addresses.
    fn finish_unicast(&self, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        let Some(first) = self.unicast.first() else { return };
        let from: Vec<At> = self.unicast.iter().map(|line| line.at).collect();
        let mut path = Map::default();
        path.set("type", "unicast", &from);
        path.set("interface", first.interface.as_str(), &[first.at]);
        parts.paths.insert(0, Item::new(path, &from));
        for line in &self.unicast {
            match line.interface == first.interface {
                true => ledger.kept(line.at, "a path of type unicast, to the nodes' addresses"),
                false => ledger.lost(
                    line.at,
                    format!(
                        "one path of type unicast was made, on {}: add one with `addresses`",
                        first.interface
                    ),
                ),
            }
        }
    }

    fn finish_paths(&self, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        for item in &mut parts.paths {
            let Value::Map(path) = &mut item.value else { continue };
            let port = self.port.map_or(694, |(port, _)| port);
            let from: Vec<At> = self.port.map(|(_, at)| at).into_iter().collect();
            match path.text("type") {
                Some("broadcast") => {
                    let all = [item.from.as_slice(), &from].concat();
                    path.set("address", format!("255.255.255.255:{port}"), &all);
                }
                Some("unicast") if self.port.is_some() => path.set("port", port.to_string(), &from),
                Some("serial") => {
                    if let Some((baud, at)) = &self.baud {
                        path.set("baud", baud.as_str(), &[*at]);
                    }
                }
                _ => {}
            }
        }
        if parts.paths.is_empty() {
            let mut path = Map::default();
            path.set("type", "unicast", &[]);
            parts.paths.push(Item::new(path, &[]));
            ledger.assume("a path of type unicast between the nodes' addresses: ha.cf has none".to_owned());
        }
    }

    /// `lb` wants more heartbeats in the dead time than heartbeat does.
    fn finish_times(&self, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        let given = |key: &str| self.times.iter().find(|(known, ..)| *known == key);
        let mut interval = given("interval").map_or(1000, |(_, time, _)| *time);
        let dead = given("dead").map_or(30_000, |(_, time, _)| *time);
        if interval.saturating_mul(4) > dead {
            let shorter = (dead / 4).max(10);
            if let Some((_, _, at)) = given("interval") {
                let how = format!(
                    "`interval: {shorter}ms`: `lb` wants four intervals in the dead time of {dead}ms"
                );
                ledger.changed(*at, how);
            }
            interval = shorter;
        } else if let Some((_, _, at)) = given("interval") {
            ledger.kept(*at, format!("`interval: {interval}ms`"));
        }
        let from = |key: &str| given(key).map(|(_, _, at)| *at).into_iter().collect::<Vec<At>>();
        parts.cluster.set("interval", format!("{interval}ms"), &from("interval"));
        parts.cluster.set("dead", format!("{dead}ms"), &from("dead"));
        for key in ["late", "initial_dead"] {
            if let Some((_, time, at)) = given(key) {
                parts.cluster.set(key, format!("{time}ms"), &[*at]);
            }
        }
        if given("initial_dead").is_none() {
            // Heartbeat's default, by config.c.
            let initial = if dead > 10_000 {
                dead
            } else if dead < 6000 {
                12_000
            } else {
                2 * dead
            };
            parts.cluster.set("initial_dead", format!("{initial}ms"), &from("dead"));
        }
        let note = "the times are heartbeat's own; `lb` does with `interval: 50ms` and `dead: 200ms`, its defaults, where \
                    no path is a serial line below 38,400 baud";
        ledger.assume(note.to_owned());
    }

    /// There is no cluster: what belongs to it is lost.
    fn lose(&self, why: &str, ledger: &mut Ledger, parts: &mut Parts<'_>) {
        let paths = parts.paths.drain(..).flat_map(|path| path.all_from());
        let own = self.nodes.iter().map(|(_, at)| *at).chain(self.unicast.iter().map(|line| line.at));
        let times = self.times.iter().map(|(_, _, at)| *at).chain(self.references.iter().map(|(_, at)| *at));
        let others = self.port.iter().map(|(_, at)| *at).chain(self.baud.iter().map(|(_, at)| *at));
        let failback = self.failback.iter().map(|(_, at)| *at);
        for at in paths.chain(own).chain(times).chain(others).chain(failback) {
            ledger.lost(at, why);
        }
        for group in &mut parts.groups {
            let from = group.from.clone();
            from.iter().for_each(|at| ledger.changed(*at, format!("a group of this director alone: {why}")));
            if let Value::Map(map) = &mut group.value {
                ["nodes", "failback"].iter().for_each(|key| map.remove(key));
            }
        }
    }
}

fn add_path(path: Map, at: At, parts: &mut Parts<'_>) {
    let known = parts.paths.iter().any(|known| match &known.value {
        Value::Map(known) => {
            ["type", "interface", "device", "group"].iter().all(|key| known.text(key) == path.text(key))
        }
        _ => false,
    });
    if !known {
        parts.paths.push(Item::new(path, &[at]));
    }
}

fn respawn(values: &[&str], at: At, ledger: &mut Ledger) {
    let program = values.get(1).copied().unwrap_or_default();
    match program.ends_with("ipfail") {
        true => ledger
            .needless(at, "`references` do what ipfail did: the node that reaches fewer of them gives way"),
        false => ledger.lost(at, format!("`lb` starts no other programs: let systemd run {program}")),
    }
}
