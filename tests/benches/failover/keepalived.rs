//! keepalived on ha1 and ha2, for comparison: VRRP moves the VIP, and the directors' own web
//! servers answer on it.
//!
//! keepalived forwards by IPVS, which not every kernel has; so what is measured is the take-over of
//! the address alone. A director's kernel goes on answering ARP and clients after keepalived was
//! killed, and no gap would ever be seen. So the address is removed by hand at that moment, as if
//! the machine had died with its daemon.

use std::env;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Node, Process, cleanup, unique_name};
use lb_lab::scenario::open_loop::Outage;
use lb_lab::scenario::traffic::Answer;
use nix::sys::signal::Signal;

/// For a take-over or a return at the defaults, which each take 3.6 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// keepalived's own default priority, and one that is preferred to it.
const PRIORITIES: [(&str, u8); 2] = [("ha1", 150), ("ha2", 100)];

/// The web servers of the directors themselves.
const PAGES: &[Answer] = &[Answer::Fallback, Answer::Ha2Fallback];

const DAEMON: &str = "keepalived";

pub(crate) fn is_installed() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(DAEMON).is_file())
}

pub(crate) struct Keepalived {
    talk: Talk,
    interval: Duration,
    runs: u32,
}

impl Keepalived {
    /// Starts it on both directors, with `interval` from one advertisement to the next.
    pub(crate) fn start(interval: Duration) -> Result<Self> {
        ensure!(is_installed(), "keepalived is not installed: --with-keepalived does it");
        let talk = Talk::new(&unique_name("keepalived"))?;
        for (node, (name, priority)) in [&talk.ha1, &talk.ha2].into_iter().zip(PRIORITIES) {
            fs::write(node.folder()?.join("keepalived.conf"), configuration(name, priority, interval))?;
            start(node)?;
        }
        let keepalived = Self { talk, interval, runs: 0 };
        keepalived.wait_until_held_by_ha1()?;
        Ok(keepalived)
    }

    /// Kills the master and leaves its address where it is: the reason why the runs remove it.
    pub(crate) fn who_answers_after_a_crash(&mut self) -> Result<String> {
        loop {
            let master = daemons(&self.talk.ha1)?;
            kill(&master);
            wait_until("ha2 to take the VIP", || holds_vip(&self.talk.ha2))?;
            let answering = self.talk.client.who_has(VIP)?.len();
            let was_master = self.remove_from_ha1()?;
            self.restart_ha1(&master)?;
            if was_master {
                return Ok(format!(
                    "after kill -9 of the master, {answering} of 2 directors answer ARP for the VIP; in the runs its \
                     address is removed by hand"
                ));
            }
        }
    }

    /// One run: the master dies, and its address with it.
    ///
    /// At the shortest interval the two sometimes swap by themselves, when one gets the processor
    /// late; what was killed just then was no master, and it is done again.
    pub(crate) fn kill(&mut self) -> Result<Outage> {
        loop {
            self.runs += 1;
            thread::sleep(self.phase());
            // Looked for beforehand: at the shortest interval ha2 takes over within 30 ms, and a
            // dead machine does not answer until then.
            let master = daemons(&self.talk.ha1)?;
            let mut was_master = false;
            let outage = Outage::during(&self.talk.client, PAGES, || {
                kill(&master);
                was_master = self.remove_from_ha1()?;
                wait_until("ha2 to take the VIP", || holds_vip(&self.talk.ha2))
            })?;
            self.restart_ha1(&master)?;
            if was_master {
                return Ok(outage);
            }
            eprintln!("not counted: ha1 had lost the VIP by itself before it was killed");
        }
    }

    /// A part of the interval, another one in each run. Runs are of equal length: without it they
    /// would all kill the master equally long after its last advertisement. Multiples of the golden
    /// ratio lie evenly, however many there are.
    fn phase(&self) -> Duration {
        const GOLDEN: f64 = 0.618_034;
        self.interval.mul_f64((f64::from(self.runs) * GOLDEN).fract())
    }

    /// False if it had none.
    fn remove_from_ha1(&self) -> Result<bool> {
        // Tried at once: to look first would take as long.
        match self.talk.ha1.ip(&format!("address del {VIP}/25 dev eth0")) {
            Err(error) if holds_vip(&self.talk.ha1)? => Err(error),
            removed => Ok(removed.is_ok()),
        }
    }

    /// Starts it on ha1 again, once `killed` are gone.
    fn restart_ha1(&self, killed: &[Process]) -> Result<()> {
        ensure!(
            killed.iter().all(|process| process.ends_within(Duration::from_secs(5))),
            "keepalived on ha1 does not end"
        );
        start(&self.talk.ha1)?;
        self.wait_until_held_by_ha1()
    }

    fn wait_until_held_by_ha1(&self) -> Result<()> {
        let back = || Ok(holds_vip(&self.talk.ha1)? && !holds_vip(&self.talk.ha2)?);
        wait_until("ha1 to have the VIP alone", back)
            .with_context(|| self.talk.lab.state().log_tail("ha1-keepalived"))
    }
}

/// Everything that is not said is keepalived's default. Less than a second between advertisements
/// takes VRRP version 3.
fn configuration(name: &str, priority: u8, interval: Duration) -> String {
    let version = if interval < Duration::from_secs(1) { 3 } else { 2 };
    format!(
        "\
global_defs {{
    router_id {name}
    vrrp_version {version}
}}
vrrp_instance talk {{
    interface eth0
    virtual_router_id 6
    priority {priority}
    advert_int {}
    virtual_ipaddress {{
        {VIP}/25 dev eth0
    }}
}}
",
        interval.as_secs_f64()
    )
}

/// VRRP alone, in the foreground, telling its log to standard error.
fn start(node: &Node) -> Result<()> {
    let folder = node.folder()?;
    let file = |name: &str| folder.join(name).display().to_string();
    let pid_files = [file("keepalived.pid"), file("vrrp.pid")];
    // A daemon that was killed leaves them, and one that is started believes them.
    for left_behind in pid_files.iter().filter(|file| Path::new(file).exists()) {
        fs::remove_file(left_behind).with_context(|| format!("cannot remove {left_behind}"))?;
    }
    let [pid, vrrp_pid] = &pid_files;
    let files = ["--use-file", &file("keepalived.conf"), "--pid", pid, "--vrrp_pid", vrrp_pid];
    let options = ["--dont-fork", "--log-console", "--log-detail", "--vrrp"];
    node.start(DAEMON, DAEMON, &[&options[..], &files].concat()).map(drop)
}

/// The processes of the one on `node`, a parent and its child.
fn daemons(node: &Node) -> Result<Vec<Process>> {
    let is_daemon = |process: &Process| {
        fs::read_to_string(format!("/proc/{}/comm", process.pid())).is_ok_and(|name| name.trim() == DAEMON)
    };
    let members = cleanup::members(&node.state().namespace(node.name()));
    let daemons: Vec<_> = members.into_iter().filter(is_daemon).collect();
    ensure!(!daemons.is_empty(), "keepalived does not run on {}", node.name());
    Ok(daemons)
}

/// They are stopped first, so that the parent cannot start its child anew.
fn kill(daemons: &[Process]) {
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        daemons.iter().for_each(|process| process.signal(signal));
    }
}

fn holds_vip(node: &Node) -> Result<bool> {
    Ok(node.ip("-oneline address show dev eth0")?.contains(&format!(" {VIP}/")))
}

fn wait_until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
