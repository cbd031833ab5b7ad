//! One `lb` per interface: whoever comes second is told who was first.
//!
//! The lock is an abstract Unix socket: it belongs to the network namespace, as the interface does,
//! and it is gone the moment its process is, however it ended. Only a command that the process was
//! just starting when it was killed may still have it, until that command executes its program.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

/// How long a process that has ended may seem to hold the interface.
const PATIENCE: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Holds the interface for this process as long as it lives.
#[derive(Debug)]
pub(crate) struct Instance {
    _lock: UnixListener,
}

impl Instance {
    /// # Errors
    /// Another process holds the interface; its pid is in the message.
    pub(crate) fn claim(interface: &str) -> Result<Self> {
        Self::claim_from(interface, |pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
    }

    /// `is_alive` tells of a process by its pid.
    fn claim_from(interface: &str, is_alive: impl Fn(i32) -> bool) -> Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("lb/xdp/{interface}"))
            .with_context(|| format!("interface {interface}: no such name"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(lock) => return Ok(Self { _lock: lock }),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("interface {interface}: cannot claim it"));
                }
            }
            let holder = holder(&address);
            if holder.is_some_and(&is_alive) || Instant::now() > deadline {
                bail!(
                    "interface {interface}: another lb runs on it already ({}); stop it first, or reload it with SIGHUP",
                    holder.map_or_else(|| "its pid cannot be told".to_owned(), |pid| format!("pid {pid}"))
                )
            }
            thread::sleep(TRY_AGAIN);
        }
    }
}

fn holder(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_the_pid_of_the_first() {
        let first = Instance::claim("test-instance").unwrap();
        let error = Instance::claim("test-instance").unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        Instance::claim("test-instance").unwrap();
    }

    #[test]
    fn what_an_ended_process_still_holds_is_waited_for() {
        let left_behind = Instance::claim("test-ended").unwrap();
        let until = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(left_behind);
        });
        Instance::claim_from("test-ended", |_| false).unwrap();
        until.join().unwrap();
    }
}
