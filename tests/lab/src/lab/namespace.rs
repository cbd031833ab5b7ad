//! A network namespace, as `ip netns` makes and lists them.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::panic;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;

use super::{State, shell};

/// One namespace, by name: commands and closures run in it. Cloning it does not make another one.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new namespace for `node`, with its loopback up, no IPv6 (whose start-up chatter would disturb counts) and
    /// nothing forwarded.
    pub(super) fn new(state: &State, node: &str) -> Result<Self> {
        state.make_namespace(node, |name| shell::ip(&format!("netns add {name}")).map(drop))?;
        let namespace = Self::open(&state.namespace(node));
        namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.sysctl("net/ipv4/ip_forward", "0")?;
        // `default` is what interfaces made later begin with.
        for interface in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0")?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A namespace that exists.
    pub fn open(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// A command that will run in the namespace. Unlike under `ip netns exec` it keeps its view of `/sys`, and with it
    /// `/sys/fs/bpf`.
    pub fn command(&self, program: &str) -> Command {
        let path = CString::new(self.path()).expect("names of namespaces have no NUL");
        let enter = move || {
            let file = open(path.as_c_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
        };
        let mut command = Command::new(program);
        // SAFETY: between fork and exec `enter` makes three system calls (open, setns, close) and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs `ip` in the namespace, words separated by spaces.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        shell::ip(&format!("-netns {} {arguments}", self.name))
    }

    /// Runs `work` on a thread of its own inside the namespace: sockets it opens belong there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let enter = || -> Result<()> {
            let file = File::open(self.path()).with_context(|| format!("namespace {} is gone", self.name))?;
            setns(file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter namespace {}", self.name))
        };
        thread::scope(|scope| {
            let worker = scope.spawn(|| enter().map(|()| work()));
            worker.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }

    /// Sets `/proc/sys/PATH`, which shows each thread its own namespace's `net`.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = format!("/proc/sys/{path}");
        self.run(|| fs::write(&file, value))?
            .with_context(|| format!("{}: cannot set {file} to {value}", self.name))
    }
}
