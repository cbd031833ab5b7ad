//! Mail of keepalived: to whom, by which server, and about what.

use super::statement::Statement;
use crate::hosts;
use crate::ledger::Ledger;
use crate::mail::{Given, Terms};
use crate::parts::Parts;
use crate::report::At;

/// Global definitions that are read here.
const GLOBALS: [&str; 7] = [
    "notification_email",
    "notification_email_from",
    "smtp_server",
    "smtp_alert",
    "smtp_alert_vrrp",
    "smtp_alert_checker",
    "no_email_faults",
];

pub(super) fn is_global(name: &str) -> bool {
    GLOBALS.contains(&name)
}

/// What keepalived has switches for, by the event that `lb` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RealServer,
    VirtualServer,
    Vrrp,
}

impl Kind {
    const ALL: [Self; 3] = [Self::RealServer, Self::VirtualServer, Self::Vrrp];

    /// What begins and ends is told with its end.
    const fn events(self) -> &'static [&'static str] {
        match self {
            Self::RealServer => &["server_down"],
            Self::VirtualServer => &["quorum_lost"],
            Self::Vrrp => &["role_changed", "stopping"],
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::RealServer => "servers",
            Self::VirtualServer => "services",
            Self::Vrrp => "groups",
        }
    }
}

/// Whether a real server, a virtual server, an instance or a sync group is told of.
struct Switch {
    kind: Kind,
    is_on: bool,
    /// Its own line, if it has one.
    own: Option<At>,
}

/// Definitions of all blocks `global_defs`.
struct Globals<'s>(Vec<&'s Statement>);

impl<'s> Globals<'s> {
    fn of(statements: &'s [Statement]) -> Self {
        let blocks = statements.iter().filter(|statement| statement.name() == "global_defs");
        Self(blocks.flat_map(Statement::inner).filter(|line| is_global(line.name())).collect())
    }

    fn last(&self, name: &str) -> Option<&'s Statement> {
        self.0.iter().rev().copied().find(|line| line.name() == name)
    }

    fn switch(&self, name: &str) -> Option<bool> {
        self.last(name).map(Statement::is_on)
    }

    /// Addresses, each with its line.
    fn to(&self) -> Vec<(String, At)> {
        let blocks = self.0.iter().filter(|line| line.name() == "notification_email");
        let lines = blocks.flat_map(|block| block.inner());
        lines.flat_map(|line| line.words.iter().map(move |word| (mailbox(word), line.at()))).collect()
    }
}

/// With the name in quotes where it needs them, as keepalived puts it into a mail.
fn mailbox(text: &str) -> String {
    let parts = text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<'));
    match parts.map(|(name, address)| (name.trim_end(), address)) {
        Some((name, address))
            if !name.starts_with('"') && name.contains(|char: char| "()<>[]:;@\\,.".contains(char)) =>
        {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{name}\" <{address}>")
        }
        _ => text.to_owned(),
    }
}

pub(super) fn read(statements: &[Statement], ledger: &mut Ledger, parts: &mut Parts<'_>) {
    let globals = Globals::of(statements);
    let switches = switches(statements, &globals);
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| switches.iter().any(|one| one.kind == *kind && one.is_on))
        .collect();
    let to = globals.to();
    let server = globals.last("smtp_server").filter(|line| !line.argument().is_empty());
    let (Some(server), false, false) = (server, to.is_empty(), kinds.is_empty()) else {
        let why = match (server, to.is_empty()) {
            (None, _) => "without `smtp_server` keepalived sends no mail",
            (_, true) => "without `notification_email` keepalived sends no mail",
            _ => "no `smtp_alert` is on: keepalived sends no mail",
        };
        let lines = globals.0.iter().flat_map(|line| line.lines());
        lines.chain(switches.iter().filter_map(|one| one.own)).for_each(|at| ledger.needless(at, why));
        return;
    };
    // Lines of services and groups would draw comments beside them up here.
    let from = ["smtp_alert", "smtp_alert_vrrp", "smtp_alert_checker"].into_iter();
    let from: Vec<At> = from.filter_map(|name| globals.last(name)).map(Statement::at).collect();
    let events = kinds.iter().flat_map(|kind| kind.events()).copied().collect();
    let sender = globals.last("notification_email_from").filter(|line| !line.argument().is_empty());
    let terms = Terms {
        host: (server.argument().to_owned(), vec![server.at()]),
        port: port(server, ledger),
        sender: sender.map(|line| (mailbox(line.argument()), vec![line.at()])),
        events: (events, from),
        repeat: ("never".to_owned(), Vec::new()),
    };
    parts.receivers.add(terms, to);
    tell_globals(&globals, &kinds, ledger);
    switches.iter().for_each(|one| tell_own(one, &switches, ledger));
}

fn switches(statements: &[Statement], globals: &Globals<'_>) -> Vec<Switch> {
    let all = globals.switch("smtp_alert");
    let vrrp = globals.switch("smtp_alert_vrrp").or(all);
    let checker = globals.switch("smtp_alert_checker").or(all);
    let switch = |kind: Kind, statement: &Statement| {
        let own = statement.switch("smtp_alert");
        let default = match kind {
            // As in its first versions.
            Kind::RealServer => checker.unwrap_or(true),
            Kind::VirtualServer => checker.unwrap_or(false),
            Kind::Vrrp => vrrp.unwrap_or(false),
        };
        Switch { kind, is_on: own.map_or(default, |(is_on, _)| is_on), own: own.map(|(_, at)| at) }
    };
    let mut switches = Vec::new();
    for statement in statements {
        match statement.name() {
            "virtual_server" => {
                switches.push(switch(Kind::VirtualServer, statement));
                switches.extend(statement.all("real_server").map(|real| switch(Kind::RealServer, real)));
            }
            "vrrp_instance" | "vrrp_sync_group" => switches.push(switch(Kind::Vrrp, statement)),
            _ => {}
        }
    }
    switches
}

fn port(server: &Statement, ledger: &mut Ledger) -> Option<Given<u16>> {
    let text = server.words.get(2)?;
    let port = hosts::port(text);
    if port.is_none() {
        ledger.lost(server.at(), format!("port {text:?} is not known: taken for 25"));
    }
    port.map(|port| (port, vec![server.at()]))
}

fn tell_globals(globals: &Globals<'_>, kinds: &[Kind], ledger: &mut Ledger) {
    for line in &globals.0 {
        let (name, at) = (line.name(), line.at());
        if name == "notification_email" {
            let note = "`to` of the receiver in `alerts`";
            line.from
                .iter()
                .copied()
                .chain(line.inner().iter().map(Statement::at))
                .for_each(|at| ledger.kept(at, note));
            continue;
        }
        if globals.last(name).is_some_and(|last| last.at() != at) {
            ledger.needless(at, format!("a later line has `{name}`, too, and that one counts"));
            continue;
        }
        match name {
            "notification_email_from" => ledger.kept(at, "`from` of the receiver in `alerts`"),
            "smtp_server" => ledger.kept(at, "`host` of the receiver in `alerts`, with `tls: off`"),
            "no_email_faults" => match kinds.contains(&Kind::Vrrp) {
                true => ledger.lost(at, "`role_changed` is told of faults, too"),
                false => ledger.needless(at, "no change of a role is told"),
            },
            _ => ledger.kept(at, "`events` of the receiver in `alerts`"),
        }
    }
}

/// The line of one server, service, instance or group: a receiver does not choose some.
fn tell_own(switch: &Switch, all: &[Switch], ledger: &mut Ledger) {
    let Switch { kind, is_on, own: Some(at) } = *switch else { return };
    let alike = all.iter().filter(|other| other.kind == kind).all(|other| other.is_on == is_on);
    let plural = kind.plural();
    match (alike, is_on) {
        (true, _) => ledger.kept(at, "`events` of the receiver in `alerts`"),
        (false, true) => {
            ledger
                .changed(at, format!("`events` of the receiver in `alerts`, which is told of all {plural}"));
        }
        (false, false) => {
            ledger.lost(at, format!("a receiver is told of all {plural} or of none: it is told"));
        }
    }
}
