//! `lb failover`, `lb failback`, `lb standby`, `lb resume`, `lb maintenance`: what operators want
//! done in the cluster.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use lb_api::client;
use lb_api::status::{Accepted, ClusterStatus, Move};
use lb_api::wire::Request;

use super::output::{Director, print};

/// How long a group may take to arrive where it goes.
const ARRIVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct GroupOptions {
    /// Name of the group, as `lb status` shows it; all groups if left out
    group: Option<String>,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Args)]
pub(super) struct StandbyOptions {
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Args)]
pub(super) struct MaintenanceOptions {
    #[arg(value_enum)]
    switch: Switch,
    #[command(flatten)]
    force: Force,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Args)]
struct Force {
    /// Do it even if no other director is ready: then nobody has the VIPs
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub(super) fn failover(GroupOptions { group, director }: GroupOptions) -> Result<()> {
    give(&director.socket, &Request::Failover { group }).map(drop)
}

pub(super) fn failback(GroupOptions { group, director }: GroupOptions) -> Result<()> {
    give(&director.socket, &Request::Failback { group }).map(drop)
}

pub(super) fn standby(StandbyOptions { force, director }: &StandbyOptions) -> Result<()> {
    give(&director.socket, &Request::Standby { force: force.force })?;
    print("standby: this node stays out until `lb resume` or a restart\n")
}

pub(super) fn resume(director: &Director) -> Result<()> {
    let note = give(&director.socket, &Request::Resume)?;
    print(&format!("resumed: {}\n", note.as_deref().unwrap_or(BACK)))
}

pub(super) fn maintenance(MaintenanceOptions { switch, force, director }: &MaintenanceOptions) -> Result<()> {
    let on = *switch == Switch::On;
    let note = give(&director.socket, &Request::Maintenance { on, force: force.force })?;
    let what = match on {
        true => "on: this node stays out, over restarts too, until `lb maintenance off`".to_owned(),
        false => format!("off: {}", note.as_deref().unwrap_or(BACK)),
    };
    print(&format!("maintenance {what}\n"))
}

const BACK: &str = "this node takes groups again as soon as it is ready";

/// Gives the order and waits until the groups that it moves have arrived. Returns the director's
/// note.
fn give(socket: &Path, order: &Request) -> Result<Option<String>> {
    let start = Instant::now();
    let Accepted { mut moves, note } = client::request_order(socket, order)?;
    while !moves.is_empty() {
        let status = client::request_status(socket)?;
        let cluster = status.cluster.as_ref();
        let mut arrivals = String::new();
        moves.retain(|under_way| match cluster.and_then(|cluster| arrived(cluster, under_way)) {
            Some(at) => {
                let took = start.elapsed().as_millis();
                arrivals += &format!("{}: {} -> {at}, {took} ms\n", under_way.group, under_way.from);
                false
            }
            None => true,
        });
        print(&arrivals)?;
        if start.elapsed() > ARRIVAL && !moves.is_empty() {
            let groups: Vec<&str> = moves.iter().map(|under_way| &*under_way.group).collect();
            bail!("{} taken by no node within {} s: see `lb events`", groups.join(", "), ARRIVAL.as_secs());
        }
        sleep(Duration::from_millis(10));
    }
    Ok(note)
}

fn arrived<'a>(cluster: &'a ClusterStatus, under_way: &Move) -> Option<&'a str> {
    let group = cluster.groups.iter().find(|group| group.name == under_way.group)?;
    group.holder.as_deref().filter(|holder| *holder != under_way.from)
}
