//! How each fault is made and undone, with the real thing: signals, links, nftables, faketime, a
//! full tmpfs, and strace, which has the kernel return an error in place of a system call's result.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::schedule::{Fault, Kind, Who};
use super::servers::Servers;
use crate::cluster::pair::Pair;
use crate::cluster::{HEARTBEAT_PORT, Talk};
use crate::lab::{Director, Link, Node, director};

/// What a state file has in place of its content.
const GARBAGE: &[u8] = b"\0\xff\xfe{[: not what it was\n\t- &";

/// Bytes of the tmpfs that holds a director's state.
const DISK: &str = "size=64k,mode=0700";

/// From one flap of a link to the next.
const BETWEEN_FLAPS: Duration = Duration::from_millis(300);

/// The cluster, with all that a fault needs.
pub(super) struct Stage {
    pub talk: Talk,
    pub pair: Pair,
    pub servers: Servers,
    pub launchers: [Vec<String>; 2],
    /// Both builds of `lb`.
    pub builds: [PathBuf; 2],
    pub disks: [Disk; 2],
    pub refusing: Option<Refusing>,
}

/// The file system of a director's state, which the lab unmounts.
pub(super) struct Disk(PathBuf);

impl Disk {
    fn make(node: &Node) -> Result<Self> {
        let folder = state_folder(node)?;
        fs::create_dir_all(&folder)?;
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some(DISK))
            .with_context(|| format!("cannot mount a tmpfs on {}", folder.display()))?;
        Ok(Self(folder))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn fill(&self) -> Result<()> {
        let mut file = fs::File::create(self.filler())?;
        let block = [0; 4096];
        while file.write_all(&block).is_ok() {}
        let full = fs::write(self.0.join("one-more"), block);
        ensure!(full.is_err(), "{} is not full", self.0.display());
        let _ = fs::remove_file(self.0.join("one-more"));
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.untrace();
    }
}

fn state_folder(node: &Node) -> Result<PathBuf> {
    Ok(node.folder()?.join("state"))
}

/// The file that says how far a director's wall clock is off.
fn clock(node: &Node) -> Result<PathBuf> {
    Ok(node.folder()?.join("clock"))
}

fn set_clock(node: &Node, seconds: i64) -> Result<()> {
    let file = clock(node)?;
    fs::write(&file, format!("{seconds:+}\n")).with_context(|| format!("cannot write {}", file.display()))
}

pub(super) fn disks(talk: &Talk) -> Result<[Disk; 2]> {
    Ok([Disk::make(&talk.ha1)?, Disk::make(&talk.ha2)?])
}

/// Commands that start a program whose wall clock is that of a file.
pub(super) fn launchers(talk: &Talk) -> Result<[Vec<String>; 2]> {
    let library = faketime().context("there is no libfaketimeMT.so.1: apt-get install faketime")?;
    let launcher = |node: &Node| -> Result<Vec<String>> {
        set_clock(node, 0)?;
        Ok([
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", clock(node)?.display()),
            "FAKETIME_CACHE_DURATION=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
        .to_vec())
    };
    Ok([launcher(&talk.ha1)?, launcher(&talk.ha2)?])
}

/// The `lb` under test, and the one that upgrades go to. Without `other` that is the same build by
/// another path: what an upgrade costs does not depend on what is new in it.
pub(super) fn builds(talk: &Talk, other: Option<&Path>) -> Result<[PathBuf; 2]> {
    let this = director::binary()?;
    let other = match other {
        Some(other) => other.to_owned(),
        None => {
            let copy = talk.lab.state().folder().join("lb-upgraded");
            fs::copy(&this, &copy).with_context(|| format!("cannot copy to {}", copy.display()))?;
            copy
        }
    };
    Ok([this, other])
}

fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.into_iter().find(|library| library.is_file())
}

impl Stage {
    fn director(&self, who: Who) -> &Director {
        match who {
            Who::Ha1 => &self.pair.ha1,
            Who::Ha2 => &self.pair.ha2,
        }
    }

    fn node(&self, who: Who) -> &Node {
        match who {
            Who::Ha1 => &self.talk.ha1,
            Who::Ha2 => &self.talk.ha2,
        }
    }

    /// Who is active, if the cluster can say.
    pub(super) fn holder(&self) -> Option<String> {
        let status = self.pair.ha1.status().or_else(|_| self.pair.ha2.status()).ok()?;
        status.cluster?.groups.first()?.holder.clone()
    }

    fn director_and_launcher(&mut self, who: Who) -> (&mut Director, &[String]) {
        match who {
            Who::Ha1 => (&mut self.pair.ha1, &self.launchers[0]),
            Who::Ha2 => (&mut self.pair.ha2, &self.launchers[1]),
        }
    }

    fn start_again(&mut self, who: Who) -> Result<()> {
        let (director, launcher) = self.director_and_launcher(who);
        director.restart_behind(launcher)
    }

    /// Starts the other build than the one that ran before.
    fn upgrade(&mut self, who: Who) -> Result<()> {
        let [this, other] = self.builds.clone();
        let (director, launcher) = self.director_and_launcher(who);
        let next = if director.build() == this { other } else { this };
        director.restart_behind_as(&next, launcher)?;
        let runs = fs::read_link(format!("/proc/{}/exe", director.process().pid()))?;
        ensure!(runs == fs::canonicalize(&next)?, "{} runs, not {}", runs.display(), next.display());
        Ok(())
    }

    pub(super) fn begin(&mut self, fault: &Fault) -> Result<()> {
        match fault.kind {
            Kind::Kill(who) => self.director(who).kill(),
            Kind::PowerLoss(who) => {
                self.director(who).kill()?;
                self.node(who).set_carrier("eth0", Link::Down)
            }
            Kind::Restart(who) | Kind::Upgrade(who) => self.director(who).stop(),
            Kind::CorruptedState(who) => self.corrupt(who),
            Kind::Freeze(who) => {
                self.director(who).freeze();
                Ok(())
            }
            Kind::LinkFlap(who, flaps) => {
                for _ in 1..flaps {
                    self.node(who).set_carrier("eth0", Link::Down)?;
                    std::thread::sleep(BETWEEN_FLAPS);
                    self.node(who).set_carrier("eth0", Link::Up)?;
                    std::thread::sleep(BETWEEN_FLAPS);
                }
                self.node(who).set_carrier("eth0", Link::Down)
            }
            Kind::OnePath { clients } => self.talk.cut_heartbeats(path(clients)),
            Kind::OneWay(who) => {
                let node = self.node(who);
                ["eth0", "eth1"].into_iter().try_for_each(|path| node.drop_udp(path, HEARTBEAT_PORT))
            }
            Kind::Partition => {
                ["eth0", "eth1"].into_iter().try_for_each(|path| self.talk.cut_heartbeats(path))
            }
            Kind::ServerCrash(server) => {
                self.servers.crash(server);
                Ok(())
            }
            Kind::Clock(who, seconds) => set_clock(self.node(who), seconds),
            Kind::FullDisk(who) => self.disk(who).fill(),
            Kind::MapUpdates(who) => self.fail_map_updates(who),
        }
    }

    pub(super) fn end(&mut self, fault: &Fault) -> Result<()> {
        match fault.kind {
            Kind::Kill(who) | Kind::Restart(who) | Kind::CorruptedState(who) => self.start_again(who),
            Kind::Upgrade(who) => self.upgrade(who),
            Kind::PowerLoss(who) => {
                self.director(who).release()?;
                self.node(who).set_carrier("eth0", Link::Up)?;
                self.start_again(who)
            }
            Kind::Freeze(who) => {
                self.director(who).thaw();
                Ok(())
            }
            Kind::LinkFlap(who, _) => self.node(who).set_carrier("eth0", Link::Up),
            Kind::OnePath { clients } => self.talk.heal_heartbeats(path(clients)),
            Kind::OneWay(who) => {
                let node = self.node(who);
                ["eth0", "eth1"].into_iter().try_for_each(|path| node.pass_udp(path))
            }
            Kind::Partition => {
                ["eth0", "eth1"].into_iter().try_for_each(|path| self.talk.heal_heartbeats(path))
            }
            Kind::ServerCrash(server) => {
                self.servers.start_again(server);
                Ok(())
            }
            Kind::Clock(who, _) => set_clock(self.node(who), 0),
            Kind::FullDisk(who) => self.disk(who).clear(),
            Kind::MapUpdates(_) => self.untrace(),
        }
    }

    fn disk(&self, who: Who) -> &Disk {
        match who {
            Who::Ha1 => &self.disks[0],
            Who::Ha2 => &self.disks[1],
        }
    }

    /// Its configuration becomes garbage while it runs, which it must refuse; then it stops, and
    /// what it has stored becomes garbage, with a file that nobody knows. The configuration is
    /// right again before it starts.
    fn corrupt(&self, who: Who) -> Result<()> {
        let director = self.director(who);
        let file = director.configuration()?;
        let right = fs::read(&file)?;
        fs::write(&file, GARBAGE)?;
        std::thread::sleep(Duration::from_millis(500));
        let stopped = director.stop();
        fs::write(&file, right)?;
        stopped?;
        let folder = self.node(who).folder()?;
        for folder in [state_folder(self.node(who))?, folder.join("disabled")] {
            fs::create_dir_all(&folder)?;
            let files = fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
            files.filter(|path| path.is_file()).try_for_each(|path| fs::write(path, GARBAGE))?;
            fs::write(folder.join("garbage"), GARBAGE)?;
        }
        Ok(())
    }

    fn fail_map_updates(&mut self, who: Who) -> Result<()> {
        self.refusing = Some(Refusing::start(self.director(who))?);
        Ok(())
    }

    fn untrace(&mut self) -> Result<()> {
        self.refusing.take().map_or(Ok(()), Refusing::end)
    }
}

/// strace, which has every bpf(2) of a director return ENOMEM in place of being made.
pub struct Refusing {
    tracer: Child,
    told: PathBuf,
}

impl Refusing {
    pub fn start(director: &Director) -> Result<Self> {
        let told = director.node().folder()?.join("refused");
        let _ = fs::remove_file(&told);
        let tracer = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=bpf", "-e", "inject=bpf:error=ENOMEM", "-o"])
            .arg(&told)
            .args(["-p", &director.process().pid().to_string()])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start strace: apt-get install strace")?;
        Ok(Self { tracer, told })
    }

    /// The calls that were refused so far, in strace's words.
    pub fn refused(&self) -> Vec<String> {
        let told = fs::read_to_string(&self.told).unwrap_or_default();
        told.lines().filter(|line| line.contains("INJECTED")).map(str::to_owned).collect()
    }

    /// It lets go of the process.
    pub fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.tracer.id().try_into()?), Signal::SIGTERM)?;
        self.tracer.wait().map(drop).context("strace")
    }
}

const fn path(clients: bool) -> &'static str {
    if clients { "eth0" } else { "eth1" }
}
