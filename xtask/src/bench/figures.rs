//! `cargo xtask bench --document`: reports that `--json` has written become docs/plots, and the
//! part of docs/performance.md between two markers. Nobody types figures: a test makes both anew of
//! the reports in docs/plots.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::plot;
use crate::markdown::{self, grouped};
use crate::workspace::root;

/// Of the markers.
const NAME: &str = "figures";
const DOCUMENT: &str = "docs/performance.md";
const FOLDER: &str = "docs/plots";

/// Where there is no report yet.
const NOTHING: &str = "No run stands here yet: the commands above write one.\n";

/// The kinds of reports, in the document's order, with what they measure.
const KINDS: [(&str, &str); 5] = [
    ("packets", "Nanoseconds per packet"),
    ("failover", "Gaps that clients see at a take-over"),
    ("checks", "Health checks"),
    ("scrape", "A scrape of the metrics"),
    ("viewers", "Viewers of the page"),
];

/// What a picture shows, for those who do not see it.
fn alternative(picture: &str) -> &'static str {
    match picture {
        "known" => {
            "Nanoseconds per packet against the number of known connections, beside the kernel's LRU hash"
        }
        "new" => "Nanoseconds per new connection against the number of servers, a line for each scheduler",
        _ => "Each gap of each take-over as a point, keepalived's beside those of lb, with the medians",
    }
}

/// A report's kind, if it is any.
fn kind(report: &Value) -> Option<&'static str> {
    let has = |key: &str| {
        let cases = report["cases"].as_array()?;
        cases.iter().any(|case| !case[key].is_null()).then_some(())
    };
    let by_case = [("packets", "ns"), ("failover", "gaps_ms"), ("checks", "checks_per_s")];
    let of_cases = by_case.into_iter().find(|(_, key)| has(key).is_some()).map(|(kind, _)| kind);
    of_cases.or_else(|| ["scrape", "viewers"].into_iter().find(|kind| report[*kind].is_object()))
}

/// Puts the reports into docs/plots, in place of those of the same kind, and all that is there into
/// the document.
pub(super) fn document(files: &[PathBuf]) -> Result<()> {
    let mut reports = Vec::new();
    for file in files {
        let report = read(file)?;
        let kind =
            kind(&report).with_context(|| format!("{} is no report of a benchmark", file.display()))?;
        origin(&report).with_context(|| file.display().to_string())?;
        reports.push((kind, report));
    }
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {FOLDER}"))?;
    for (kind, report) in reports {
        write(&folder.join(format!("{kind}.json")), &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    let reports = all(&folder)?;
    for (name, picture) in pictures(&reports)? {
        write(&folder.join(name), &picture)?;
    }
    markdown::write(&root().join(DOCUMENT), NAME, &section(&reports)?)?;
    println!("{DOCUMENT}");
    Ok(())
}

fn read(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", file.strip_prefix(root()).unwrap_or(file).display());
    Ok(())
}

/// The reports of a folder by their kinds.
fn all(folder: &Path) -> Result<BTreeMap<&'static str, Value>> {
    let mut found = BTreeMap::new();
    for (kind, _) in KINDS {
        let file = folder.join(format!("{kind}.json"));
        if file.exists() {
            found.insert(kind, read(&file)?);
        }
    }
    Ok(found)
}

/// Names and content of all pictures.
fn pictures(reports: &BTreeMap<&str, Value>) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (kind, report) in reports.iter().filter(|(kind, _)| ["packets", "failover"].contains(kind)) {
        let pictures = plot::pictures(report)?.into_iter();
        all.extend(pictures.map(|(what, picture)| (format!("{kind}-{what}.svg"), picture)));
    }
    Ok(all)
}

/// What the document has between its markers.
fn section(reports: &BTreeMap<&str, Value>) -> Result<String> {
    if reports.is_empty() {
        return Ok(NOTHING.to_owned());
    }
    let mut text = String::new();
    for (kind, title) in KINDS {
        let Some(report) = reports.get(kind) else { continue };
        let begin = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{begin}**{title}**: {}.", origin(report)?);
        for lines in tables(kind, report)? {
            let _ = write!(text, "\n{}", markdown::table(&lines, &left(&lines)));
        }
        for (name, _) in pictures(&BTreeMap::from([(kind, report.clone())]))? {
            let what = name.trim_end_matches(".svg").rsplit('-').next().unwrap_or_default();
            let _ = writeln!(text, "\n![{}](plots/{name})", alternative(what));
        }
    }
    Ok(text)
}

/// Columns of words.
fn left(lines: &[Vec<String>]) -> Vec<usize> {
    let names = ["case", "goal", "verdict", "scheduler", "live"];
    let header = lines.first().map_or(&[][..], Vec::as_slice);
    (0..header.len()).filter(|&column| names.contains(&&*header[column])).collect()
}

/// The machine and the day of a report, in words.
pub(super) fn origin(report: &Value) -> Result<String> {
    let run = &report["run"];
    let text = |key: &str| {
        run[key].as_str().with_context(|| {
            format!("the report does not say `{key}` of its `run`: an older benchmark has written it")
        })
    };
    let count = run["processors"].as_u64().context("the report does not say how many processors")?;
    let processors = if count == 1 { "processor" } else { "processors" };
    Ok(format!("{}, {count} {processors} ({}), Linux {}", text("date")?, text("processor")?, text("kernel")?))
}

type Lines = Vec<Vec<String>>;

fn tables(kind: &str, report: &Value) -> Result<Vec<Lines>> {
    let tables = match kind {
        "packets" => vec![known(report), new(report), live(report), goals(report)],
        "failover" => vec![failover(report)],
        "checks" => vec![checks(report)],
        "scrape" => vec![scrape(&report["scrape"])],
        "viewers" => vec![viewers(&report["viewers"])],
        _ => bail!("there is no table of {kind}"),
    };
    let tables: Vec<Lines> = tables.into_iter().filter(|lines| lines.len() > 1).collect();
    ensure!(!tables.is_empty(), "the report of {kind} has no figures");
    Ok(tables)
}

fn line<const COLUMNS: usize>(cells: [&str; COLUMNS]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn cases(report: &Value) -> &[Value] {
    report["cases"].as_array().map_or(&[], Vec::as_slice)
}

/// A number with so many decimals, or a dash.
fn number(value: &Value, decimals: usize) -> String {
    match value.as_f64() {
        Some(number) if decimals == 0 => grouped(number.round().max(0.0) as u64),
        Some(number) => format!("{number:.decimals$}"),
        None => "-".to_owned(),
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

const MILLION: u64 = 1 << 20;

fn ns(report: &Value, name: &str, flows: u64) -> Option<f64> {
    let case = cases(report).iter().find(|case| case["name"] == name && case["flows"] == flows)?;
    case["ns"].as_f64()
}

fn ratio(ns: Option<f64>, floor: Option<f64>) -> String {
    ns.zip(floor).map_or_else(|| "-".to_owned(), |(ns, floor)| format!("{:.2}", ns / floor))
}

/// Floors and known connections, at one connection and at a million.
fn known(report: &Value) -> Lines {
    let mut lines = vec![line(["case", "1 connection, ns", "MAC swaps", "1,048,576, ns", "LRU lookups"])];
    let mut named: Vec<&str> = Vec::new();
    for case in cases(report) {
        let name = case["name"].as_str().unwrap_or_default();
        let wanted = ["floor-", "known-", "not-ours"].iter().any(|begin| name.starts_with(begin));
        if wanted && !named.contains(&name) {
            named.push(name);
        }
    }
    for name in named {
        let (one, million) = (ns(report, name, 1), ns(report, name, MILLION));
        let lru = if name.contains("v6") { "floor-lru-ipv6" } else { "floor-lru" };
        let text = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.1}"));
        let beside = ratio(million, ns(report, lru, MILLION));
        let swaps = ratio(one, ns(report, "floor-swap", 1));
        if one.or(million).is_some() {
            lines.push(vec![name.to_owned(), text(one), swaps, text(million), beside]);
        }
    }
    lines
}

/// New connections by scheduler and servers.
fn new(report: &Value) -> Lines {
    let mut found: BTreeMap<(&str, u32), f64> = BTreeMap::new();
    for case in cases(report) {
        let parts = case["name"].as_str().and_then(|name| name.strip_prefix("new-")?.split_once('-'));
        if let Some((scheduler, servers)) = parts
            && let (Ok(servers), Some(ns)) = (servers.parse(), case["ns"].as_f64())
        {
            found.insert((scheduler, servers), ns);
        }
    }
    let mut servers: Vec<u32> = found.keys().map(|(_, servers)| *servers).collect();
    servers.sort_unstable();
    servers.dedup();
    let mut schedulers: Vec<&str> = found.keys().map(|(scheduler, _)| *scheduler).collect();
    schedulers.dedup();
    let titles = servers.iter().map(|servers| format!("{} servers, ns", grouped((*servers).into())));
    let header = ["scheduler".to_owned()].into_iter().chain(titles).collect();
    let row = |scheduler: &str| {
        let cell =
            |servers: &u32| found.get(&(scheduler, *servers)).map_or("-".to_owned(), |ns| format!("{ns:.0}"));
        [scheduler.to_owned()].into_iter().chain(servers.iter().map(cell)).collect()
    };
    [header].into_iter().chain(schedulers.into_iter().map(row)).collect()
}

fn live(report: &Value) -> Lines {
    let rates = report["live"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |rate: &Value| vec![word(&rate["name"]), number(&rate["pps"], 0)];
    [line(["live", "packets a second"])].into_iter().chain(rates.iter().map(row)).collect()
}

fn verdict(met: &Value) -> String {
    let word = match met.as_bool() {
        Some(true) => "met",
        Some(false) => "missed",
        None => "-",
    };
    word.to_owned()
}

fn goals(report: &Value) -> Lines {
    let goals = report["goals"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |goal: &Value| {
        vec![word(&goal["name"]), number(&goal["limit"], 2), number(&goal["ratio"], 2), verdict(&goal["met"])]
    };
    [line(["goal", "limit", "found", "verdict"])].into_iter().chain(goals.iter().map(row)).collect()
}

fn failover(report: &Value) -> Lines {
    let row = |case: &Value| {
        let goal = &case["goal"];
        vec![
            word(&case["name"]),
            number(&case["runs"], 0),
            number(&case["gap_ms_median"], 1),
            number(&case["gap_ms_worst"], 1),
            number(&case["failed_requests"], 0),
            word(&goal["words"]),
            verdict(&goal["met"]),
        ]
    };
    let header = ["case", "runs", "median gap, ms", "worst, ms", "failed requests", "goal", "verdict"];
    [line(header)].into_iter().chain(cases(report).iter().map(row)).collect()
}

fn checks(report: &Value) -> Lines {
    let row = |case: &Value| {
        vec![
            word(&case["name"]),
            number(&case["servers"], 0),
            number(&case["detection_ms_worst"], 0),
            number(&case["checks_per_s"], 0),
            number(&case["cpu_share"], 3),
            number(&case["checks_per_s_per_core"], 0),
        ]
    };
    let header =
        ["case", "servers", "all out after, ms", "checks a second", "cores", "checks a second and core"];
    [line(header)].into_iter().chain(cases(report).iter().map(row)).collect()
}

fn scrape(found: &Value) -> Lines {
    let cells = ["services", "servers", "series", "median_ms", "worst_ms", "goal_ms"];
    let mut row: Vec<String> =
        cells.map(|key| number(&found[key], usize::from(["median_ms", "worst_ms"].contains(&key)))).to_vec();
    row.push(verdict(&found["met"]));
    vec![line(["services", "servers", "series", "median, ms", "slowest, ms", "goal, ms", "verdict"]), row]
}

fn viewers(found: &Value) -> Lines {
    let row = vec![
        number(&found["viewers"], 0),
        number(&found["share_percent"], 2),
        number(&found["goal_percent"], 0),
        verdict(&found["met"]),
    ];
    vec![line(["viewers", "% of a processor", "goal, %, under", "verdict"]), row]
}

#[cfg(test)]
mod tests;
