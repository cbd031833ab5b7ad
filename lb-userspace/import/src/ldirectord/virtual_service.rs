//! A `virtual` section as a service.

use std::net::IpAddr;

use super::check::{Checks, port_of, service_of};
use super::{Config, Directive, Section, digits, last, real, refused, unquoted};
use crate::Original;
use crate::hosts::{endpoint, port};
use crate::keywords;
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::{Item, Map, Value};

/// What a section is about.
struct Target {
    /// As the YAML's `vip`.
    vip: String,
    port: u16,
    ipv6: bool,
    is_mark: bool,
}

pub(super) fn convert(section: &Section, config: &Config, ledger: &mut Ledger, parts: &mut Parts<'_>) {
    let head = &section.head;
    let target = match target(head, parts, ledger) {
        Ok(target) => target,
        Err(why) => {
            ledger.lost(head.at, why);
            for directive in &section.directives {
                ledger.lost(
                    directive.at,
                    format!("it belongs to `{} = {}`, which is lost", head.name, head.value),
                );
            }
            return;
        }
    };
    let own = &section.directives;
    let udp = protocol(own, &target, ledger);
    let service = last(own, "service").map_or(service_of(target.port).to_owned(), |line| line.value.clone());
    let service = if target.is_mark && last(own, "service").is_none() { "none".to_owned() } else { service };
    let checks = Checks {
        own,
        config,
        udp,
        service,
        service_at: last(own, "service").map(|line| line.at),
        head: head.at,
        ipv6: target.ipv6,
    };
    let mut map = Map::default();
    map.set("vip", target.vip.as_str(), &[head.at]);
    ledger.kept(head.at, format!("`vip: {}`", target.vip));
    if udp {
        let from = last(own, "protocol").map_or(head.at, |line| line.at);
        map.set("protocol", "udp", &[from]);
    } else if let Some(line) = last(own, "protocol").filter(|line| line.value == "tcp") {
        map.set("protocol", "tcp", &[line.at]);
    }
    scheduling(own, udp, &mut map, ledger);
    persistence(own, target.ipv6, &mut map, ledger);
    quiescence(own, config, &mut map, ledger);
    fallback(own, config, &target, &mut map, ledger, parts);
    fallback_command(own, config, &mut map, ledger);
    servers(own, &checks, &target, &mut map, ledger, parts);
    for name in ["servicename"] {
        if let Some(line) = last(own, name) {
            map.set("name", line.value.as_str(), &[line.at]);
            ledger.kept(line.at, "`name`");
        }
    }
    let service = Item::new(map, &[head.at]);
    tell_the_rest(section, config, &service.all_from(), ledger);
    parts.services.push(service);
}

fn target(head: &Directive, parts: &Parts<'_>, ledger: &mut Ledger) -> Result<Target, String> {
    let text = head.value.trim();
    if !text.is_empty() && text.chars().all(|char| char.is_ascii_digit()) {
        let vip = text.parse().ok().and_then(|mark| parts.mark(mark)).ok_or_else(|| {
            format!(
                "firewall marks are made in the kernel's stack behind XDP, where `lb` cannot see them: say what it stands \
                 for by `--mark {text}=ADDRESS:PORT,PORT`"
            )
        })?;
        ledger.changed(head.at, format!("the firewall mark {text} stands for {vip}, as `--mark` says"));
        let ports = vip.rsplit(':').next().unwrap_or_default();
        let port = ports.split([',', '-']).next().and_then(|port| port.parse().ok()).unwrap_or(0);
        return Ok(Target { vip: vip.to_owned(), port, ipv6: vip.starts_with('['), is_mark: true });
    }
    let (host, service) = text.rsplit_once(':').ok_or("expected HOST:PORT or a firewall mark")?;
    let number =
        port(service.trim()).ok_or_else(|| format!("port {service:?} is not known: give its number"))?;
    let address = parts
        .hosts
        .address(host)
        .ok_or_else(|| format!("{host:?} has no address: give `--hosts FILE` with it"))?;
    if host.parse::<IpAddr>().is_err() && !host.starts_with('[') {
        ledger.changed(head.at, format!("{host} is {address}: `lb` takes addresses, not names"));
    }
    Ok(Target {
        vip: endpoint(address, &number.to_string()),
        port: number,
        ipv6: address.is_ipv6(),
        is_mark: false,
    })
}

/// Whether the service is of UDP.
fn protocol(own: &[Directive], target: &Target, ledger: &mut Ledger) -> bool {
    let default = target.port == 53 && !target.is_mark;
    let Some(line) = last(own, "protocol") else { return default };
    match line.value.as_str() {
        "tcp" | "udp" => {
            ledger.kept(line.at, "`protocol`");
            line.value == "udp"
        }
        "fwm" if target.is_mark => {
            ledger.changed(
                line.at,
                "a firewall mark may be of any protocol, a service of `lb` has one: taken for tcp",
            );
            false
        }
        other => {
            ledger.lost(line.at, format!("`lb` balances tcp and udp, not {other:?}"));
            default
        }
    }
}

fn scheduling(own: &[Directive], udp: bool, map: &mut Map, ledger: &mut Ledger) {
    match last(own, "scheduler") {
        Some(line) => {
            map.set("scheduler", line.value.as_str(), &[line.at]);
            ledger.kept(line.at, format!("`scheduler: {}`", line.value));
        }
        None => map.set("scheduler", "wrr", &[]),
    }
    if let Some(line) = last(own, "schedflags") {
        hash_flags(&line.value, line.at, map, ledger);
    }
    if let Some(line) = last(own, "ops") {
        match (line.value.as_str(), udp) {
            ("yes", true) => {
                map.set("ops", "on", &[line.at]);
                ledger.kept(line.at, "`ops: on`");
            }
            ("yes", false) => ledger.needless(line.at, "ldirectord passes it on for UDP only"),
            _ => ledger.needless(line.at, "off is the default"),
        }
    }
}

/// Flags of the schedulers sh and mh, as ipvsadm's -b has them.
pub(crate) fn hash_flags(flags: &str, at: At, map: &mut Map, ledger: &mut Ledger) {
    let mut hash = match map.get("hash") {
        Some(Value::Map(hash)) => hash.clone(),
        _ => Map::default(),
    };
    for flag in flags.split(',') {
        let by_number = |name: &str| map.text("scheduler").is_some_and(|scheduler| scheduler == name);
        let hashes = by_number("sh") || by_number("mh");
        let key = match flag.trim() {
            "sh-port" | "mh-port" => "port",
            "sh-fallback" | "mh-fallback" => "fallback",
            "flag-1" if hashes => "fallback",
            "flag-2" if hashes => "port",
            other => {
                ledger.lost(at, format!("{other:?} is no flag that `lb` knows: see `hash` in full.yaml"));
                continue;
            }
        };
        hash.set(key, "on", &[at]);
        ledger.kept(at, format!("`hash: {{ {key}: on }}`"));
    }
    if !hash.is_empty() {
        map.set("hash", hash, &[at]);
    }
}

fn persistence(own: &[Directive], ipv6: bool, map: &mut Map, ledger: &mut Ledger) {
    let netmask = last(own, "netmask");
    let Some(line) = last(own, "persistent") else {
        if let Some(line) = netmask {
            ledger.needless(line.at, "without `persistent` ldirectord does not use it, either");
        }
        return;
    };
    let Some(seconds) = digits(&line.value) else {
        ledger.lost(line.at, "expected a number of seconds");
        return;
    };
    let mut persistence = Map::default();
    persistence.set("timeout", format!("{seconds}s"), &[line.at]);
    ledger.kept(line.at, "`persistence`");
    if let Some(line) = netmask {
        match prefix(&line.value, ipv6) {
            Some(prefix) => {
                persistence.set("prefix", prefix.to_string(), &[line.at]);
                ledger.kept(line.at, format!("`persistence: {{ prefix: {prefix} }}`"));
            }
            None => ledger.lost(
                line.at,
                "`lb` binds clients by a prefix, and this is none: each one is bound by itself",
            ),
        }
    }
    map.set("persistence", persistence, &[line.at]);
}

/// The length of a prefix, from a mask of IPv4 or the length itself.
pub(crate) fn prefix(text: &str, ipv6: bool) -> Option<u32> {
    let text = text.trim();
    if let Ok(mask) = text.parse::<std::net::Ipv4Addr>() {
        let bits = mask.to_bits();
        return (bits.leading_ones() == bits.count_ones() && bits != 0).then_some(bits.leading_ones());
    }
    text.trim_start_matches('/')
        .parse()
        .ok()
        .filter(|prefix| (1..=if ipv6 { 128 } else { 32 }).contains(prefix))
}

/// ldirectord's default, whatever its manual says, is `no`; that of `lb` is `on`.
fn quiescence(own: &[Directive], config: &Config, map: &mut Map, ledger: &mut Ledger) {
    let local = last(own, "quiescent");
    let line = local.or_else(|| last(&config.globals, "quiescent"));
    let quiescent = if line.is_some_and(|line| line.value == "yes") { "on" } else { "off" };
    let from: Vec<At> = line.map(|line| line.at).into_iter().collect();
    map.set("quiescent", quiescent, &from);
    if let Some(line) = local {
        ledger.kept(line.at, format!("`quiescent: {quiescent}`"));
    }
}

fn fallback(
    own: &[Directive],
    config: &Config,
    target: &Target,
    map: &mut Map,
    ledger: &mut Ledger,
    parts: &Parts<'_>,
) {
    let key = if target.ipv6 { "fallback6" } else { "fallback" };
    let local = last(own, key).or_else(|| last(own, "fallback"));
    let Some(line) = local.or_else(|| last(&config.globals, key)) else { return };
    let at = line.at;
    let (place, method) = line.value.split_once(char::is_whitespace).unwrap_or((line.value.as_str(), ""));
    let (host, own_port) = match place.rsplit_once(':') {
        Some((host, service)) if !place.ends_with(']') => (host, port(service)),
        _ => (place, None),
    };
    let Some(address) = parts.hosts.address(host) else {
        ledger.lost(at, format!("{host:?} has no address: give `--hosts FILE` with it"));
        return;
    };
    let value = if address.is_loopback() { "local".to_owned() } else { address.to_string() };
    map.set("fallback", value.as_str(), &[at]);
    ledger.kept(at, format!("`fallback: {value}`"));
    if let Some(own_port) = own_port.filter(|own| *own != target.port && target.port != 0) {
        let what = format!(
            "packets to the fallback keep port {}: a server must listen there, not on {own_port}",
            target.port
        );
        ledger.lost(at, what);
    }
    if matches!(method.trim(), "masq" | "ipip") && !address.is_loopback() {
        ledger.lost(at, format!("a fallback server is reached by direct routing, not by {}", method.trim()));
    }
}

/// ldirectord calls it with `start` or `stop`, the service and the protocol behind.
fn fallback_command(own: &[Directive], config: &Config, map: &mut Map, ledger: &mut Ledger) {
    let local = last(own, "fallbackcommand");
    let Some(line) = local.or_else(|| last(&config.globals, "fallbackcommand")) else { return };
    let words: Vec<&str> = unquoted(&line.value).split_whitespace().collect();
    let mut hooks = Map::default();
    for (hook, word) in [("quorum_up", "stop"), ("quorum_down", "start")] {
        // What comes behind its name is in the environment: a shell puts it into its place.
        let script = format!("exec {} {word} \"$LB_VIP:$LB_PORT\" \"$LB_PROTOCOL\"", words.join(" "));
        let command = ["/bin/sh", "-c", script.as_str()].map(str::to_owned).to_vec();
        let mut map = Map::default();
        map.set("command", Value::Words(command), &[line.at]);
        hooks.set(hook, map, &[line.at]);
    }
    map.set("hooks", hooks, &[line.at]);
    ledger.changed(line.at, "`hooks` quorum_down and quorum_up, by a shell that gives it the same arguments");
}

fn servers(
    own: &[Directive],
    checks: &Checks<'_>,
    target: &Target,
    map: &mut Map,
    ledger: &mut Ledger,
    parts: &Parts<'_>,
) {
    let shared =
        last(own, "checkport").and_then(|line| digits(&line.value)).and_then(|port| port.try_into().ok());
    let differs = |port: u16| Some(port).filter(|port| *port != target.port);
    let mut servers = Vec::new();
    for line in own.iter().filter(|line| matches!(line.name.as_str(), "real" | "real6")) {
        let at = line.at;
        let real = match real::parse(&line.value, &parts.hosts) {
            Ok(real) => real,
            Err(why) => {
                ledger.lost(at, why);
                continue;
            }
        };
        match real.addresses.len() {
            1 => ledger.kept(at, "a server"),
            several => ledger.changed(at, format!("{several} servers, one for each address of the range")),
        }
        if real.two_colons {
            ledger.changed(at, "two colons, where ldirectord takes the port for the host: taken for one");
        }
        if !real.surplus.is_empty() {
            ledger.lost(
                at,
                format!("{:?} at the end: ldirectord does not understand it, either", real.surplus),
            );
        }
        let masq = real.method == "masq";
        let asked = shared.or(Some(real.port).filter(|port| *port != 0)).or_else(|| port_of(&checks.service));
        let other = asked.and_then(differs).filter(|port| !(masq && *port == real.port));
        if real.port != 0 && real.port != target.port && !masq {
            let what = format!(
                "packets to the server keep port {}, as with IPVS, which ignored port {}",
                target.port, real.port
            );
            ledger.changed(at, what);
        }
        for address in &real.addresses {
            let mut server = Map::default();
            let with_port = masq && real.port != 0;
            let place =
                if with_port { endpoint(*address, &real.port.to_string()) } else { address.to_string() };
            server.set("address", place, &[at]);
            if let Some(name) = &real.name {
                server.set("name", name.as_str(), &[at]);
            }
            if real.method != "direct" {
                server.set("forward", real.method, &[at]);
            }
            for (key, value) in
                [("weight", real.weight), ("upper_threshold", real.upper), ("lower_threshold", real.lower)]
            {
                if let Some(value) = value {
                    server.set(key, value.to_string(), &[at]);
                }
            }
            let own =
                real.request.as_ref().map(|(request, receive)| (request.as_str(), receive.as_str(), at));
            if own.is_some() || (other.is_some() && shared.is_none()) {
                server.set("check", checks.build(other, own, ledger), &[at]);
            }
            servers.push(Item::new(server, &[at]));
        }
    }
    map.set("check", checks.build(shared.and_then(differs), None, ledger), &[]);
    map.set("servers", Value::List(servers), &[]);
}

/// Lines that are in the checks, or nowhere; `used` are those that the YAML has.
fn tell_the_rest(section: &Section, config: &Config, used: &[At], ledger: &mut Ledger) {
    let own = &section.directives;
    let forks = last(&config.globals, "fork").is_some_and(|fork| fork.value == "yes");
    for directive in own {
        let Directive { name, value, at } = directive;
        let is_last = last(own, name).is_some_and(|last| last.at == *at);
        if matches!(name.as_str(), "real" | "real6") {
            continue;
        }
        if !is_last {
            ledger.needless(*at, format!("a later line has `{name}`, too, and that one counts"));
            continue;
        }
        if let Some(why) = refused(directive) {
            ledger.lost(*at, why);
        }
        if matches!(name.as_str(), "passwd" | "secret") {
            ledger.hide(*at, unquoted(value));
        }
        match name.as_str() {
            "passwd" => ledger.lost(*at, "`lb` logs in nowhere: a refused login is a good answer, too"),
            "login" | "database" | "scheduler" | "schedflags" | "ops" | "persistent" | "netmask"
            | "protocol" => {}
            "fallback" | "fallback6" if !used.contains(at) => {
                ledger.lost(*at, "the service is of the other family, and ldirectord refuses this line");
            }
            "quiescent" | "fallback" | "fallback6" | "fallbackcommand" | "servicename" | "checktype" => {}
            "emailalert" | "emailalertfreq" | "emailalertstatus" | "smtp" => {}
            "checkinterval" if !forks => {
                ledger.needless(*at, "without `fork = yes` ldirectord ignores it, and the global one counts");
            }
            "connecttimeout" => ledger.changed(*at, "taken for negotiatetimeout: `timeout` of the check"),
            "comment" => {
                ledger.comment(*at, value);
                ledger.kept(*at, "a comment");
            }
            "request" | "receive" | "service" | "virtualhost" | "httpmethod" | "checkcommand"
            | "checkport" | "checktimeout" | "negotiatetimeout" | "checkinterval" | "failurecount"
            | "checkcount" => match used.contains(at) {
                true => ledger.kept(*at, "`check`"),
                false => ledger.needless(*at, "a check of this type does not use it"),
            },
            name => keywords::tell(Original::Ldirectord, &["virtual"], name, *at, ledger),
        }
    }
}
