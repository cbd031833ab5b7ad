//! ipvsadm's rules, as `ipvsadm -S` prints them or as somebody wrote them, and its listing
//! (`ipvsadm -L -n`).

mod listing;
mod options;

use std::net::IpAddr;

use options::{Command, Options};

use crate::hosts::{endpoint, port};
use crate::ldirectord::{hash_flags, prefix};
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::{Item, Map, Value};

/// A service by its protocol and place, as rules name it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    protocol: char,
    place: String,
}

/// The table as the lines before have made it.
#[derive(Debug, Default)]
struct Table {
    services: Vec<Service>,
}

#[derive(Debug)]
struct Service {
    key: Key,
    options: Options,
    from: Vec<At>,
    servers: Vec<(String, Options, Vec<At>)>,
}

pub(crate) fn read(files: &[usize], ledger: &mut Ledger, parts: &mut Parts<'_>) {
    let mut table = Table::default();
    for file in files {
        if listing::is_one(*file, ledger) {
            listing::read(*file, &mut table, ledger);
            continue;
        }
        for (at, line) in ledger.lines(*file) {
            let text = line.trim();
            match text.strip_prefix('#') {
                Some(comment) => ledger.comment(at, comment),
                None if text.is_empty() => {}
                None => rule(text, at, &mut table, ledger, parts),
            }
        }
    }
    for service in &table.services {
        if let Some(item) = convert(service, ledger, parts) {
            parts.services.push(item);
        }
    }
}

fn rule(text: &str, at: At, table: &mut Table, ledger: &mut Ledger, parts: &mut Parts<'_>) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = match words.split_first() {
        Some((first, rest)) if first.rsplit('/').next() == Some("ipvsadm") => rest,
        _ => &words[..],
    };
    if !words.first().is_some_and(|word| word.starts_with('-')) {
        ledger.lost(at, "this is no line of ipvsadm");
        return;
    }
    let (command, options) = match options::parse(words) {
        Ok(parsed) => parsed,
        Err(why) => {
            ledger.lost(at, why);
            return;
        }
    };
    for surplus in &options.surplus {
        ledger.lost(at, format!("{surplus:?}: ipvsadm does not understand it here"));
    }
    match command {
        Command::SetTimeouts(times) => {
            let mut timeouts = Map::default();
            for (key, seconds) in ["established", "fin_wait", "udp"].into_iter().zip(&times) {
                // 0 leaves a time as it is.
                if seconds != "0" {
                    timeouts.set(key, format!("{seconds}s"), &[at]);
                }
            }
            parts.top.set("timeouts", timeouts, &[at]);
            ledger.kept(at, "`timeouts`");
        }
        Command::Clear => {
            for service in table.services.drain(..) {
                for at in
                    service.from.into_iter().chain(service.servers.into_iter().flat_map(|(_, _, from)| from))
                {
                    ledger.needless(at, "a later line clears the table");
                }
            }
            ledger.needless(at, "the file says all services: there is nothing to clear");
        }
        Command::Needless(why) => ledger.needless(at, why),
        Command::AddService | Command::EditService | Command::DeleteService => {
            change_service(&command, options, at, table, ledger);
        }
        Command::AddServer | Command::EditServer | Command::DeleteServer => {
            change_server(&command, options, at, table, ledger);
        }
    }
}

fn change_service(command: &Command, options: Options, at: At, table: &mut Table, ledger: &mut Ledger) {
    let Some(key) = options.service.clone() else {
        ledger.lost(at, "expected a service: -t, -u or -f");
        return;
    };
    let known = table.services.iter().position(|service| service.key == key);
    match (command, known) {
        (Command::AddService, None) => {
            table.services.push(Service { key, options, from: vec![at], servers: Vec::new() });
        }
        (Command::AddService, Some(_)) => {
            ledger.lost(at, "the service exists already: ipvsadm refuses the line");
        }
        (Command::EditService, Some(index)) => {
            let service = &mut table.services[index];
            let from = std::mem::take(&mut service.from);
            from.iter().for_each(|at| ledger.changed(*at, "a later line edits the service"));
            service.options = options;
            service.from = [at].into_iter().chain(from).collect();
        }
        (Command::DeleteService, Some(index)) => {
            let service = table.services.remove(index);
            for at in
                service.from.into_iter().chain(service.servers.into_iter().flat_map(|(_, _, from)| from))
            {
                ledger.needless(at, "a later line deletes the service");
            }
            ledger.needless(at, "the service that it deletes is not imported");
        }
        _ => ledger.lost(at, "there is no such service before this line"),
    }
}

fn change_server(command: &Command, options: Options, at: At, table: &mut Table, ledger: &mut Ledger) {
    let service =
        options.service.as_ref().and_then(|key| table.services.iter_mut().find(|one| one.key == *key));
    let (Some(service), Some(server)) = (service, options.server.clone()) else {
        ledger.lost(at, "there is no such service before this line, or -r is missing");
        return;
    };
    let known = service.servers.iter().position(|(name, ..)| *name == server);
    match (command, known) {
        (Command::AddServer, None) => service.servers.push((server, options, vec![at])),
        (Command::AddServer, Some(_)) => {
            ledger.lost(at, "the server exists already: ipvsadm refuses the line");
        }
        (Command::EditServer, Some(index)) => {
            let (_, known, from) = &mut service.servers[index];
            from.iter().for_each(|at| ledger.changed(*at, "a later line edits the server"));
            *known = options;
            from.insert(0, at);
        }
        (Command::DeleteServer, Some(index)) => {
            let (_, _, from) = service.servers.remove(index);
            from.into_iter().for_each(|at| ledger.needless(at, "a later line deletes the server"));
            ledger.needless(at, "the server that it deletes is not imported");
        }
        _ => ledger.lost(at, "there is no such server before this line"),
    }
}

/// `ADDRESS:PORT`, with names; port 0 or none means all.
fn place(text: &str, parts: &Parts<'_>) -> Option<(IpAddr, Option<u16>)> {
    if let Some(address) = parts.hosts.address(text) {
        return Some((address, None));
    }
    let (host, service) = text.rsplit_once(':')?;
    Some((parts.hosts.address(host)?, Some(port(service)?)))
}

fn convert(service: &Service, ledger: &mut Ledger, parts: &Parts<'_>) -> Option<Item> {
    let Service { key, options, from, servers } = service;
    let lose = |why: &str, ledger: &mut Ledger| {
        from.iter().for_each(|at| ledger.lost(*at, why));
        let belongs = format!("a server of `-{} {}`, which is lost", key.protocol, key.place);
        servers.iter().flat_map(|(_, _, from)| from).for_each(|at| ledger.lost(*at, belongs.clone()));
    };
    let at = from.first().copied()?;
    let mark = || key.place.parse().ok().and_then(|mark| parts.mark(mark)).map(str::to_owned);
    let (vip, port) = match key.protocol {
        'f' => {
            let Some(vip) = mark() else {
                let why = format!(
                    "firewall marks are made in the kernel's stack behind XDP, where `lb` cannot see them: say what it \
                     stands for by `--mark {}=ADDRESS:PORT,PORT`",
                    key.place
                );
                lose(&why, ledger);
                return None;
            };
            ledger.changed(at, format!("the firewall mark {} stands for {vip}, as `--mark` says", key.place));
            (vip, 0)
        }
        't' | 'u' => match place(&key.place, parts) {
            Some((address, port)) => {
                let port = port.unwrap_or(0);
                let ports = if port == 0 { "*".to_owned() } else { port.to_string() };
                (endpoint(address, &ports), port)
            }
            None => {
                lose("it has no address, or its port no number: give `--hosts FILE`", ledger);
                return None;
            }
        },
        _ => {
            lose("`lb` balances tcp and udp, not SCTP", ledger);
            return None;
        }
    };
    let mut map = Map::default();
    map.set("vip", vip.as_str(), &[at]);
    ledger.kept(at, format!("`vip: {vip}`"));
    if key.protocol == 'u' {
        map.set("protocol", "udp", &[at]);
    }
    map.set("scheduler", options.scheduler.as_deref().unwrap_or("wlc"), &[at]);
    settings(options, vip.starts_with('['), at, &mut map, ledger);
    map.set("servers", Value::List(self::servers(servers, port, ledger, parts)), &[]);
    Some(Item::new(map, from))
}

fn settings(options: &Options, ipv6: bool, at: At, map: &mut Map, ledger: &mut Ledger) {
    if let Some(seconds) = &options.persistence {
        let mut persistence = Map::default();
        persistence.set("timeout", format!("{seconds}s"), &[at]);
        if let Some(mask) = &options.mask {
            match prefix(mask, ipv6) {
                Some(prefix) => persistence.set("prefix", prefix.to_string(), &[at]),
                None => {
                    ledger.lost(at, format!("-M {mask}: `lb` binds clients by a prefix, and this is none"));
                }
            }
        }
        map.set("persistence", persistence, &[at]);
    }
    if let Some(engine) = &options.engine {
        ledger.lost(
            at,
            format!("--pe {engine}: SIP's call IDs are not read, clients are bound by their address"),
        );
    }
    if options.ops {
        map.set("ops", "on", &[at]);
    }
    if let Some(flags) = &options.flags {
        hash_flags(flags, at, map, ledger);
    }
}

fn servers(
    servers: &[(String, Options, Vec<At>)],
    port: u16,
    ledger: &mut Ledger,
    parts: &Parts<'_>,
) -> Vec<Item> {
    let mut items = Vec::new();
    for (name, options, from) in servers {
        let Some(at) = from.first().copied() else { continue };
        let Some((address, own)) = place(name, parts) else {
            ledger.lost(at, format!("{name:?} has no address, or its port no number: give `--hosts FILE`"));
            continue;
        };
        let masq = options.forward == Some("masq");
        let other = own.filter(|own| *own != port && *own != 0 && port != 0);
        let mut map = Map::default();
        let text = match other.filter(|_| masq) {
            Some(own) => endpoint(address, &own.to_string()),
            None => address.to_string(),
        };
        map.set("address", text, &[at]);
        if let Some(own) = other.filter(|_| !masq) {
            ledger.changed(
                at,
                format!("packets to the server keep their port, as with IPVS, which ignored {own}"),
            );
        }
        if let Some(forward) = options.forward.filter(|forward| *forward != "direct") {
            map.set("forward", options.tunnel.as_deref().unwrap_or(forward), &[at]);
        }
        for (key, value) in [
            ("gue_port", &options.tunnel_port),
            ("weight", &options.weight),
            ("upper_threshold", &options.upper),
            ("lower_threshold", &options.lower),
        ] {
            if let Some(value) = value.as_ref().filter(|value| *value != "0" || key == "weight") {
                map.set(key, value.as_str(), &[at]);
            }
        }
        ledger.kept(at, "a server");
        items.push(Item::new(map, from));
    }
    items
}
