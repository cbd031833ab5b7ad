//! Where and when a benchmark's report comes from: figures are one machine's.

use std::fs;
use std::thread::available_parallelism;
use std::time::SystemTime;

use serde::Serialize;

/// A machine and a day.
#[derive(Debug, Serialize)]
pub struct Origin {
    /// Of UTC, such as 2026-12-01.
    pub date: String,
    /// The processor's name, as the kernel has it.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Of this source.
    pub version: &'static str,
}

impl Origin {
    /// Of what is measured now.
    pub fn here() -> Self {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            date: now.split('T').next().unwrap_or_default().to_owned(),
            processor: named.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            processors: available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// A report as JSON, with its origin as `run`.
///
/// # Errors
/// The report is no object.
pub fn json(report: &impl Serialize) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Told<'a, R> {
        run: Origin,
        #[serde(flatten)]
        report: &'a R,
    }
    serde_json::to_string_pretty(&Told { run: Origin::here(), report })
}

#[test]
fn a_report_says_where_and_when_it_comes_from() {
    let text = json(&serde_json::json!({ "cases": [] })).expect("JSON");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let run = &report["run"];
    assert_eq!(run["date"].as_str().map(str::len), Some(10), "{text}");
    assert!(run["processors"].as_u64().is_some_and(|count| count > 0), "{text}");
    assert!(run["kernel"].as_str().is_some_and(|release| release.contains('.')), "{text}");
    assert!(report["cases"].is_array(), "{text}");
}
