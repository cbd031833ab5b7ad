//! The metrics, the alerts and the dashboards, with the real Prometheus and the real Alertmanager.
//!
//! - `monitor`: both programs on a node; `scrape`: what is counted; `rules`: the alerts by
//!   promtool; `alerts`: one of them from a server's end to its return; `dashboards`: what is drawn

mod alerts;
mod dashboards;
mod monitor;
mod rules;
mod scrape;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_api::status::TableStatus;

/// Programs start, and scrape every second or every five.
const PATIENCE: Duration = Duration::from_secs(60);

/// The part of a table's slots that may be in use before somebody is warned.
const TABLE_FILLS: f64 = TableStatus::FILLS_ABOVE_PERCENT as f64 / 100.0;

/// A file or folder of `deploy`.
fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}
