//! `lb check`: what is wrong with a configuration, or what it says.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use lb_api::findings::Finding;
use lb_api::schema;
use lb_config::{ConfigError, Files, Mistake};
use lb_model::{Anycast, Config, Group, Scheduler, Service, Stray};
use lb_net::links::Links;
use schemars::JsonSchema;
use serde::Serialize;

use super::output::{json_line, print};
use crate::controller::{masq, placement, sources};
use crate::device;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file, such as /etc/lb/lb.yaml; what it includes is checked with it.
    /// `${env:NAME}` stands for variables of this command's environment, not of the director's
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print mistakes and warnings as a JSON object, for programs
    #[arg(long)]
    json: bool,
}

/// Something in a configuration, as programs get it.
#[derive(Debug, Serialize, JsonSchema)]
struct Place {
    file: String,
    /// Counted from 1.
    line: usize,
    /// In characters, counted from 1.
    column: usize,
    message: String,
}

impl From<Mistake> for Place {
    fn from(Mistake { file, line, column, message, source_line: _ }: Mistake) -> Self {
        Self { file, line, column, message }
    }
}

/// A warning about what the configuration says and this machine is, which stands in no line.
#[derive(Debug, Serialize, JsonSchema)]
struct Advice {
    text: String,
    mend: String,
}

/// Whether the configuration is valid, with its mistakes and warnings.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Checked {
    valid: bool,
    mistakes: Vec<Place>,
    warnings: Vec<Place>,
    advice: Vec<Advice>,
}

pub(super) fn run(Options { file, json }: Options) -> Result<()> {
    let mut files = Files::open(&file)?;
    let read = files.config();
    let warnings = files.warnings();
    let told_of: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    let config = match read {
        Ok(config) => config,
        Err(error) if json => return refused(&error, warnings),
        Err(error) => {
            print(&told_of)?;
            return Err(error.into());
        }
    };
    let advice = advice(&config)?;
    if json {
        let warnings = warnings.into_iter().map(Place::from).collect();
        let checked = Checked { valid: true, mistakes: Vec::new(), warnings, advice };
        return print(&json_line(schema::CHECK, &checked)?);
    }
    let servers: usize = config.services.iter().map(|service| service.servers.len()).sum();
    let mut told = format!(
        "{}: ok, {} on {} with {}\n",
        file.display(),
        count(config.services.len(), "service"),
        config.ingresses().join(", "),
        count(servers, "server")
    );
    told += &told_of;
    for Advice { text, mend } in advice {
        let _ = writeln!(told, "warning: {text}; {mend}");
    }
    told.extend(config.groups.iter().filter_map(anycast));
    print(&told)
}

/// The mistakes as JSON: the exit code says the same.
fn refused(error: &ConfigError, warnings: Vec<Mistake>) -> Result<()> {
    let mistakes: Vec<Place> = error.mistakes().iter().cloned().map(Place::from).collect();
    let number = mistakes.len();
    let warnings = warnings.into_iter().map(Place::from).collect();
    let checked = Checked { valid: false, mistakes, warnings, advice: Vec::new() };
    print(&json_line(schema::CHECK, &checked)?)?;
    match number {
        1 => bail!("one mistake was found"),
        number => bail!("{number} mistakes were found"),
    }
}

fn advice(config: &Config) -> Result<Vec<Advice>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Without the right to ask the kernel there is nothing to tell of the interface.
    let links = runtime.block_on(Links::look()).unwrap_or_default();
    let of_interface = device::findings(config, &links, device::offloads);
    let found = [sources::findings(config), placement::findings(config), masq::findings(config)].concat();
    let all = found.into_iter().chain(masq::astray(config)).chain(of_interface);
    let all = all.map(|Finding { text, mend, .. }| Advice { text, mend });
    let breaks = config.groups.iter().filter_map(|group| breaks_connections(config, group));
    Ok(all.chain(breaks).collect())
}

/// A service of a group that every director serves, whose directors do not agree on a connection's
/// server.
fn breaks_connections(config: &Config, group: &Group) -> Option<Advice> {
    group.anycast()?;
    if config.cluster.as_ref().is_none_or(|cluster| cluster.sync.is_some()) {
        return None;
    }
    let in_group = |service: &&Service| group.vips.iter().any(|vip| vip.address == service.key.vip);
    let keeps = |service: &&Service| service.scheduler == Scheduler::Mh && service.stray == Stray::Hash;
    let service = config.services.iter().filter(in_group).find(|service| !keeps(service))?;
    let text = format!("{}: connections break when routers send them to another director", service.name);
    let mend = "set `sync: on`, or `scheduler: mh` with `stray: hash`, by which all directors pick alike";
    Some(Advice { text, mend: mend.to_owned() })
}

/// What is left to the operator of a group that every director serves.
fn anycast(group: &Group) -> Option<String> {
    let Anycast { device, .. } = group.anycast()?;
    let vips: Vec<String> = group.vips.iter().map(|vip| vip.address.to_string()).collect();
    Some(format!(
        "group {}: a routing daemon on each director announces {} while {device} has {}, see deploy/routing\n",
        group.name,
        vips.join(", "),
        if vips.len() == 1 { "it" } else { "them" }
    ))
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_connections_of_an_anycast_group_is_advice() {
        let advice = |cluster: &str, service: &str| {
            let text = format!(
                "interface: lo\ngroups: [{{ name: dns, kind: anycast, vips: [192.0.2.53] }}]\ncluster:\n  node: a\n  \
                 nodes: [{{ name: a, address: 192.0.2.1 }}, {{ name: b, address: 192.0.2.2 }}]\n  \
                 paths: [{{ type: unicast }}]\n{cluster}services:\n  - name: names\n    vip: 192.0.2.53:53\n{service}    \
                 servers: [{{ address: 192.0.2.21 }}]\n"
            );
            let config = lb_config::parse(&text, "test.yaml").unwrap_or_else(|error| panic!("{error}"));
            let advice = config.groups.iter().filter_map(|group| breaks_connections(&config, group));
            advice.map(|Advice { text, .. }| text).collect::<Vec<_>>()
        };
        let breaks = "names: connections break when routers send them to another director";
        assert_eq!(advice("  sync: off\n", ""), [breaks]);
        assert_eq!(advice("", ""), [""; 0], "the directors tell each other of connections");
        assert_eq!(advice("  sync: off\n", "    scheduler: mh\n    stray: hash\n"), [""; 0]);
    }
}
