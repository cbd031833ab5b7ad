//! Heartbeats in UDP datagrams, IPv4 or IPv6.
//!
//! A path is bound to an interface or a local address, so that two paths over two networks fail
//! independently: a datagram that took the other network after a change of routes would feign a
//! path that is cut.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use lb_net::arrival;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recvmsg};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::{Arrival, Open, Path, context};
use crate::reason::DropReason;
use crate::wire::MAX_LENGTH;

#[cfg(test)]
mod tests;

/// Class selector 6, network control (RFC 4594, section 3.1): a full queue drops others first.
const TRAFFIC_CLASS: u32 = 0xc0;

/// What is open to choice. Addresses and ports as the configuration gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Udp {
    pub to: To,
    /// Send and receive over this interface alone. Multicast needs it, and so do link-local
    /// addresses.
    pub interface: Option<String>,
}

/// Whom the messages go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum To {
    /// One datagram for each peer. `local` is bound to; its address may be unspecified.
    Unicast { local: SocketAddr, peers: Vec<SocketAddr> },
    /// One datagram for the group; it does not leave the segment (hops 1), nor come back to this
    /// machine.
    Multicast { group: SocketAddr },
    /// One datagram for the network's or the limited broadcast address; IPv4 only.
    Broadcast { address: SocketAddr },
}

impl Open for Udp {
    fn open(&self) -> io::Result<Box<dyn Path>> {
        Ok(Box::new(self.socket()?))
    }
}

impl Udp {
    fn socket(&self) -> io::Result<UdpPath> {
        self.check()?;
        let index = self.index()?;
        let local = self.with_scope(self.local(), index);
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        self.prepare(&socket, local)?;
        socket.bind(&local.into()).map_err(context(format_args!("binding to UDP {local}")))?;
        self.join(&socket, index)?;
        let peers = self.destinations().iter().map(|&peer| self.with_scope(peer, index)).collect();
        Ok(UdpPath { socket: socket.into(), peers, control: arrival::space() })
    }

    pub(super) fn open_unicast(&self) -> io::Result<(UdpSocket, Vec<SocketAddr>)> {
        self.socket().map(|UdpPath { socket, peers, .. }| (socket, peers))
    }

    /// What the kernel would accept and never work.
    fn check(&self) -> io::Result<()> {
        let wrong = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        match &self.to {
            To::Unicast { peers, .. } if peers.is_empty() => wrong("no peer to send to".into()),
            To::Unicast { local, peers } => {
                match peers.iter().find(|peer| peer.is_ipv4() != local.is_ipv4()) {
                    Some(peer) => {
                        wrong(format!("{peer} is not of the same family as the local address {local}"))
                    }
                    None => Ok(()),
                }
            }
            To::Multicast { group } if !group.ip().is_multicast() => {
                wrong(format!("{} is not a multicast address", group.ip()))
            }
            To::Multicast { .. } if self.interface.is_none() => wrong("multicast needs an interface".into()),
            To::Multicast { .. } => Ok(()),
            To::Broadcast { address } if address.is_ipv6() => {
                wrong(format!("IPv6 has no broadcast ({address}): use multicast, such as ff02::4c42"))
            }
            To::Broadcast { .. } => Ok(()),
        }
    }

    /// The interface's index, 0 without one.
    fn index(&self) -> io::Result<u32> {
        match &self.interface {
            None => Ok(0),
            Some(name) => nix::net::if_::if_nametoindex(name.as_str())
                .map_err(|errno| context(format_args!("interface {name}"))(errno.into())),
        }
    }

    /// A socket bound to the group's or the broadcast's port hears what is sent to that, not what
    /// is sent to others.
    fn local(&self) -> SocketAddr {
        match &self.to {
            To::Unicast { local, .. } => *local,
            To::Multicast { group } => *group,
            To::Broadcast { address } => SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())),
        }
    }

    fn destinations(&self) -> Vec<SocketAddr> {
        match &self.to {
            To::Unicast { peers, .. } => peers.clone(),
            To::Multicast { group } => vec![*group],
            To::Broadcast { address } => vec![*address],
        }
    }

    /// Link-local addresses mean something on an interface only.
    fn with_scope(&self, mut address: SocketAddr, index: u32) -> SocketAddr {
        if let SocketAddr::V6(address) = &mut address
            && address.scope_id() == 0
            && (address.ip().is_unicast_link_local() || address.ip().is_multicast())
        {
            address.set_scope_id(index);
        }
        address
    }

    fn prepare(&self, socket: &Socket, local: SocketAddr) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        // A restarted director must not wait for its predecessor, and two clusters may share a
        // group's port.
        socket.set_reuse_address(!matches!(self.to, To::Unicast { .. }))?;
        match local {
            SocketAddr::V4(_) => socket.set_tos_v4(TRAFFIC_CLASS)?,
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                socket.set_tclass_v6(TRAFFIC_CLASS)?;
            }
        }
        if let Some(interface) = &self.interface {
            socket
                .bind_device(Some(interface.as_bytes()))
                .map_err(context(format_args!("binding to interface {interface}")))?;
        }
        socket.set_broadcast(matches!(self.to, To::Broadcast { .. }))?;
        arrival::note(socket)
    }

    fn join(&self, socket: &Socket, index: u32) -> io::Result<()> {
        let To::Multicast { group } = &self.to else {
            return Ok(());
        };
        match group.ip() {
            IpAddr::V4(group) => join_v4(socket, group, index),
            IpAddr::V6(group) => join_v6(socket, group, index),
        }
        .map_err(context(format_args!("joining {}", group.ip())))
    }
}

fn join_v4(socket: &Socket, group: Ipv4Addr, index: u32) -> io::Result<()> {
    socket.set_multicast_ttl_v4(1)?;
    socket.set_multicast_loop_v4(false)?;
    socket.set_multicast_all_v4(false)?;
    socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))
}

fn join_v6(socket: &Socket, group: Ipv6Addr, index: u32) -> io::Result<()> {
    socket.set_multicast_hops_v6(1)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_multicast_all_v6(false)?;
    socket.set_multicast_if_v6(index)?;
    socket.join_multicast_v6(&group, index)
}

struct UdpPath {
    socket: UdpSocket,
    peers: Vec<SocketAddr>,
    /// For the kernel's time stamp.
    control: Vec<u8>,
}

impl Path for UdpPath {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A peer that cannot be reached keeps none of the others from hearing us.
    fn send(&mut self, message: &[u8], _now: Duration) -> io::Result<()> {
        let mut outcome = Ok(());
        for peer in &self.peers {
            if let Err(error) = self.socket.send_to(message, peer) {
                outcome = Err(context(format_args!("to {peer}"))(error));
            }
        }
        outcome
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Arrival>> {
        // One byte more than the longest message, so that a longer one is seen as such.
        buffer.resize(MAX_LENGTH + 1, 0);
        let mut parts = [IoSliceMut::new(buffer)];
        let received = recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        );
        let received = match received {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let age = arrival::age(received.cmsgs()?);
        let length = received.bytes;
        buffer.truncate(length);
        let fault = (length > MAX_LENGTH).then_some(DropReason::TooLong);
        Ok(Some(Arrival { age, fault }))
    }
}
