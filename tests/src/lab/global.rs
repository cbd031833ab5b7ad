//! Settings of the whole machine, not of a namespace, which a lab raises and gives back when it is removed.
//!
//! What they were stands in the lab's `globals`, so that the next lab gives back what a killed owner could not.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use anyhow::{Context as _, Result};

use super::State;

/// Raises `/proc/sys/PATH` to at least `value` for as long as the lab is there.
pub(super) fn raise(state: &State, path: &str, value: u64) -> Result<()> {
    let file = format!("/proc/sys/{path}");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let before: u64 = text.trim().parse().with_context(|| format!("{file} is no number: {text}"))?;
    if before >= value {
        return Ok(());
    }
    let mut record = OpenOptions::new().create(true).append(true).open(record_of(state))?;
    writeln!(record, "{path} {before} {value}")?;
    fs::write(&file, value.to_string()).with_context(|| format!("cannot set {file}"))
}

/// Gives back what the lab has raised, unless somebody has changed it since.
pub(super) fn give_back(state: &State) {
    let text = fs::read_to_string(record_of(state)).unwrap_or_default();
    for line in text.lines() {
        let Some((path, before, raised)) = parse(line) else { continue };
        let file = format!("/proc/sys/{path}");
        let unchanged = fs::read_to_string(&file).is_ok_and(|now| now.trim() == raised);
        if unchanged && let Err(error) = fs::write(&file, before) {
            eprintln!("lab {}: cannot set {file} back to {before}: {error}", state.name());
        }
    }
}

fn record_of(state: &State) -> std::path::PathBuf {
    state.folder().join("globals")
}

fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let mut words = line.split_whitespace();
    Some((words.next()?, words.next()?, words.next()?))
}
