//! Checkers of real servers as checks.

use super::statement::Statement;
use super::{address, command, milliseconds, port, time};
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::{Map, Value};

/// Files of the parser with names of checkers.
pub(super) const SCOPES: [&str; 9] = [
    "check_http",
    "check_tcp",
    "check_smtp",
    "check_dns",
    "check_misc",
    "check_ping",
    "check_udp",
    "check_file",
    "check_bfd",
];

/// What stands around a checker.
pub(super) struct Defaults<'s> {
    pub virtual_server: &'s Statement,
    pub real: &'s Statement,
    pub all: &'s [Statement],
    /// The port to check, where it is not the service's.
    pub port: Option<u16>,
}

impl Defaults<'_> {
    /// The value of a keyword of the checker, the real server or the virtual server.
    fn value<'s>(&'s self, checker: &'s Statement, name: &str) -> Option<&'s Statement> {
        let own = checker.last(name);
        own.or_else(|| self.real.last(name)).or_else(|| self.virtual_server.last(name))
    }

    fn time(&self, checker: &Statement, name: &str) -> Option<(u64, At)> {
        let statement = self.value(checker, name)?;
        Some((milliseconds(statement.argument())?, statement.at()))
    }
}

/// The checks of a checker: one, or one for each `url`.
pub(super) fn read(
    checker: &Statement,
    defaults: &Defaults<'_>,
    ledger: &mut Ledger,
    parts: &Parts<'_>,
) -> Vec<Map> {
    let at = checker.at();
    let kind = match checker.name() {
        "TCP_CHECK" => "tcp",
        "HTTP_GET" => "http",
        "SSL_GET" => "https",
        "SMTP_CHECK" => "smtp",
        "DNS_CHECK" => "dns",
        "MISC_CHECK" => "external",
        "PING_CHECK" => "ping",
        "UDP_CHECK" => "udp",
        "FILE_CHECK" => "file",
        _ => {
            checker.tell(&SCOPES, ledger);
            return Vec::new();
        }
    };
    let mut check = Map::default();
    check.set("type", kind, &checker.from);
    common(checker, kind, defaults, &mut check);
    match kind {
        "udp" => udp(checker, &mut check, ledger),
        "dns" => dns(checker, &mut check, ledger),
        "external" => misc(checker, &mut check, ledger),
        "file" if !file(checker, defaults, &mut check, ledger) => return Vec::new(),
        _ => {}
    }
    ledger.kept(at, format!("`check: {{ type: {} }}`", check.text("type").unwrap_or_default()));
    for line in checker.inner() {
        setting(line, kind, &mut check, ledger, parts);
    }
    if !matches!(kind, "http" | "https") {
        return vec![check];
    }
    let urls: Vec<&Statement> = checker.all("url").collect();
    if urls.is_empty() {
        return vec![check];
    }
    urls.iter().map(|url| http(url, checker, &check, defaults, ledger)).collect()
}

/// Interval, time-out, retries and port.
fn common(checker: &Statement, kind: &str, defaults: &Defaults<'_>, check: &mut Map) {
    let (interval, from) = spread(defaults.time(checker, "delay_loop"), 60_000);
    check.set("interval", time(interval), &from);
    let default = match kind {
        "dns" => 3,
        "external" => 0,
        _ => 1,
    };
    let retry = defaults.value(checker, "retry").or_else(|| checker.last("nb_get_retry"));
    let retries = retry.and_then(|line| Some((line.argument().parse::<u64>().ok()?, line.at())));
    let (retries, from) = spread(retries, default);
    if retries > 0 {
        check.set("fall", retries.saturating_add(1).to_string(), &from);
        let pause = match kind {
            "http" | "https" => 3000,
            "dns" => interval,
            _ => 1000,
        };
        let (pause, from) = spread(defaults.time(checker, "delay_before_retry"), pause);
        if pause < interval {
            check.set("fast_interval", time(pause.max(10)), &from);
        }
    }
    if kind != "file" {
        let name = if kind == "external" { "misc_timeout" } else { "connect_timeout" };
        let given = defaults.time(checker, name);
        // Without misc_timeout a script has the time of delay_loop.
        let (timeout, from) = spread(given, if kind == "external" { interval } else { 5000 });
        check.set("timeout", time(timeout), &from);
    }
    if let Some(port) = defaults.port.filter(|_| !matches!(kind, "ping" | "file")) {
        check.set("port", port.to_string(), &[]);
    }
}

/// A line of a checker that any of them may have.
fn setting(line: &Statement, kind: &str, check: &mut Map, ledger: &mut Ledger, parts: &Parts<'_>) {
    let (at, value) = (line.at(), line.argument());
    let mut set = |key: &str, value: String| {
        ledger.kept(at, format!("`{key}: {value}`"));
        check.set(key, value, &[at]);
    };
    match line.name() {
        "connect_port" => match port(value) {
            Some(port) if kind != "ping" => set("port", port.to_string()),
            _ => ledger.lost(at, "expected a port"),
        },
        "bindto" => match address(value, parts) {
            Some(address) => set("source", address.to_string()),
            None => ledger.lost(at, format!("{value:?} has no address: give `--hosts FILE` with it")),
        },
        "bind_if" => set("interface", value.to_owned()),
        "connect_ip" => {
            ledger.lost(at, "checks go to the server's own address; an `external` check can ask another one");
        }
        "helo_name" => set("helo", value.to_owned()),
        "delay_loop" | "retry" | "nb_get_retry" | "delay_before_retry" | "connect_timeout"
        | "misc_timeout" => {
            ledger.kept(at, "`interval`, `fall`, `fast_interval` and `timeout`");
        }
        "warmup" => ledger.needless(at, "`lb` spreads the first checks by itself"),
        "alpha" => ledger.needless(at, "servers are unknown until their first check, which is made at once"),
        "host" => {
            // The old form of SMTP_CHECK: a block with an address and a port.
            ledger.frame(at);
            line.inner().iter().for_each(|inner| setting(inner, kind, check, ledger, parts));
        }
        "enable_sni" | "sni_name" if kind == "https" => {
            if line.name() == "sni_name" {
                set("tls_name", value.to_owned());
            } else {
                ledger.kept(at, "`host` is the name that TLS asks for");
            }
        }
        "url" | "misc_path" | "misc_dynamic" | "payload" | "require_reply" | "type" | "name"
        | "track_file" => {}
        "virtualhost" => ledger.kept(at, "`host`"),
        _ => {
            let own = SCOPES.iter().chain(["check_api"].iter()).copied().collect::<Vec<_>>();
            line.tell(&own, ledger);
        }
    }
}

fn http(
    url: &Statement,
    checker: &Statement,
    base: &Map,
    defaults: &Defaults<'_>,
    ledger: &mut Ledger,
) -> Map {
    let mut check = base.clone();
    url.from.iter().for_each(|at| ledger.frame(*at));
    if let Some(item) = check.0.iter_mut().find(|(key, _)| key == "type") {
        item.1.from.extend(&url.from);
    }
    let host = url.last("virtualhost").or_else(|| defaults.value(checker, "virtualhost"));
    if let Some(line) = host {
        check.set("host", line.argument(), &[line.at()]);
    }
    for line in url.inner() {
        let at = line.at();
        let mut set = |key: &str, value: String| {
            ledger.kept(at, format!("`{key}: {value}`"));
            check.set(key, value, &[at]);
        };
        match line.name() {
            "path" => set("request", line.argument().to_owned()),
            "status_code" => set("status", line.arguments().join(", ")),
            "regex" => {
                set("matches", line.argument().to_owned());
                ledger
                    .changed(at, "an expression of the Rust crate regex: no look-around, no back-references");
            }
            "virtualhost" => ledger.kept(at, "`host`"),
            _ => line.tell(&["check_http"], ledger),
        }
    }
    // keepalived's default; `lb` may take redirects, too.
    if check.get("status").is_none() {
        check.set("status", "200-299", &[]);
    }
    check
}

fn udp(checker: &Statement, check: &mut Map, ledger: &mut Ledger) {
    let payload = checker.last("payload");
    let reply = checker.last("require_reply");
    match (payload, reply) {
        (Some(payload), Some(reply)) => {
            check.set("send_hex", payload.arguments().join(""), &[payload.at()]);
            ledger.kept(payload.at(), "`send_hex`");
            match reply.arguments() {
                [] => ledger.kept(reply.at(), "any answer is a good one"),
                _ => ledger.lost(reply.at(), "any answer is a good one: `lb` has no pattern of bytes"),
            }
        }
        _ => {
            check.set("type", "ping", &checker.from);
            ["port", "send_hex"].iter().for_each(|key| check.remove(key));
            let what = "`lb` needs a datagram that the server answers (`type: udp` with `send`): this one looks only \
                        whether its host is there (`type: ping`)";
            let lines = payload.into_iter().chain(reply).map(Statement::at).chain([checker.at()]);
            lines.for_each(|at| ledger.lost(at, what));
        }
    }
}

fn dns(checker: &Statement, check: &mut Map, ledger: &mut Ledger) {
    if let Some(line) = checker.last("name") {
        check.set("query", line.argument(), &[line.at()]);
        ledger.kept(line.at(), format!("`query: {}`", line.argument()));
    }
    if let Some(line) = checker.last("type") {
        check.set("record", line.argument().to_uppercase(), &[line.at()]);
        ledger.kept(line.at(), format!("`record: {}`", line.argument()));
    } else if checker.last("name").is_some() {
        check.set("record", "SOA", &[]);
    }
    if check.get("record").is_some() && check.get("query").is_none() {
        check.set("query", ".", &[]);
    }
}

fn misc(checker: &Statement, check: &mut Map, ledger: &mut Ledger) {
    let mut program = Map::default();
    if let Some(line) = checker.last("misc_path") {
        program.set("command", Value::Words(command(line.arguments())), &[line.at()]);
        ledger.changed(
            line.at(),
            "`command`: behind its own arguments it gets VIP, port, server's address and port",
        );
    }
    let timeout = check.text("timeout").map(str::to_owned);
    if let Some((key, item)) = check.0.iter().find(|(key, _)| key == "timeout") {
        program.set(key, timeout.unwrap_or_default(), &item.from.clone());
    }
    check.set("command", program, &[]);
    if let Some((on, at)) = checker.switch("misc_dynamic") {
        if on {
            check.set("dynamic", "on", &[at]);
        }
        ledger.kept(at, "`dynamic`");
    }
}

/// Whether the file that holds the weight is known.
fn file(checker: &Statement, defaults: &Defaults<'_>, check: &mut Map, ledger: &mut Ledger) -> bool {
    let name = checker.last("track_file");
    let defined = defaults.all.iter().find(|track| {
        matches!(track.name(), "track_file" | "vrrp_track_file")
            && name.is_some_and(|name| name.argument() == track.argument())
    });
    let path = defined.and_then(|track| track.last("file"));
    match (name, path) {
        (Some(name), Some(path)) => {
            check.set("path", path.argument(), &[path.at(), name.at()]);
            ledger.changed(
                name.at(),
                "`path`: the file holds the server's weight itself, and nothing is added to it",
            );
            true
        }
        _ => {
            let what = "the `track_file` that it names is not defined";
            checker.lines().into_iter().for_each(|at| ledger.lost(at, what));
            false
        }
    }
}

fn spread(found: Option<(u64, At)>, default: u64) -> (u64, Vec<At>) {
    match found {
        Some((number, at)) => (number, vec![at]),
        None => (default, Vec::new()),
    }
}
