//! `lb check`: what is wrong with a configuration file, or what it says.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lb_api::findings::Finding;
use lb_model::{Anycast, Config, Group, Scheduler, Service, Stray};
use lb_net::links::Links;

use super::output::print;
use crate::controller::{masq, placement, sources};
use crate::device;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file, such as /etc/lb/lb.yaml
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(options: Options) -> Result<()> {
    let config = lb_config::load(&options.file)?;
    let servers: usize = config.services.iter().map(|service| service.servers.len()).sum();
    let mut told = format!(
        "{}: ok, {} on {} with {}\n",
        options.file.display(),
        count(config.services.len(), "service"),
        config.interfaces().collect::<Vec<_>>().join(", "),
        count(servers, "server")
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Without the right to ask the kernel there is nothing to tell of the interface.
    let links = runtime.block_on(Links::look()).unwrap_or_default();
    let of_interface = device::findings(&config, &links, device::offloads);
    let found = [sources::findings(&config), placement::findings(&config), masq::findings(&config)].concat();
    for Finding { text, mend, .. } in found.into_iter().chain(of_interface) {
        let _ = writeln!(told, "warning: {text}; {mend}");
    }
    told.extend(config.groups.iter().filter_map(|group| anycast(&config, group)));
    print(&told)
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
