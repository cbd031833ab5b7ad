//! House rules as tests: which crate may use which, how long a file may be, how wide comments may
//! be, which files may have unsafe code ([`unsafe_code`]), how the units are rated ([`unit`]), what
//! the journal says of events ([`catalog`]), and where links of documents lead ([`documents`]).

mod catalog;
pub(crate) mod documents;
mod unit;
mod unsafe_code;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::workspace;

/// Each crate, and the crates of this workspace that it may use. Arrows go downwards: a crate is
/// listed after all crates that it uses. Dev-dependencies are not listed.
const ARROWS: [(&str, &[&str]); 23] = [
    ("lb-common", &[]),
    ("lb-ebpf", &["lb-common"]),
    ("lb-ebpf-bench", &["lb-common", "lb-ebpf"]),
    ("lb-model", &["lb-common"]),
    ("lb-system", &["lb-model"]),
    ("lb-config", &["lb-model", "lb-system"]),
    ("lb-import", &["lb-config"]),
    ("lb-api", &["lb-model"]),
    ("lb-top", &["lb-model", "lb-api"]),
    ("lb-web", &["lb-model", "lb-api", "lb-system"]),
    ("lb-alerts", &["lb-model", "lb-api", "lb-system"]),
    ("lb-kube", &["lb-model", "lb-api"]),
    ("lb-net", &["lb-common", "lb-model", "lb-api"]),
    ("lb-datapath", &["lb-common", "lb-model", "lb-api", "lb-system", "lb-net"]),
    ("lb-health", &["lb-common", "lb-model", "lb-system", "lb-net"]),
    ("lb-cluster", &["lb-common", "lb-model", "lb-api", "lb-system", "lb-net"]),
    ("lb-sync", &["lb-common", "lb-model", "lb-system", "lb-cluster"]),
    (
        "lb",
        &[
            "lb-common",
            "lb-model",
            "lb-config",
            "lb-import",
            "lb-api",
            "lb-system",
            "lb-net",
            "lb-datapath",
            "lb-health",
            "lb-cluster",
            "lb-sync",
            "lb-top",
            "lb-web",
            "lb-alerts",
        ],
    ),
    ("lb-fuzz", &[]),
    ("lb-lab", &["lb-common", "lb-model", "lb-api"]),
    ("lb-simulation", &["lb-common", "lb-model", "lb-sync"]),
    ("lb-tests", &["lb-api", "lb-common", "lb-model", "lb-system", "lb-datapath", "lb-lab"]),
    ("xtask", &["lb-common", "lb-lab"]),
];

/// Crates whose build compiles the XDP program. No other crate needs a BPF tool, not even for
/// tests.
const NEED_BPF: [&str; 3] = ["lb-datapath", "lb", "lb-tests"];

/// The two of them with a build script; `lb` needs `lb-datapath`.
const COMPILE_BPF: [&str; 2] = ["lb-datapath", "lb-tests"];

/// Maximum number of lines of a file.
const LONGEST_FILE: usize = 500;

/// Maximum width of a comment line in columns. A line with a URL may be wider.
const WIDEST_COMMENT: usize = 100;

/// Folders of the project's Rust files.
const RUST: [&str; 5] = ["lb-common", "lb-ebpf", "lb-userspace", "tests", "xtask"];

/// The packages of this workspace, in cargo's words.
fn packages() -> Vec<Value> {
    let mut command = workspace::cargo();
    let output = command
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        other => panic!("no packages: {other}"),
    }
}

fn name(value: &Value) -> String {
    value["name"].as_str().expect("a name").to_owned()
}

/// The dependencies of each crate within this workspace. `kinds` as in cargo's metadata: `null` for
/// normal dependencies.
fn dependencies(kinds: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
    let packages = packages();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let used = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies").iter();
        let wanted = all.filter(|dependency| kinds.contains(&dependency["kind"]));
        wanted.map(name).filter(|name| ours.contains(name)).collect()
    };
    packages.iter().map(|package| (name(package), used(package))).collect()
}

#[test]
fn crates_use_those_below_them_only() {
    let used = dependencies(&[Value::Null, "build".into()]);
    let allowed: BTreeMap<String, BTreeSet<String>> = ARROWS
        .iter()
        .map(|(name, below)| ((*name).to_owned(), below.iter().map(|name| (*name).to_owned()).collect()))
        .collect();
    assert_eq!(
        used, allowed,
        "the left side is what the Cargo.toml files say, the right side the table ARROWS"
    );
    for (index, (name, below)) in ARROWS.iter().enumerate() {
        let above = |other: &&&str| !ARROWS[..index].iter().any(|(name, _)| *name == **other);
        assert_eq!(below.iter().find(above), None, "{name} uses a crate that stands above it");
    }
}

/// The messages of the configuration, the election and the probes are tested on a machine without
/// any BPF tool.
#[test]
fn few_crates_need_a_bpf_tool() {
    let used = dependencies(&[Value::Null, "build".into(), "dev".into()]);
    for package in used.keys().filter(|package| !NEED_BPF.contains(&package.as_str())) {
        let mut reached = BTreeSet::new();
        let mut next = vec![package.clone()];
        while let Some(package) = next.pop() {
            if reached.insert(package.clone()) {
                next.extend(used[&package].iter().cloned());
            }
        }
        let needs = reached.iter().find(|name| NEED_BPF.contains(&name.as_str()));
        assert_eq!(needs, None, "{package} uses it, if only for tests");
    }
}

/// What a build takes besides rustc and a C compiler, a build script of ours asks for. None but
/// these is there, and [`few_crates_need_a_bpf_tool`] says who is built with them.
#[test]
fn build_scripts_of_ours_are_those_that_compile_bpf() {
    let has_script = |package: &&Value| {
        let targets = package["targets"].as_array().expect("targets").iter();
        let mut kinds = targets.flat_map(|target| target["kind"].as_array().expect("kinds"));
        kinds.any(|kind| kind == "custom-build")
    };
    let packages = packages();
    let found: BTreeSet<String> = packages.iter().filter(has_script).map(name).collect();
    assert_eq!(found, BTreeSet::from(COMPILE_BPF.map(str::to_owned)));
}

/// The controller loads the benchmark's object as it loads the product's, and wants all programs
/// that others call.
#[test]
fn the_benchmark_has_all_programs_that_others_call() {
    let programs = |path: &str| -> BTreeSet<String> {
        let text = read(&workspace::root().join(path));
        let names = text.lines().filter_map(|line| Some(line.strip_prefix("fn ")?.split_once('(')?.0));
        names.filter(|name| name.starts_with("lb_")).map(str::to_owned).collect()
    };
    let entries = ["lb_trace", "lb_ingress"].map(str::to_owned);
    let called = &programs("lb-ebpf/src/main.rs") - &entries.into();
    assert!(called.len() > 10, "{called:?}");
    assert_eq!(programs("lb-ebpf/bench/src/main.rs"), called, "the left side is the benchmark");
}

#[test]
fn files_are_short() {
    let files = rust_files(&RUST);
    assert!(files.len() > 300, "only {} files were found", files.len());
    for path in files {
        let lines = read(&path).lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines, at most {LONGEST_FILE}", path.display());
    }
}

#[test]
fn comments_are_narrow() {
    let files = rust_files(&RUST);
    assert!(files.len() > 300, "only {} files were found", files.len());
    let mut wide = Vec::new();
    for path in files {
        for (number, line) in (1..).zip(read(&path).lines()) {
            let width = line.chars().count();
            // Tables and what is set as it is to be read cannot be wrapped.
            let set = ["//! |", "//!     ", "/// |", "///     "].iter().any(|set| line.contains(set));
            let comment = line.trim_start().starts_with("//") && !set && !line.contains("://");
            if comment && width > WIDEST_COMMENT {
                wide.push(format!("{}:{number}: {width} columns", path.display()));
            }
        }
    }
    assert!(wide.is_empty(), "comments are wrapped at {WIDEST_COMMENT} columns:\n{}", wide.join("\n"));
}

/// Whoever sees a finding's id looks for it there.
#[test]
fn every_finding_has_a_heading_in_the_troubleshooting_guide() {
    let kinds = read(&workspace::root().join("lb-userspace/api/src/findings/kinds.rs"));
    let label = |line: &str| {
        let (before, level) = line.trim().strip_suffix(';')?.rsplit_once(", ")?;
        let is_level = matches!(level, "Error" | "Warning");
        is_level.then(|| before.split('"').nth(1).map(str::to_owned)).flatten()
    };
    let labels: BTreeSet<String> = kinds.lines().filter_map(label).collect();
    assert!(labels.len() > 20, "{labels:?}");
    assert_eq!(headings("## By finding"), labels);
}

/// Whoever gets an alert is sent there. Alerts of findings are sent to the heading of the finding.
#[test]
fn every_alert_leads_to_a_heading_in_the_troubleshooting_guide() {
    let rules = read(&workspace::root().join("deploy/prometheus/rules.yml"));
    let mut alerts = BTreeSet::new();
    let mut alert = "";
    for line in rules.lines().map(|line| line.trim().trim_start_matches("- ")) {
        if let Some(name) = line.strip_prefix("alert: ") {
            alert = name;
        } else if let Some(link) = line.strip_prefix("runbook: ") {
            let link = link.trim_matches('"').strip_prefix("docs/troubleshooting.md#").expect(alert);
            match alert {
                "LbFinding" => assert_eq!(link, "{{ $labels.finding }}"),
                _ => {
                    assert_eq!(link, alert.to_lowercase());
                    alerts.insert(alert.to_owned());
                }
            }
        }
    }
    assert!(alerts.len() > 20, "{alerts:?}");
    assert_eq!(headings("## By alert"), alerts);
}

/// Whoever is told by the director itself has the event's id. What begins stands first in each
/// line of the table, as a text or as a constant of that name.
#[test]
fn every_event_that_lasts_stands_in_the_troubleshooting_guide() {
    let source = read(&workspace::root().join("lb-userspace/alerts/src/ongoing.rs"));
    let table = source.lines().skip_while(|line| !line.starts_with("const LASTING")).skip(1);
    let table = table.take_while(|line| *line != "];");
    let begins = |line: &str| {
        let (event, _) = line.trim().strip_prefix('(')?.split_once(',')?;
        Some(event.trim_matches('"').to_lowercase())
    };
    let events: BTreeSet<String> = table.filter_map(begins).collect();
    assert!(events.len() > 10, "{events:?}");
    let guide = read(&workspace::root().join("docs/troubleshooting.md"));
    let (_, part) = guide.split_once("\n## By event\n").expect("a part about events");
    let part = part.split("\n## ").next().unwrap_or_default();
    let missing: Vec<&String> = events.iter().filter(|event| !part.contains(&format!("`{event}`"))).collect();
    assert!(missing.is_empty(), "\"By event\" lacks {missing:?}");
}

/// The headings of a part of the troubleshooting guide.
fn headings(part: &str) -> BTreeSet<String> {
    let guide = read(&workspace::root().join("docs/troubleshooting.md"));
    let lines = guide.lines().skip_while(|line| *line != part).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("## "));
    lines.filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect()
}

fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| workspace::root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(end) if end == "rs" => files.push(path),
                _ => {}
            }
        }
    }
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("text")
}
