//! Address claims on the segment. They reveal two nodes that hold one VIP, whatever the heartbeats
//! say.
//!
//! A machine claims an address as the sender of an ARP request or reply (RFC 5227, section 2.4), or
//! as the target of a neighbour advertisement (IPv6). [`watch`](super::watch) decides which claims
//! are conflicts.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use lb_common::mac::Mac;
use lb_common::packet::numbers::ethertype;
use lb_common::packet::numbers::icmpv6::NEIGHBOUR_ADVERTISEMENT;
use lb_common::packet::numbers::protocol::ICMPV6;
use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, MsgFlags, recvmsg};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use crate::arrival;
use crate::filter;
use crate::link::packet_address;

#[cfg(test)]
mod tests;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// Receive buffer, longer than any advertisement with its options; longer frames are truncated.
const FRAME: usize = 1514;

/// A machine claims an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub address: IpAddr,
    pub mac: Mac,
}

/// A claim that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    pub claim: Claim,
    /// How long ago it came: it may have waited in the socket.
    pub age: Duration,
}

/// Parses the claim in an Ethernet frame without VLAN tag, if there is one.
pub fn claim(frame: &[u8]) -> Option<Claim> {
    let packet = frame.get(ETHERNET..)?;
    match u16::from_be_bytes([frame[12], frame[13]]) {
        ethertype::ARP => arp(packet),
        ethertype::IPV6 => ipv6(packet),
        _ => None,
    }
}

/// ARP (RFC 826) for IPv4 over Ethernet.
fn arp(packet: &[u8]) -> Option<Claim> {
    const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
    let packet: &[u8; 28] = packet.first_chunk()?;
    let is_request_or_reply = matches!(packet[6..8], [0, 1 | 2]);
    if packet[..6] != ETHERNET_AND_IPV4 || !is_request_or_reply {
        return None;
    }
    let address = Ipv4Addr::from(array(packet, 14)?);
    // An ARP probe: a sender without an address asks whether the address is in use (RFC 5227,
    // section 2.1).
    (!address.is_unspecified()).then_some(Claim { address: address.into(), mac: Mac::new(array(packet, 8)?) })
}

fn ipv6(packet: &[u8]) -> Option<Claim> {
    let (header, rest) = packet.split_first_chunk::<IPV6>()?;
    let length = usize::from(u16::from_be_bytes(array(header, 4)?));
    // A packet with a hop limit of 255 has passed no router, so it is from this segment (RFC 4861,
    // section 7.1.2).
    if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != 255 {
        return None;
    }
    advertisement(rest.get(..length)?)
}

/// A neighbour advertisement (RFC 4861, section 4.4). Without a link-layer address it changes no
/// neighbour cache, and is no claim. The checksum is not verified: the frame's own was correct, and
/// the host verifies it again.
fn advertisement(message: &[u8]) -> Option<Claim> {
    let (fixed, options) = message.split_first_chunk::<24>()?;
    if fixed[..2] != [NEIGHBOUR_ADVERTISEMENT, 0] {
        return None;
    }
    let address = Ipv6Addr::from(array::<16>(fixed, 8)?);
    Some(Claim { address: address.into(), mac: link_layer_address(options)? })
}

/// Options are type, length in units of 8 bytes, value.
fn link_layer_address(mut options: &[u8]) -> Option<Mac> {
    loop {
        let &[kind, units, ..] = options else { return None };
        let (option, rest) = options.split_at_checked(usize::from(units) * 8)?;
        if kind == TARGET_LINK_LAYER_ADDRESS {
            return array(option, 2).map(Mac::new);
        }
        if option.is_empty() {
            return None;
        }
        options = rest;
    }
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..)?.first_chunk().copied()
}

/// Receives the claims on one interface.
#[derive(Debug)]
pub struct Listener {
    arp: AsyncFd<Socket>,
    ipv6: AsyncFd<Socket>,
}

impl Listener {
    /// Needs CAP_NET_RAW, and must run within a tokio runtime. `interface` is the interface's
    /// index.
    pub fn open(interface: u32) -> io::Result<Self> {
        Ok(Self {
            arp: listen(interface, ethertype::ARP, &[])?,
            ipv6: listen(interface, ethertype::IPV6, &advertisements())?,
        })
    }

    /// The next claim of another machine. Cancel safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> io::Result<Heard> {
        tokio::select! {
            heard = next_on(&self.arp) => heard,
            heard = next_on(&self.ipv6) => heard,
        }
    }
}

async fn next_on(socket: &AsyncFd<Socket>) -> io::Result<Heard> {
    loop {
        match socket.readable().await?.try_io(|socket| receive(socket.get_ref())) {
            Ok(Ok(Some(heard))) => return Ok(heard),
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

fn receive(socket: &Socket) -> io::Result<Option<Heard>> {
    let (mut frame, mut control) = ([0; FRAME], arrival::space());
    let mut parts = [IoSliceMut::new(&mut frame)];
    let received = recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
    let (from, age, length) = match received {
        Ok(received) => (received.address, arrival::age(received.cmsgs()?), received.bytes),
        // Reported once when the interface goes down; the socket receives again when the interface
        // is up.
        Err(Errno::ENETDOWN) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if from.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING) {
        return Ok(None);
    }
    Ok(claim(&frame[..length]).map(|claim| Heard { claim, age }))
}

/// Binds the socket after its filter is set: an unbound socket receives nothing, so nothing
/// bypasses the filter.
fn listen(interface: u32, ethertype: u16, filter: &[SockFilter]) -> io::Result<AsyncFd<Socket>> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    socket.set_nonblocking(true)?;
    arrival::note(&socket)?;
    if !filter.is_empty() {
        socket.attach_filter(filter)?;
    }
    socket.bind(&packet_address(interface, ethertype)?)?;
    // SAFETY: the descriptor is the socket's own, and open as long as the socket.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

/// A filter for neighbour advertisements.
fn advertisements() -> [SockFilter; 6] {
    const NEXT_HEADER: usize = ETHERNET + 6;
    const TYPE: usize = ETHERNET + IPV6;
    [
        filter::load_byte(NEXT_HEADER as u32),
        filter::unless(ICMPV6.into(), 3),
        filter::load_byte(TYPE as u32),
        filter::unless(NEIGHBOUR_ADVERTISEMENT.into(), 1),
        filter::take(FRAME as u32),
        filter::take(0),
    ]
}
