//! How much processor time checks take, and how many of them servers have answered in that time.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use lb_lab::crowd::Crowd;
use lb_lab::lab::Process;
use lb_lab::lab::web_server::Request;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    /// Of one core, user and system time of all threads.
    pub cpu_share: f64,
    pub checks_per_s: f64,
}

impl Use {
    /// How many one core would manage.
    pub(crate) fn checks_per_s_per_core(&self) -> f64 {
        self.checks_per_s / self.cpu_share
    }
}

/// Watches `process` for `duration`. Checks are counted by what the servers have answered.
pub(crate) fn measure(crowd: &Crowd, process: Process, duration: Duration) -> Result<Use> {
    let (begun, begun_at, before) = (Instant::now(), seconds()?, process.cpu_time()?);
    thread::sleep(duration);
    let (took, ended_at, cpu) = (begun.elapsed(), seconds()?, process.cpu_time()? - before);
    let mut answered = crowd.steady.requests()?;
    answered.extend(crowd.frail.requests()?);
    let checks = answered.iter().filter(|request| (begun_at..ended_at).contains(&request.at)).count();
    Ok(Use {
        cpu_share: cpu.as_secs_f64() / took.as_secs_f64(),
        checks_per_s: checks as f64 / took.as_secs_f64(),
    })
}

/// The longest time between two checks of a server that answers, within the last `duration`.
pub(crate) fn longest_gap(crowd: &Crowd, duration: Duration) -> Result<Duration> {
    let begun_at = seconds()? - duration.as_secs_f64();
    let mut last = BTreeMap::new();
    let mut longest = 0_f64;
    for Request { at, server, .. } in crowd.steady.requests()?.iter().filter(|request| request.at > begun_at)
    {
        if let Some(before) = last.insert(server, at) {
            longest = longest.max(at - before);
        }
    }
    Ok(Duration::from_secs_f64(longest))
}

fn seconds() -> Result<f64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Ok(since.context("the clock stands before 1970")?.as_secs_f64())
}
