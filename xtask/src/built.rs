//! Executables that run without cargo, in other kernels.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// Their paths.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Built {
    /// The packet tests (BPF_PROG_TEST_RUN).
    pub packets: PathBuf,
    /// The tests of real devices.
    pub devices: PathBuf,
    /// The example that loads every program and prints the kernel's figures.
    pub programs: PathBuf,
    /// `lb` itself.
    pub lb: PathBuf,
}

/// Builds the executables, as `cargo test` would.
pub(crate) fn build() -> Result<Built> {
    Ok(Built {
        packets: test("packets")?,
        devices: test("devices")?,
        programs: programs()?,
        lb: workspace::build_lb_for_debugging()?,
    })
}

fn test(name: &str) -> Result<PathBuf> {
    built("test", name, &["test", "--no-run", "--test"])
}

/// Builds only the example: `cargo test` would build tests of it.
pub(crate) fn programs() -> Result<PathBuf> {
    built("example", "programs", &["build", "--example"])
}

fn built(kind: &str, name: &str, words: &[&str]) -> Result<PathBuf> {
    let mut command = workspace::strict_cargo()?;
    command.args(words).arg(name).args(workspace::SELECTION.split_whitespace());
    command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "building the {kind} `{name}` of lb-tests failed ({})", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    executable(&messages, kind, name).with_context(|| format!("cargo built no {kind} `{name}` of lb-tests"))
}

/// The path of an executable in cargo's JSON messages.
fn executable(messages: &str, kind: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let target = message.get("target")?;
        let is_it =
            target.get("name")? == name && target.get("kind")?.as_array()?.iter().any(|is| is == kind);
        let path = message.get("executable").filter(|_| is_it)?.as_str()?;
        Some(PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_found_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"packets"},"executable":null}
not for us
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"packets"},"executable":"/t/packets-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "test", "packets"), Some(PathBuf::from("/t/packets-1")));
        assert_eq!(executable(messages, "example", "packets"), None);
    }
}
