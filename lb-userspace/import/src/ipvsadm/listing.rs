//! `ipvsadm -L -n`: the table as people see it.

use super::options::Options;
use super::{Key, Service, Table};
use crate::ledger::Ledger;
use crate::report::At;

/// Whether the file is a listing and no rules.
pub(super) fn is_one(file: usize, ledger: &Ledger) -> bool {
    let begins = |line: &str| {
        line.starts_with("IP Virtual Server version")
            || line.trim_start().starts_with("-> RemoteAddress:Port")
    };
    ledger.lines(file).iter().any(|(_, line)| begins(line))
}

pub(super) fn read(file: usize, table: &mut Table, ledger: &mut Ledger) {
    for (at, line) in ledger.lines(file) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["IP", "Virtual", ..] | ["Prot", ..] | ["->", "RemoteAddress:Port", ..] => {
                ledger.needless(at, "a heading");
            }
            [protocol @ ("TCP" | "UDP" | "SCTP" | "FWM"), place, rest @ ..] => {
                service(protocol, place, rest, at, table, ledger);
            }
            ["->", place, rest @ ..] => server(place, rest, at, table, ledger),
            _ => ledger.lost(at, "this is no line of `ipvsadm -L -n`"),
        }
    }
}

fn service(protocol: &str, place: &str, rest: &[&str], at: At, table: &mut Table, ledger: &mut Ledger) {
    let protocol = match protocol {
        "TCP" => 't',
        "UDP" => 'u',
        "FWM" => 'f',
        _ => '4',
    };
    let mut options = Options::default();
    let mut rest = rest.iter().copied().peekable();
    rest.next_if(|word| *word == "IPv6");
    options.scheduler = rest.next().map(str::to_owned);
    while let Some(word) = rest.next() {
        match word {
            "persistent" => options.persistence = rest.next().map(str::to_owned),
            "mask" => options.mask = rest.next().map(str::to_owned),
            "pe" => options.engine = rest.next().map(str::to_owned),
            "ops" => options.ops = true,
            flags if flags.starts_with('(') => {
                options.flags = Some(flags.trim_matches(['(', ')']).to_owned());
            }
            other => ledger.lost(at, format!("{other:?} is nothing that ipvsadm says of a service")),
        }
    }
    let key = Key { protocol, place: place.to_owned() };
    table.services.push(Service { key, options, from: vec![at], servers: Vec::new() });
}

fn server(place: &str, rest: &[&str], at: At, table: &mut Table, ledger: &mut Ledger) {
    let Some(service) = table.services.last_mut() else {
        ledger.lost(at, "a server without a service");
        return;
    };
    let method = match rest.first().copied() {
        Some("Route" | "Local") => "direct",
        Some("Tunnel") => "ipip",
        Some("Masq") => "masq",
        _ => {
            ledger.lost(at, "expected Route, Tunnel, Masq or Local: list by `ipvsadm -L -n`");
            return;
        }
    };
    if rest.first() == Some(&"Local") {
        ledger.changed(at, "a server whose address is the director's own is served by its host");
    }
    let options = Options {
        forward: Some(method),
        weight: rest.get(1).map(|weight| (*weight).to_owned()),
        ..Options::default()
    };
    service.servers.push((place.to_owned(), options, vec![at]));
}
