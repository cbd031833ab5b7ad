//! One `lb` per interface: whoever comes second is told who was first.
//!
//! The lock is an abstract Unix socket: it belongs to the network namespace, as the interface does,
//! and it is gone the moment its process is, however it ended.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Holds the interface for this process as long as it lives.
#[derive(Debug)]
pub(crate) struct Instance {
    _lock: UnixListener,
}

impl Instance {
    /// # Errors
    /// Another process holds the interface; its pid is in the message.
    pub(crate) fn claim(interface: &str) -> Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("lb/xdp/{interface}"))
            .with_context(|| format!("interface {interface}: no such name"))?;
        match UnixListener::bind_addr(&address) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
                "interface {interface}: another lb runs on it already ({}); stop it first, or reload it with SIGHUP",
                holder(&address)
                    .map_or_else(|| "its pid cannot be told".to_owned(), |pid| format!("pid {pid}"))
            ),
            Err(error) => Err(error).with_context(|| format!("interface {interface}: cannot claim it")),
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
}
