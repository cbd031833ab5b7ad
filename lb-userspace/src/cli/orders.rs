//! `lb failover`, `lb failback`, `lb standby`, `lb resume`, `lb maintenance`: what operators want done in the cluster.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::observe::socket::{self, Request};
use crate::observe::view::{ClusterStatus, Move};

/// How long a group may take to arrive where it goes.
const ARRIVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct Options {
    /// Control socket of the running lb
    #[arg(long, value_name = "PATH", default_value = socket::DEFAULT_PATH)]
    socket: PathBuf,
}

#[derive(Debug, Args)]
pub struct GroupOptions {
    /// The group's name; without it, all that it concerns
    group: Option<String>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
pub struct MaintenanceOptions {
    #[arg(value_enum)]
    switch: Switch,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub fn failover(GroupOptions { group, options }: GroupOptions) -> Result<()> {
    give(&options.socket, &Request::Failover { group })
}

pub fn failback(GroupOptions { group, options }: GroupOptions) -> Result<()> {
    give(&options.socket, &Request::Failback { group })
}

pub fn standby(options: &Options) -> Result<()> {
    give(&options.socket, &Request::Standby)?;
    println!("standby: this node stays out until `lb resume` or a restart");
    Ok(())
}

pub fn resume(options: &Options) -> Result<()> {
    give(&options.socket, &Request::Resume)?;
    println!("resumed: this node takes groups again as soon as it is ready");
    Ok(())
}

pub fn maintenance(MaintenanceOptions { switch, options }: &MaintenanceOptions) -> Result<()> {
    let on = *switch == Switch::On;
    give(&options.socket, &Request::Maintenance { on })?;
    println!(
        "{}",
        match on {
            true => "maintenance on: this node stays out, over restarts too, until `lb maintenance off`",
            false => "maintenance off: this node takes groups again as soon as it is ready",
        }
    );
    Ok(())
}

/// Gives the order and waits until the groups that it moves have arrived.
fn give(socket: &Path, order: &Request) -> Result<()> {
    let start = Instant::now();
    let mut moves = socket::request_order(socket, order)?;
    while !moves.is_empty() {
        let status = socket::request_status(socket)?;
        let cluster = status.cluster.as_ref();
        moves.retain(|under_way| match cluster.and_then(|cluster| arrived(cluster, under_way)) {
            Some(at) => {
                println!(
                    "{}: {} -> {at}, {} ms",
                    under_way.group,
                    under_way.from,
                    start.elapsed().as_millis()
                );
                false
            }
            None => true,
        });
        if start.elapsed() > ARRIVAL && !moves.is_empty() {
            let groups: Vec<&str> = moves.iter().map(|under_way| &*under_way.group).collect();
            bail!("{} taken by no node within {} s: see `lb events`", groups.join(", "), ARRIVAL.as_secs());
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn arrived<'a>(cluster: &'a ClusterStatus, under_way: &Move) -> Option<&'a str> {
    let group = cluster.groups.iter().find(|group| group.name == under_way.group)?;
    group.holder.as_deref().filter(|holder| *holder != under_way.from)
}
