//! `lb` with the crowd: what its checks cost, and when it takes out servers that hang.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_api::status::Status;
use lb_lab::crowd::Crowd;
use lb_lab::lab::{Director, unique_name};
use lb_lab::statistics::round_to;

use crate::report::{Case, Punctuality, Scale};
use crate::{detection, meter};

/// What is asked of each server.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);
const CHECK: &str = "{ type: http, request: /index.html, receive: Test Page, interval: 1s, timeout: 3s }";

/// Servers that hang, in all cases.
pub(crate) const HANGING: usize = 50;

/// For what takes seconds on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(10);
/// What a start or a change stirs up is over by then.
const REST: Duration = Duration::from_secs(2);

/// 5,000 servers: the start, with some that hang; what checks cost when all answer; whether servers
/// that hang hold up the checks of others; what is left to do with next to no servers.
pub(crate) fn scale(name: &'static str) -> Result<Case> {
    let crowd = Crowd::new(&unique_name("scale"), 5000, HANGING)?;
    crowd.frail.freeze();
    let begun = Instant::now();
    let director = Director::start(&crowd.director, &crowd.configuration(CHECK))?;
    // Not before, some hang; and each look at thousands of servers is work for lb.
    thread::sleep(TIMEOUT.saturating_sub(begun.elapsed()));
    director.wait_until("a verdict on every server", PATIENCE, |status| count(status, "unknown") == 0)?;
    let full_verdict = begun.elapsed();
    eprintln!("{name}: a verdict on every server after {} ms", full_verdict.as_millis());

    crowd.frail.thaw();
    wait_until_all_are_up(&director)?;
    let (steady, while_all_answer) =
        punctuality(&crowd, &director, || meter::measure(&crowd, director.process(), WINDOW))?;
    eprintln!("{name}: {:.3} of a core for {:.0} checks/s", steady.cpu_share, steady.checks_per_s);

    let worst = detection::worst(&crowd, &log(&director), PATIENCE, removed)?;
    eprintln!("{name}: {HANGING} began to hang, the last one was out after {} ms", worst.as_millis());
    let files_before = director.process().open_files()?;
    let ((), while_some_hang) = punctuality(&crowd, &director, || {
        thread::sleep(WINDOW);
        Ok(())
    })?;
    let files = director.process().open_files()?;
    crowd.frail.thaw();
    eprintln!("{name}: {} of {} probes late while they hang", while_some_hang.late, while_some_hang.probes);

    director.reconfigure(&crowd.configuration_of(&crowd.servers()[..2], CHECK))?;
    director.wait_until("two servers", PATIENCE, |status| count(status, "up") == 2)?;
    thread::sleep(REST);
    let idle = meter::measure(&crowd, director.process(), WINDOW)?;
    eprintln!("{name}: {:.3} of a core with two servers", idle.cpu_share);
    let scale = Scale {
        full_verdict_ms: full_verdict.as_millis(),
        while_all_answer,
        while_some_hang,
        open_files: [files_before, files],
        cpu_share_of_two_servers: round_to(idle.cpu_share, 3),
    };
    Ok(Case::new(name, 5000, worst, steady).with_goals().with_scale(scale))
}

/// Whether checks come when they are due, while something is `measured` for a window.
fn punctuality<T>(
    crowd: &Crowd,
    director: &Director,
    measured: impl FnOnce() -> Result<T>,
) -> Result<(T, Punctuality)> {
    let before = director.status()?.checks;
    // A status of 5,000 servers is work, for lb and for us.
    thread::sleep(REST);
    let measured = measured()?;
    let longest_gap = meter::longest_gap(crowd, WINDOW)?;
    let after = director.status()?.checks;
    let checks = Punctuality {
        probes: after.started - before.started,
        late: after.late - before.late,
        longest_gap_ms: longest_gap.as_millis(),
    };
    Ok((measured, checks))
}

/// 200 servers, of which 50 begin to hang, at another moment between two checks in each run.
pub(crate) fn hanging(name: &'static str, runs: u32) -> Result<Case> {
    let crowd = Crowd::new(&unique_name("hanging"), 200, HANGING)?;
    let director = Director::start(&crowd.director, &crowd.configuration(CHECK))?;
    wait_until_all_are_up(&director)?;
    thread::sleep(REST);
    let steady = meter::measure(&crowd, director.process(), WINDOW)?;
    let mut worst = Duration::ZERO;
    for run in 1..=runs {
        thread::sleep(phase(run));
        let last = detection::worst(&crowd, &log(&director), PATIENCE, removed)
            .with_context(|| format!("run {run}; the end of lb's log:\n{}", director.log_tail()))?;
        eprintln!("{name}, run {run} of {runs}: the last of {HANGING} was out after {} ms", last.as_millis());
        worst = worst.max(last);
        crowd.frail.thaw();
        wait_until_all_are_up(&director)?;
    }
    Ok(Case::new(name, 200, worst, steady).with_goals())
}

/// A part of the interval, another one in each run. Multiples of the golden ratio lie evenly,
/// however many there are.
fn phase(run: u32) -> Duration {
    const GOLDEN: f64 = 0.618_034;
    INTERVAL.mul_f64((f64::from(run) * GOLDEN).fract())
}

fn wait_until_all_are_up(director: &Director) -> Result<()> {
    let all_up = |status: &Status| count(status, "up") == servers(status);
    director.wait_until("all servers up", PATIENCE, all_up).map(drop)
}

fn servers(status: &Status) -> usize {
    status.services.iter().map(|service| service.servers.len()).sum()
}

fn count(status: &Status, health: &str) -> usize {
    let servers = status.services.iter().flat_map(|service| &service.servers);
    servers.filter(|server| server.health.word() == health).count()
}

fn log(director: &Director) -> std::path::PathBuf {
    director.node().state().log(&format!("{}-lb", director.node().name()))
}

/// The server that a line of lb's log takes out of its service.
fn removed(line: &str) -> Option<Ipv4Addr> {
    let event = lb_lab::lab::log::event(line).filter(|event| event.event == "server_removed")?;
    event.server?.parse().ok()
}
