//! The dashboards that are shipped: whether Grafana can draw them, and whether there is something
//! to draw.

use std::collections::BTreeSet;
use std::fs;

use anyhow::ensure;
use serde_json::Value;

use super::monitor::{Monitor, wait};
use super::{TABLE_FILLS, deployed};

const NAMES: [&str; 2] = ["lb-overview", "lb-cluster"];

/// What Grafana puts in the place of variables.
const VARIABLES: [(&str, &str); 5] = [
    ("$__rate_interval", "10s"),
    ("$__range", "1m"),
    ("$job", "lb"),
    ("$instance", ".+"),
    ("$service", ".+"),
];

fn dashboard(name: &str) -> Value {
    let file = deployed("grafana").join(format!("{name}.json"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Panels that draw something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Each expression of each dashboard, with its panel and with values for its variables.
fn expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for dashboard in NAMES.map(dashboard) {
        for panel in panels(&dashboard) {
            for target in list(panel, "targets") {
                let mut expression = target["expr"].as_str().expect("an expression").to_owned();
                for (name, value) in VARIABLES {
                    expression = expression.replace(name, value);
                }
                assert!(!expression.contains('$'), "{expression}");
                all.push((format!("{}: {}", dashboard["title"], panel["title"]), expression));
            }
        }
    }
    all
}

/// While something happens: a server is down, and clients are served.
pub(crate) fn all_return_series(monitor: &Monitor<'_>) {
    let expressions = expressions();
    assert!(expressions.len() > 60, "{} expressions", expressions.len());
    for (panel, expression) in expressions {
        // A rate needs two scrapes.
        wait(&format!("{panel}: {expression}"), || {
            ensure!(!monitor.series(&expression)?.is_empty(), "no series");
            Ok(())
        });
    }
}

#[test]
fn each_panel_says_what_it_shows_in_which_unit_and_where_it_comes_from() {
    for name in NAMES {
        let dashboard = dashboard(name);
        assert_eq!(dashboard["uid"], name);
        assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 39), "{name}");
        let variables = list(&dashboard["templating"], "list");
        let variable = |wanted: &str| variables.iter().find(|variable| variable["name"] == wanted);
        assert_eq!(variable("DS_PROMETHEUS").expect("a data source")["query"], "prometheus");
        assert!(variable("job").is_some(), "{name}");
        let ids: BTreeSet<u64> =
            list(&dashboard, "panels").iter().filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), list(&dashboard, "panels").len(), "{name}: each panel has a number of its own");
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().expect("a title");
            let said = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
            assert!(!title.is_empty() && said(&panel["description"]), "{name}: {panel}");
            assert!(said(&panel["fieldConfig"]["defaults"]["unit"]), "{name}, {title}: a unit");
            let targets = list(panel, "targets");
            assert!(!targets.is_empty(), "{name}, {title}");
            for target in targets {
                assert!(said(&target["legendFormat"]), "{name}, {title}: a legend");
                assert_eq!(target["datasource"]["uid"], "${DS_PROMETHEUS}", "{name}, {title}");
            }
        }
    }
}

/// Where the rules and `lb health` warn, the figure changes its colour.
#[test]
fn the_table_is_orange_where_somebody_is_warned() {
    let dashboard = dashboard("lb-overview");
    let table = |panel: &&Value| panel["title"] == "Connection table" && panel["type"] == "stat";
    let panel = panels(&dashboard).into_iter().find(table).expect("the panel");
    let steps = list(&panel["fieldConfig"]["defaults"]["thresholds"], "steps");
    let orange = steps.iter().find(|step| step["color"] == "orange").expect("a step");
    assert_eq!(orange["value"].as_f64(), Some(TABLE_FILLS), "{steps:?}");
}
