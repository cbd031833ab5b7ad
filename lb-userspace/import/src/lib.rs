//! Configurations of ldirectord, Heartbeat, keepalived and ipvsadm as our YAML.
//!
//! Pure: texts in, YAML and a report out; files that the source names are asked for by a function
//! of the caller. Each reader (`ldirectord`, `heartbeat`, `keepalived`, `ipvsadm`) builds a `tree`
//! whose nodes know their lines of the source, and gives each line its fate in the `ledger`.
//! `settle` takes out what `lb check` would refuse, and puts the source's comments where they
//! belong.

mod heartbeat;
mod hosts;
mod ipvsadm;
mod keepalived;
mod keywords;
mod ldirectord;
mod ledger;
mod mail;
mod parts;
mod report;
mod settle;
mod tree;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use keywords::{Keyword, Verdict, keywords};
pub use report::{Entry, Fate, Report};

use ledger::Ledger;
use parts::Parts;

/// The program whose configuration is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original {
    Ldirectord,
    Heartbeat,
    Keepalived,
    Ipvsadm,
}

impl Original {
    pub const ALL: [Self; 4] = [Self::Ldirectord, Self::Heartbeat, Self::Keepalived, Self::Ipvsadm];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ldirectord => "ldirectord",
            Self::Heartbeat => "heartbeat",
            Self::Keepalived => "keepalived",
            Self::Ipvsadm => "ipvsadm",
        }
    }
}

/// A file of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalFile {
    /// As the report calls it.
    pub name: String,
    /// The node that it is from, if that is known.
    pub node: Option<String>,
    pub text: String,
}

/// What the source's files do not say.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The interface that clients' packets come in by, which wins over those of the source.
    pub interface: Option<String>,
    /// The text of a hosts file, for names in the source.
    pub hosts: String,
    /// Addresses of nodes.
    pub addresses: Vec<(String, IpAddr)>,
    /// What firewall marks stand for: `ADDRESS:PORTS` as a service's `vip`.
    pub marks: Vec<(u32, String)>,
    /// keepalived's `--config-id`, for lines that begin with `@`.
    pub config_id: Option<String>,
    /// This host's name: the node whose name it is needs no `node`.
    pub host: String,
}

/// Finds the files that the source names: from a path or pattern and the name of the file that it
/// stands in. The error tells why there is none.
pub type Find<'a> = dyn FnMut(&str, &str) -> Result<Vec<OriginalFile>, String> + 'a;

/// What an import gives.
#[derive(Debug)]
pub struct Imported {
    pub yaml: String,
    pub report: Report,
    /// What is still wrong with the YAML. `None`: `lb check` accepts it.
    pub wrong: Option<String>,
}

/// Imports `files`, which belong together.
pub fn import(source: Original, files: &[OriginalFile], known: &Known, find: &mut Find<'_>) -> Imported {
    let mut ledger = Ledger::default();
    let mut parts = Parts::new(known);
    let numbers: Vec<usize> = files.iter().map(|file| ledger.add(file)).collect();
    match source {
        Original::Ldirectord => {
            numbers.into_iter().for_each(|file| ldirectord::read(file, &mut ledger, &mut parts, find));
        }
        Original::Heartbeat => heartbeat::read(&numbers, &mut ledger, &mut parts, find),
        Original::Keepalived => keepalived::read(&numbers, &mut ledger, &mut parts, find),
        Original::Ipvsadm => ipvsadm::read(&numbers, &mut ledger, &mut parts),
    }
    let head = format!("Imported by `lb import {}` from {}.", source.name(), names(&ledger).join(", "));
    let (mut root, host) = parts.finish(&mut ledger);
    let settled = settle::settle(&mut root, &mut ledger, &host);
    ledger.close();
    let below = settle::place_remarks(&mut root, &ledger);
    let yaml = match &root.value {
        tree::Value::Map(map) => tree::write(map, &[head], &below).text,
        _ => String::new(),
    };
    let checked = settled.and_then(|()| lb_config::parse_on(&yaml, "imported", &host).map(drop));
    Imported { yaml, report: ledger.report(), wrong: checked.err().map(|error| error.to_string()) }
}

fn names(ledger: &Ledger) -> Vec<String> {
    (0..ledger.count()).map(|file| ledger.name(file).to_owned()).collect()
}
