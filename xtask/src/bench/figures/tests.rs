use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn run() -> Value {
    json!({ "date": "2026-12-01", "processor": "A processor", "processors": 2, "kernel": "6.12.1", "version": "0.1.0" })
}

fn packets() -> Value {
    let case = |name: &str, flows: u64, ns: f64| json!({ "name": name, "flows": flows, "ns": ns });
    json!({ "run": run(), "cases": [
        case("floor-swap", 1, 25.0), case("floor-lru", 1, 60.0), case("floor-lru", MILLION, 400.0),
        case("known-tcp", 1, 30.0), case("known-tcp", 1 << 14, 50.0), case("known-tcp", MILLION, 100.0),
        case("new-rr-16", MILLION, 240.0), case("new-rr-256", MILLION, 244.0), case("new-wlc-16", MILLION, 260.0),
        case("new-rr-16-full", MILLION, 300.0),
    ], "live": [{ "name": "live-director", "pps": 1_234_567.0 }], "goals": [
        { "name": "known-tcp at 1 / floor-swap at 1", "limit": 1.4, "ratio": 1.2, "met": true },
    ] })
}

fn failover() -> Value {
    json!({ "run": run(), "cases": [
        { "name": "kill", "gap_ms_median": 66.0, "gap_ms_worst": 72.5, "gaps_ms": [60.0, 72.5, 66.0], "failed_requests": 9,
          "runs": 3, "goal": { "words": "worst gap at most 250 ms", "met": true } },
        { "name": "keepalived-default", "gap_ms_median": 3000.0, "gap_ms_worst": 3600.0, "gaps_ms": [3000.0, 3600.0],
          "failed_requests": 99, "runs": 2 },
    ] })
}

/// The cells of the row that begins so.
fn row(section: &str, begin: &str) -> Vec<String> {
    let line = section.lines().find(|line| line.starts_with(&format!("| {begin} ")));
    let line = line.unwrap_or_else(|| panic!("no row {begin} in\n{section}"));
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn a_section_has_each_reports_figures_beside_the_floors_and_peers() {
    let reports = BTreeMap::from([("packets", packets()), ("failover", failover())]);
    let section = section(&reports).expect("reports");
    assert!(section.contains("**: 2026-12-01, 2 processors (A processor), Linux 6.12.1.\n"), "{section}");
    assert_eq!(row(&section, "known-tcp"), ["known-tcp", "30.0", "1.20", "100.0", "0.25"]);
    assert_eq!(row(&section, "rr"), ["rr", "240", "244"]);
    assert_eq!(row(&section, "wlc"), ["wlc", "260", "-"]);
    assert_eq!(row(&section, "live-director"), ["live-director", "1,234,567"]);
    assert_eq!(row(&section, "known-tcp at 1 / floor-swap at 1")[1..], ["1.40", "1.20", "met"]);
    let kill = row(&section, "kill");
    assert_eq!(kill, ["kill", "3", "66.0", "72.5", "9", "worst gap at most 250 ms", "met"]);
    assert_eq!(row(&section, "keepalived-default")[4..], ["99", "-", "-"]);
    for picture in ["packets-known", "packets-new", "failover-gaps"] {
        assert!(section.contains(&format!("](plots/{picture}.svg)")), "{section}");
    }
}

#[test]
fn reports_of_one_figure_have_a_row() {
    let scrape = json!({ "run": run(), "scrape": { "services": 1000, "servers": 10000, "series": 123456, "bytes": 9,
        "median_ms": 40.04, "worst_ms": 61.26, "goal_ms": 100, "met": true } });
    let viewers = json!({ "run": run(), "viewers": { "viewers": 100, "share_percent": 1.5, "goal_percent": 2.0, "met": false } });
    assert_eq!((kind(&scrape), kind(&viewers)), (Some("scrape"), Some("viewers")));
    let section = section(&BTreeMap::from([("scrape", scrape), ("viewers", viewers)])).expect("reports");
    assert_eq!(row(&section, "   1,000"), ["1,000", "10,000", "123,456", "40.0", "61.3", "100", "met"]);
    assert_eq!(row(&section, "    100"), ["100", "1.50", "2", "missed"]);
}

#[test]
fn what_says_no_machine_or_is_no_report_is_refused() {
    assert_eq!([kind(&packets()), kind(&failover())], [Some("packets"), Some("failover")]);
    for none in [json!({}), json!({ "cases": [] }), json!({ "cases": [{ "name": "x" }] })] {
        assert_eq!(kind(&none), None, "{none}");
    }
    let mut old = failover();
    old["run"] = Value::Null;
    assert!(section(&BTreeMap::from([("failover", old)])).is_err());
    assert_eq!(section(&BTreeMap::new()).expect("nothing"), NOTHING);
}

/// Whoever changes a figure, a table or a picture by hand fails here.
#[test]
fn the_documents_figures_and_plots_are_those_of_the_reports_beside_them() {
    let folder = root().join(FOLDER);
    let reports = all(&folder).expect("reports");
    let text = fs::read_to_string(root().join(DOCUMENT)).expect("the document");
    let shown = markdown::between(&text, NAME).expect("the document has the markers");
    assert_eq!(shown, section(&reports).expect("a section"), "write it by `cargo xtask bench --document`");
    let pictures = pictures(&reports).expect("pictures");
    for (name, picture) in &pictures {
        let found = fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(found == *picture, "{name} is another one: `cargo xtask bench --document` writes it");
    }
    let known: BTreeSet<String> = pictures
        .into_iter()
        .map(|(name, _)| name)
        .chain(reports.keys().map(|kind| format!("{kind}.json")))
        .collect();
    let files = fs::read_dir(&folder).into_iter().flatten().flatten();
    let files: BTreeSet<String> =
        files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(files, known, "what lies in {FOLDER} is of some report");
}
