//! What connections lose when something happens to a director that has them: it ends and begins
//! again, its machine is gone, it is flooded or reloaded. Thousands of TCP connections check every
//! byte, a datagram goes each millisecond, and clients connect meanwhile.
//!
//! - [`cases`]: what happens to the directors; `cases/plan.rs` lists all of it
//! - [`sync`]: what it costs that two directors know the same connections
//! - [`takeover`]: what a take-over costs while many connections begin
//! - [`opener`]: connections that begin at a rate, in the director's own program
//! - [`report`]: figures, goals, table and JSON

mod cases;
mod opener;
mod report;
mod sync;
mod takeover;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use lb_lab::scenario::methods::Method;
use lb_lab::scenario::steady;

use cases::{CASES, Run};
use report::Report;

/// What restarts, kills, take-overs, floods and reloads cost the connections there are.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench resilience")]
struct Options {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// TCP connections that are open meanwhile. Fewer make a quick try; `sync` has its own.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Only the case of this name. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(names()))]
    only: Vec<String>,
    /// How packets get to the servers in take-overs and `return`. May be given several times;
    /// without it, these cases are played by each method, one after the other.
    #[arg(long, value_name = "METHOD", value_parser = PossibleValuesParser::new(methods()))]
    method: Vec<String>,
    /// The build that the case `upgrade` changes to.
    #[arg(long, value_name = "FILE")]
    other_build: Option<PathBuf>,
    /// Be the server of a node, which this program starts for itself.
    #[arg(long, hide = true, value_name = "ADDRESS:PORT")]
    echo: Option<SocketAddrV4>,
    /// Cargo adds this to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

/// From one block of a connection to its next.
const PACE: Duration = Duration::from_secs(2);

impl Options {
    fn runs(&self) -> Vec<Run<'_>> {
        let mut runs = Vec::new();
        for plan in CASES.iter().filter(|plan| is_wanted(&self.only, plan.name)) {
            let methods = plan.methods.iter().copied();
            let wanted =
                methods.filter(|method| !plan.is_by_method() || is_wanted(&self.method, method.name()));
            runs.extend(wanted.map(|method| Run { plan, options: self, method }));
        }
        runs
    }
}

/// Whether the name is one of the chosen ones, or nothing was chosen.
fn is_wanted(chosen: &[String], name: &str) -> bool {
    chosen.is_empty() || chosen.iter().any(|one| one == name)
}

fn names() -> Vec<&'static str> {
    CASES.iter().map(|plan| plan.name).collect()
}

fn methods() -> [&'static str; 3] {
    Method::ALL.map(Method::name)
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(address) = options.echo {
        return steady::echo_here(address);
    }
    let runs = options.runs();
    let minutes = runs.iter().map(|run| run.plan.seconds).sum::<u64>().div_ceil(60);
    eprintln!("{} connections; about {minutes} min in all", options.connections);
    let (mut report, mut broken_off) = (Report::default(), Vec::new());
    for run in &runs {
        eprintln!("{run}: {}; about {} s", run.plan.does, run.plan.seconds);
        let begun = Instant::now();
        match (run.plan.play)(run) {
            Ok(figures) => report.add(figures),
            Err(error) => {
                eprintln!("  broke off: {error:#}");
                broken_off.push(run.to_string());
            }
        }
        eprintln!("  took {:.0} s", begun.elapsed().as_secs_f64());
    }
    report.print(options.json)?;
    ensure!(broken_off.is_empty(), "not all cases could be played: {}", broken_off.join("; "));
    let missed = report.missed();
    ensure!(missed.is_empty(), "goals were missed: {}", missed.join("; "));
    Ok(())
}
