//! `cargo xtask chaos`: faults of every kind, drawn from a seed, while clients check every byte.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use clap::Args;
use lb_lab::chaos;
use lb_lab::lab::{director, unique_name};

use crate::setup::{self, Scope};
use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Minutes until no more faults begin.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Repeats the faults of a run that printed this seed; default: a new one.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(Scope::Chaos)?;
    // Another build may be under test, as with tests that are run by hand.
    let other_build = match std::env::var_os("LB_BINARY") {
        Some(_) => None,
        None => {
            workspace::build_lb()?;
            // For upgrades.
            Some(workspace::build_lb_for_debugging()?)
        }
    };
    println!("chaos on {}", director::binary()?.display());
    let seed = options.seed.unwrap_or_else(new_seed);
    println!("seed {seed}");
    let start = Instant::now();
    let mut tell = |text: &str| println!("[{:7.1} s] {text}", start.elapsed().as_secs_f64());
    let lasts = Duration::from_secs(60 * options.minutes);
    let options = chaos::Options { lasts, seed, name: unique_name("chaos"), other_build };
    let report = chaos::run(&options, &mut tell)?;
    print!("{report}");
    ensure!(report.passed(), "chaos found something: `cargo xtask chaos --seed {seed}` repeats it");
    Ok(())
}

/// By the clock: short enough to be typed.
fn new_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs() % 1_000_000)
}
