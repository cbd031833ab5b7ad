//! What health checks cost with thousands of servers, and how soon servers that hang are taken out.
//!
//! - [`director`]: `lb` with the crowd of servers
//! - [`ldirectord`]: the same servers under ldirectord, which checks one after the other
//! - [`detection`]: when each of the servers that hang is told of
//! - [`meter`]: processor time, and checks that servers have answered
//! - [`report`]: figures, goals, table and JSON

mod detection;
mod director;
mod ldirectord;
mod meter;
mod report;

use std::process::Command;

use anyhow::{Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use lb_lab::lab::shell;

use report::{Case, Report};

/// Health checks: their cost with 5,000 servers, and the time until servers that hang are out.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench checks")]
struct Options {
    /// Print JSON instead of a listing.
    #[arg(long)]
    json: bool,
    /// How often servers of `hanging-200` begin to hang; the worst counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only the case of this name. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(CASES))]
    only: Vec<String>,
    /// Install ldirectord first, if it is missing. Without it, its case is left out.
    #[arg(long)]
    with_ldirectord: bool,
    /// Have lb, the servers and this program go before all others: on a machine that does something
    /// else meanwhile, what comes late would be the machine's fault.
    #[arg(long)]
    realtime: bool,
    /// Cargo adds this to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

const SCALE: &str = "scale-5000";
const HANGING: &str = "hanging-200";
const LDIRECTORD: &str = "ldirectord-200";
const CASES: [&str; 3] = [SCALE, HANGING, LDIRECTORD];

impl Options {
    fn wants(&self, case: &str) -> bool {
        if !self.only.is_empty() {
            return self.only.iter().any(|name| name == case);
        }
        let possible = case != LDIRECTORD || ldirectord::is_installed();
        if !possible {
            eprintln!("{case}: left out, ldirectord is not installed (--with-ldirectord does it)");
        }
        possible
    }

    fn play(&self, case: &'static str) -> Result<Case> {
        match case {
            SCALE => director::scale(case),
            HANGING => director::hanging(case, self.runs),
            _ => ldirectord::hanging(case),
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.realtime {
        // Whatever is started from here on inherits it.
        let me = std::process::id().to_string();
        shell::run(Command::new("chrt").args(["--rr", "--pid", "5", &me]))?;
    }
    let mut report = Report::default();
    let mut broken_off = Vec::new();
    for case in CASES.into_iter().filter(|case| options.wants(case)) {
        match options.play(case) {
            Ok(played) => report.add(played),
            Err(error) => {
                eprintln!("{case} broke off: {error:#}");
                broken_off.push(case);
            }
        }
    }
    report.print(options.json)?;
    ensure!(broken_off.is_empty(), "not all cases could be played: {}", broken_off.join(", "));
    Ok(())
}
