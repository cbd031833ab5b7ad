//! ICMP echo requests and replies (RFC 792; RFC 4443, section 4).

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use lb_common::packet::numbers::{icmp, icmpv6};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use crate::filter;

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// Length of a request with as many bytes of data as ping(8) sends. Intrusion detection takes
/// requests without data for a port scan (Snort's rule "ICMP PING NMAP"), and may drop them.
const LENGTH: usize = HEADER + 56;

/// Raw sockets for echo requests and replies, IPv4 and IPv6.
#[derive(Debug)]
pub struct Echo {
    /// Identifier of our requests.
    id: u16,
    /// Index of the interface of link-local addresses.
    interface: u32,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

/// A reply with our identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    pub from: IpAddr,
    pub sequence: u16,
}

impl Echo {
    /// Opens a socket for each address family of `hosts`. The sockets are raw, because the kernel's
    /// ping sockets are only for the user groups of `net.ipv4.ping_group_range`, by default without
    /// root.
    pub fn open(hosts: &[IpAddr], interface: u32) -> io::Result<Self> {
        let id = getrandom::u32().map_err(io::Error::other)? as u16;
        let v4 = || {
            open(Domain::IPV4, Protocol::ICMPV4, &replies(filter::index_behind_ipv4(0), icmp::ECHO_REPLY, id))
        };
        let v6 = || open(Domain::IPV6, Protocol::ICMPV6, &replies(filter::index(0), icmpv6::ECHO_REPLY, id));
        Ok(Self {
            id,
            interface,
            v4: hosts.iter().any(IpAddr::is_ipv4).then(v4).transpose()?,
            v6: hosts.iter().any(IpAddr::is_ipv6).then(v6).transpose()?,
        })
    }

    /// Sets source address and outgoing interface of requests, where given.
    pub fn leave_by(&self, interface: Option<&str>, source: Option<IpAddr>) -> io::Result<()> {
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            let socket = SockRef::from(socket);
            if let Some(interface) = interface {
                socket.bind_device(Some(interface.as_bytes()))?;
            }
            if let Some(source) = source {
                socket.bind(&SocketAddr::new(source, 0).into())?;
            }
        }
        Ok(())
    }

    /// Sets the size of the receive buffer in bytes. The kernel counts some 800 for each reply.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            setsockopt(socket, RcvBufForce, &bytes)?;
        }
        Ok(())
    }

    /// Sends a request. After an error nothing was sent.
    pub async fn request(&self, host: IpAddr, sequence: u16) -> io::Result<()> {
        let (socket, kind) = match host {
            IpAddr::V4(_) => (&self.v4, icmp::ECHO_REQUEST),
            IpAddr::V6(_) => (&self.v6, icmpv6::ECHO_REQUEST),
        };
        let socket = socket.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let message = request(kind, self.id, sequence);
        socket.send_to(&message, self.destination(host)).await.map(drop)
    }

    fn destination(&self, host: IpAddr) -> SocketAddr {
        match host {
            IpAddr::V6(host) if host.is_unicast_link_local() => {
                SocketAddrV6::new(host, 0, 0, self.interface).into()
            }
            host => SocketAddr::new(host, 0),
        }
    }

    /// Receives the next reply. Cancel safe: dropping the future loses nothing.
    pub async fn next(&self) -> Reply {
        tokio::select! {
            reply = next_on(self.v4.as_ref(), |packet| reply_v4(packet, self.id)) => reply,
            reply = next_on(self.v6.as_ref(), |message| reply_v6(message, self.id)) => reply,
        }
    }
}

/// Wraps a raw socket as tokio's UDP socket: the system calls are the same.
fn open(domain: Domain, protocol: Protocol, filter: &[SockFilter]) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.attach_filter(filter)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// A filter for replies to `id`. `index_message` sets the index register to the ICMP message.
fn replies(index_message: SockFilter, kind: u8, id: u16) -> [SockFilter; 7] {
    [
        index_message,
        filter::load_indexed_byte(0),
        filter::unless(kind.into(), 3),
        filter::load_indexed_half(4),
        filter::unless(id.into(), 1),
        filter::take(u32::MAX),
        filter::take(0),
    ]
}

/// The next reply on one socket; pending for ever without a socket. `parse` returns the sequence
/// number of a reply to us.
async fn next_on(socket: Option<&UdpSocket>, parse: impl Fn(&[u8]) -> Option<u16>) -> Reply {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        // Some hosts send more data back than they were sent.
        let mut packet = [0; 2048];
        match socket.recv_from(&mut packet).await {
            Ok((length, from)) => {
                if let Some(sequence) = parse(&packet[..length]) {
                    return Reply { from: from.ip(), sequence };
                }
            }
            // For example an ICMP error; the host that it concerns will not answer.
            Err(error) => tracing::debug!(%error, "cannot receive echo replies"),
        }
    }
}

fn request(kind: u8, id: u16, sequence: u16) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    message[0] = kind;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    // For ICMPv6 the kernel computes the checksum.
    let checksum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&checksum);
    message
}

/// IPv4 raw sockets receive whole packets, before the kernel verifies the ICMP checksum.
pub(crate) fn reply_v4(packet: &[u8], id: u16) -> Option<u16> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let message = packet.get(header..)?;
    if checksum(message) != 0 {
        return None;
    }
    sequence_of(message, icmp::ECHO_REPLY, id)
}

/// IPv6 raw sockets receive ICMPv6 messages, after the kernel has verified the checksum.
pub(crate) fn reply_v6(message: &[u8], id: u16) -> Option<u16> {
    sequence_of(message, icmpv6::ECHO_REPLY, id)
}

/// The sequence number in a reply of type `kind` to a request of `id`.
fn sequence_of(message: &[u8], kind: u8, id: u16) -> Option<u16> {
    // The code should be 0, and the data those of the request. ping(8) looks at neither, and some
    // hosts send others.
    let &[its_kind, _code, _, _, a, b, c, d, ..] = message else { return None };
    (its_kind == kind && [a, b] == id.to_be_bytes()).then_some(u16::from_be_bytes([c, d]))
}

/// Internet checksum (RFC 1071). Zero for a message that contains its checksum.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    // Ones' complement: a carry is added again.
    !words.fold(0_u16, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: u16 = 0x1234;

    fn reply(sequence: u16) -> Vec<u8> {
        let mut header = vec![0; 20];
        header[0] = 0x45;
        [header, request(icmp::ECHO_REPLY, ID, sequence).to_vec()].concat()
    }

    #[test]
    fn a_message_with_its_checksum_sums_to_zero() {
        // RFC 1071, section 3: the sum of these words is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&request(icmp::ECHO_REQUEST, ID, 7)), 0);
    }

    #[test]
    fn a_reply_is_known_by_type_id_and_checksum() {
        assert_eq!(reply_v4(&reply(7), ID), Some(7));
        assert_eq!(reply_v4(&reply(7), ID + 1), None, "somebody else's");
        for (what, at) in [("an echo request", 20), ("a broken checksum", 23)] {
            let mut packet = reply(7);
            packet[at] ^= 8;
            assert_eq!(reply_v4(&packet, ID), None, "{what}");
        }
        let asks = [&reply(7)[..20], &request(icmp::ECHO_REQUEST, ID, 7)].concat();
        assert_eq!(reply_v4(&asks, ID), None, "an echo request whose checksum is right");
        let mut options = reply(7);
        options[0] = 0x46;
        options.splice(20..20, [1; 4]);
        assert_eq!(reply_v4(&options, ID), Some(7), "behind IP options");
        // The checksum stays valid, because the truncated bytes are zeros.
        for length in [HEADER, HEADER + 1, LENGTH, LENGTH + 4, 200] {
            let mut odd = reply(7);
            odd.resize(20 + length, 0);
            assert_eq!(reply_v4(&odd, ID), Some(7), "{length} bytes, and not {LENGTH}");
        }
        assert_eq!(reply_v4(&reply(7)[..20 + HEADER - 1], ID), None);
    }

    /// As ping(8) takes it.
    #[test]
    fn a_reply_may_have_any_code() {
        for code in [1, 8, 255] {
            let mut packet = reply(7);
            packet[21] = code;
            packet[22..24].fill(0);
            let sum = checksum(&packet[20..]).to_be_bytes();
            packet[22..24].copy_from_slice(&sum);
            assert_eq!(reply_v4(&packet, ID), Some(7), "{code}");
            assert_eq!(reply_v6(&[icmpv6::ECHO_REPLY, code, 0, 0, 0x12, 0x34, 0, 7], ID), Some(7), "{code}");
        }
        assert_eq!(reply_v6(&[icmp::ECHO_REPLY, 0, 0, 0, 0x12, 0x34, 0, 7], ID), None, "one of IPv4");
        assert_eq!(reply_v6(&[icmpv6::ECHO_REPLY, 0, 0, 0, 0x12, 0x35, 0, 7], ID), None, "somebody else's");
        assert_eq!(reply_v6(&[icmpv6::ECHO_REPLY, 0, 0, 0, 0x12, 0x34, 0], ID), None, "cut short");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(packet in prop::collection::vec(any::<u8>(), 0..100)) {
            reply_v4(&packet, ID);
            reply_v6(&packet, ID);
        }
    }
}
