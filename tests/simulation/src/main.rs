//! `cargo xtask simulate`.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use lb_simulation::figures::Size;
use lb_simulation::measure::simulate;
use lb_simulation::plan::Plan;
use lb_simulation::report;
use serde_json::json;

/// What connection synchronisation costs with few directors and with many: the engine of the
/// product in simulated time.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask simulate")]
struct Options {
    /// Sizes of the cluster. More than 256 are calculated from 256.
    #[arg(long, value_delimiter = ',', default_value = "3,30,300", value_name = "N,…")]
    directors: Vec<usize>,
    /// Rates of new connections a second at each director; default: those of 4, 40, … 40,000 that
    /// take a minute or two.
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    new_per_s: Option<Vec<u32>>,
    /// Connections of each director that stay.
    #[arg(long, default_value_t = 40, value_name = "N")]
    connections: u32,
    /// Simulated seconds for which each rate is measured; digests are told every ten.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Percent of datagrams that get lost.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    loss: f64,
    /// The same seed gives the same figures, but for processor time.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let Options { directors, new_per_s, connections, seconds, loss, seed, json } = Options::parse();
    ensure!(directors.iter().all(|number| *number >= 2), "synchronisation takes two directors or more");
    ensure!((0.0..100.0).contains(&loss), "--loss takes a percentage from 0 to below 100, not {loss}");
    let threads = available_parallelism().map_or(1, NonZero::get);
    let measured = Duration::from_secs(seconds);
    let plan = Plan { rates: new_per_s, measured, connections, loss, seed, threads };
    let begun = Instant::now();
    let mut say = |text: &str| eprintln!("[{:6.1} s] {text}", begun.elapsed().as_secs_f64());
    let sizes: Vec<Size> = directors.iter().map(|number| simulate(*number, &plan, &mut say)).collect();
    if json {
        let found = json!({ "seed": seed, "loss_percent": loss, "sizes": sizes });
        println!("{}", serde_json::to_string_pretty(&json!({ "simulation": found }))?);
    } else {
        print!("{}", report::text(&sizes));
    }
    Ok(())
}
