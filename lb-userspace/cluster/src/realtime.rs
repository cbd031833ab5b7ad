//! Keeps the heartbeat thread from waiting for a CPU or for a page from disk, where that is
//! permitted.
//!
//! Under full load an ordinary thread waits tens of milliseconds for its turn, and one whose code
//! has been paged out waits for the disk: enough to be thought dead by the peer. Neither is needed
//! for correctness, since a director that is late gives its addresses up by itself (the lease);
//! both are needed not to have to.

use std::fmt;
use std::io;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// Above all ordinary threads, below the kernel's own (interrupt threads run at 50).
pub(crate) const PRIORITY: libc::c_int = 10;

const CAP_IPC_LOCK: u64 = 1 << 14;

/// What could not be had. Its text is one warning that says how to permit it.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    pub scheduling: Option<io::Error>,
    pub memory: Option<io::Error>,
}

/// Gives the calling thread real-time priority and locks the process's memory, present and future.
/// `Ok` if both were permitted; otherwise what was, is in effect.
pub(crate) fn enter() -> Result<(), Missing> {
    let missing = Missing { scheduling: schedule(PRIORITY).err(), memory: lock_memory().err() };
    match missing {
        Missing { scheduling: None, memory: None } => Ok(()),
        missing => Err(missing),
    }
}

/// Gives the calling thread real-time priority if that is permitted, less than heartbeats have.
/// The heartbeats' thread tells whether it is permitted.
pub(crate) fn raise_priority() {
    if let Err(error) = schedule(PRIORITY - 1) {
        tracing::debug!(%error, "a thread without real-time priority");
    }
}

/// Only this thread, and not what it starts (a hook must not inherit it).
fn schedule(priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the call reads one sched_param, which lives until it returns; 0 is the calling
    // thread. The system call itself is used because musl's wrapper always fails.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Without the capability a lock of future memory within a limit would make later allocations fail,
/// and so end the process: then better none.
fn lock_memory() -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if limit != RLIM_INFINITY && !may_lock_memory() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("at most {limit} bytes may be locked"),
        ));
    }
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)?)
}

fn may_lock_memory() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| capabilities(&status) & CAP_IPC_LOCK != 0)
}

fn capabilities(status: &str) -> u64 {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "heartbeats may come late when this machine is busy:")?;
        if let Some(error) = &self.scheduling {
            write!(
                f,
                " no real-time scheduling ({error}; permit it with CAP_SYS_NICE or, under systemd, LimitRTPRIO={PRIORITY} as in lb.service.d/cluster.conf)"
            )?;
        }
        if let Some(error) = &self.memory {
            write!(
                f,
                " memory is not locked ({error}; permit it with CAP_IPC_LOCK or, in the systemd unit, LimitMEMLOCK=infinity)"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own: the priority ends with it. Memory is left alone, it would stay
    /// locked for all tests.
    #[test]
    fn the_thread_gets_the_priority_or_a_reason() {
        let (outcome, policy) = std::thread::spawn(|| {
            let outcome = schedule(PRIORITY);
            // SAFETY: no arguments but the calling thread's own id.
            (outcome, unsafe { libc::sched_getscheduler(0) })
        })
        .join()
        .unwrap();
        match outcome {
            Ok(()) => assert_eq!(policy & !libc::SCHED_RESET_ON_FORK, libc::SCHED_FIFO),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn the_warning_says_how_to_permit_it() {
        let refused = || Some(io::Error::from(io::ErrorKind::PermissionDenied));
        let text = Missing { scheduling: refused(), memory: refused() }.to_string();
        for word in ["CAP_SYS_NICE", "LimitRTPRIO=10", "CAP_IPC_LOCK", "LimitMEMLOCK=infinity"] {
            assert!(text.contains(word), "{text}");
        }
        let text = Missing { scheduling: None, memory: refused() }.to_string();
        assert!(!text.contains("RTPRIO"), "{text}");
    }

    #[test]
    fn capabilities_are_read_from_status() {
        assert_eq!(capabilities("Name:\tlb\nCapEff:\t0000000000004000\n"), CAP_IPC_LOCK);
        assert_eq!(capabilities("nothing"), 0);
    }
}
