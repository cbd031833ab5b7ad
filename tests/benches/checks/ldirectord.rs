//! Debian's ldirectord with the same servers, for comparison. Its defaults stand, but for the times
//! and what is asked.
//!
//! It needs IPVS to forward, which not every kernel has. Without it its calls of ipvsadm fail,
//! which it notes, and it goes on checking; but it tells no more that a server goes. So it is timed
//! by its `monitorfile`, to which it writes the result of each check at the very moment when it
//! would call ipvsadm.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_lab::crowd::Crowd;
use lb_lab::lab::{Process, unique_name};

use crate::director::{HANGING, INTERVAL, TIMEOUT};
use crate::report::Case;
use crate::{detection, meter};

const DAEMON: &str = "ldirectord";

/// A round in which 50 servers time out takes 150 s, and servers may begin to hang just after their
/// turn.
const PATIENCE: Duration = Duration::from_secs(600);
const WINDOW: Duration = Duration::from_secs(10);

pub(crate) fn is_installed() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(DAEMON).is_file())
}

pub(crate) fn hanging(name: &'static str) -> Result<Case> {
    ensure!(is_installed(), "ldirectord is not installed: --with-ldirectord does it");
    let crowd = Crowd::new(&unique_name("ldirectord"), 200, HANGING)?;
    let folder = crowd.director.folder()?;
    let monitor = folder.join("monitor");
    // Its pid file in /run is named after the configuration.
    let file = folder.join(format!("{}.cf", crowd.lab.state().name()));
    fs::write(&file, configuration(crowd.servers(), &monitor))?;
    let file = file.to_str().context("the lab's folder is not UTF-8")?;
    let process = crowd.director.start(DAEMON, DAEMON, &[file, "start"])?;
    wait_for_two_rounds(&crowd, &monitor, process)?;
    let steady = meter::measure(&crowd, process, WINDOW)?;
    eprintln!("{name}: all {} servers are checked; now {HANGING} begin to hang", crowd.servers().len());
    let worst = detection::worst(&crowd, &monitor, PATIENCE, found_down)?;
    eprintln!("{name}: the last one was found down after {} ms", worst.as_millis());
    process.stop(Duration::from_secs(10))?;
    Ok(Case::new(name, crowd.servers().len(), worst, steady))
}

fn configuration(servers: &[Ipv4Addr], monitor: &Path) -> String {
    let (interval, timeout) = (INTERVAL.as_secs(), TIMEOUT.as_secs());
    let mut text = format!(
        "checkinterval = {interval}\nchecktimeout = {timeout}\nnegotiatetimeout = {timeout}\nautoreload = no\n\
         supervised = yes\nvirtual = 10.66.1.1:80\n"
    );
    for server in servers {
        let _ = writeln!(text, "        real = {server}:80 gate");
    }
    let _ = write!(
        text,
        "        protocol = tcp\n        scheduler = wlc\n        checktype = negotiate\n        service = http\n        \
         request = \"index.html\"\n        receive = \"Test Page\"\n        monitorfile = \"{}\"\n",
        monitor.display()
    );
    text
}

/// The first one makes its calls of ipvsadm.
fn wait_for_two_rounds(crowd: &Crowd, monitor: &Path, process: Process) -> Result<()> {
    let begun = Instant::now();
    let last = crowd.servers().last().context("there are servers")?.to_string();
    loop {
        let text = fs::read_to_string(monitor).unwrap_or_default();
        if text.lines().filter(|line| line.contains(&last) && line.contains("[up]")).count() >= 2 {
            return Ok(());
        }
        ensure!(
            process.is_alive() && begun.elapsed() < PATIENCE,
            "ldirectord does not check its servers:\n{}",
            crowd.lab.state().log_tail("director-ldirectord")
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// The server that a line of the monitor file is about, if its check has failed.
///
/// `[Tue Nov 24 23:32:00 2026] [4711] negotiate http tcp 10.66.192.1 80 … [down] -`
fn found_down(line: &str) -> Option<Ipv4Addr> {
    line.contains("[down]").then(|| line.split_whitespace().find_map(|word| word.parse().ok()))?
}
