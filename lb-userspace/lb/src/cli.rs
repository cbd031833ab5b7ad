//! The command line: one file per subcommand.

mod capture;
mod check;
mod doctor;
mod events;
mod orders;
mod output;
mod probe;
mod realserver;
mod run;
mod servers;
mod status;
mod stop;
mod top;
mod trace;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A layer-4 load balancer on eBPF/XDP: direct routing, as LVS does it, without a kernel module.
#[derive(Debug, Parser)]
#[command(name = "lb", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
A director forwards what comes for a virtual IP address (VIP) to the real servers of its service. Begin with:
  lb check /etc/lb/lb.yaml     is the configuration right?
  lb run                       the director, in the foreground; systemd runs it as a service
  lb status                    services, servers, connections, and what is wrong, if anything is
All commands but `run` and `check` ask the director that runs on this machine, by its control socket.
Exit codes: 0 done, 1 failed, 2 wrong use, 3 no director runs.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the director in the foreground, until SIGTERM or Ctrl-C; SIGHUP reloads the
    /// configuration
    Run(run::Options),
    /// Stop the director: a director alone leaves its program forwarding, for the next `lb run` to
    /// go on with; with --release nothing is left
    Stop(stop::Options),
    /// Check a configuration file: every mistake with its line and column
    Check(check::Options),
    /// Look over this machine, a director or a real server: what is right and wrong, with the mend
    Doctor(doctor::Options),
    /// Show the services, their servers and connections, the cluster, and what is wrong
    Status(status::Options),
    /// Show services, servers, events and the cluster live, with rates; disable, enable and probe
    /// servers
    Top(top::Options),
    /// Make the health checks of a service's servers now, and show each step with its time
    Probe(probe::Options),
    /// Give a real server no new connections until `lb enable`, also after a restart of lb
    Disable(servers::DisableOptions),
    /// Give a real server new connections again after `lb disable`
    Enable(servers::EnableOptions),
    /// Show what happened since the start: to servers, services and the cluster, and why
    Events(events::Options),
    /// Show live what is decided for each packet: to which server it goes and why, or why it is
    /// refused
    Trace(trace::Options),
    /// Write packets as they came in and as they went out to a file for tcpdump, tshark or
    /// Wireshark, each with what was decided as a comment
    Capture(capture::Options),
    /// Move a group of VIPs from this director to the next one of the cluster
    Failover(orders::GroupOptions),
    /// Move a group of VIPs back to its preferred director
    Failback(orders::GroupOptions),
    /// Move all groups from this director to others; it takes none until `lb resume` or a restart
    Standby(orders::StandbyOptions),
    /// End `lb standby`: this director may take groups again
    Resume(output::Director),
    /// Like standby, but also after a restart: `maintenance on`, then `maintenance off`
    Maintenance(orders::MaintenanceOptions),
    /// On a real server: take the VIPs to the loopback interface, and check that all is as it must
    /// be
    Realserver(realserver::Options),
}

/// The program.
pub(crate) fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(options) => run::run(options),
        Command::Stop(options) => stop::run(&options),
        Command::Check(options) => check::run(options),
        Command::Doctor(options) => doctor::run(options),
        Command::Status(options) => status::run(options),
        Command::Top(options) => top::run(options),
        Command::Probe(options) => probe::run(options),
        Command::Disable(options) => servers::disable(options),
        Command::Enable(options) => servers::enable(options),
        Command::Events(options) => events::run(options),
        Command::Trace(options) => trace::run(options),
        Command::Capture(options) => capture::run(options),
        Command::Failover(options) => orders::failover(options),
        Command::Failback(options) => orders::failback(options),
        Command::Standby(options) => orders::standby(&options),
        Command::Resume(options) => orders::resume(&options),
        Command::Maintenance(options) => orders::maintenance(&options),
        Command::Realserver(options) => realserver::run(&options),
    }
}
