//! The figures of each case, its goals, and all of it as a table or as JSON.

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::sync::Sync;

/// The share of requests over new connections that must get their answer.
const SERVED_SHARE: f64 = 0.99;

/// Where nothing happens to what the requests are for.
pub(crate) const ALL_SERVED: f64 = 1.0;

/// How long a new connection may take at most, in milliseconds: of its SYNs a take-over may lose
/// the first one, which TCP sends again after 1 s.
const CONNECT_MS: f64 = 2_500.0;

/// What a case has come to.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Figures {
    Connections(Case),
    Sync(Sync),
}

#[derive(Debug, Serialize)]
pub(crate) struct Case {
    pub name: &'static str,
    /// How packets got to the servers, where that was tried in several ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    pub connections: u64,
    /// Reset, without an answer for 15 s, or with other bytes than were sent.
    pub lost: u64,
    /// Of connections that were younger than 200 ms when it happened, which do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub younger_lost: Option<u64>,
    /// The share of requests over new connections that got their answer, where the case makes any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub honest_ok_share: Option<f64>,
    /// Its goal, where that is another one than usual.
    #[serde(skip)]
    pub least_share: Option<f64>,
    /// The longest time until a new connection was there, where that is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms_worst: Option<f64>,
    /// Of a flow of one datagram each millisecond.
    pub packets_lost: u64,
    /// Whether none of them may be lost.
    #[serde(skip)]
    pub keeps_packets: bool,
    /// The longest time without an answer to a datagram.
    pub gap_ms_worst: f64,
    /// What the next `lb` found in the table.
    pub entries: u64,
    /// From the start of its process to its first answer.
    pub start_ms: f64,
    /// New connections a second until it happened, where the case makes so many of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_per_s: Option<u32>,
    /// Of them and of those that stay open, what went on to the same server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_share: Option<f64>,
    /// Goals of this case alone.
    #[serde(skip)]
    pub more_goals: Vec<Goal>,
}

/// A figure with its goal in words, and whether it is met.
pub(crate) type Goal = (String, bool);

impl Case {
    fn goals(&self) -> Vec<Goal> {
        let Self { connections, lost, packets_lost, .. } = self;
        let mut goals = vec![(format!("lost {lost} of {connections}, goal 0"), *lost == 0)];
        if self.keeps_packets {
            goals.push((format!("lost {packets_lost} datagrams, goal 0"), *packets_lost == 0));
        }
        if let Some(share) = self.honest_ok_share {
            let least = self.least_share.unwrap_or(SERVED_SHARE);
            let goal = format!("served {share:.4} of new ones, goal {least} at least");
            goals.push((goal, share >= least));
        }
        if let Some(worst) = self.connect_ms_worst {
            let goal = format!("slowest new connection {worst:.0} ms, goal {CONNECT_MS} at most");
            goals.push((goal, worst <= CONNECT_MS));
        }
        goals.extend(self.more_goals.iter().cloned());
        goals
    }

    /// With the method, where there are several.
    fn full_name(&self) -> String {
        let Self { name, method, .. } = self;
        method.map_or_else(|| (*name).to_owned(), |method| format!("{name}, {method}"))
    }

    fn row(&self) -> String {
        let Self { connections, lost, packets_lost, gap_ms_worst, entries, start_ms, .. } = self;
        let name = self.full_name();
        let younger = self.younger_lost.map_or_else(String::new, |lost| lost.to_string());
        let honest = self.honest_ok_share.map_or_else(String::new, |share| format!("{share:.4}"));
        format!(
            "{name:<23}{connections:>12}{lost:>6}{younger:>9}{honest:>8}{packets_lost:>14}{gap_ms_worst:>15.1}\
             {entries:>9}{start_ms:>11.0}"
        )
    }
}

impl Figures {
    fn goals(&self) -> Vec<Goal> {
        match self {
            Self::Connections(case) => case.goals(),
            Self::Sync(sync) => sync.goals(),
        }
    }

    fn are_met(&self) -> bool {
        self.goals().iter().all(|(_, is_met)| *is_met)
    }

    fn name(&self) -> String {
        match self {
            Self::Connections(case) => case.full_name(),
            Self::Sync(sync) => sync.name.to_owned(),
        }
    }
}

/// Figures, and whether all goals are met.
#[derive(Debug, Serialize)]
struct Judged<'a> {
    #[serde(flatten)]
    figures: &'a Figures,
    met: bool,
}

impl From<Case> for Figures {
    fn from(case: Case) -> Self {
        Self::Connections(case)
    }
}

impl From<Sync> for Figures {
    fn from(sync: Sync) -> Self {
        Self::Sync(sync)
    }
}

/// Of all cases that came to an end.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Figures>);

impl Report {
    /// Tells the verdict, too.
    pub(crate) fn add(&mut self, figures: Figures) {
        for (goal, is_met) in figures.goals() {
            eprintln!("  {goal}: {}", verdict(is_met));
        }
        self.0.push(figures);
    }

    /// The cases that missed a goal.
    pub(crate) fn missed(&self) -> Vec<String> {
        self.0.iter().filter(|figures| !figures.are_met()).map(Figures::name).collect()
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            let judged = |figures| Judged { figures, met: figures.are_met() };
            let cases: Vec<Judged<'_>> = self.0.iter().map(judged).collect();
            println!("{}", serde_json::to_string_pretty(&json!({ "resilience": cases }))?);
        } else {
            self.print_table();
        }
        Ok(())
    }

    fn print_table(&self) {
        let mut rows: Vec<String> = Vec::new();
        let mut above = String::new();
        for figures in &self.0 {
            let goals = verdict(figures.are_met());
            let (titles, row) = match figures {
                Figures::Connections(case) => (head(), case.row()),
                Figures::Sync(sync) => (Sync::head(), sync.row()),
            };
            if titles != above {
                rows.push(format!("{titles}  goals"));
                above = titles;
            }
            rows.push(format!("{row}  {goals}"));
        }
        println!("{}", rows.join("\n"));
    }
}

fn head() -> String {
    format!(
        "{:<23}{:>12}{:>6}{:>9}{:>8}{:>14}{:>15}{:>9}{:>11}",
        "case",
        "connections",
        "lost",
        "younger",
        "honest",
        "packets lost",
        "worst gap, ms",
        "entries",
        "start, ms"
    )
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}
