//! Removes labs: at the end, on Ctrl-C, and after an owner was killed.
//!
//! Three ways lead to [`remove`]: the owner drops its [`Lab`](super::Lab); a signal reaches the
//! owner, whose watcher thread removes all its labs and ends the process; the next new lab removes
//! those whose owner is dead.

use std::fs::{self, DirEntry};
use std::io::{Read as _, pipe};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::process::pids;
use super::state::{Owner, State};
use super::{Process, bpf_file_system, global, shell};

/// Labs of this process. Locked while something is added to a lab, so that clean-up misses nothing.
static OWNED: Mutex<Vec<State>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

/// Permission to add a namespace or a process to a lab, while it is held; refused once clean-up has
/// begun.
pub(super) fn gate() -> Result<MutexGuard<'static, Vec<State>>> {
    let guard = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(guard)
}

pub(super) fn register(state: &State) -> Result<()> {
    gate()?.push(state.clone());
    Ok(())
}

pub(super) fn forget(state: &State) {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner).retain(|owned| owned != state);
}

/// Removes the lab: ends its processes, then deletes its namespaces and its record. Missing parts
/// are not an error.
pub fn remove(state: &State) {
    if INTERRUPTED.load(Ordering::SeqCst) {
        // The watcher removes the lab and then ends the process.
        loop {
            thread::park();
        }
    }
    remove_now(state);
    forget(state);
}

/// Removes all labs whose owner is dead.
pub(super) fn sweep() -> Result<()> {
    for state in State::all()? {
        if state.owner() == Owner::Dead {
            remove_now(&state);
        }
    }
    Ok(())
}

fn remove_now(state: &State) {
    let processes = state.processes();
    for (_, process) in &processes {
        process.signal(Signal::SIGTERM);
        // A frozen process (SIGSTOP) needs SIGCONT to receive SIGTERM.
        process.signal(Signal::SIGCONT);
    }
    for (name, process) in &processes {
        if let Err(error) = process.stop(Duration::from_secs(3)) {
            eprintln!("lab {}: {name}: {error:#}", state.name());
        }
    }
    for namespace in state.namespaces() {
        end_members(&namespace);
        remove_pins(&namespace);
        let path = format!("/run/netns/{namespace}");
        if fs::exists(&path).unwrap_or(false)
            && let Err(error) = shell::ip(&format!("netns delete {namespace}"))
        {
            eprintln!("lab {}: {error:#}", state.name());
        }
    }
    if let Err(error) = global::give_back(state) {
        eprintln!("lab {}: {error:#}", state.name());
    }
    unmount_below(state.folder());
    if let Err(error) = fs::remove_dir_all(state.folder())
        && state.exists()
    {
        eprintln!("lab {}: cannot remove {}: {error}", state.name(), state.folder().display());
    }
}

/// Unmounts what the lab has mounted in its folder.
fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    for point in points.filter(|point| point.starts_with(folder)) {
        if let Err(error) = umount2(point, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", point.display());
        }
    }
}

/// Ends all remaining processes in the namespace: workers of a killed server, commands of `lab
/// exec`. All processes in it belong to this lab.
fn end_members(namespace: &str) {
    for process in members(namespace) {
        process.signal(Signal::SIGKILL);
        if !process.ends_within(Duration::from_secs(3)) {
            eprintln!("process {} in namespace {namespace} does not end", process.pid());
        }
    }
}

/// Removes the pins of a killed `lb` for the namespace's interfaces, which keep its program and its
/// connection table in the kernel's memory.
fn remove_pins(namespace: &str) {
    for pin in pins(namespace) {
        // A folder of maps must be empty before it can be removed.
        let inside = fs::read_dir(&pin).into_iter().flatten().flatten();
        inside.for_each(|map| drop(fs::remove_file(map.path())));
        let removed = if pin.is_dir() { fs::remove_dir(&pin) } else { fs::remove_file(&pin) };
        if let Err(error) = removed {
            eprintln!("namespace {namespace}: cannot remove {}: {error}", pin.display());
        }
    }
}

/// The BPF links and folders of maps that `lb` has pinned for a namespace's interfaces. Their names
/// begin with its inode.
pub fn pins(namespace: &str) -> Vec<PathBuf> {
    let Some(inode) = inode(namespace) else { return Vec::new() };
    let entries = bpf_file_system::PLACES.iter().flat_map(|place| fs::read_dir(format!("{place}/lb")));
    let is_ours = |entry: &DirEntry| entry.file_name().to_string_lossy().starts_with(&format!("{inode}-"));
    entries.flatten().flatten().filter(is_ours).map(|entry| entry.path()).collect()
}

/// The namespace's inode, which `/proc/PID/ns/net` of its processes and its own file share.
fn inode(namespace: &str) -> Option<u64> {
    Some(fs::metadata(format!("/run/netns/{namespace}")).ok()?.ino())
}

/// The processes in a namespace.
pub fn members(namespace: &str) -> Vec<Process> {
    let Some(inode) = inode(namespace) else { return Vec::new() };
    let inode = format!("net:[{inode}]");
    pids()
        .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|link| *link == *inode))
        .filter_map(|pid| Process::with_pid(pid).ok())
        .collect()
}

/// Makes SIGINT, SIGTERM and SIGHUP remove this process's labs before they end it.
pub(super) fn on_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = install());
    result
}

fn install() -> Result<()> {
    let (mut reader, writer) = pipe().context("cannot make a pipe for signals")?;
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    debug_assert!(writer.as_raw_fd() >= 0);
    // Never closed: the signal handler may write to it until the process ends.
    SIGNAL_PIPE.store(writer.into_raw_fd(), Ordering::SeqCst);
    thread::Builder::new().name("lab-cleanup".into()).spawn(move || {
        let mut signal = [0];
        if reader.read_exact(&mut signal).is_ok() {
            interrupted(signal[0]);
        }
    })?;
    let action = SigAction::new(SigHandler::Handler(tell_watcher), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: `tell_watcher` is async-signal-safe: an atomic load and write(2).
        unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot handle {signal}"))?;
    }
    Ok(())
}

extern "C" fn tell_watcher(signal: libc::c_int) {
    let byte = u8::try_from(signal).unwrap_or(0);
    // SAFETY: `byte` is one readable byte; if the pipe is full or closed, write(2) only returns an
    // error.
    unsafe { libc::write(SIGNAL_PIPE.load(Ordering::SeqCst), (&raw const byte).cast(), 1) };
}

fn interrupted(signal: u8) -> ! {
    INTERRUPTED.store(true, Ordering::SeqCst);
    let owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
    for state in owned.iter() {
        eprintln!("interrupted: removing lab {}", state.name());
        remove_now(state);
    }
    // The shell's convention for a process that a signal ended.
    std::process::exit(128 + i32::from(signal))
}
