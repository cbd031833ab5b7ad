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
use serde::Serialize;

use super::output::{json_line, print};
use crate::controller::{masq, placement, sources};
use crate::device;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file, such as /etc/lb/lb.yaml; what it includes is checked with it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print mistakes and warnings as a JSON object, for programs
    #[arg(long)]
    json: bool,
}

/// Something in a configuration, as programs get it.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
struct Advice {
    text: String,
    mend: String,
}

#[derive(Debug, Serialize)]
struct Checked {
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
        config.interfaces().collect::<Vec<_>>().join(", "),
        count(servers, "server")
    );
    told += &told_of;
    for Advice { text, mend } in advice {
        let _ = writeln!(told, "warning: {text}; {mend}");
    }
    told.extend(config.groups.iter().filter_map(|group| anycast(&config, group)));
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
    let all = found.into_iter().chain(of_interface);
    Ok(all.map(|Finding { text, mend, .. }| Advice { text, mend }).collect())
}

/// What is left to the operator of a group that every director serves.
fn anycast(config: &Config, group: &Group) -> Option<String> {
    let Anycast { device, .. } = group.anycast()?;
    let vips: Vec<String> = group.vips.iter().map(|vip| vip.address.to_string()).collect();
    let mut told = format!(
        "group {}: a routing daemon on each director announces {} while {device} has {}, see deploy/routing\n",
        group.name,
        vips.join(", "),
        if vips.len() == 1 { "it" } else { "them" }
    );
    let in_group = |service: &&Service| group.vips.iter().any(|vip| vip.address == service.key.vip);
    let keeps = |service: &&Service| service.scheduler == Scheduler::Mh && service.stray == Stray::Hash;
    let unkept = config.services.iter().filter(in_group).find(|service| !keeps(service));
    if let Some(service) = unkept
        && config.cluster.as_ref().is_some_and(|cluster| cluster.sync.is_none())
    {
        let _ = writeln!(
            told,
            "warning: {}: connections break when routers send them to another director; set `sync: on`, or \
             `scheduler: mh` with `stray: hash`, by which all directors pick alike",
            service.name
        );
    }
    Some(told)
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
