//! The records of a lab under `/run/lb-lab/LAB/`, written before anything is created.
//!
//! | file | content |
//! |---|---|
//! | `owner` | pid and start time of the process that removes the lab, or `kept` |
//! | `namespaces` | the lab's namespaces, one per line |
//! | `processes/NAME` | pid and start time of a background process |
//! | `globals` | raised settings of the whole machine: path, value before any lab raised it |
//! | `NODE/`, `*.log` | configuration and logs of the nodes' processes |

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use super::{Process, cleanup, log};

/// In a tmpfs: a reboot removes the namespaces and their records.
const ROOT: &str = "/run/lb-lab";

/// The record of one lab. Clones, and handles in other processes, refer to the same files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    name: String,
    folder: PathBuf,
}

/// Who removes a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The process that made it.
    Process(Process),
    /// No process: the lab was kept on purpose.
    Kept,
    /// The process that made it is gone.
    Dead,
}

impl State {
    /// Creates the record of a new lab owned by this process. Removes labs whose owners are dead.
    pub fn claim(name: &str) -> Result<Self> {
        ensure!(
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
            "lab name `{name}`: expected lower-case letters and digits (it becomes part of namespace names)"
        );
        fs::create_dir_all(ROOT).with_context(|| format!("cannot make {ROOT}"))?;
        let _lock = lock("lock")?;
        cleanup::sweep()?;
        let state = Self { name: name.to_owned(), folder: Path::new(ROOT).join(name) };
        match state.exists().then(|| state.owner()) {
            None => {}
            Some(Owner::Kept) => {
                bail!(
                    "lab `{name}` is still up, it was kept: `cargo xtask lab down --name {name}` removes it"
                )
            }
            Some(Owner::Process(process)) => bail!("lab `{name}` is in use by process {}", process.pid()),
            Some(Owner::Dead) => bail!("lab `{name}` could not be removed: see {}", state.folder.display()),
        }
        fs::create_dir_all(state.folder.join("processes"))?;
        fs::write(state.folder.join("owner"), Process::current()?.to_string())?;
        cleanup::register(&state)?;
        Ok(state)
    }

    /// The record of an existing lab.
    pub fn open(name: &str) -> Result<Self> {
        let state = Self { name: name.to_owned(), folder: Path::new(ROOT).join(name) };
        ensure!(state.exists(), "there is no lab `{name}`: `cargo xtask lab up` makes one");
        Ok(state)
    }

    /// All labs of this machine.
    pub fn all() -> Result<Vec<Self>> {
        let entries = match fs::read_dir(ROOT) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot read {ROOT}"))?,
        };
        let mut labs = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                labs.push(Self {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    folder: entry.path(),
                });
            }
        }
        labs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(labs)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Folder for the lab's files; deleted with the lab.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn exists(&self) -> bool {
        self.folder.is_dir()
    }

    pub fn owner(&self) -> Owner {
        match fs::read_to_string(self.folder.join("owner")) {
            Ok(text) if text == "kept" => Owner::Kept,
            Ok(text) => match text.parse::<Process>() {
                Ok(process) if process.is_alive() => Owner::Process(process),
                _ => Owner::Dead,
            },
            Err(_) => Owner::Dead,
        }
    }

    /// From now on only `lab down` removes the lab.
    pub(super) fn give_up_ownership(&self) -> Result<()> {
        fs::write(self.folder.join("owner"), "kept")?;
        cleanup::forget(self);
        Ok(())
    }

    /// Name of the namespace of `node`.
    pub fn namespace(&self, node: &str) -> String {
        format!("lb-{}-{node}", self.name)
    }

    /// Records the name of a new namespace for `node`, and runs `make` with it.
    pub(super) fn make_namespace(&self, node: &str, make: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        // Two concurrent `ip netns add` can fail at the mount point that both create. The lock is
        // taken before the gate, as in `claim`.
        let _lock = lock("lock")?;
        let _gate = cleanup::gate()?;
        let name = self.namespace(node);
        let mut file = OpenOptions::new().create(true).append(true).open(self.folder.join("namespaces"))?;
        writeln!(file, "{name}")?;
        make(&name)
    }

    pub fn namespaces(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("namespaces")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Starts `command` in the background, its output going to `NAME.log`, and records it under
    /// `name`.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<Process> {
        use std::os::unix::process::CommandExt as _;

        let _gate = cleanup::gate()?;
        let log = File::create(self.log(name))?;
        // Its own process group: Ctrl-C reaches only this process, which ends everything in order.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", super::shell::line(command)))?;
        let process = Process::of_child(&child)?;
        fs::write(self.folder.join("processes").join(name), process.to_string())?;
        Ok(process)
    }

    /// The background process recorded under `name`, if it is still running.
    pub fn process(&self, name: &str) -> Option<Process> {
        let text = fs::read_to_string(self.folder.join("processes").join(name)).ok()?;
        text.parse::<Process>().ok().filter(Process::is_alive)
    }

    /// All background processes that are still running.
    pub fn processes(&self) -> Vec<(String, Process)> {
        let Ok(entries) = fs::read_dir(self.folder.join("processes")) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut processes: Vec<_> =
            names.filter_map(|name| Some((name.clone(), self.process(&name)?))).collect();
        processes.sort_by(|a, b| a.0.cmp(&b.0));
        processes
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// The end of a background process's log, for error messages.
    pub fn log_tail(&self, name: &str) -> String {
        let text = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail: Vec<String> =
            lines[lines.len().saturating_sub(30)..].iter().map(|line| log::readable(line)).collect();
        tail.join("\n")
    }

    /// Prints the end of every log, before a failed test's lab is removed.
    pub(super) fn print_logs(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            if let Some(name) = file.strip_suffix(".log") {
                eprintln!("---- end of {name}'s log ----\n{}", self.log_tail(name));
            }
        }
    }
}

/// Takes the file lock `name`. `lock` serialises creating, removing and naming labs.
pub(super) fn lock(name: &str) -> Result<Flock<File>> {
    let path = Path::new(ROOT).join(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("cannot lock {}", path.display()))
}
