//! What differs between two configurations, for operators: pure.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_api::difference::{Difference, Kind};
use lb_model::{ClientPrefix, Clients, Config, Group, Server, Service, Thresholds};

/// From `old` to `new`, in the order of the file. Keys that cannot change while `lb` runs are not
/// among them: a file that changes one is refused.
pub(super) fn between(old: &Config, new: &Config) -> Vec<Difference> {
    let Config {
        interface: _,
        other_interfaces: _,
        xdp_mode,
        connections: _,
        bindings: _,
        control: _,
        metrics: _,
        web: _,
        alerts,
        timeouts,
        maintenance,
        zero_copy: _,
        announce_rate,
        cluster: _,
        groups,
        denied,
        services,
        kept_elsewhere: _,
    } = old;
    let mut found = Differences::of(String::new());
    found.key("xdp_mode", xdp_mode, &new.xdp_mode, |mode| Some(format!("{mode:?}").to_lowercase()));
    found.key("alerts", alerts, &new.alerts, |_| None);
    found.key("timeouts", timeouts, &new.timeouts, |_| None);
    found.word("maintenance_dir", &maintenance.display(), &new.maintenance.display());
    found.word("announce_rate", announce_rate, &new.announce_rate);
    found.prefixes("clients: deny", &denied.lists.deny, &new.denied.lists.deny);
    let mut all = found.list;
    let name = |group: &Group| group.name.clone();
    all.extend(lists("group ", groups, &new.groups, name, |_| None, group));
    let name = |service: &Service| service.name.clone();
    let address = |service: &Service| {
        let servers = service.servers.len();
        let noun = if servers == 1 { "server" } else { "servers" };
        let ports = service.ports.after(service.key.vip);
        Some(format!("{}/{ports}, {servers} {noun}", service.key.protocol.name()))
    };
    all.extend(lists("service ", services, &new.services, name, address, service));
    all
}

/// Those that have come, changed, or gone. Each is told by its name.
fn lists<T: PartialEq>(
    noun: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> String,
    word: impl Fn(&T) -> Option<String>,
    changes: impl Fn(String, &T, &T) -> Vec<Difference>,
) -> Vec<Difference> {
    // Tens of thousands of services are compared whenever one of them changes.
    let places = |list: &[T]| -> HashMap<String, usize> {
        // From behind: the first one of a name stays.
        list.iter().enumerate().rev().map(|(place, one)| (name(one), place)).collect()
    };
    let (in_old, in_new) = (places(old), places(new));
    let subject = |one: &T| format!("{noun}{}", name(one));
    let whole = |kind, one: &T, from, to| Difference { kind, subject: subject(one), key: None, from, to };
    let mut found = Vec::new();
    for one in old {
        match in_new.get(&name(one)) {
            None => found.push(whole(Kind::Removed, one, word(one), None)),
            Some(at) if new[*at] != *one => found.extend(changes(subject(one), one, &new[*at])),
            Some(_) => {}
        }
    }
    let newcomers = new.iter().filter(|one| !in_old.contains_key(&name(one)));
    found.extend(newcomers.map(|one| whole(Kind::Added, one, None, word(one))));
    let order = |list: &[T], other: &HashMap<String, usize>| -> Vec<String> {
        list.iter().map(&name).filter(|called| other.contains_key(called)).collect()
    };
    if order(old, &in_new) != order(new, &in_old) {
        let subject = noun.trim_end_matches([' ', '/']).to_owned();
        let key = Some("order".to_owned());
        found.push(Difference { kind: Kind::Changed, subject, key, from: None, to: None });
    }
    found
}

/// The keys of one subject that differ.
struct Differences {
    subject: String,
    list: Vec<Difference>,
}

impl Differences {
    const fn of(subject: String) -> Self {
        Self { subject, list: Vec::new() }
    }

    /// `word`: the value as an operator writes it, if that is one word.
    fn key<T: PartialEq>(&mut self, key: &str, old: &T, new: &T, word: impl Fn(&T) -> Option<String>) {
        if old != new {
            self.push(key, word(old), word(new));
        }
    }

    fn word(&mut self, key: &str, old: &impl Display, new: &impl Display) {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            self.push(key, Some(old), Some(new));
        }
    }

    fn time(&mut self, key: &str, old: &Duration, new: &Duration) {
        self.key(key, old, new, |time| Some(humantime::format_duration(*time).to_string()));
    }

    /// Of sorted lists, which may be long.
    fn prefixes(&mut self, key: &str, old: &[ClientPrefix], new: &[ClientPrefix]) {
        if old != new {
            let comes = new.iter().filter(|prefix| old.binary_search(prefix).is_err()).count();
            let counted = |list: &[ClientPrefix]| match list.len() {
                1 => "1 prefix".to_owned(),
                number => format!("{number} prefixes"),
            };
            let to = format!("{}, of them {comes} new", counted(new));
            self.push(key, Some(counted(old)), Some(to));
        }
    }

    /// The rules about clients, and their lists apart.
    fn clients(&mut self, old: Option<&Clients>, new: Option<&Clients>) {
        let lists = |clients: Option<&Clients>| {
            clients.map_or_else(Arc::default, |own| Arc::clone(&own.listed.lists))
        };
        let (before, after) = (lists(old), lists(new));
        self.prefixes("clients: allow", &before.allow, &after.allow);
        self.prefixes("clients: deny", &before.deny, &after.deny);
        let rest = |clients: Option<&Clients>| {
            let mut clients = clients.cloned();
            if let Some(clients) = &mut clients {
                (clients.listed.lists, clients.listed.given) = (Arc::default(), Arc::default());
            }
            clients
        };
        self.key("clients", &rest(old), &rest(new), |_| None);
    }

    fn push(&mut self, key: &str, from: Option<String>, to: Option<String>) {
        let (subject, key) = (self.subject.clone(), Some(key.to_owned()));
        self.list.push(Difference { kind: Kind::Changed, subject, key, from, to });
    }
}

fn group(subject: String, old: &Group, new: &Group) -> Vec<Difference> {
    let Group { number: _, name: _, vips, interface, label, refresh, nodes, failback, kind } = old;
    let mut found = Differences::of(subject);
    let addresses = |vips: &Vec<lb_model::GroupVip>| {
        Some(vips.iter().map(|vip| format!("{}/{}", vip.address, vip.prefix)).collect::<Vec<_>>().join(" "))
    };
    found.key("vips", vips, &new.vips, addresses);
    found.key("interface", interface, &new.interface, Option::clone);
    found.key("label", label, &new.label, Option::clone);
    found.time("refresh", refresh, &new.refresh);
    found.key("nodes", nodes, &new.nodes, |_| None);
    found.key("failback", failback, &new.failback, |_| None);
    found.key("kind", kind, &new.kind, |_| None);
    found.list
}

fn service(subject: String, old: &Service, new: &Service) -> Vec<Difference> {
    let Service {
        name,
        key,
        ports,
        scheduler,
        hashing,
        quic,
        fallback,
        dead_server,
        slow_start,
        damping,
        quorum,
        hooks,
        stray,
        ops,
        timeouts,
        persistence,
        clients,
        vlan,
        source_nat,
        drain,
        servers,
    } = old;
    let mut found = Differences::of(subject);
    found.word("vip", &format!("{}/{}", key.protocol.name(), ports.after(key.vip)), &{
        format!("{}/{}", new.key.protocol.name(), new.ports.after(new.key.vip))
    });
    found.word("scheduler", &scheduler.name(), &new.scheduler.name());
    found.key("hash", hashing, &new.hashing, |_| None);
    found.key("quic_lb", quic, &new.quic, |_| None);
    // The sorry page's file is part of it.
    found.key("fallback", fallback, &new.fallback, |fallback| Some(fallback.to_string()));
    found.word("dead_server", &dead_server.name(), &new.dead_server.name());
    found.time("slow_start", slow_start, &new.slow_start);
    found.key("damping", damping, &new.damping, |_| None);
    found.word("quorum", &quorum.weight, &new.quorum.weight);
    found.word("hysteresis", &quorum.hysteresis, &new.quorum.hysteresis);
    found.key("hooks", hooks, &new.hooks, |_| None);
    found.key("stray", stray, &new.stray, |stray| Some(format!("{stray:?}").to_lowercase()));
    found.word("ops", ops, &new.ops);
    found.key("timeouts", timeouts, &new.timeouts, |_| None);
    found.key("persistence", persistence, &new.persistence, |own| match own {
        Some(own) => Some(humantime::format_duration(own.timeout).to_string()),
        None => Some("off".to_owned()),
    });
    found.clients(clients.as_ref(), new.clients.as_ref());
    found.key("vlan", vlan, &new.vlan, |_| None);
    let addresses =
        |list: &Vec<IpAddr>| Some(list.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "));
    found.key("source_nat", source_nat, &new.source_nat, addresses);
    found.time("drain", drain, &new.drain);
    let word = |server: &Server| Some(format!("{}, weight {}", server.address, server.weight));
    let of = format!("server {name}/");
    let mut all = found.list;
    all.extend(lists(&of, servers, &new.servers, |server| server.name.clone(), word, server));
    all
}

fn server(subject: String, old: &Server, new: &Server) -> Vec<Difference> {
    let Server {
        name: _,
        address,
        port,
        tunnel,
        masq,
        quic_ids,
        interface,
        vlan,
        weight,
        thresholds,
        checks,
    } = old;
    let mut found = Differences::of(subject);
    found.word("address", address, &new.address);
    found.word("port", port, &new.port);
    if (tunnel, masq) != (&new.tunnel, &new.masq) {
        found.push("forward", Some(old.method().name().into()), Some(new.method().name().into()));
    }
    found.key("quic_server_ids", quic_ids, &new.quic_ids, |_| None);
    found.key("interface", interface, &new.interface, Option::clone);
    found.key("vlan", vlan, &new.vlan, |_| None);
    found.word("weight", weight, &new.weight);
    let limits = |limits: &Thresholds| Some(format!("{}/{}", limits.upper(), limits.lower()));
    found.key("thresholds", thresholds, &new.thresholds, limits);
    found.key("check", checks, &new.checks, |checks| {
        let names: Vec<&str> = checks.iter().map(|check| check.probe.name()).collect();
        Some(if names.is_empty() { "none".to_owned() } else { names.join(" ") })
    });
    found.list
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "
interface: eth0
groups: [{ name: web, vips: [192.0.2.10/24] }]
services:
  - name: web
    vip: 192.0.2.10:80
    scheduler: rr
    check: { type: tcp }
    servers: [{ name: www1, address: 192.0.2.21 }, { name: www2, address: 192.0.2.22 }]
  - { name: dns, vip: '192.0.2.10:53', protocol: udp, servers: [{ address: 192.0.2.23 }] }
";

    fn lines(new: &str) -> Vec<String> {
        let parse = |text| lb_config::parse(text, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
        between(&parse(OLD), &parse(new)).iter().map(Difference::to_string).collect()
    }

    /// With a look at all others for each service this test would take hours.
    #[test]
    fn tens_of_thousands_of_services_are_compared() {
        let mut old = lb_config::parse(OLD, "lb.yaml").expect("a configuration");
        let one = old.services.swap_remove(0);
        let service = |number: u16| {
            let key = lb_model::ServiceKey { port: number, ..one.key };
            Service { name: format!("s{number}"), key, ..one.clone() }
        };
        old.services = (1..=60_000).map(service).collect();
        let mut new = old.clone();
        new.services[5].drain += Duration::from_secs(1);
        new.services.remove(30_000);
        let told: Vec<String> = between(&old, &new).iter().map(Difference::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with("~ service s6: drain") && told[1].starts_with("- service s30001"),
            "{told:?}"
        );
        new.services.swap(7, 8);
        assert_eq!(between(&old, &new).len(), 3, "their order differs");
    }

    #[test]
    fn the_same_file_differs_in_nothing() {
        assert!(lines(OLD).is_empty());
    }

    #[test]
    fn what_comes_changes_and_goes() {
        let new = "
interface: eth0
announce_rate: 500
groups: [{ name: web, vips: [192.0.2.10/24, 192.0.2.11/24] }]
services:
  - name: web
    vip: 192.0.2.10:80
    scheduler: wlc
    drain: 1m
    check: { type: http }
    servers: [{ name: www2, address: 192.0.2.22, weight: 3 }, { name: www3, address: 192.0.2.24 }]
  - { name: mail, vip: '192.0.2.11:25', servers: [{ address: 192.0.2.23 }] }
";
        assert_eq!(
            lines(new),
            [
                "~ announce_rate: 10000 -> 500",
                "~ group web: vips: 192.0.2.10/24 -> 192.0.2.10/24 192.0.2.11/24",
                "~ service web: scheduler: rr -> wlc",
                "~ service web: drain: 30s -> 1m",
                "- server web/www1: 192.0.2.21, weight 1",
                "~ server web/www2: weight: 1 -> 3",
                "~ server web/www2: check: tcp -> http",
                "+ server web/www3: 192.0.2.24, weight 1",
                "- service dns: udp/192.0.2.10:53, 1 server",
                "+ service mail: tcp/192.0.2.11:25, 1 server",
            ]
        );
    }

    #[test]
    fn of_lists_of_clients_it_is_told_how_many_are_new() {
        let with = |own: &str, all: &str| {
            format!("{all}{}", OLD.replace("scheduler: rr", &format!("scheduler: rr\n    clients: {own}")))
        };
        let new = with("{ deny: [198.51.100.1, 198.51.100.3], all: { packets_per_second: 5 } }", "");
        assert_eq!(
            lines(&new),
            [
                "~ service web: clients: deny: 0 prefixes -> 2 prefixes, of them 2 new",
                "~ service web: clients"
            ]
        );
        let everywhere = with("{ each: { connections: 5 } }", "clients: { deny: [198.51.100.0/24] }");
        assert_eq!(lines(&everywhere)[0], "~ clients: deny: 0 prefixes -> 1 prefix, of them 1 new");
    }

    #[test]
    fn another_order_is_a_difference() {
        let swapped = OLD.replace("www1, address: 192.0.2.21", "www0, address: 192.0.2.20").replace(
            "[{ name: www0, address: 192.0.2.20 }, { name: www2, address: 192.0.2.22 }]",
            "[{ name: www2, address: 192.0.2.22 }, { name: www1, address: 192.0.2.21 }]",
        );
        assert_eq!(lines(&swapped), ["~ server web: order"]);
    }
}
