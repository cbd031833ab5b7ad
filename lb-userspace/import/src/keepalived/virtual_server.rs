//! `virtual_server` as a service, or several.

use std::net::IpAddr;

use super::checker::{self, Defaults};
use super::statement::Statement;
use super::{address, command, hook, port};
use crate::Original;
use crate::hosts::endpoint;
use crate::keywords;
use crate::ldirectord::{hash_flags, prefix};
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::{Item, Map, Value};

/// Addresses of one line of a group, at most.
const MOST: u32 = 1024;

/// A VIP with its port (0: all ports), and the line that says so.
struct Target {
    vip: String,
    port: u16,
    at: At,
    is_mark: bool,
}

pub(super) fn read(statement: &Statement, all: &[Statement], ledger: &mut Ledger, parts: &mut Parts<'_>) {
    let targets = targets(statement, all, ledger, parts);
    if targets.is_empty() {
        let why = format!("nothing is left of `{}`: see there", statement.words.join(" "));
        statement.lines().into_iter().for_each(|at| ledger.lost(at, why.clone()));
        return;
    }
    if let Some(protocol) =
        statement.last("protocol").filter(|line| line.argument().eq_ignore_ascii_case("sctp"))
    {
        let why = "`lb` balances tcp and udp, not SCTP";
        ledger.lost(protocol.at(), why);
        statement.lines().into_iter().for_each(|at| ledger.lost(at, format!("a service of SCTP: {why}")));
        return;
    }
    let several = targets.len() > 1;
    for target in targets {
        let service = service(statement, all, &target, ledger, parts);
        let mut from = statement.from.clone();
        if several && !from.contains(&target.at) {
            from.insert(0, target.at);
        }
        parts.services.push(Item::new(service, &from));
    }
}

fn targets(statement: &Statement, all: &[Statement], ledger: &mut Ledger, parts: &Parts<'_>) -> Vec<Target> {
    let at = statement.at();
    match statement.argument() {
        "group" => {
            let name = statement.words.get(2).map_or("", String::as_str);
            let group =
                all.iter().find(|group| group.name() == "virtual_server_group" && group.argument() == name);
            let Some(group) = group else {
                ledger.lost(at, format!("there is no virtual_server_group {name:?}"));
                return Vec::new();
            };
            ledger.kept(at, "a service for each address of the group");
            group.from.iter().for_each(|at| ledger.frame(*at));
            group.inner().iter().flat_map(|line| of_group(line, ledger, parts)).collect()
        }
        "fwmark" => mark(statement.words.get(2), at, ledger, parts).into_iter().collect(),
        host => {
            let place = statement.words.get(2).map(String::as_str);
            let number = place.map_or(Some(0), port);
            match (address(host, parts), number) {
                (Some(address), Some(number)) => {
                    let target = target(address, number, at);
                    ledger.kept(at, format!("`vip: {}`", target.vip));
                    vec![target]
                }
                _ => {
                    ledger.lost(
                        at,
                        format!("{host:?} has no address, or its port no number: give `--hosts FILE`"),
                    );
                    Vec::new()
                }
            }
        }
    }
}

fn target(address: IpAddr, port: u16, at: At) -> Target {
    let ports = if port == 0 { "*".to_owned() } else { port.to_string() };
    // `lb` writes all ports without brackets, too.
    Target { vip: endpoint(address, &ports), port, at, is_mark: false }
}

fn mark(number: Option<&String>, at: At, ledger: &mut Ledger, parts: &Parts<'_>) -> Option<Target> {
    let text = number.map_or("", String::as_str);
    let vip = text.parse().ok().and_then(|mark| parts.mark(mark));
    let Some(vip) = vip else {
        let what = format!(
            "firewall marks are made in the kernel's stack behind XDP, where `lb` cannot see them: say what it stands for \
             by `--mark {text}=ADDRESS:PORT,PORT`"
        );
        ledger.lost(at, what);
        return None;
    };
    ledger.changed(at, format!("the firewall mark {text} stands for {vip}, as `--mark` says"));
    let port =
        vip.rsplit(':').next().and_then(|ports| ports.split([',', '-']).next()?.parse().ok()).unwrap_or(0);
    Some(Target { vip: vip.to_owned(), port, at, is_mark: true })
}

/// A line of a virtual_server_group: `ADDRESS[-LAST] PORT` or `fwmark N`.
fn of_group(line: &Statement, ledger: &mut Ledger, parts: &Parts<'_>) -> Vec<Target> {
    let at = line.at();
    if line.name() == "fwmark" {
        return mark(line.words.get(1), at, ledger, parts).into_iter().collect();
    }
    let number = line.words.get(1).map_or(Some(0), |text| port(text));
    let addresses = range(line.name(), parts);
    match (addresses, number) {
        (Some(addresses), Some(number)) => {
            match addresses.len() {
                1 => ledger.kept(at, "a service"),
                several => {
                    ledger.changed(at, format!("{several} services, one for each address of the range"));
                }
            }
            addresses.into_iter().map(|address| target(address, number, at)).collect()
        }
        _ => {
            ledger.lost(at, "expected an address, or a range of them such as 192.0.2.3-10, and a port");
            Vec::new()
        }
    }
}

/// `192.0.2.3-10`: the last number of an address up to another one (IPv6: in hexadecimal).
fn range(text: &str, parts: &Parts<'_>) -> Option<Vec<IpAddr>> {
    if let Some(address) = address(text, parts) {
        return Some(vec![address]);
    }
    let (first, last) = text.rsplit_once('-')?;
    match first.parse().ok()? {
        IpAddr::V4(first) => {
            let (low, high) =
                (first.to_bits(), (first.to_bits() & !0xff) | u32::from(last.parse::<u8>().ok()?));
            (low <= high)
                .then(|| (low..=high).map(|bits| std::net::Ipv4Addr::from_bits(bits).into()).collect())
        }
        IpAddr::V6(first) => {
            let last = u128::from(u16::from_str_radix(last, 16).ok()?);
            let (low, high) = (first.to_bits(), (first.to_bits() & !0xffff) | last);
            let few = low <= high && high - low < u128::from(MOST);
            few.then(|| (low..=high).map(|bits| std::net::Ipv6Addr::from_bits(bits).into()).collect())
        }
    }
}

fn service(
    statement: &Statement,
    all: &[Statement],
    target: &Target,
    ledger: &mut Ledger,
    parts: &Parts<'_>,
) -> Map {
    let mut map = Map::default();
    map.set("vip", target.vip.as_str(), &[target.at]);
    let masq = method(statement, &mut map, ledger);
    for inner in statement.inner() {
        key(inner, statement, target, &mut map, ledger, parts);
    }
    if statement.last("lb_algo").or_else(|| statement.last("lvs_sched")).is_none() {
        map.set("scheduler", "wlc", &[]);
    }
    if statement.last("inhibit_on_failure").is_none() {
        map.set("quiescent", "off", &[]);
    }
    if statement.last("protocol").is_none() && !target.is_mark {
        map.set("protocol", "udp", &[]);
        ledger.changed(
            statement.at(),
            "`protocol: udp`, as keepalived takes it where none is given: say `protocol: tcp` if that was meant",
        );
    }
    let mut servers = Vec::new();
    let mut hooks = match map.get("hooks") {
        Some(Value::Map(hooks)) => hooks.clone(),
        _ => Map::default(),
    };
    for real in statement.all("real_server") {
        let around = Around { statement, all, target, masq };
        servers.extend(server(real, &around, &mut hooks, ledger, parts));
    }
    if !hooks.is_empty() {
        map.set("hooks", hooks, &[]);
    }
    share_check(&mut map, &mut servers);
    map.set("servers", Value::List(servers), &[]);
    map
}

/// `lb_kind`, which is NAT unless it is said.
fn method(statement: &Statement, map: &mut Map, ledger: &mut Ledger) -> bool {
    let Some(line) = statement.last("lb_kind").or_else(|| statement.last("lvs_method")) else {
        map.set("forward", "masq", &[]);
        ledger
            .assume(format!("`forward: masq` of {}: NAT is keepalived's default", statement.words.join(" ")));
        return true;
    };
    let at = line.at();
    let option = |name: &str| {
        line.words.iter().position(|word| word == name).and_then(|index| line.words.get(index + 1))
    };
    let forward = match line.argument().to_ascii_uppercase().as_str() {
        "DR" => "direct",
        "TUN" => option("type").map_or("ipip", String::as_str),
        "NAT" => "masq",
        other => {
            ledger.lost(
                at,
                format!("{other:?} is none of NAT, DR and TUN: taken for NAT, keepalived's default"),
            );
            map.set("forward", "masq", &[]);
            return true;
        }
    };
    if forward != "direct" {
        map.set("forward", forward, &[at]);
    }
    if let Some(port) = option("port").filter(|_| forward == "gue") {
        map.set("gue_port", port.as_str(), &[at]);
    }
    ledger.kept(at, format!("`forward: {forward}`"));
    forward == "masq"
}

/// A line of the virtual server that becomes a key of the service.
fn key(
    line: &Statement,
    statement: &Statement,
    target: &Target,
    map: &mut Map,
    ledger: &mut Ledger,
    parts: &Parts<'_>,
) {
    let (at, name, value) = (line.at(), line.name(), line.argument());
    let mut set = |key: &str, value: &str| {
        map.set(key, value, &[at]);
        ledger.kept(at, format!("`{key}: {value}`"));
    };
    match name {
        "lb_algo" | "lvs_sched" => set("scheduler", value),
        "protocol" => set("protocol", &value.to_lowercase()),
        "ops" => set("ops", "on"),
        "quorum" | "hysteresis" => set(name, value),
        "snmp_name" => set("name", value),
        "inhibit_on_failure" => {
            let on = statement.switch("inhibit_on_failure").is_some_and(|(on, _)| on);
            set("quiescent", if on { "on" } else { "off" });
        }
        "sh-port" | "sh-fallback" | "mh-port" | "mh-fallback" | "flag-1" | "flag-2" => {
            // The scheduler decides what a flag means.
            if let Some(line) = statement.last("lb_algo").or_else(|| statement.last("lvs_sched")) {
                map.set("scheduler", line.argument(), &[line.at()]);
            }
            hash_flags(name, at, map, ledger);
        }
        "persistence_timeout" | "persistence_granularity" => persistence(line, target, map, ledger),
        "sorry_server" => sorry(line, target, map, ledger, parts),
        "quorum_up" | "quorum_down" => {
            let mut hooks = match map.get("hooks") {
                Some(Value::Map(hooks)) => hooks.clone(),
                _ => Map::default(),
            };
            hooks.set(name, hook(line.arguments(), at), &[at]);
            map.set("hooks", hooks, &[]);
            ledger.changed(at, format!("`hooks: {{ {name}: … }}`, run as `lb` itself, without a shell"));
        }
        "delay_loop" | "connect_timeout" | "retry" | "delay_before_retry" | "virtualhost" => {
            ledger.kept(at, "in the checks of the servers");
        }
        "warmup" => ledger.needless(at, "`lb` spreads the first checks by itself"),
        "alpha" => ledger.needless(at, "servers are unknown until their first check, which is made at once"),
        "ip_family" => ledger.needless(at, "the address tells its family"),
        "lb_kind" | "lvs_method" | "real_server" | "smtp_alert" => {}
        _ => line.tell(&["check"], ledger),
    }
}

fn persistence(line: &Statement, target: &Target, map: &mut Map, ledger: &mut Ledger) {
    let at = line.at();
    let mut persistence = match map.get("persistence") {
        Some(Value::Map(persistence)) => persistence.clone(),
        _ => Map::default(),
    };
    let ipv6 = target.vip.starts_with('[');
    match line.name() {
        "persistence_timeout" => {
            let seconds = line.words.get(1).map_or("360", String::as_str);
            persistence.set("timeout", format!("{seconds}s"), &[at]);
            ledger.kept(at, "`persistence`");
        }
        _ => match prefix(line.argument(), ipv6) {
            Some(prefix) => {
                persistence.set("prefix", prefix.to_string(), &[at]);
                ledger.kept(at, format!("`persistence: {{ prefix: {prefix} }}`"));
            }
            None => ledger
                .lost(at, "`lb` binds clients by a prefix, and this is none: each one is bound by itself"),
        },
    }
    if persistence.get("timeout").is_none() {
        persistence.set("timeout", "360s", &[]);
    }
    map.set("persistence", persistence, &[at]);
}

fn sorry(line: &Statement, target: &Target, map: &mut Map, ledger: &mut Ledger, parts: &Parts<'_>) {
    let at = line.at();
    let Some(address) = address(line.argument(), parts) else {
        ledger.lost(at, format!("{:?} has no address: give `--hosts FILE` with it", line.argument()));
        return;
    };
    let value = if address.is_loopback() { "local".to_owned() } else { address.to_string() };
    map.set("fallback", value.as_str(), &[at]);
    ledger.kept(at, format!("`fallback: {value}`"));
    let own = line.words.get(2).and_then(|text| port(text));
    if let Some(own) = own.filter(|own| *own != target.port && target.port != 0) {
        let what =
            format!("packets to the fallback keep port {}: it must listen there, not on {own}", target.port);
        ledger.lost(at, what);
    }
    if map.text("forward").is_some() && value != "local" {
        ledger
            .changed(at, "a fallback server is reached by direct routing: it needs the VIP on its loopback");
    }
}

/// What stands around a server.
struct Around<'s> {
    statement: &'s Statement,
    all: &'s [Statement],
    target: &'s Target,
    masq: bool,
}

fn server(
    real: &Statement,
    around: &Around<'_>,
    hooks: &mut Map,
    ledger: &mut Ledger,
    parts: &Parts<'_>,
) -> Option<Item> {
    let Around { statement, all, target, masq } = *around;
    let at = real.at();
    let Some(address) = address(real.argument(), parts) else {
        let what = format!("{:?} has no address: give `--hosts FILE` with it", real.argument());
        real.lines().into_iter().for_each(|at| ledger.lost(at, what.clone()));
        return None;
    };
    ledger.kept(at, "a server");
    let own_port = real.words.get(2).and_then(|text| port(text)).unwrap_or(target.port);
    let mut map = Map::default();
    let place = match masq && own_port != 0 && own_port != target.port {
        true => endpoint(address, &own_port.to_string()),
        false => address.to_string(),
    };
    map.set("address", place, &[at]);
    if !masq && own_port != target.port {
        let what = format!("packets to the server keep their port, as with IPVS, which ignored {own_port}");
        ledger.changed(at, what);
    }
    let asked = Some(own_port)
        .filter(|port| !masq && *port != target.port || target.port == 0)
        .filter(|port| *port != 0);
    let defaults = Defaults { virtual_server: statement, real, all, port: asked };
    let mut checks = Vec::new();
    for line in real.inner() {
        let mut set = |key: &str| {
            map.set(key, line.argument(), &[line.at()]);
            ledger.kept(line.at(), format!("`{key}: {}`", line.argument()));
        };
        match line.name() {
            "weight" => set("weight"),
            "uthreshold" => set("upper_threshold"),
            "lthreshold" => set("lower_threshold"),
            "notify_up" | "notify_down" => notify(line, hooks, ledger),
            "inhibit_on_failure" => {
                ledger.lost(line.at(), "`quiescent` is of a service, not of one server: set it there");
            }
            "virtualhost" | "connect_timeout" | "delay_loop" | "retry" | "delay_before_retry" => {
                ledger.kept(line.at(), "in the checks of the server");
            }
            "warmup" | "alpha" => ledger.needless(line.at(), "servers are unknown until their first check"),
            "snmp_name" => set("name"),
            "smtp_alert" => {}
            name if keywords::find(Original::Keepalived, &checker::SCOPES, name).is_some()
                && line.block.is_some() =>
            {
                checks.extend(checker::read(line, &defaults, ledger, parts));
            }
            _ => line.tell(&[&["check"][..], &checker::SCOPES].concat(), ledger),
        }
    }
    match checks.len() {
        0 => {}
        1 => map.set("check", checks.remove(0), &[]),
        _ => map.set(
            "check",
            Value::List(checks.into_iter().map(|check| Item::new(check, &[])).collect()),
            &[],
        ),
    }
    Some(Item::new(map, &real.from))
}

/// Hooks are of a service: one for all its servers.
fn notify(line: &Statement, hooks: &mut Map, ledger: &mut Ledger) {
    let at = line.at();
    let key = if line.name() == "notify_up" { "server_up" } else { "server_down" };
    let words = command(line.arguments());
    let known = match hooks.get(key) {
        Some(Value::Map(hook)) => match hook.get("command") {
            Some(Value::Words(known)) => Some(known.clone()),
            _ => None,
        },
        _ => None,
    };
    match known {
        Some(known) if known != words => {
            ledger.lost(
                at,
                format!("`hooks: {{ {key}: … }}` is of the service, and another server has another program"),
            );
        }
        _ => {
            hooks.set(key, hook(line.arguments(), at), &[at]);
            ledger.changed(at, format!("`hooks: {{ {key}: … }}` of the service, for all its servers"));
        }
    }
}

/// A check that all servers have is the service's.
fn share_check(map: &mut Map, servers: &mut [Item]) {
    let text = |server: &Item| {
        let Value::Map(map) = &server.value else { return None };
        let check =
            map.0.iter().find(|(key, _)| key == "check").map(|(key, item)| (key.clone(), item.clone()))?;
        Some(crate::tree::write(&Map(vec![check]), &[], &[]).text)
    };
    let Some(first) = servers.first().and_then(text) else { return };
    if servers.iter().any(|server| text(server).as_ref() != Some(&first)) {
        return;
    }
    let mut shared: Option<Item> = None;
    for server in servers {
        let Value::Map(own) = &mut server.value else { continue };
        let Some(index) = own.0.iter().position(|(key, _)| key == "check") else { continue };
        let (_, check) = own.0.remove(index);
        match &mut shared {
            None => shared = Some(check),
            Some(shared) => add_lines(shared, &check),
        }
    }
    if let Some(shared) = shared {
        map.0.push(("check".to_owned(), shared));
    }
}

/// Notes in `item` that it comes from the lines of `other`, too, which is the same.
fn add_lines(item: &mut Item, other: &Item) {
    item.from.extend(&other.from);
    let mut step = 0;
    while let (Some(item), Some(other)) = (item.at_step_mut(step), other.at_step(step)) {
        add_lines(item, other);
        step += 1;
    }
}
