//! Prometheus on a node.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use lb_lab::lab::Node;
use serde_json::Value;

use super::PATIENCE;

const PROMETHEUS: u16 = 9090;

/// Prometheus on a node.
pub(crate) struct Monitor<'a>(&'a Node);

impl<'a> Monitor<'a> {
    /// Starts Prometheus with this configuration file.
    pub(crate) fn start(node: &'a Node, configuration: &Path) -> Result<Self> {
        let storage = node.folder()?.join("prometheus");
        let arguments = [
            format!("--config.file={}", configuration.display()),
            format!("--storage.tsdb.path={}", storage.display()),
            format!("--web.listen-address=127.0.0.1:{PROMETHEUS}"),
        ];
        start(node, "prometheus", &arguments, PROMETHEUS)?;
        Ok(Self(node))
    }

    /// What Prometheus' HTTP API says.
    pub(crate) fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let answer = self.0.get_json(PROMETHEUS, &format!("/api/v1/{path}"), parameters)?;
        anyhow::ensure!(answer["status"] == "success", "{path} {parameters:?}: {answer}");
        Ok(answer["data"].clone())
    }

    /// The series that `expression` returns now.
    pub(crate) fn series(&self, expression: &str) -> Result<Vec<Value>> {
        let data = self.ask("query", &[("query", expression)])?;
        data["result"].as_array().cloned().with_context(|| format!("{expression}: {data}"))
    }

    /// The value of the only sample that `expression` finds, once there is one that `wanted`
    /// accepts.
    pub(crate) fn wait_for(&self, expression: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        wait(expression, || {
            let series = self.series(expression)?;
            let [only] = &*series else { anyhow::bail!("{series:?}") };
            let value = only["value"][1].as_str().context("no value")?.parse()?;
            anyhow::ensure!(wanted(value), "{value}");
            Ok(value)
        })
    }
}

/// Waits until `look` succeeds.
pub(crate) fn wait<T>(what: &str, look: impl Fn() -> Result<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "waited for {what}; the last answer: {error:#}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
}

fn start(node: &Node, program: &str, arguments: &[String], port: u16) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let started = node.start_server(program, program, &arguments, port);
    started.with_context(|| format!("{program} (`cargo xtask setup` installs it)")).map(drop)
}
