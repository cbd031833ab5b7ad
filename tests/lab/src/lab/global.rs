//! Settings of the whole machine, not of a namespace: labs raise them, and the last lab restores
//! them.
//!
//! Each lab's `globals` has the original values, so that the next lab can restore what a killed
//! owner could not.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::State;
use super::state::lock;

/// A setting's value before any lab raised it.
#[derive(Debug, PartialEq, Eq)]
struct Before {
    path: String,
    value: u64,
}

/// Raises `/proc/sys/PATH` to at least `value` as long as the lab exists.
pub(super) fn raise(state: &State, path: &str, value: u64) -> Result<()> {
    let _lock = lock("globals")?;
    let file = file_of(path);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let now: u64 = text.trim().parse().with_context(|| format!("{file} is no number: {text}"))?;
    let others = raised_by_others(state)?.into_iter().find(|before| before.path == path);
    let before = others.map_or(now, |before| before.value);
    let mut record = OpenOptions::new().create(true).append(true).open(record_of(state))?;
    writeln!(record, "{path} {before}")?;
    if now < value {
        fs::write(&file, value.to_string()).with_context(|| format!("cannot set {file}"))?;
    }
    Ok(())
}

/// Restores the settings that the lab has raised, unless another lab needs them.
pub(super) fn give_back(state: &State) -> Result<()> {
    let _lock = lock("globals")?;
    let others = raised_by_others(state)?;
    for before in raised_by(state) {
        if others.contains(&before) {
            continue;
        }
        let file = file_of(&before.path);
        fs::write(&file, before.value.to_string()).with_context(|| format!("cannot set {file} back"))?;
    }
    // From here on the setting does not belong to this lab, whose folder still exists.
    let record = record_of(state);
    if record.exists() { fs::remove_file(record).context("cannot remove the record") } else { Ok(()) }
}

fn raised_by_others(state: &State) -> Result<Vec<Before>> {
    Ok(State::all()?.iter().filter(|other| *other != state).flat_map(raised_by).collect())
}

fn raised_by(state: &State) -> Vec<Before> {
    let text = fs::read_to_string(record_of(state)).unwrap_or_default();
    let parse = |line: &str| {
        let (path, value) = line.split_once(' ')?;
        Some(Before { path: path.to_owned(), value: value.parse().ok()? })
    };
    text.lines().filter_map(parse).collect()
}

fn record_of(state: &State) -> PathBuf {
    state.folder().join("globals")
}

fn file_of(path: &str) -> String {
    format!("/proc/sys/{path}")
}

#[cfg(test)]
mod tests {
    use super::super::{Lab, unique_name};
    use super::*;

    /// One that no lab but this test's ones raises: others may stand on this machine.
    const SETTING: &str = "fs/inotify/max_queued_events";

    #[test]
    fn a_setting_is_given_back_with_the_last_lab_that_needs_it() -> Result<()> {
        let value = || -> Result<u64> { Ok(fs::read_to_string(file_of(SETTING))?.trim().parse()?) };
        let before = value()?;
        let [first, second] = ["globalone", "globaltwo"].map(|purpose| Lab::new(&unique_name(purpose)));
        let (first, second) = (first?, second?);
        raise(&first.state, SETTING, before + 1)?;
        raise(&second.state, SETTING, before + 2)?;
        raise(&first.state, SETTING, before)?;
        assert_eq!(value()?, before + 2);
        drop(first);
        assert_eq!(value()?, before + 2, "the second one needs it");
        drop(second);
        assert_eq!(value()?, before);
        Ok(())
    }
}
