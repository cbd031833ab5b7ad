//! What the connections of a director that is alone lose when its process ends and another one begins: thousands of TCP
//! connections that check every byte, and a datagram each millisecond.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use lb_lab::scenario::alone::{Alone, BOTH, SERVICE};
use lb_lab::scenario::steady::{self, Outcome};
use serde::Serialize;
use serde_json::json;

/// What a restart, a crash, an upgrade and another table size cost the connections there are.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench resilience")]
struct Options {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// TCP connections that are open meanwhile.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Only the case of this name. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(CASES.map(|(name, _)| name)))]
    only: Vec<String>,
    /// The build that the case `upgrade` changes to.
    #[arg(long, value_name = "FILE")]
    other_build: Option<PathBuf>,
    /// Be the server of a node, which this program starts for itself.
    #[arg(long, hide = true)]
    echo: bool,
    /// Cargo adds this to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

/// From one block of a connection to its next.
const PACE: Duration = Duration::from_secs(2);

type Play = fn(&mut Alone, &Options) -> Result<()>;

const CASES: [(&str, Play); 4] =
    [("restart", restart), ("crash", crash), ("upgrade", upgrade), ("resize", resize)];

/// Entries that the table has room for.
const TABLE: u32 = 50_000;
/// And after the case `resize`.
const LARGER: u32 = 200_000;

fn restart(alone: &mut Alone, _: &Options) -> Result<()> {
    alone.director.stop()?;
    alone.director.restart()
}

fn crash(alone: &mut Alone, _: &Options) -> Result<()> {
    alone.director.kill()?;
    alone.director.restart()
}

fn upgrade(alone: &mut Alone, options: &Options) -> Result<()> {
    let other = options.other_build.as_deref();
    let other = other.context("--other-build is missing; `cargo xtask bench resilience` gives it")?;
    alone.director.stop()?;
    alone.director.restart_as(other)
}

fn resize(alone: &mut Alone, _: &Options) -> Result<()> {
    alone.director.stop()?;
    alone.reconfigure(LARGER, BOTH)?;
    alone.director.restart()
}

#[derive(Debug, Serialize)]
struct Case {
    name: &'static str,
    connections: u64,
    /// Reset, without an answer for 15 s, or with other bytes than were sent.
    lost: u64,
    /// Of a flow of one datagram each millisecond.
    packets_lost: u64,
    /// The longest time without an answer to a datagram.
    gap_ms_worst: f64,
}

fn play(name: &'static str, case: Play, options: &Options) -> Result<Case> {
    let this = std::env::current_exe()?;
    let this = this.to_str().context("the path of the benchmark is not UTF-8")?;
    let mut alone = Alone::start_with(&format!("bench{name}"), TABLE, |server| {
        server.start("echo", this, &["--echo"]).map(drop)
    })?;
    let clients = alone.clients(options.connections as usize, PACE)?;
    case(&mut alone, options)?;
    alone.wait_until_served()?;
    alone.has_taken_over(if name == "resize" { LARGER.into() } else { TABLE.into() })?;
    // Each connection speaks at least once more afterwards.
    let Outcome { connections, lost, wrong, blocks, datagrams_lost, gap } = clients.finish();
    ensure!(blocks >= 2 * connections, "the connections did not go on: {blocks} blocks of {connections}");
    let gap_ms_worst = (gap.as_secs_f64() * 1e4).round() / 10.0;
    Ok(Case { name, connections, lost: lost + wrong, packets_lost: datagrams_lost, gap_ms_worst })
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.echo {
        return steady::echo_here(SERVICE);
    }
    let mut cases = Vec::new();
    for (name, case) in CASES {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            eprintln!("{name} …");
            cases.push(play(name, case, &options).with_context(|| format!("the case {name}"))?);
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&json!({ "resilience": cases }))?);
        return Ok(());
    }
    println!("{:<10}{:>12}{:>8}{:>14}{:>15}", "case", "connections", "lost", "packets lost", "worst gap, ms");
    for Case { name, connections, lost, packets_lost, gap_ms_worst } in &cases {
        println!("{name:<10}{connections:>12}{lost:>8}{packets_lost:>14}{gap_ms_worst:>15.1}");
    }
    Ok(())
}
