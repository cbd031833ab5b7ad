//! Real servers for tests of checks: Debian's packages in a file system of their own, so that no
//! service is installed.
//!
//! They are processes of the lab: in its namespaces and records, and ended with it.

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

/// A real server on a node.
#[derive(Debug, Clone)]
pub struct RealServer {
    node: Node,
    program: &'static Program,
}

impl RealServer {
    /// A server that is not started yet, with a copy of its configuration.
    pub fn new(node: &Node, program: &'static Program) -> Result<Self> {
        ensure!(root::is_complete(), "the real servers are not there: run `cargo xtask setup`");
        // Unprivileged ports, so that few servers need root.
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

    /// The server's `/srv`.
    pub fn folder(&self) -> Result<PathBuf> {
        Ok(self.node.folder()?.join(self.program.name))
    }

    /// Writes a file in the server's folder. A running server may need a reload or restart.
    pub fn write(&self, file: &str, content: &str) -> Result<()> {
        let path = self.folder()?.join(file);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        self.hand_over(&path)
    }

    /// Restores a file's original content, or removes a new file.
    pub fn restore(&self, file: impl AsRef<Path>) -> Result<()> {
        let (original, copy) = (self.fixtures().join(&file), self.folder()?.join(&file));
        if !original.exists() {
            return fs::remove_file(&copy).with_context(|| format!("cannot remove {}", copy.display()));
        }
        fs::copy(&original, &copy).with_context(|| format!("cannot copy {}", original.display()))?;
        self.hand_over(&copy)
    }

    /// Starts the server and waits until it accepts connections.
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

    /// Stops the server in order, and waits until its port is free.
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

    /// Restarts the server, so that it reads its files again.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Makes the server reload its files by a signal, if it supports that.
    pub fn reload(&self) -> Result<()> {
        self.process()?.signal(Signal::SIGHUP);
        Ok(())
    }

    /// Freezes the server (SIGSTOP) until [`RealServer::thaw`]: the kernel accepts connections, but
    /// no process answers.
    pub fn freeze(&self) -> Result<()> {
        self.process()?.signal_group(Signal::SIGSTOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.process()?.signal_group(Signal::SIGCONT)
    }
}
