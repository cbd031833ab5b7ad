//! A network namespace, as `ip netns` creates and lists them.

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

/// A named namespace, in which commands and closures run. Clones are the same namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates a namespace for `node`, with loopback up, without IPv6 (whose packets at the start
    /// would disturb counters) and without forwarding.
    pub(super) fn new(state: &State, node: &str) -> Result<Self> {
        state.make_namespace(node, |name| shell::ip(&format!("netns add {name}")).map(drop))?;
        let namespace = Self::open(&state.namespace(node));
        namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.sysctl("net/ipv4/ip_forward", "0")?;
        // `default` applies to interfaces created later.
        for interface in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0")?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// An existing namespace.
    pub fn open(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// A command to run in the namespace. Unlike with `ip netns exec` it keeps its `/sys`,
    /// including `/sys/fs/bpf`.
    pub fn command(&self, program: &str) -> Command {
        let path = CString::new(self.path()).expect("names of namespaces have no NUL");
        let enter = move || {
            let file = open(path.as_c_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
        };
        let mut command = Command::new(program);
        // SAFETY: between fork and exec `enter` makes three system calls (open, setns, close) and
        // allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs `ip` in the namespace, words separated by spaces.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        shell::ip(&format!("-netns {} {arguments}", self.name))
    }

    /// Runs `work` on a new thread inside the namespace, to which its sockets then belong.
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

    /// Sets `/proc/sys/PATH`, whose `net` belongs to the namespace of the accessing thread.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = format!("/proc/sys/{path}");
        self.run(|| fs::write(&file, value))?
            .with_context(|| format!("{}: cannot set {file} to {value}", self.name))
    }
}
