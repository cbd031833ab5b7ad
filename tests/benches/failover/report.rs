//! Median and worst gap of each case, the goals, and all of it as a table or as JSON.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use lb_lab::origin;
use lb_lab::scenario::open_loop::Outage;
use lb_lab::statistics::{median, round_to};
use serde::Serialize;
use serde_json::json;

/// What a case must reach: issue 3, point 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    NothingFails,
    /// In the worst run.
    GapAtMost(Duration),
}

impl Goal {
    fn is_met(self, failed_requests: usize, gap_ms_worst: f64) -> bool {
        match self {
            Self::NothingFails => failed_requests == 0,
            Self::GapAtMost(limit) => gap_ms_worst <= limit.as_secs_f64() * 1e3,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingFails => f.write_str("no failed request"),
            Self::GapAtMost(limit) => write!(f, "worst gap at most {} ms", limit.as_millis()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Case {
    name: &'static str,
    gap_ms_median: f64,
    gap_ms_worst: f64,
    /// Of each run.
    gaps_ms: Vec<f64>,
    /// Of all runs together.
    failed_requests: usize,
    runs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Verdict>,
}

/// A goal, and whether all runs of its case met it.
#[derive(Debug, Serialize)]
struct Verdict {
    words: String,
    met: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.words, if self.met { "met" } else { "missed" })
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    cases: Vec<Case>,
}

impl Report {
    /// A case without any run is left out.
    pub(crate) fn add(&mut self, name: &'static str, goal: Option<Goal>, outages: &[Outage]) {
        let gaps: Vec<f64> = outages.iter().map(Outage::gap_ms).collect();
        let Some(worst) = gaps.iter().copied().max_by(f64::total_cmp) else { return };
        let failed_requests = outages.iter().map(Outage::failed).sum();
        let judged =
            |goal: Goal| Verdict { words: goal.to_string(), met: goal.is_met(failed_requests, worst) };
        self.cases.push(Case {
            name,
            gaps_ms: gaps.iter().map(|gap| round_to(*gap, 1)).collect(),
            gap_ms_median: round_to(median(gaps), 1),
            gap_ms_worst: round_to(worst, 1),
            failed_requests,
            runs: outages.len(),
            goal: goal.map(judged),
        });
    }

    /// The names of the cases that missed their goals.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let missed = |case: &&Case| case.goal.as_ref().is_some_and(|goal| !goal.met);
        self.cases.iter().filter(missed).map(|case| case.name).collect()
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", origin::json(self)?);
        } else {
            self.print_table();
        }
        Ok(())
    }

    fn print_table(&self) {
        println!("{:<20}{:>12}{:>11}{:>8}{:>6}  goal", "case", "median ms", "worst ms", "failed", "runs");
        for case in &self.cases {
            let goal = case.goal.as_ref().map_or_else(String::new, |goal| format!("  {goal}"));
            println!(
                "{:<20}{:>12.1}{:>11.1}{:>8}{:>6}{goal}",
                case.name, case.gap_ms_median, case.gap_ms_worst, case.failed_requests, case.runs
            );
        }
    }
}

/// Take-overs on a busy machine, of which there should be none.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    pub minutes: u64,
    pub false_take_overs: usize,
}

impl Load {
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        let Self { minutes, false_take_overs } = self;
        if json {
            println!("{}", serde_json::to_string_pretty(&json!({ "load": self }))?);
        } else {
            let verdict = if *false_take_overs == 0 { "met" } else { "missed" };
            println!("load: {false_take_overs} false take-overs in {minutes} minutes; goal none: {verdict}");
        }
        Ok(())
    }
}
