//! A machine without a BPF file system: a mount namespace without one, kept by a process of the
//! lab.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Node, Process};

/// Unmounts all BPF file systems, including stacked ones, and hides that of other tests in `/run`.
const UNMOUNT: &str = "\
while umount /sys/fs/bpf 2>/dev/null; do :; done
mkdir -p /run/lb && mount -t tmpfs tmpfs /run/lb || exit 1
";

/// The mount namespace; programs run in it by [`BareMachine::launcher`].
#[derive(Debug)]
pub struct BareMachine {
    keeper: Process,
}

/// The state of its `/sys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sys {
    Writable,
    /// Read-only, as in containers.
    ReadOnly,
    /// Without a folder for a mount, which cannot be created.
    WithoutFolder,
}

impl Sys {
    fn script(self) -> &'static str {
        match self {
            Self::Writable => "",
            Self::ReadOnly => "mount -o remount,bind,ro /sys || exit 1\n",
            Self::WithoutFolder => "mount -t tmpfs -o ro tmpfs /sys/fs || exit 1\n",
        }
    }
}

impl BareMachine {
    /// Creates the mount namespace, which ends with the lab.
    pub fn of(node: &Node, sys: Sys) -> Result<Self> {
        let ready = node.folder()?.join("bare");
        let script = format!("{UNMOUNT}{}echo > {}\nexec sleep 3600", sys.script(), ready.display());
        let words = ["--mount", "--propagation", "private", "sh", "-c", &script];
        let keeper = node.start("bare", "unshare", &words)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !fs::exists(&ready)? {
            if !keeper.is_alive() || Instant::now() > deadline {
                bail!("no bare machine: {}", node.state().log_tail(&node.record("bare")));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(Self { keeper })
    }

    /// The prefix of a command to run in it.
    pub fn launcher(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--mount=/proc/{}/ns/mnt", self.keeper.pid())]
    }

    /// The prefix of a command to run in it without the permission to mount.
    pub fn launcher_without_mounting(&self) -> Vec<String> {
        let mut words = self.launcher();
        words.extend(["setpriv", "--bounding-set=-sys_admin"].map(str::to_owned));
        words
    }
}
