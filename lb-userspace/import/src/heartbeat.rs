//! Heartbeat: ha.cf, haresources and authkeys, which belong together, and the ldirectord.cf that
//! haresources names.

mod ha_cf;
mod haresources;

use std::net::IpAddr;

use crate::ldirectord;
use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::{Item, Map};
use crate::{Find, Original, keywords};

/// What a file is, by its name, or else by what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    HaCf,
    Haresources,
    Authkeys,
    Ldirectord,
    Hosts,
}

fn kind(file: usize, ledger: &Ledger) -> Kind {
    let name = ledger.name(file).rsplit('/').next().unwrap_or_default();
    for (part, kind) in [
        ("haresources", Kind::Haresources),
        ("authkeys", Kind::Authkeys),
        ("ldirectord", Kind::Ldirectord),
        ("ha.cf", Kind::HaCf),
    ] {
        if name.contains(part) {
            return kind;
        }
    }
    let lines = ledger.lines(file);
    let mut words = lines.iter().filter_map(|(_, line)| {
        let line = line.split('#').next()?.trim();
        (!line.is_empty()).then(|| line.split_whitespace().next().unwrap_or_default().to_owned())
    });
    if lines.iter().any(|(_, line)| line.trim_start().starts_with("virtual") && line.contains('=')) {
        return Kind::Ldirectord;
    }
    let Some(first) = words.next() else { return Kind::HaCf };
    let known = |word: &str| keywords::find(Original::Heartbeat, &["ha.cf"], word).is_some();
    if first == "auth" {
        Kind::Authkeys
    } else if first.parse::<IpAddr>().is_ok() {
        Kind::Hosts
    } else if known(&first) || words.any(|word| known(&word)) {
        Kind::HaCf
    } else {
        Kind::Haresources
    }
}

pub(crate) fn read(files: &[usize], ledger: &mut Ledger, parts: &mut Parts<'_>, find: &mut Find<'_>) {
    let kinds: Vec<(usize, Kind)> = files.iter().map(|file| (*file, kind(*file, ledger))).collect();
    let of = |wanted: Kind| kinds.iter().filter(move |(_, kind)| *kind == wanted).map(|(file, _)| *file);
    for file in of(Kind::Hosts) {
        hosts(file, ledger, parts);
    }
    for file in of(Kind::Authkeys) {
        authkeys(file, ledger);
    }
    let ha: Vec<usize> = of(Kind::HaCf).collect();
    let mut cluster = ha_cf::read(&ha, ledger, parts);
    // Given twice, by its name in haresources and by the caller, a file is read once.
    let given: Vec<usize> = of(Kind::Ldirectord).collect();
    for file in &given {
        ldirectord::read(*file, ledger, parts, find);
    }
    let mut resources: Vec<usize> = of(Kind::Haresources).collect();
    if let Some(first) = resources.first().copied() {
        haresources::read(first, &mut cluster, &given, ledger, parts, find);
        resources.remove(0);
    }
    for file in resources {
        for (at, line) in ledger.lines(file) {
            if line.trim_start().starts_with('#') {
                ledger.comment(at, &line.trim_start()[1..]);
            } else {
                ledger.needless(
                    at,
                    "haresources is the same on all nodes: another file of it is imported already",
                );
            }
        }
    }
    cluster.finish(ledger, parts);
}

/// A hosts file among the others.
fn hosts(file: usize, ledger: &mut Ledger, parts: &mut Parts<'_>) {
    let lines = ledger.lines(file);
    let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    let text = format!("{text}\n{}", parts.known.hosts);
    parts.hosts = crate::hosts::Hosts::new(&text);
    for (at, line) in lines {
        if line.trim_start().starts_with('#') {
            ledger.comment(at, &line.trim_start()[1..]);
        } else {
            ledger.needless(at, "a hosts file: it tells the addresses of names");
        }
    }
}

/// Keys are made anew: those of heartbeat are too weak, and known.
fn authkeys(file: usize, ledger: &mut Ledger) {
    for (at, line) in ledger.lines(file) {
        let text = line.trim();
        // Old keys stand in comments, too.
        let words: Vec<&str> = text.trim_start_matches(['#', ' ', '\t']).split_whitespace().collect();
        if let [number, "crc" | "md5" | "sha1", secret @ ..] = words.as_slice()
            && number.parse::<u8>().is_ok()
        {
            secret.iter().for_each(|secret| ledger.hide(at, secret));
        }
        let text =
            ledger.lines(file).get(at.line - 1).map(|(_, line)| line.trim().to_owned()).unwrap_or_default();
        if let Some(comment) = text.strip_prefix('#') {
            ledger.comment(at, comment);
        } else {
            let how = "`key_file`: make a new key, as told below; heartbeats are signed by HMAC-SHA-256, and no old secret \
                       is used again";
            ledger.changed(at, how);
        }
    }
}

/// A node with an address.
fn node(name: &str, address: IpAddr, at: At) -> Item {
    let mut map = Map::default();
    map.set("name", name, &[at]);
    map.set("address", address.to_string(), &[at]);
    Item::new(map, &[at])
}
