//! `cargo xtask bench`: what a packet costs, what clients notice of a take-over, what health checks cost, and what a restart
//! costs open connections.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::setup::{self, Scope};
use crate::workspace;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    benchmark: Option<Benchmark>,
    #[command(flatten)]
    packets: Packets,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Nanoseconds per packet, next to floor programs of the same run; what is measured unless told otherwise.
    Packets(Packets),
    /// The gap that clients see when a director fails or hands over. `--help` lists its options.
    #[command(disable_help_flag = true)]
    Failover(HandedOn),
    /// What health checks cost with 5,000 servers, and how soon servers that hang are out. `--help` lists its options.
    #[command(disable_help_flag = true)]
    Checks(HandedOn),
    /// What a restart, a crash, an upgrade and another table size cost the connections there are. `--help` lists its
    /// options.
    #[command(disable_help_flag = true)]
    Resilience(HandedOn),
}

#[derive(Debug, Args)]
struct Packets {
    /// Print JSON, and nothing but JSON, on standard output.
    #[arg(long)]
    json: bool,
    /// Handed on to the benchmark.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct HandedOn {
    /// Handed on to the benchmark.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(Options { benchmark, packets }: &Options) -> Result<()> {
    match benchmark {
        None => run_packets(packets),
        Some(Benchmark::Packets(packets)) => run_packets(packets),
        Some(Benchmark::Failover(HandedOn { args })) => {
            measure("failover", beside(args, "--with-keepalived", Scope::Keepalived), args)
        }
        Some(Benchmark::Checks(HandedOn { args })) => {
            measure("checks", beside(args, "--with-ldirectord", Scope::Ldirectord), args)
        }
        Some(Benchmark::Resilience(HandedOn { args })) => {
            // The build that the case `upgrade` changes to.
            setup::ensure(Scope::Lab)?;
            let other = workspace::build_lb_for_debugging()?;
            let other = ["--other-build".to_owned(), other.display().to_string()];
            measure("resilience", Scope::Lab, other.iter().chain(args))
        }
    }
}

fn run_packets(Packets { json, args }: &Packets) -> Result<()> {
    let json = json.then(|| "--json".to_owned());
    measure("packets", Scope::Lab, json.iter().chain(args))
}

/// What a benchmark needs that is asked by `option` to measure something else as well.
fn beside(args: &[String], option: &str, comparison: Scope) -> Scope {
    if args.iter().any(|argument| argument == option) { comparison } else { Scope::Lab }
}

fn measure<'a>(name: &str, scope: Scope, args: impl IntoIterator<Item = &'a String>) -> Result<()> {
    setup::ensure(scope)?;
    // Cargo and we ourselves talk on standard error, so standard output is the benchmark's alone.
    let lb = workspace::build_lb()?;
    let mut command = workspace::cargo();
    command.env("LB_BINARY", lb).args(["bench", "--package", "lb-tests", "--bench", name, "--"]);
    workspace::run("the benchmark", command.args(args))
}
