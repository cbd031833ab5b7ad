//! Whole frames sent on an interface, past the host's stack.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::net::if_::if_indextoname;

/// The name of the interface of this index; `None`: there is none. nix takes the missing answer for
/// an empty name.
pub fn name_of(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?.into_string().ok()?;
    (!name.is_empty()).then_some(name)
}

/// Sends frames on one interface.
#[derive(Debug)]
pub struct Sender {
    interface: i32,
    socket: OwnedFd,
}

impl Sender {
    /// Needs CAP_NET_RAW. `interface` is the interface's index; what the frames are is for errors.
    pub fn new(interface: u32, what: &str) -> Result<Self> {
        // SAFETY: socket(2) takes no pointers. Protocol 0: the socket receives nothing.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error()).with_context(|| {
                format!("cannot open a raw socket for {what}: this needs root or CAP_NET_RAW")
            });
        }
        // SAFETY: the descriptor was just opened and has no other owner.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        Ok(Self { interface: i32::try_from(interface).context("interface index")?, socket })
    }

    pub const fn interface(&self) -> i32 {
        self.interface
    }

    /// Does not wait for room in the interface's queue.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.send_to(self.interface, frame)
    }

    /// The same by the interface of this index.
    pub fn send_by(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        self.send_to(i32::try_from(interface).map_err(io::Error::other)?, frame)
    }

    fn send_to(&self, interface: i32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all-zero bytes are a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = interface;
        // SAFETY: `frame` and `address` outlive the call, and the lengths are theirs.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_has_no_name() {
        assert_eq!(name_of(1).as_deref(), Some("lo"));
        assert_eq!(name_of(u32::MAX / 2), None);
    }
}
