//! The alerts that are shipped, by Prometheus' own tool.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::{TABLE_FILLS, deployed};

/// What promtool says; it must be content.
fn promtool(words: &[&str]) -> String {
    let mut command = Command::new("promtool");
    command.args(words).current_dir(deployed("prometheus"));
    let output = command.output().expect("promtool, of the package prometheus");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {words:?}: {said}");
    said
}

#[test]
fn the_shipped_files_are_valid() {
    promtool(&["check", "rules", "rules.yml"]);
    let said = promtool(&["check", "config", "prometheus.yml"]);
    assert!(said.contains("rules found"), "the configuration names the rules: {said}");
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    promtool(&["test", "rules", "rules.test.yml"]);
}

#[test]
fn each_alert_has_a_test_that_fires_and_one_that_does_not() {
    let read = |file: &str| fs::read_to_string(deployed("prometheus").join(file)).expect("a file");
    let (rules, tests) = (read("rules.yml"), read("rules.test.yml"));
    let mut alerts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        *alerts.entry(name).or_default() += 1;
    }
    assert!(alerts.len() > 20, "{alerts:?}");
    for (name, count) in alerts {
        let named = |end: &str| {
            let names =
                tests.lines().filter_map(|line| line.trim().strip_prefix("- name: \"")).filter(|title| {
                    title
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with([' ', ',']) && rest.ends_with(end))
                });
            names.count()
        };
        assert_eq!(named(" fires\""), count, "tests of {name} that fire");
        assert_eq!(named(" does not fire\""), count, "tests of {name} that do not fire");
    }
}

/// `lb health` warns at the same figure.
#[test]
fn the_table_fills_up_where_lb_health_says_so() {
    let rules = fs::read_to_string(deployed("prometheus/rules.yml")).expect("the rules");
    let (_, rule) = rules.split_once("- alert: LbTableFilling\n").expect("the rule");
    let rule = rule.split("- alert: ").next().unwrap_or_default();
    for family in ["", "ipv6_"] {
        let wanted = format!("lb_table_{family}used_slots / lb_table_{family}slots > {TABLE_FILLS}\n");
        assert!(rule.contains(&wanted), "no {wanted:?} in:\n{rule}");
    }
}
