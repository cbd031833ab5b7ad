//! What connections lose when the process of a director ends and another one begins, alone and in a
//! cluster: thousands of TCP connections that check every byte, and a datagram each millisecond.
//! And how long the next `lb` takes to start.

mod cases;
mod sync;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use lb_lab::scenario::steady;
use serde::Serialize;
use serde_json::json;

use self::cases::{CASES, Run};
use self::sync::Sync;

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
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(names()))]
    only: Vec<String>,
    /// The build that the case `upgrade` changes to.
    #[arg(long, value_name = "FILE")]
    other_build: Option<PathBuf>,
    /// Be the server of a node, which this program starts for itself.
    #[arg(long, hide = true, value_name = "VIP:PORT")]
    echo: Option<SocketAddrV4>,
    /// Cargo adds this to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The case of connections that two directors know.
const SYNC: &str = "sync";

/// From one block of a connection to its next.
const PACE: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct Case {
    name: &'static str,
    connections: u64,
    /// Reset, without an answer for 15 s, or with other bytes than were sent.
    lost: u64,
    /// The share of requests over new connections that got their answer, where the case makes any.
    #[serde(skip_serializing_if = "Option::is_none")]
    honest_ok_share: Option<f64>,
    /// Of a flow of one datagram each millisecond.
    packets_lost: u64,
    /// The longest time without an answer to a datagram.
    gap_ms_worst: f64,
    /// What the next `lb` found in the table.
    entries: u64,
    /// From the start of its process to its first answer.
    start_ms: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(vip) = options.echo {
        return steady::echo_here(vip);
    }
    let is_wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let mut cases = Vec::new();
    for (name, case) in CASES.into_iter().filter(|(name, _)| is_wanted(name)) {
        eprintln!("{name} …");
        cases.push(case(Run { name, options: &options }).with_context(|| format!("the case {name}"))?);
    }
    let sync = is_wanted(SYNC).then(|| {
        eprintln!("{SYNC} …");
        sync::measure(&Run { name: SYNC, options: &options }).with_context(|| format!("the case {SYNC}"))
    });
    let sync = sync.transpose()?;
    if options.json {
        let lines = cases.iter().map(serde_json::to_value).chain(sync.iter().map(serde_json::to_value));
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        println!("{}", serde_json::to_string_pretty(&json!({ "resilience": lines }))?);
        return Ok(());
    }
    if !cases.is_empty() {
        show(&cases);
    }
    if let Some(sync) = sync {
        let cells = |cells: [&str; 6]| cells.map(|cell| format!("{cell:>14}")).concat();
        println!("\n{SYNC:<6}{}", cells(Sync::HEAD));
        println!("{:<6}{}", "", cells(sync.row().each_ref().map(String::as_str)));
    }
    Ok(())
}

fn show(cases: &[Case]) {
    println!(
        "{:<16}{:>12}{:>8}{:>9}{:>14}{:>15}{:>12}{:>11}",
        "case", "connections", "lost", "honest", "packets lost", "worst gap, ms", "entries", "start, ms"
    );
    for Case { name, connections, lost, honest_ok_share, packets_lost, gap_ms_worst, entries, start_ms } in
        cases
    {
        let honest = honest_ok_share.map_or_else(String::new, |share| format!("{share:.4}"));
        println!(
            "{name:<16}{connections:>12}{lost:>8}{honest:>9}{packets_lost:>14}{gap_ms_worst:>15.1}{entries:>12}{start_ms:>11.0}"
        );
    }
}

fn names() -> Vec<&'static str> {
    CASES.iter().map(|(name, _)| *name).chain([SYNC]).collect()
}
