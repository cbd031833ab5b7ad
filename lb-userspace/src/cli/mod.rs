//! The command line: one file per subcommand.

mod check;
mod run;
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
}

/// The program.
pub fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(options) => run::run(options),
        Command::Check(options) => check::run(options),
        Command::Status(options) => status::run(options),
    }
}
