//! The command line: one file per subcommand.

mod alerts;
mod capture;
mod check;
mod config;
mod connections;
mod doctor;
mod documents;
mod events;
mod health;
mod import;
mod ipvsadm;
mod orders;
mod output;
#[cfg(test)]
mod over_http;
mod overlay;
mod probe;
mod realserver;
mod reload;
mod run;
mod servers;
mod shapes;
mod status;
mod stop;
mod top;
mod top_clients;
mod trace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

pub(crate) use self::output::Failure;

/// A layer-4 load balancer on eBPF/XDP, without a kernel module: VIPs, real servers and schedulers
/// as LVS has them
#[derive(Debug, Parser)]
#[command(name = "lb", version, after_help = AFTER_HELP)]
struct Cli {
    /// Do nothing: the exit code says whether the command line makes sense. For tests of documents.
    #[arg(long, hide = true)]
    parse_only: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
A director forwards what comes for a virtual IP address (VIP) to the real servers of its service. Begin with:
  lb check /etc/lb/lb.yaml     is the configuration right?
  lb run                       the director, in the foreground; systemd runs it as a service
  lb status                    services, servers, connections, and what is wrong, if anything is
All commands but `run`, `check`, `import`, `realserver`, `config`, `completions` and `man` ask the director that runs on this
machine, by its control socket; `doctor` and `stop --release` do without it where none runs.
Exit codes: 0 done, 1 failed or refused, 2 wrong use, 3 no director runs, 4 no permission; `lb health` has those of monitoring
plugins, `lb ipvsadm` those of ipvsadm.
Colours are for terminals; NO_COLOR=1 switches them off. LB_SOCKET names another control socket.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the director in the foreground, until SIGTERM or Ctrl-C; SIGHUP reloads the
    /// configuration
    Run(run::Options),
    /// Stop the director: a director alone leaves its program forwarding, for the next `lb run` to
    /// go on with; with --release nothing is left
    Stop(stop::Options),
    /// Check a configuration file and what it includes: every mistake with its line and column
    Check(check::Options),
    /// Look over this machine, a director or a real server: what is right and wrong, with the mend
    Doctor(doctor::Options),
    /// Write the configuration that does what one of ldirectord, Heartbeat, keepalived or ipvsadm
    /// did, and say what became of each of its lines
    Import(import::Options),
    /// Show the services, their servers and connections, the cluster, and what is wrong
    Status(status::Options),
    /// List the connections that the director knows, laid out as `ipvsadm -Lnc`
    Connections(connections::Options),
    /// Do what ipvsadm(8) does: print the table as it prints it, and change services and servers at
    /// run time. `lb` does so under the name `ipvsadm`, too
    Ipvsadm(ipvsadm::Options),
    /// Tell in one line whether all is well, for Nagios, Icinga and their like: OK, WARNING,
    /// CRITICAL or UNKNOWN with exit code 0, 1, 2 or 3
    Health(health::Options),
    /// Have the director read its configuration file now, and show what has changed
    Reload(reload::Options),
    /// Show what a reload would change
    Diff(reload::Options),
    /// Add a real server or a service at run time, over restarts too, until `lb overlay clear` or
    /// `lb save`
    Add(overlay::AddOptions),
    /// Remove a real server or a service at run time, in the same way
    Remove(overlay::RemoveOptions),
    /// Show or undo what was changed at run time
    Overlay(overlay::OverlayOptions),
    /// Write what was changed at run time into the configuration file; its comments stay
    Save(output::Director),
    /// Tell what the configuration file may have, and what commands print with --json
    Config(config::Options),
    /// Show services, servers, events, the cluster and connections live, with rates; drain, enable
    /// and probe servers
    Top(top::Options),
    /// Make the health checks of a service's servers now, and show each step with its time
    Probe(probe::Options),
    /// Give a real server no new connections until `lb enable`, on all directors of the cluster,
    /// over restarts and take-overs; the connections that it has go on
    #[command(visible_alias = "disable")]
    Drain(servers::DrainOptions),
    /// Give a real server new connections again after `lb drain`
    Enable(servers::EnableOptions),
    /// Give a real server another weight than the configured one, on all directors of the cluster
    Weight(servers::WeightOptions),
    /// Show what happened since the start: to servers, services and the cluster, and why
    Events(events::Options),
    /// Send a test message to receivers of alerts, and tell what came of it
    Alerts(alerts::Options),
    /// Show which clients have and open most connections, and whose packets are refused most
    TopClients(top_clients::Options),
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
    /// Print a script that completes commands and options for a shell
    Completions(documents::CompletionOptions),
    /// Print the manual page lb(8), or write all pages: one for each command, and lb.yaml(5)
    Man(documents::ManOptions),
}

/// The program.
pub(crate) fn main() -> Result<ExitCode> {
    if let Some(ended) = ipvsadm::by_name() {
        return ended;
    }
    let cli = Cli::try_parse().unwrap_or_else(|error| misused(&error));
    if cli.parse_only {
        return Ok(ExitCode::SUCCESS);
    }
    match cli.command {
        Command::Run(options) => run::run(options),
        Command::Stop(options) => stop::run(&options),
        Command::Check(options) => check::run(options),
        Command::Doctor(options) => doctor::run(options),
        Command::Import(options) => import::run(options),
        Command::Status(options) => status::run(&options),
        Command::Connections(options) => connections::run(options),
        Command::Ipvsadm(options) => return ipvsadm::run(options),
        Command::Health(options) => return Ok(health::run(&options)),
        Command::Reload(options) => reload::reload(&options),
        Command::Diff(options) => reload::diff(&options),
        Command::Add(options) => overlay::add(options),
        Command::Remove(options) => overlay::remove(options),
        Command::Overlay(options) => overlay::overlay(options),
        Command::Save(director) => overlay::save(&director),
        Command::Config(options) => config::run(&options),
        Command::Top(options) => top::run(options),
        Command::Probe(options) => probe::run(options),
        Command::Drain(options) => servers::drain(options),
        Command::Enable(options) => servers::enable(options),
        Command::Weight(options) => servers::weight(options),
        Command::Events(options) => events::run(&options),
        Command::Alerts(options) => alerts::run(options),
        Command::TopClients(options) => top_clients::run(options),
        Command::Trace(options) => trace::run(options),
        Command::Capture(options) => capture::run(options),
        Command::Failover(options) => orders::failover(options),
        Command::Failback(options) => orders::failback(options),
        Command::Standby(options) => orders::standby(&options),
        Command::Resume(options) => orders::resume(&options),
        Command::Maintenance(options) => orders::maintenance(&options),
        Command::Realserver(options) => realserver::run(&options),
        Command::Completions(options) => documents::completions(&options, Cli::command()),
        Command::Man(options) => documents::man(&options, Cli::command()),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Ends the program. A monitoring plugin has words and an exit code of its own for that.
fn misused(error: &clap::Error) -> ! {
    let plugin = std::env::args_os().nth(1).is_some_and(|command| command == "health");
    if plugin && error.use_stderr() {
        std::process::exit(health::misused(error));
    }
    error.exit()
}
