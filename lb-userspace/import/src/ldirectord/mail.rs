//! `emailalert` and what belongs to it as receivers of `alerts`.
//!
//! ldirectord tells of services by themselves, a receiver of `lb` is told of all.

use super::{Config, Directive, digits, last, refused, unquoted};
use crate::ledger::Ledger;
use crate::mail::{Given, Terms};
use crate::parts::Parts;
use crate::report::At;

/// Lines of a section that only say how mails go.
const TERMS: [&str; 3] = ["emailalertfreq", "emailalertstatus", "smtp"];
/// States of ldirectord, and what `lb` tells in them.
const STATES: [(&str, &[&str]); 3] = [
    ("running", &["server_down", "server_maintenance", "fallback_started"]),
    ("reloading", &["config_reloaded"]),
    ("stopping", &["stopping"]),
];
/// The longest `repeat`, in seconds.
const LONGEST: u64 = 30 * 24 * 60 * 60;

const ALIKE: &str = "a receiver is told of all services alike: what the whole file says counts";

/// What ldirectord refuses in a line about mail.
pub(super) fn refused_line(name: &str, value: &str) -> Option<&'static str> {
    let fits = match name {
        "emailalert" | "emailalertfrom" => words(unquoted(value)).any(|word| !word.is_empty()),
        "emailalertfreq" => value.starts_with(|char: char| char.is_ascii_digit()),
        "smtp" => !server(value).is_empty(),
        "emailalertstatus" => {
            let known = |word: &str| {
                ["all", "starting"].contains(&word) || STATES.iter().any(|(name, _)| *name == word)
            };
            words(value).all(known) || words(value).eq(["none"])
        }
        _ => true,
    };
    (!fits).then_some(match name {
        "emailalert" | "emailalertfrom" => "expected a mail address: ldirectord refuses the line",
        "emailalertfreq" => "expected a number of seconds: ldirectord refuses the line",
        "smtp" => "expected a host's name or address: ldirectord refuses the line",
        _ => {
            "expected all, none, or some of starting, running, stopping and reloading: ldirectord refuses the line"
        }
    })
}

/// Its words, at commas.
fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// What ldirectord takes of `smtp`.
fn server(value: &str) -> &str {
    let is_part = |char: char| char.is_ascii_alphanumeric() || "._+-".contains(char);
    &value[..value.find(|char: char| !is_part(char)).unwrap_or(value.len())]
}

/// The line that counts.
fn line<'d>(directives: &'d [Directive], name: &str) -> Option<&'d Directive> {
    last(directives, name).filter(|line| refused(line).is_none())
}

pub(super) fn read(config: &Config, ledger: &mut Ledger, parts: &mut Parts<'_>) {
    let globals = &config.globals;
    let is_for_any = config.sections.iter().any(|section| line(&section.directives, "emailalert").is_none());
    match line(globals, "emailalert") {
        Some(alert) if is_for_any => tell(alert, None, globals, ledger, parts),
        Some(alert) => {
            ledger.needless(alert.at, "no `virtual` goes by it: each has its own, or there is none");
        }
        None => {}
    }
    for section in &config.sections {
        let own = &section.directives;
        match line(own, "emailalert") {
            Some(alert) => tell(alert, Some(own), globals, ledger, parts),
            None => lose(own, line(globals, "emailalert").is_some(), ledger),
        }
    }
    // What nobody has needed.
    for name in TERMS.into_iter().chain(["emailalertfrom"]) {
        if let Some(line) = line(globals, name)
            && !ledger.is_told(line.at)
        {
            ledger.needless(line.at, "nobody is told by mail in this way");
        }
    }
}

/// A section's own lines that say how mails go.
fn lose(own: &[Directive], is_told: bool, ledger: &mut Ledger) {
    for line in TERMS.iter().filter_map(|name| line(own, name)) {
        match is_told {
            true => ledger.lost(line.at, ALIKE),
            false => ledger.needless(line.at, "nobody is told by mail of this service"),
        }
    }
}

/// A receiver for the addresses of `alert`, of a section with its `own` lines or of the whole file.
fn tell(
    alert: &Directive,
    own: Option<&[Directive]>,
    globals: &[Directive],
    ledger: &mut Ledger,
    parts: &mut Parts<'_>,
) {
    let at = alert.at;
    let find = |name: &str| own.and_then(|own| line(own, name)).or_else(|| line(globals, name));
    let to = words(unquoted(&alert.value)).filter(|address| !address.is_empty());
    let to: Vec<(String, At)> = to.map(|address| (address.to_owned(), at)).collect();
    if let Some(own) = own
        && to.iter().all(|(address, _)| parts.receivers.has(address))
    {
        ledger.changed(at, "told already, of all services: receivers do not choose some");
        lose(own, true, ledger);
        return;
    }
    let events = events(find("emailalertstatus"), ledger);
    if events.0.is_empty() {
        ledger.needless(at, "`emailalertstatus` leaves nothing to tell");
        lose(own.unwrap_or_default(), false, ledger);
        return;
    }
    let host = match find("smtp") {
        Some(smtp) => {
            ledger.kept(smtp.at, "`host` of a receiver, with `tls: off`");
            (server(&smtp.value).to_owned(), vec![smtp.at])
        }
        None => {
            let how =
                "by the SMTP server of this host (`host: localhost`), where ldirectord ran its mail program";
            ledger.changed(at, how);
            ("localhost".to_owned(), Vec::new())
        }
    };
    let sender = line(globals, "emailalertfrom").map(|line| {
        ledger.kept(line.at, "`from` of the receivers");
        (line.value.clone(), vec![line.at])
    });
    let repeat = repeat(find("emailalertfreq"), ledger);
    match own {
        None => ledger.kept(at, "`to` of a receiver in `alerts`"),
        Some(_) => {
            ledger.changed(
                at,
                "`to` of a receiver in `alerts`, which is told of all services: receivers do not choose some",
            );
        }
    }
    parts.receivers.add(Terms { host, port: None, sender, events, repeat }, to);
}

/// Events that are told where ldirectord tells something in these states.
fn events(status: Option<&Directive>, ledger: &mut Ledger) -> Given<Vec<&'static str>> {
    let value = status.map_or("all", |line| line.value.as_str());
    let has = |state: &str| words(value).any(|word| word == state || word == "all");
    let told: Vec<&'static str> =
        STATES.iter().filter(|(state, _)| has(state)).flat_map(|(_, events)| *events).copied().collect();
    let Some(line) = status else { return (told, Vec::new()) };
    if told.is_empty() && !has("starting") {
        ledger.needless(line.at, "nobody is told, so there is no receiver");
    } else if has("starting") && !has("running") {
        let what = "what `lb` tells of servers at its start it tells at other times, too: without `running` it tells nothing of them";
        ledger.lost(line.at, what);
    } else if words(value).eq(["running"]) {
        ledger.kept(line.at, "`events` of a receiver");
    } else {
        let how = "`events` of a receiver: `lb` tells at a start which servers are down, and of a reload and a stop that they \
                   were, each as one event, not by servers";
        ledger.changed(line.at, how);
    }
    (told, vec![line.at])
}

fn repeat(line: Option<&Directive>, ledger: &mut Ledger) -> Given<String> {
    let Some(line) = line else { return ("never".to_owned(), Vec::new()) };
    let repeat = match digits(&line.value) {
        Some(0) => "never".to_owned(),
        Some(seconds) if seconds <= LONGEST => format!("{seconds}s"),
        Some(_) | None => {
            ledger.changed(line.at, "30 days is the longest `repeat`");
            format!("{LONGEST}s")
        }
    };
    ledger.kept(line.at, format!("`repeat: {repeat}`"));
    (repeat, vec![line.at])
}
