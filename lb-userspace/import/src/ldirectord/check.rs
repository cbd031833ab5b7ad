//! The checks of a service: `checktype`, `service` and what belongs to them.

use super::{Config, Directive, digits, last, unquoted};
use crate::ledger::Ledger;
use crate::report::At;
use crate::tree::{Item, Map, Value};

/// What a service's lines say of its checks.
pub(super) struct Checks<'c> {
    pub own: &'c [Directive],
    pub config: &'c Config,
    pub udp: bool,
    pub service: String,
    pub service_at: Option<At>,
    /// The line `virtual`, whose port decides on the service where no line says it.
    pub head: At,
    pub ipv6: bool,
}

/// ldirectord's default of `service`, by the port.
pub(super) fn service_of(port: u16) -> &'static str {
    match port {
        21 => "ftp",
        25 => "smtp",
        53 => "dns",
        80 => "http",
        110 => "pop",
        119 => "nntp",
        143 => "imap",
        389 => "ldap",
        443 => "https",
        587 => "submission",
        636 => "ldaps",
        993 => "imaps",
        995 => "pops",
        1521 => "oracle",
        1812 => "radius",
        3128 => "http_proxy",
        3306 => "mysql",
        5060 => "sip",
        5432 => "pgsql",
        _ => "none",
    }
}

/// The port of a service, for servers that name none.
pub(super) fn port_of(service: &str) -> Option<u16> {
    (1..=6000).find(|port| service != "none" && service_of(*port) == service)
}

impl Checks<'_> {
    fn get(&self, name: &str) -> Option<&Directive> {
        last(self.own, name)
    }

    fn number(&self, name: &str) -> Option<(u64, At)> {
        let directive = self.get(name)?;
        Some((digits(&directive.value)?, directive.at))
    }

    fn global(&self, name: &str) -> Option<(u64, At)> {
        let directive = last(&self.config.globals, name)?;
        Some((digits(&directive.value)?, directive.at))
    }

    /// The checks with this port, and with a server's own request and answer.
    pub(super) fn build(
        &self,
        port: Option<u16>,
        own: Option<(&str, &str, At)>,
        ledger: &mut Ledger,
    ) -> Value {
        let checktype = self.get("checktype");
        let word = checktype.map_or("negotiate", |directive| directive.value.as_str());
        let from: Vec<At> = checktype.map(|directive| directive.at).into_iter().collect();
        // ldirectord looks for digits first.
        let checks = if let Some(number) = digits(word) {
            let mut fast = self.connect(&from);
            self.finish(&mut fast, port, false, 1);
            let mut full = self.negotiate(own, &from, ledger);
            self.finish(&mut full, port, true, number.clamp(1, 1000));
            for at in &from {
                ledger.changed(
                    *at,
                    format!("two checks: connections, and the whole one {number} times as seldom"),
                );
            }
            vec![fast, full]
        } else {
            let (mut check, negotiates) = match word {
                "connect" => (self.connect(&from), false),
                "ping" => (typed("ping", &from), false),
                "on" => (typed("none", &from), false),
                "off" => (typed("off", &from), false),
                "external" | "external-perl" => (self.external(word, &from, ledger), false),
                "negotiate" => (self.negotiate(own, &from, ledger), true),
                other => {
                    for at in &from {
                        ledger.lost(
                            *at,
                            format!("{other:?} is no checktype of ldirectord: taken for negotiate"),
                        );
                    }
                    (self.negotiate(own, &from, ledger), true)
                }
            };
            self.finish(&mut check, port, negotiates, 1);
            for at in &from {
                ledger.kept(*at, format!("`check: {{ type: {} }}`", check.text("type").unwrap_or_default()));
            }
            vec![check]
        };
        let mut items: Vec<Item> = checks.into_iter().map(|check| Item::new(check, &[])).collect();
        match items.len() {
            1 => items.remove(0).value,
            _ => Value::List(items),
        }
    }

    /// Times, counts and port.
    fn finish(&self, check: &mut Map, port: Option<u16>, negotiates: bool, times: u64) {
        let kind = check.text("type").unwrap_or_default().to_owned();
        if matches!(kind.as_str(), "none" | "off") {
            return;
        }
        let forks = last(&self.config.globals, "fork").is_some_and(|fork| fork.value == "yes");
        let own = self.number("checkinterval").filter(|_| forks);
        let (interval, from) = spread(own.or_else(|| self.global("checkinterval")), 10);
        check.set("interval", format!("{}s", interval.saturating_mul(times)), &from);
        let (timeout, from) = self.timeout(negotiates);
        check.set("timeout", format!("{timeout}s"), &from);
        let pings = (kind == "ping").then(|| self.number("checkcount").or_else(|| self.global("checkcount")));
        let fall = self.number("failurecount").or_else(|| self.global("failurecount")).or(pings.flatten());
        if let Some((fall, at)) = fall {
            check.set("fall", fall.to_string(), &[at]);
        }
        if kind == "external"
            && let Some((_, Item { value: Value::Map(command), .. })) =
                check.0.iter_mut().find(|(key, _)| key == "command")
        {
            command.set("timeout", format!("{timeout}s"), &from);
        }
        if let Some(port) = port.filter(|_| kind != "ping") {
            let from: Vec<At> = self.get("checkport").map(|directive| directive.at).into_iter().collect();
            check.set("port", port.to_string(), &from);
        }
    }

    /// Time-outs stand in for each other in this order.
    fn timeout(&self, negotiates: bool) -> (u64, Vec<At>) {
        let (first, second, default) = match negotiates {
            true => ("negotiatetimeout", "checktimeout", 30),
            false => ("checktimeout", "negotiatetimeout", 5),
        };
        let old = || self.global("timeout").or_else(|| self.global("connecttimeout"));
        let own_old = || self.number("connecttimeout");
        let found = self.number(first).or_else(|| self.number(second)).or_else(own_old);
        let found = found.or_else(|| self.global(first)).or_else(|| self.global(second)).or_else(old);
        spread(found, default)
    }

    fn connect(&self, from: &[At]) -> Map {
        typed(if self.udp { "ping" } else { "tcp" }, from)
    }

    fn external(&self, word: &str, from: &[At], ledger: &mut Ledger) -> Map {
        let mut check = typed("external", from);
        let given = self.get("checkcommand");
        let text = given.map_or("/bin/true", |directive| unquoted(&directive.value));
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if word == "external-perl" {
            words.insert(0, "/usr/bin/perl".to_owned());
            for at in from {
                ledger.changed(
                    *at,
                    "an `external` check that starts perl each time, with the same four arguments",
                );
            }
        }
        let from: Vec<At> = given.map(|directive| directive.at).into_iter().collect();
        let mut command = Map::default();
        command.set("command", Value::Words(words), &from);
        check.set("command", command, &from);
        check
    }

    /// By `service`; what `lb` cannot ask is asked for a connection.
    fn negotiate(&self, own: Option<(&str, &str, At)>, from: &[At], ledger: &mut Ledger) -> Map {
        let from: Vec<At> = self.service_at.into_iter().chain(from.iter().copied()).collect();
        let service = self.service.as_str();
        let mut check = match service {
            "http" | "https" => typed(service, &from),
            "dns" | "ftp" | "smtp" | "imap" | "ldap" | "mysql" => typed(service, &from),
            "submission" => typed("smtp", &from),
            "pop" | "pops" => typed("pop3", &from),
            "imaps" => typed("imap", &from),
            "ldaps" => typed("ldap", &from),
            "pgsql" => typed("postgresql", &from),
            "simpletcp" | "nntp" => typed("tcp", &from),
            "none" => typed("none", &from),
            _ => self.connect(&from),
        };
        if matches!(service, "imaps" | "pops" | "ldaps") {
            check.set("tls", "on", &from);
        }
        match service {
            "http" | "https" => self.http(&mut check, own),
            "simpletcp" => self.simple_tcp(&mut check, own, ledger),
            "dns" => self.dns(&mut check, own, ledger),
            "nntp" => check.set("matches", "^2", &from),
            "http_proxy" | "sip" | "radius" | "oracle" => {
                let what = format!(
                    "`lb` has no check of {service}: it looks only whether the server is there (`type: {}`); an `external` \
                     check can do more",
                    check.text("type").unwrap_or_default()
                );
                ledger.lost(self.service_at.unwrap_or(self.head), what);
            }
            _ => {}
        }
        self.tell_of_answers(service, own, ledger);
        self.logins(&mut check, service, ledger);
        check
    }

    fn http(&self, check: &mut Map, own: Option<(&str, &str, At)>) {
        self.request(own, |text, at| check.set("request", text, &[at]));
        self.receive(own, |text, at| expect(check, text, at));
        if let Some(directive) = self.get("virtualhost") {
            check.set("host", unquoted(&directive.value), &[directive.at]);
        }
        if let Some(directive) = self.get("httpmethod") {
            check.set("method", directive.value.to_uppercase(), &[directive.at]);
        }
    }

    fn simple_tcp(&self, check: &mut Map, own: Option<(&str, &str, At)>, ledger: &mut Ledger) {
        self.request(own, |text, at| {
            let text = text.strip_prefix('/').unwrap_or(text).replace("\\n", "\n");
            if !text.is_empty() {
                check.set("send", text, &[at]);
            }
        });
        self.receive(own, |text, at| expect(check, text, at));
        if check.get("receive").is_none() && check.get("matches").is_none() && check.get("send").is_some() {
            check.set("matches", ".", &[]);
            ledger.assume("`matches: .` of a simpletcp check: ldirectord wants any answer".to_owned());
        }
    }

    fn dns(&self, check: &mut Map, own: Option<(&str, &str, At)>, ledger: &mut Ledger) {
        self.request(own, |text, at| {
            check.set("query", text.strip_prefix('/').unwrap_or(text), &[at]);
        });
        self.receive(own, |text, at| {
            check.set("answer", text, &[at]);
            ledger.changed(at, "`answer`: the whole answer, not an expression that it matches");
        });
        if self.ipv6 {
            check.set("record", "AAAA", &[]);
        }
    }

    fn request(&self, own: Option<(&str, &str, At)>, mut set: impl FnMut(&str, At)) {
        if let Some((request, _, at)) = own {
            set(request, at);
        } else if let Some(directive) = self.get("request") {
            set(unquoted(&directive.value), directive.at);
        }
    }

    fn receive(&self, own: Option<(&str, &str, At)>, mut set: impl FnMut(&str, At)) {
        let own = own.map(|(_, receive, at)| (receive, at));
        let given = || self.get("receive").map(|directive| (unquoted(&directive.value), directive.at));
        if let Some((text, at)) = own.or_else(given)
            && !text.is_empty()
        {
            set(text, at);
        }
    }

    /// Requests and answers of services that `lb` only greets.
    fn tell_of_answers(&self, service: &str, own: Option<(&str, &str, At)>, ledger: &mut Ledger) {
        if matches!(service, "http" | "https" | "simpletcp" | "dns") {
            return;
        }
        let note = format!("a check of {service} asks nothing further: the server's greeting is what counts");
        self.request(own, |_, at| ledger.lost(at, note.clone()));
        self.receive(own, |_, at| ledger.lost(at, note.clone()));
    }

    fn logins(&self, check: &mut Map, service: &str, ledger: &mut Ledger) {
        if let Some(Directive { value, at, .. }) = self.get("login") {
            if matches!(service, "mysql" | "pgsql") {
                check.set("user", unquoted(value), &[*at]);
                ledger.changed(
                    *at,
                    "`user`: `lb` gives the name and no password; a refusal is a good answer, too",
                );
            } else {
                ledger.lost(*at, format!("`lb` does not log in to check {service}: use an `external` check"));
            }
        }
        if let Some(Directive { value, at, .. }) = self.get("database") {
            match service {
                "pgsql" => {
                    check.set("database", unquoted(value), &[*at]);
                    ledger.kept(*at, "`database`");
                }
                _ => ledger.lost(*at, format!("a check of {service} names no database")),
            }
        }
    }
}

/// Perl's expression as a text where it is one, as an expression else.
fn expect(check: &mut Map, text: &str, at: At) {
    let literal = !text.contains(|char: char| "\\^$.|?*+()[]{}".contains(char));
    check.set(if literal { "receive" } else { "matches" }, text, &[at]);
}

fn typed(kind: &str, from: &[At]) -> Map {
    let mut check = Map::default();
    check.set("type", kind, from);
    check
}

fn spread(found: Option<(u64, At)>, default: u64) -> (u64, Vec<At>) {
    match found {
        Some((number, at)) => (number, vec![at]),
        None => (default, Vec::new()),
    }
}
