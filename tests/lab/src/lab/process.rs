//! A process id that other processes can use later, safe against reuse of the pid.

use std::fmt;
use std::fs;
use std::process::Child;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// A pid and the process's start time, which together identify a process until the next reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`.
    start: u64,
}

impl Process {
    /// The calling process.
    pub fn current() -> Result<Self> {
        Self::with_pid(Pid::this().as_raw())
    }

    pub(super) fn of_child(child: &Child) -> Result<Self> {
        Self::with_pid(i32::try_from(child.id())?)
    }

    pub(super) fn with_pid(pid: i32) -> Result<Self> {
        let Stat { start, .. } = stat(pid).with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { pid, start })
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the process is still running. Reaps it if it is an ended child of this process.
    pub fn is_alive(&self) -> bool {
        match stat(self.pid) {
            Some(Stat { state, start, .. }) if start == self.start => {
                let ended = state == 'Z' && threads(self.pid) <= 1;
                if ended {
                    // An error means that it is a child of another process.
                    let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
                }
                !ended
            }
            _ => false,
        }
    }

    /// CPU time so far, including threads and ended children.
    pub fn cpu_time(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("the process is gone")?;
        let (_, after_name) = text.rsplit_once(')').context("/proc/PID/stat without a name")?;
        // User and system time are fields 14 and 15, those of children 16 and 17; the state is
        // field 3.
        let ticks =
            after_name.split_whitespace().skip(11).take(4).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// Number of open file descriptors.
    pub fn open_files(&self) -> Result<usize> {
        let folder = format!("/proc/{}/fd", self.pid);
        Ok(fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?.count())
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        threads(self.pid)
    }

    /// Sends a signal, if the process is still running.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Sends a signal to the process and all children in its process group.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        // Background processes of a lab lead a group, see `State::start`.
        killpg(Pid::from_raw(self.pid), signal).with_context(|| format!("cannot signal group {}", self.pid))
    }

    /// Sends SIGTERM, waits for `patience`, and then sends SIGKILL.
    pub fn stop(&self, patience: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM);
        if self.ends_within(patience) {
            return Ok(());
        }
        self.signal(Signal::SIGKILL);
        if !self.ends_within(Duration::from_secs(30)) {
            bail!("process {} does not end", self.pid);
        }
        Ok(())
    }

    /// Whether the process ends within `patience`.
    pub fn ends_within(&self, patience: Duration) -> bool {
        holds_within(patience, || !self.is_alive())
    }

    /// Whether the process's group ends within `patience`: some servers' children outlive them for
    /// a moment.
    pub fn group_ends_within(&self, patience: Duration) -> bool {
        let is_left = |pid| stat(pid).is_some_and(|stat| stat.group == self.pid && stat.state != 'Z');
        holds_within(patience, || !pids().any(is_left))
    }
}

fn holds_within(patience: Duration, condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// The pids of all processes.
pub(super) fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.start)
    }
}

impl FromStr for Process {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (pid, start) = text.trim().split_once(' ').context("expected a pid and a start time")?;
        Ok(Self { pid: pid.parse()?, start: start.parse()? })
    }
}

/// Some fields of `/proc/PID/stat`.
struct Stat {
    state: char,
    group: i32,
    start: u64,
}

/// The command's name is in parentheses and may contain any characters, including parentheses.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // `state` is field 3, the group field 5, the start time field 22.
    let group = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, group, start })
}

/// Whether other threads of a killed process are left: they may still hold its files open.
fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    #[expect(clippy::zombie_processes, reason = "is_alive reaps it")]
    fn a_child_is_alive_until_stopped() {
        let child = Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let process = Process::of_child(&child).expect("it has a start time");
        assert!(process.is_alive());
        process.stop(Duration::from_secs(5)).expect("it ends");
        assert!(!process.is_alive());
    }

    #[test]
    fn a_group_ends_with_its_last_member() {
        let mut leader =
            Command::new("sh").args(["-c", "sleep 60 &"]).process_group(0).spawn().expect("sh starts");
        let process = Process::of_child(&leader).expect("it has a start time");
        leader.wait().expect("it ends");
        assert!(!process.group_ends_within(Duration::from_millis(20)), "the leader's child is left");
        process.signal_group(Signal::SIGKILL).expect("there is a group");
        assert!(process.group_ends_within(Duration::from_secs(5)));
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_the_recorded_one() {
        let current = Process::current().expect("we run");
        let recorded: Process = current.to_string().parse().expect("what we print we can read");
        assert_eq!(recorded, current);
        assert!(!Process { start: current.start + 1, ..current }.is_alive());
    }
}
