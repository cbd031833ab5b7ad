//! What clients notice when a director fails, hands over or returns: a client in the lab asks every
//! millisecond and sees a gap.
//!
//! - [`directors`]: `lb` on ha1 and ha2, and what happens to ha1
//! - [`keepalived`]: the same lab with keepalived
//! - [`load`]: false take-overs on a machine that is too busy
//! - [`report`]: median and worst gap, goals, table and JSON

mod directors;
mod keepalived;
mod load;
mod report;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use lb_lab::cluster::pair::Settings;
use lb_lab::scenario::open_loop::Outage;

use directors::Directors;
use keepalived::Keepalived;
use report::{Goal, Report};

/// The gap that clients see when a director fails or hands over, and the requests that fail.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench failover")]
struct Options {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How often every case is played; the median and the worst count.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only the case of this name. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(CASES.map(|case| case.name)))]
    only: Vec<String>,
    /// Install keepalived first, if it is missing. Without it, its cases are left out.
    #[arg(long)]
    with_keepalived: bool,
    /// Plays the cases while twice as many busy loops as there are cores want the processor, too.
    #[arg(long, conflicts_with = "load")]
    busy: bool,
    /// Instead of the cases: keep all cores busy for so long, and count take-overs that nobody
    /// needed.
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "10")]
    load: Option<u32>,
    /// Cargo adds this to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Something that can happen to the active director.
#[derive(Debug)]
struct Case {
    name: &'static str,
    played_on: Bed,
    goal: Option<Goal>,
}

#[derive(Debug)]
enum Bed {
    /// `lb`, with these settings; the function plays one run.
    Directors(Settings, fn(&mut Directors) -> Result<Outage>),
    /// keepalived at this `advert_int`, killed.
    Keepalived(Duration),
}

/// Dead time and 50 ms more, at the defaults: issue 3, point 9.
const CRASH: Option<Goal> = Some(Goal::GapAtMost(Duration::from_millis(250)));
const FAST_CRASH: Option<Goal> = Some(Goal::GapAtMost(Duration::from_millis(70)));
/// Also where both are active for a while: what the one does not know it relays to the other.
const PLANNED: Option<Goal> = Some(Goal::NothingFails);

const CASES: [Case; 11] = [
    Case { name: "kill", played_on: Bed::Directors(Settings::DEFAULT, Directors::kill), goal: CRASH },
    Case {
        name: "link-down",
        played_on: Bed::Directors(Settings::DEFAULT, Directors::link_down),
        goal: CRASH,
    },
    Case {
        name: "link-back",
        played_on: Bed::Directors(Settings::DEFAULT, Directors::link_back),
        goal: PLANNED,
    },
    Case { name: "cut", played_on: Bed::Directors(Settings::DEFAULT, Directors::cut), goal: PLANNED },
    Case { name: "healed", played_on: Bed::Directors(Settings::DEFAULT, Directors::healed), goal: PLANNED },
    Case { name: "frozen", played_on: Bed::Directors(Settings::DEFAULT, Directors::freeze), goal: CRASH },
    Case {
        name: "hand-over",
        played_on: Bed::Directors(Settings::DEFAULT, Directors::hand_over),
        goal: PLANNED,
    },
    Case {
        name: "failback",
        played_on: Bed::Directors(Settings::DEFAULT, Directors::fail_back),
        goal: PLANNED,
    },
    Case { name: "kill-fast", played_on: Bed::Directors(Settings::FAST, Directors::kill), goal: FAST_CRASH },
    Case { name: "keepalived-default", played_on: Bed::Keepalived(Duration::from_secs(1)), goal: None },
    Case { name: "keepalived-fast", played_on: Bed::Keepalived(Duration::from_millis(10)), goal: None },
];

impl Options {
    fn wants(&self, case: &Case) -> bool {
        if !self.only.is_empty() {
            return self.only.iter().any(|name| name == case.name);
        }
        let possible = !matches!(case.played_on, Bed::Keepalived(_)) || keepalived::is_installed();
        if !possible {
            eprintln!("{}: left out, keepalived is not installed (--with-keepalived does it)", case.name);
        }
        possible
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(minutes) = options.load {
        return load::measure(Duration::from_secs(60 * u64::from(minutes)))?.print(options.json);
    }
    if options.busy { load::under_load(|| measure(&options)) } else { measure(&options) }
}

/// Plays the cases and prints what was measured.
///
/// # Errors
/// After the report: cases that could not be played to their end, and goals that were missed.
fn measure(options: &Options) -> Result<()> {
    let mut report = Report::default();
    let mut broken_off = Vec::new();
    for case in CASES.iter().filter(|case| options.wants(case)) {
        let mut outages = Vec::new();
        if let Err(error) = play(case, options.runs, &mut outages) {
            eprintln!("{} broke off: {error:#}", case.name);
            broken_off.push(case.name);
        }
        report.add(case.name, case.goal, &outages);
    }
    report.print(options.json)?;
    ensure!(broken_off.is_empty(), "not all runs could be played: {}", broken_off.join(", "));
    let missed = report.missed();
    ensure!(missed.is_empty(), "goals were missed: {}", missed.join(", "));
    Ok(())
}

/// Adds the outage of each run to `outages`.
fn play(case: &Case, runs: u32, outages: &mut Vec<Outage>) -> Result<()> {
    match case.played_on {
        Bed::Directors(settings, play) => {
            let mut directors = Directors::start(settings)?;
            repeat(case.name, runs, outages, || {
                let outage = play(&mut directors).with_context(|| directors.shown())?;
                if outage.failed() > 0 {
                    eprintln!("{}", directors.shown());
                }
                Ok(outage)
            })
        }
        Bed::Keepalived(interval) => {
            let mut keepalived = Keepalived::start(interval)?;
            eprintln!("{}: {}", case.name, keepalived.who_answers_after_a_crash()?);
            repeat(case.name, runs, outages, || keepalived.kill())
        }
    }
}

/// A client that did not get the processor for so long is worth a word: the gap may be longer by
/// that.
const NOTABLE_STALL: Duration = Duration::from_millis(10);

fn repeat(
    name: &str,
    runs: u32,
    outages: &mut Vec<Outage>,
    mut play: impl FnMut() -> Result<Outage>,
) -> Result<()> {
    for run in 1..=runs {
        let outage = play().with_context(|| format!("run {run}"))?;
        let stall = outage.stall;
        let note = if stall < NOTABLE_STALL {
            String::new()
        } else {
            format!("; the client itself stood still for {} ms", stall.as_millis())
        };
        eprintln!("{name}, run {run} of {runs}: {outage}{note}");
        outages.push(outage);
    }
    Ok(())
}
