//! Medians of all rounds, the goals, and both as a table or as JSON.

use std::collections::BTreeMap;

use anyhow::Result;
use lb_lab::origin;
use lb_lab::statistics::{median, round_to};
use serde::Serialize;

use crate::bed::MILLION;

/// Nanoseconds by case, one of each round, in the order in which cases were first timed.
#[derive(Default)]
pub(crate) struct Times {
    order: Vec<(String, u64)>,
    times: BTreeMap<(String, u64), Vec<f64>>,
    /// By case: how much faster two CPUs were than one, one of each round.
    speed_ups: BTreeMap<&'static str, Vec<f64>>,
}

impl Times {
    pub(crate) fn add(&mut self, name: &str, flows: u64, ns: f64) {
        let case = (name.to_owned(), flows);
        let times = self.times.entry(case.clone()).or_default();
        if times.is_empty() {
            self.order.push(case);
        }
        times.push(ns);
    }

    pub(crate) fn add_speed_up(&mut self, name: &'static str, times: f64) {
        self.speed_ups.entry(name).or_default().push(times);
    }

    fn speed_ups(&self) -> impl Iterator<Item = Goal> {
        self.speed_ups.iter().map(|(name, times)| {
            let ratio = median(times.clone());
            Goal {
                name: format!("{name}, times one CPU, at least"),
                limit: SPEED_UP_LIMIT,
                ratio: round_to(ratio, 3),
                met: ratio >= SPEED_UP_LIMIT,
            }
        })
    }

    fn cases(&self) -> Vec<Case> {
        let case = |case: &(String, u64)| Case {
            name: case.0.clone(),
            flows: case.1,
            ns: round_to(median(self.times[case].clone()), 2),
        };
        let mut cases: Vec<Case> = self.order.iter().map(case).collect();
        // Kinds in the order they were first met, each by its number of connections.
        let names: Vec<String> = self.order.iter().map(|(name, _)| name.clone()).collect();
        cases.sort_by_key(|case| (names.iter().position(|name| *name == case.name), case.flows));
        cases
    }
}

#[derive(Debug, Serialize)]
struct Case {
    name: String,
    flows: u64,
    ns: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Live {
    pub name: String,
    pub pps: f64,
}

#[derive(Debug, Serialize)]
struct Goal {
    name: String,
    /// At most this for times, at least this for rates.
    limit: f64,
    ratio: f64,
    met: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    cases: Vec<Case>,
    live: Vec<Live>,
    goals: Vec<Goal>,
}

/// A case's name and its number of connections.
type Name = (&'static str, u64);

/// Case and connections, what it is held against and its connections, limit.
const GOALS: [(Name, Name, f64); 8] = [
    (("known-tcp", 1), ("floor-swap", 1), 1.4),
    (("known-tcp", MILLION), ("floor-lru", MILLION), 0.40),
    (("new-rr-16", MILLION), ("floor-lru-insert", MILLION), 0.6),
    (("new-rr-16-full", MILLION), ("floor-lru-insert", MILLION), 0.6),
    (("new-lc-256", MILLION), ("new-rr-256", MILLION), 1.3),
    (("new-wlc-256", MILLION), ("new-rr-256", MILLION), 1.3),
    (("new-wlc-4096", MILLION), ("new-rr-4096", MILLION), 1.6),
    (("not-ours", 1), ("floor-swap", 1), 1.3),
];
/// Known connections by method and family: at one flow beside a MAC swap, at a million beside a
/// kernel LRU hash with keys of the family.
const METHODS: [(&str, f64); 10] = [
    ("known-direct-v4", 1.4),
    ("known-direct-v6", 1.6),
    ("known-ipip-v4", 2.0),
    ("known-ipip-v6", 2.0),
    ("known-gue-v4", 2.2),
    ("known-gue-v6", 2.2),
    ("known-nat-v4", 2.2),
    ("known-nat-v6", 2.2),
    ("known-nat-v4-back", 2.2),
    ("known-nat-v6-back", 2.2),
];
const LRU_LIMIT_V4: f64 = 0.45;
const LRU_LIMIT_V6: f64 = 0.55;
/// Nanoseconds of a packet that opens a connection to one of [`crate::bed::PICK_SERVERS`] servers.
const PICK_LIMIT: f64 = 1000.0;
const LIVE_LIMIT: f64 = 0.8;
const SPEED_UP_LIMIT: f64 = 1.95;

impl Report {
    pub(crate) fn new(times: &Times, mut live: Vec<Live>) -> Self {
        let cases = times.cases();
        let mut goals: Vec<Goal> =
            GOALS.iter().filter_map(|(case, floor, limit)| goal(&cases, *case, *floor, *limit)).collect();
        goals.extend(METHODS.iter().flat_map(|(name, limit)| method_goals(&cases, name, *limit)));
        goals.extend(cases.iter().filter_map(pick_goal));
        goals.extend(times.speed_ups());
        goals.extend(live_goal(&live));
        for rate in &mut live {
            rate.pps = rate.pps.round();
        }
        Self { cases, live, goals }
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
        println!("{:<28}{:>9}{:>10}{:>9}{:>9}{:>11}", "case", "flows", "ns", "x swap", "x lru", "x insert");
        for case in &self.cases {
            let to = |name, flows| match find(&self.cases, name, flows) {
                Some(floor) => format!("{:.2}", case.ns / floor),
                None => "-".to_owned(),
            };
            println!(
                "{:<28}{:>9}{:>10.1}{:>9}{:>9}{:>11}",
                case.name,
                case.flows,
                case.ns,
                to("floor-swap", 1),
                to(floor_lru(&case.name), case.flows),
                to("floor-lru-insert", MILLION)
            );
        }
        if !self.live.is_empty() {
            println!("\n{:<28}{:>9}", "live", "Mpps");
        }
        for live in &self.live {
            println!("{:<28}{:>9.3}", live.name, live.pps / 1e6);
        }
        println!("\n{:<52}{:>8}{:>9}", "goal", "limit", "ratio");
        for goal in &self.goals {
            let verdict = if goal.met { "met" } else { "missed" };
            println!("{:<52}{:>8.2}{:>9.3}  {verdict}", goal.name, goal.limit, goal.ratio);
        }
    }
}

fn find(cases: &[Case], name: &str, flows: u64) -> Option<f64> {
    cases.iter().find(|case| case.name == name && case.flows == flows).map(|case| case.ns)
}

/// `None`: one of the two was not timed.
fn goal(cases: &[Case], case: (&str, u64), floor: (&str, u64), limit: f64) -> Option<Goal> {
    let ns = find(cases, case.0, case.1)? - undo(cases, case.0);
    let ratio = ns / find(cases, floor.0, floor.1)?;
    let name = format!("{} at {} / {} at {}", case.0, case.1, floor.0, floor.1);
    Some(Goal { name, limit, ratio: round_to(ratio, 3), met: ratio <= limit })
}

/// The kernel's LRU hash with keys of the case's family.
fn floor_lru(name: &str) -> &'static str {
    if name.contains("v6") { "floor-lru-ipv6" } else { "floor-lru" }
}

/// What of a case's time the benchmark needs to put the frame back, see `floor-undo`.
fn undo(cases: &[Case], name: &str) -> f64 {
    let is_tunnel = ["ipip", "gue"].iter().any(|kind| name.contains(kind));
    if is_tunnel { find(cases, "floor-undo", 1).unwrap_or_default() } else { 0.0 }
}

fn method_goals(cases: &[Case], name: &str, limit: f64) -> impl Iterator<Item = Goal> {
    let lru_limit = if name.contains("v6") { LRU_LIMIT_V6 } else { LRU_LIMIT_V4 };
    let at_one = goal(cases, (name, 1), ("floor-swap", 1), limit);
    at_one.into_iter().chain(goal(cases, (name, MILLION), (floor_lru(name), MILLION), lru_limit))
}

fn pick_goal(case: &Case) -> Option<Goal> {
    let name = format!("{}, ns", case.name);
    case.name.starts_with("pick-").then_some(Goal {
        name,
        limit: PICK_LIMIT,
        ratio: case.ns,
        met: case.ns <= PICK_LIMIT,
    })
}

fn live_goal(live: &[Live]) -> Option<Goal> {
    let pps = |name| live.iter().find(|rate| rate.name == name).map(|rate| rate.pps);
    let ratio = pps("live-director")? / pps("live-swap")?;
    let name = "live-director / live-swap, at least".to_owned();
    Some(Goal { name, limit: LIVE_LIMIT, ratio: round_to(ratio, 3), met: ratio >= LIVE_LIMIT })
}
