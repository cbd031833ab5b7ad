//! Whole frames sent on an interface, past the host's stack.

use std::io;

use anyhow::{Context as _, Result};
use nix::net::if_::if_indextoname;
use socket2::{Domain, SockAddr, Socket, Type};

/// The name of the interface of this index; `None`: there is none. nix takes the missing answer for
/// an empty name.
pub fn name_of(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?.into_string().ok()?;
    (!name.is_empty()).then_some(name)
}

/// The address of packet(7) for frames of this type (0: of all) on an interface.
pub(crate) fn packet_address(interface: u32, ethertype: u16) -> io::Result<SockAddr> {
    // SAFETY: the storage is all zeros and large enough for a sockaddr_ll, whose every field is an
    // integer.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = &mut *storage.cast::<libc::sockaddr_ll>();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = ethertype.to_be();
            address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
            *length = size_of::<libc::sockaddr_ll>() as u32;
            Ok(())
        })?
    };
    Ok(address)
}

/// Sends frames on one interface.
#[derive(Debug)]
pub struct Sender {
    interface: i32,
    address: SockAddr,
    socket: Socket,
}

impl Sender {
    /// Needs CAP_NET_RAW. `interface` is the interface's index; what the frames are is for errors.
    pub fn new(interface: u32, what: &str) -> Result<Self> {
        // Without a protocol the socket receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).with_context(|| {
            format!("cannot open a raw socket for {what}: this needs root or CAP_NET_RAW")
        })?;
        let address = packet_address(interface, 0).context("interface index")?;
        Ok(Self { interface: i32::try_from(interface).context("interface index")?, address, socket })
    }

    pub const fn interface(&self) -> i32 {
        self.interface
    }

    /// Does not wait for room in the interface's queue.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.send_to(&self.address, frame)
    }

    /// The same by the interface of this index.
    pub fn send_by(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        self.send_to(&packet_address(interface, 0)?, frame)
    }

    fn send_to(&self, address: &SockAddr, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to_with_flags(frame, address, libc::MSG_DONTWAIT).map(drop)
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
