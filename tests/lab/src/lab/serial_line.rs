//! A serial line between two nodes: a pair of pseudo-terminals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::State;

/// A serial line, kept open by a process of the lab: either end can be closed and opened again at
/// any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialLine {
    /// Device files, `/dev/pts/N`, one per node. Both are in raw mode.
    pub ends: [PathBuf; 2],
}

impl SerialLine {
    /// Creates the line and waits until both ends can be opened.
    pub(super) fn new(state: &State, name: &str) -> Result<Self> {
        let links = ["a", "b"].map(|end| state.folder().join(format!("{name}-{end}")));
        let mut command = as_prompt_as_a_cable("socat");
        command.args(links.each_ref().map(|link| format!("PTY,raw,echo=0,link={}", link.display())));
        let process = state.start(name, &mut command)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !links.iter().all(|link| link.exists()) {
            if !process.is_alive() || Instant::now() > deadline {
                bail!("socat does not lay the serial line:\n{}", state.log_tail(name));
            }
            thread::sleep(Duration::from_millis(5));
        }
        let [a, b] = links.each_ref().map(|link| device(link));
        Ok(Self { ends: [a?, b?] })
    }
}

/// A process stands for a cable, which no busy machine holds up: it gets real-time priority where
/// that is permitted.
fn as_prompt_as_a_cable(program: &str) -> Command {
    const PRIORITY: [&str; 2] = ["--fifo", "10"];
    let permitted = Command::new("chrt").args(PRIORITY).arg("true").stderr(Stdio::null()).status();
    if !permitted.is_ok_and(|status| status.success()) {
        return Command::new(program);
    }
    let mut command = Command::new("chrt");
    command.args(PRIORITY).arg(program);
    command
}

fn device(link: &Path) -> Result<PathBuf> {
    fs::read_link(link).with_context(|| format!("cannot read {}", link.display()))
}
