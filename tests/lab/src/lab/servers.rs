//! Real servers, to test checks against: Debian's, in a file system of their own, so that the machine gets no new service.
//!
//! They are processes of the lab like all others: in its namespaces, in its records, ended with it.

pub mod catalog;
pub mod root;

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::{Node, Process};
use crate::workspace;
use catalog::{Program, User};

/// A server on a node, which can be stopped, frozen, changed and started again.
#[derive(Debug, Clone)]
pub struct RealServer {
    node: Node,
    program: &'static Program,
}

impl RealServer {
    /// Not started yet. It has a copy of its configuration.
    pub fn new(node: &Node, program: &'static Program) -> Result<Self> {
        ensure!(root::is_complete(), "the real servers are not there: run `cargo xtask setup`");
        // So that few of them need root.
        node.sysctl("net/ipv4/ip_unprivileged_port_start", "0")?;
        let server = Self { node: node.clone(), program };
        let folder = server.folder()?;
        fs::create_dir_all(&folder)?;
        server.hand_over(&folder)?;
        let fixtures = server.fixtures();
        let entries =
            fs::read_dir(&fixtures).with_context(|| format!("cannot read {}", fixtures.display()))?;
        for entry in entries {
            server.restore(entry?.file_name())?;
        }
        Ok(server)
    }

    fn fixtures(&self) -> PathBuf {
        workspace::root().join("tests/fixtures/servers").join(self.program.name)
    }

    pub fn program(&self) -> &'static Program {
        self.program
    }

    fn uid(&self) -> u32 {
        match self.program.user {
            User::Root => 0,
            User::Lab => root::LAB_USER,
        }
    }

    fn hand_over(&self, path: &Path) -> Result<()> {
        let uid = self.uid();
        chown(path, Some(uid), Some(uid)).with_context(|| format!("cannot give {} away", path.display()))
    }

    /// What the server sees as `/srv`.
    pub fn folder(&self) -> Result<PathBuf> {
        Ok(self.node.folder()?.join(self.program.name))
    }

    /// Writes a file of the server's folder. What the server knows already stays known until it is told or restarted.
    pub fn write(&self, file: &str, content: &str) -> Result<()> {
        let path = self.folder()?.join(file);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        self.hand_over(&path)
    }

    /// Makes a file what it was at first, or removes it if there was none.
    pub fn restore(&self, file: impl AsRef<Path>) -> Result<()> {
        let (original, copy) = (self.fixtures().join(&file), self.folder()?.join(&file));
        if !original.exists() {
            return fs::remove_file(&copy).with_context(|| format!("cannot remove {}", copy.display()));
        }
        fs::copy(&original, &copy).with_context(|| format!("cannot copy {}", original.display()))?;
        self.hand_over(&copy)
    }

    /// Starts it and returns once it accepts connections.
    pub fn start(&self) -> Result<()> {
        let root = root::path();
        let script = workspace::root().join("tests/lab/src/lab/servers/enter.sh");
        let uid = self.uid().to_string();
        let folder = self.folder()?;
        let mut words = vec!["--mount", "--propagation", "private", "sh"];
        for path in [&script, &root, &folder] {
            words.push(path.to_str().context("a path of the lab is not UTF-8")?);
        }
        words.push(&uid);
        self.node.start_server(self.program.name, "unshare", &words, self.program.port).map(drop)
    }

    fn process(&self) -> Result<Process> {
        let process = self.node.state().process(&self.node.record(self.program.name));
        process.with_context(|| format!("{} does not run", self.program.name))
    }

    /// Ends it in order. When this returns nobody is left who holds its port.
    pub fn stop(&self) -> Result<()> {
        let process = self.process()?;
        process.stop(Duration::from_secs(10))?;
        ensure!(
            process.group_ends_within(Duration::from_secs(10)),
            "{} has left children behind",
            self.program.name
        );
        Ok(())
    }

    /// Makes it read its files again.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// The same without an end, for those that can.
    pub fn reload(&self) -> Result<()> {
        self.process()?.signal(Signal::SIGHUP);
        Ok(())
    }

    /// Stops it where it is, until [`RealServer::thaw`]: the kernel takes connections in its name, and nobody answers.
    pub fn freeze(&self) -> Result<()> {
        self.process()?.signal_group(Signal::SIGSTOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.process()?.signal_group(Signal::SIGCONT)
    }
}
