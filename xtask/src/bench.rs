//! `cargo xtask bench`: the cost of a packet, the outage of a take-over, the cost of health checks,
//! the effect of restarts, take-overs and floods on open connections, how long a scrape takes, and
//! what viewers of the page cost.

mod figures;
mod plot;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::setup::{self, Scope};
use crate::workspace;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    benchmark: Option<Benchmark>,
    /// Instead draw these reports, which --json has written: SVG beside them.
    #[arg(long, value_name = "REPORT", num_args = 1.., conflicts_with_all = ["json", "args"])]
    plot: Vec<PathBuf>,
    /// Instead put these reports, which --json has written, into docs/plots as they are and as
    /// pictures, and into docs/performance.md as tables.
    #[arg(long, value_name = "REPORT", num_args = 1.., conflicts_with_all = ["json", "args", "plot"])]
    document: Vec<PathBuf>,
    #[command(flatten)]
    packets: Packets,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Nanoseconds per packet, with floor programs of the same run for comparison. The default.
    Packets(Packets),
    /// The outage that clients see when a director fails or hands over. `--help` lists its options.
    #[command(disable_help_flag = true)]
    Failover(HandedOn),
    /// The cost of health checks with 5,000 servers, and how soon hanging servers are out. `--help`
    /// lists its options.
    #[command(disable_help_flag = true)]
    Checks(HandedOn),
    /// The effect of restarts, take-overs, floods and reloads on open connections. `--help` lists
    /// its options.
    #[command(disable_help_flag = true)]
    Resilience(HandedOn),
    /// How long a scrape of the metrics takes with 10,000 servers. `--help` lists its options.
    #[command(disable_help_flag = true)]
    Scrape(HandedOn),
    /// What a hundred viewers of the page cost the director. `--help` lists its options.
    #[command(disable_help_flag = true)]
    Viewers(HandedOn),
}

#[derive(Debug, Args)]
struct Packets {
    /// Print only JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Arguments for the benchmark.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct HandedOn {
    /// Arguments for the benchmark.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(Options { benchmark, plot, document, packets }: &Options) -> Result<()> {
    if !document.is_empty() {
        return figures::document(document);
    }
    if !plot.is_empty() {
        return plot::draw(plot);
    }
    match benchmark {
        None => run_packets(packets),
        Some(Benchmark::Packets(packets)) => run_packets(packets),
        Some(Benchmark::Failover(HandedOn { args })) => {
            measure("failover", beside(args, "--with-keepalived", Scope::Keepalived), args)
        }
        Some(Benchmark::Checks(HandedOn { args })) => {
            measure("checks", beside(args, "--with-ldirectord", Scope::Ldirectord), args)
        }
        Some(Benchmark::Scrape(HandedOn { args })) => measure("scrape", Scope::Lab, args),
        Some(Benchmark::Viewers(HandedOn { args })) => measure("viewers", Scope::Lab, args),
        Some(Benchmark::Resilience(HandedOn { args })) => {
            // The new build of the case `upgrade`.
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

/// The scope of a benchmark, which `option` extends by a comparison with other software.
fn beside(args: &[String], option: &str, comparison: Scope) -> Scope {
    if args.iter().any(|argument| argument == option) { comparison } else { Scope::Lab }
}

fn measure<'a>(name: &str, scope: Scope, args: impl IntoIterator<Item = &'a String>) -> Result<()> {
    setup::ensure(scope)?;
    // Cargo and xtask write to standard error, so standard output has only the benchmark's results.
    let lb = workspace::build_lb()?;
    let mut command = workspace::cargo();
    command.env("LB_BINARY", lb).args(["bench", "--package", "lb-tests", "--bench", name, "--"]);
    workspace::run("the benchmark", command.args(args))
}
