//! The command line: one file per subcommand.

mod check;
mod events;
mod orders;
mod output;
mod probe;
mod run;
mod servers;
mod status;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A layer-4 load balancer on eBPF/XDP: direct routing, as LVS does it, without a kernel module.
#[derive(Debug, Parser)]
#[command(name = "lb", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the director in the foreground
    Run(run::Options),
    /// Check a configuration file and say what is wrong with it
    Check(check::Options),
    /// Show the running director's services and servers
    Status(status::Options),
    /// Make the checks of a service's servers at once, and show each step
    Probe(probe::Options),
    /// Keep a server out: no new connections, over restarts too, until `lb enable`
    Disable(servers::DisableOptions),
    /// Let a server back in
    Enable(servers::EnableOptions),
    /// Show what happened: who, what, why, how long it took
    Events(events::Options),
    /// Give a group, or all that are here, to the next node
    Failover(orders::GroupOptions),
    /// Give a group, or all that are not there, to its preferred node
    Failback(orders::GroupOptions),
    /// Give everything here to the other nodes and stay out until `lb resume` or a restart
    Standby(orders::StandbyOptions),
    /// Be ready to take groups again after `lb standby`
    Resume(output::Director),
    /// Stay out, over restarts too, until maintenance is off
    Maintenance(orders::MaintenanceOptions),
}

/// The program.
pub fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(options) => run::run(options),
        Command::Check(options) => check::run(options),
        Command::Status(options) => status::run(options),
        Command::Probe(options) => probe::run(options),
        Command::Disable(options) => servers::disable(options),
        Command::Enable(options) => servers::enable(options),
        Command::Events(options) => events::run(options),
        Command::Failover(options) => orders::failover(options),
        Command::Failback(options) => orders::failback(options),
        Command::Standby(options) => orders::standby(&options),
        Command::Resume(options) => orders::resume(&options),
        Command::Maintenance(options) => orders::maintenance(&options),
    }
}
