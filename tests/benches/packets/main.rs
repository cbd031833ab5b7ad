//! What a packet costs: the real program and floor programs under BPF_PROG_TEST_RUN, pinned to one
//! core and taking turns.
//!
//! - [`cases`]: what is timed, by name
//! - [`methods`]: known connections by method and family, and picks
//! - [`frames`]: the packets; [`outcome`]: what must have become of them
//! - [`bed`]: the loaded programs, their services, and one timed run
//! - [`live`]: packets per second through a veth pair
//! - [`report`]: medians, goals, table and JSON

mod bed;
mod cases;
mod frames;
mod live;
mod methods;
mod outcome;
mod report;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;

/// What a packet costs, in nanoseconds and as a ratio to the floors.
#[derive(Debug, Parser)]
struct Options {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How often every case is timed; the median counts.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only cases whose names contain this, and the floors; `live` is a case, too. May be given
    /// several times.
    #[arg(long)]
    only: Vec<String>,
    /// Cargo adds this to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(nix::unistd::geteuid().is_root(), "the benchmark loads XDP programs, which takes root");
    // A network namespace of our own, gone with the process: the veth pair of the live part needs
    // no clean-up.
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    let mut bed = bed::Bed::new(pin()?)?;
    let mut times = report::Times::default();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        cases::round(&mut bed, &options, round, &mut times)?;
    }
    let live = if options.wants("live") { live::measure(&mut bed, options.rounds)? } else { Vec::new() };
    report::Report::new(&times, live).print(options.json)
}

/// Binds this thread to the last core it may run on: interrupts like to go to the first. Returns
/// the one before it.
fn pin() -> Result<Option<CpuSet>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("cannot ask for the allowed cores")?;
    let mut cores = (0..CpuSet::count()).rev().filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let alone = |cpu: usize| {
        let mut set = CpuSet::new();
        set.set(cpu).map(|()| set).context("a core's number")
    };
    let last = alone(cores.next().context("no core may be used")?)?;
    let before = cores.next().map(alone).transpose()?;
    sched_setaffinity(Pid::from_raw(0), &last).context("cannot bind to one core")?;
    Ok(before)
}
