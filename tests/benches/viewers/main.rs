//! What viewers of the page cost the director: its processor time while they fetch the page each
//! second, beside that without them.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use lb_lab::cluster::{self, Talk};
use lb_lab::lab::{Director, unique_name};
use lb_lab::origin;
use lb_lab::statistics::{median, round_to};
use lb_lab::viewers::cost;
use serde_json::json;

/// What viewers of the page cost the director.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench viewers")]
struct Options {
    /// Print JSON instead of a line.
    #[arg(long)]
    json: bool,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    viewers: u16,
    /// How long they look in each round.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// The median of so many rounds counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Cargo adds this to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Of a processor, in percent, for a hundred viewers together: less than that.
const GOAL: f64 = 2.0;

fn main() -> Result<()> {
    let Options { json, viewers, seconds, rounds, .. } = Options::parse();
    let talk = Talk::new(&unique_name("viewers"))?;
    let disabled = talk.lab.state().folder().join("disabled");
    let configuration =
        format!("{}\nmaintenance_dir: {}\nweb: on\n", cluster::configuration()?, disabled.display());
    let director = Director::start(&talk.ha1, &configuration)?;
    let looked_at = Duration::from_secs(seconds.into());
    let mut shares = Vec::new();
    for round in 1..=rounds {
        let alone = cost(&director, 0, looked_at)?;
        let viewed = cost(&director, viewers.into(), looked_at)?;
        let [alone, viewed] =
            [alone, viewed].map(|cost| 100.0 * cost.as_secs_f64() / looked_at.as_secs_f64());
        eprintln!("round {round} of {rounds}: {viewed:.2} % of a processor, {alone:.2} % without viewers");
        shares.push((viewed - alone).max(0.0));
    }
    let share = median(shares);
    // The goal is that of a hundred.
    let goal = GOAL * f64::from(viewers) / 100.0;
    let met = share < goal;
    if json {
        let found = json!({
            "viewers": viewers, "seconds": seconds, "rounds": rounds, "share_percent": round_to(share, 2),
            "goal_percent": goal, "met": met,
        });
        println!("{}", origin::json(&json!({ "viewers": found }))?);
    } else {
        let verdict = if met { "met" } else { "missed" };
        println!("{viewers} viewers: {share:.2} % of a processor; goal under {goal} %: {verdict}");
    }
    ensure!(met, "the goal was missed");
    Ok(())
}
