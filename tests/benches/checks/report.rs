//! The figures of each case, the goals, and all of it as a listing or as JSON.

use std::time::Duration;

use anyhow::Result;
use lb_lab::origin;
use lb_lab::statistics::round_to;
use serde::Serialize;

use crate::director::{INTERVAL, TIMEOUT};
use crate::meter::Use;

/// What a server may take longer to be out than an interval and a time-out.
const DETECTION_SLACK: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize)]
pub(crate) struct Case {
    name: &'static str,
    servers: usize,
    /// From the moment when servers begin to hang until the last of them is out.
    detection_ms_worst: u128,
    checks_per_s_per_core: f64,
    /// Of one core, while all servers answer.
    cpu_share: f64,
    /// Checks that servers have answered in that time.
    checks_per_s: f64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    scale: Option<Scale>,
    #[serde(skip)]
    has_goals: bool,
}

/// What only shows with thousands of servers.
#[derive(Debug, Serialize)]
pub(crate) struct Scale {
    /// From the start of `lb` until something was known of every server, of those that hang too.
    pub full_verdict_ms: u128,
    pub while_all_answer: Punctuality,
    pub while_some_hang: Punctuality,
    /// File descriptors of `lb` soon after servers have begun to hang, and later on.
    pub open_files: [usize; 2],
    pub cpu_share_of_two_servers: f64,
}

/// What servers that hang may delay the checks of others by.
const DELAY: Duration = Duration::from_millis(10);

/// Whether checks come when they are due, over some seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Punctuality {
    pub probes: u64,
    /// Of these, more than 10 ms after they were due, by `lb`'s own count.
    pub late: u64,
    /// Between two checks of a server that answers, by that server's log. `lb` moves starts by up
    /// to a fiftieth of the interval, and the web server, which logs an answer when it has given
    /// it, takes its time too.
    pub longest_gap_ms: u128,
}

impl Case {
    pub(crate) fn new(name: &'static str, servers: usize, worst: Duration, steady: Use) -> Self {
        Self {
            name,
            servers,
            detection_ms_worst: worst.as_millis(),
            checks_per_s_per_core: round_to(steady.checks_per_s_per_core(), 0),
            cpu_share: round_to(steady.cpu_share, 3),
            checks_per_s: round_to(steady.checks_per_s, 0),
            scale: None,
            has_goals: false,
        }
    }

    pub(crate) fn with_goals(self) -> Self {
        Self { has_goals: true, ..self }
    }

    pub(crate) fn with_scale(self, scale: Scale) -> Self {
        Self { scale: Some(scale), ..self }
    }

    /// What must be so, and whether it is.
    fn goals(&self) -> Vec<(String, bool)> {
        let mut goals = Vec::new();
        if !self.has_goals {
            return goals;
        }
        let detection = (INTERVAL + TIMEOUT + DETECTION_SLACK).as_millis();
        goals.push((format!("all out within {detection} ms"), self.detection_ms_worst <= detection));
        if let Some(scale) = &self.scale {
            let verdict = (INTERVAL + TIMEOUT).as_millis();
            let gap = (INTERVAL + INTERVAL / 50 + DELAY).as_millis();
            goals.extend([
                ("less than half a core".to_owned(), self.cpu_share < 0.5),
                (format!("a verdict on every server within {verdict} ms"), scale.full_verdict_ms <= verdict),
                (
                    "no probe more than 10 ms late while others hang".to_owned(),
                    scale.while_some_hang.late == 0 && scale.while_some_hang.longest_gap_ms <= gap,
                ),
                ("idle with two servers".to_owned(), scale.cpu_share_of_two_servers < 0.02),
            ]);
        }
        goals
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    cases: Vec<Case>,
}

impl Report {
    pub(crate) fn add(&mut self, case: Case) {
        self.cases.push(case);
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", origin::json(self)?);
        } else {
            self.print_listing();
        }
        Ok(())
    }

    fn print_listing(&self) {
        println!(
            "{:<16}{:>8}{:>14}{:>10}{:>12}{:>18}",
            "case", "servers", "worst out ms", "checks/s", "core's part", "checks/s a core"
        );
        for case in &self.cases {
            println!(
                "{:<16}{:>8}{:>14}{:>10.0}{:>12.3}{:>18.0}",
                case.name,
                case.servers,
                case.detection_ms_worst,
                case.checks_per_s,
                case.cpu_share,
                case.checks_per_s_per_core
            );
            if let Some(scale) = &case.scale {
                let [before, after] = scale.open_files;
                println!("    a verdict on every server after {} ms", scale.full_verdict_ms);
                for (when, checks) in
                    [("all answer", &scale.while_all_answer), ("some hang", &scale.while_some_hang)]
                {
                    let Punctuality { probes, late, longest_gap_ms } = checks;
                    println!(
                        "    while {when}: {late} of {probes} probes late; at most {longest_gap_ms} ms between two of a server"
                    );
                }
                println!("    {before} files open when servers begin to hang, {after} later on");
                println!("    {:.3} of a core with two servers", scale.cpu_share_of_two_servers);
            }
            for (goal, is_met) in case.goals() {
                println!("    goal {goal}: {}", if is_met { "met" } else { "missed" });
            }
        }
    }
}
