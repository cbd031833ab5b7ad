//! From the end of a real server to an alert at Alertmanager, and back.

use std::fs;

use anyhow::{Result, ensure};
use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::cluster::{Talk, configuration};
use lb_lab::lab::{Alertmanager, Node, unique_name};
use lb_lab::scenario::traffic::Spread;
use serde_json::Value;

use super::monitor::{Monitor, wait};
use super::{dashboards, deployed};

/// Nobody dies on a busy machine.
const SETTINGS: Settings = Settings {
    interval: std::time::Duration::from_millis(100),
    dead: std::time::Duration::from_secs(10),
    serial: false,
};

const METRICS: &str = "metrics: { listen: '0.0.0.0:9105' }\n";

/// As the shipped one, but sooner, and for two directors on the network.
const PROMETHEUS: &str = "\
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [rules.yml]
alerting: { alertmanagers: [{ static_configs: [{ targets: ['127.0.0.1:9093'] }] }] }
scrape_configs:
  - job_name: lb
    static_configs: [{ targets: ['211.58.250.5:9105', '211.58.250.7:9105'] }]
";

/// Starts both programs on `node`, with the rules that are shipped, for which a second is long
/// enough.
fn watch(node: &Node) -> Result<(Monitor<'_>, Alertmanager)> {
    let folder = node.folder()?;
    let rules = fs::read_to_string(deployed("prometheus/rules.yml"))?;
    let at_once = |line: &str| match line.trim_start().starts_with("for: ") {
        true => "        for: 1s\n".to_owned(),
        false => format!("{line}\n"),
    };
    fs::write(folder.join("rules.yml"), rules.lines().map(at_once).collect::<String>())?;
    let configuration = folder.join("prometheus.yml");
    fs::write(&configuration, PROMETHEUS)?;
    let alertmanager = Alertmanager::start(node)?;
    Ok((Monitor::start(node, &configuration)?, alertmanager))
}

/// Each rule was evaluated, and none failed.
fn all_evaluated(monitor: &Monitor<'_>) -> Result<()> {
    let data = monitor.ask("rules", &[])?;
    let groups = data["groups"].as_array().into_iter().flatten();
    let rules: Vec<&Value> = groups.flat_map(|group| group["rules"].as_array()).flatten().collect();
    ensure!(rules.len() > 20, "{data}");
    let wrong: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

#[test]
fn a_dead_server_is_an_alert_and_on_the_dashboards_until_it_is_back() {
    let talk = Talk::new(&unique_name("alerts")).expect("the cluster comes up");
    let configuration = configuration().expect("the example") + METRICS;
    let pair = Pair::start_with(&talk, SETTINGS, &configuration).expect("both directors start");
    let (monitor, alertmanager) = watch(&talk.client).expect("Prometheus and Alertmanager start");
    monitor.wait_for("sum(up{job=\"lb\"})", |value| value == 2.0);
    wait("the first evaluation", || all_evaluated(&monitor));
    assert_eq!(Spread::of_requests(&talk.client, 20).total(), 20);
    assert_eq!(alertmanager.alerts("LbServerDown").expect("an answer"), Vec::<Value>::new());

    talk.www1.stop().expect("nginx stops");
    let alert = wait("the alert", || {
        let alerts = alertmanager.alerts("LbServerDown")?;
        ensure!(alerts.len() == 2, "each director tells it: {alerts:?}");
        Ok(alerts[0].clone())
    });
    for (label, value) in [("server", "www1"), ("service", "web"), ("severity", "warning"), ("job", "lb")] {
        assert_eq!(alert["labels"][label], value, "{alert}");
    }
    assert_eq!(alert["annotations"]["summary"], "www1 of web is down");
    assert_eq!(alert["annotations"]["runbook"], "docs/troubleshooting.md#lbserverdown");
    assert_eq!(alert["status"]["state"], "active", "{alert}");
    dashboards::all_return_series(&monitor);

    talk.www1.start().expect("nginx starts");
    wait("the end of the alert", || {
        let alerts = alertmanager.alerts("LbServerDown")?;
        ensure!(alerts.is_empty(), "{alerts:?}");
        Ok(())
    });
    for to in ["down", "up"] {
        let turns = format!("min(lb_server_transitions_total{{server=\"www1\", to=\"{to}\"}})");
        assert_eq!(monitor.wait_for(&turns, |turns| turns > 0.0), 1.0, "{turns}");
    }
    monitor.wait_for("min(lb_check_failures_total{server=\"www1\"})", |failures| failures > 0.0);
    monitor.wait_for("sum(lb_cluster_takeovers_total)", |takeovers| takeovers == 1.0);
    pair.ha1.failover().expect("lb failover");
    let offered = "lb_cluster_takeovers_total{instance=\"211.58.250.7:9105\", cause=\"offered\"}";
    monitor.wait_for(offered, |takeovers| takeovers == 1.0);
}
