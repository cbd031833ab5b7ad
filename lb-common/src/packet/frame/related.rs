//! Packets that belong to another one: an ICMP error belongs to the packet that it quotes, a later
//! fragment to the first one of its datagram.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{FRAGMENT_OFFSET, Flow, Frame, Ipv4, MORE_FRAGMENTS, Ports};
use crate::addr::{Address, V4};
use crate::packet::fragment::{Datagram, Key, Piece};
use crate::packet::numbers::icmp::{DESTINATION_UNREACHABLE, PARAMETER_PROBLEM, TIME_EXCEEDED};
use crate::packet::numbers::protocol;
use crate::reason::Reason;
use crate::service::Protocol;

/// The headers of any IP packet, in a frame or quoted by an ICMP error, as far as the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<A> {
    pub source: A,
    pub destination: A,
    /// Number of what follows the headers.
    pub protocol: u8,
    pub ttl: u8,
    /// Offset of the IP header in the frame.
    pub network: usize,
    /// Offset of what follows the headers, unless it is a later fragment.
    pub upper: usize,
    /// Offset of what it carries, if it is a fragment.
    pub data: usize,
    /// Whether more fragments follow in the lowest bit, the offset in units of 8 bytes above; 0: it
    /// is a whole datagram.
    pub fragment: usize,
    /// As it stands in the packet.
    pub id: usize,
    /// Length of the IP packet by its header, bytes.
    pub total_length: usize,
}

/// What of such packets is different in each family.
pub trait RelatedHeaders: Address {
    /// Number of the family's ICMP.
    const ICMP: u8;

    /// Whether ICMP messages of this type tell a server about a packet that it has sent.
    fn is_error(kind: u8) -> bool;

    /// Reads the headers of the packet whose IP header is at this offset. `None`: it has none, or
    /// more of them than are looked through.
    fn head<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Head<Self>>;
}

impl<A: RelatedHeaders> Head<A> {
    #[inline(always)]
    pub const fn is_later_fragment(&self) -> bool {
        self.fragment > 1
    }

    #[inline(always)]
    const fn is_first_fragment(&self) -> bool {
        self.fragment == 1
    }

    /// Whether it is an ICMP error, and so has a quote.
    #[inline(always)]
    pub fn is_error<F: Frame + ?Sized>(&self, frame: &F) -> bool {
        let is_icmp = self.protocol == A::ICMP && self.fragment == 0;
        is_icmp && icmp_kind(frame, self.upper).is_some_and(A::is_error)
    }

    /// Of an ICMP error: offset of the IP header that it quotes.
    #[inline(always)]
    pub const fn quote(&self) -> usize {
        self.upper + ICMP_LENGTH
    }

    /// Of an ICMP error: the flow of the connection that it is about, if its receiver has sent what
    /// it quotes. The server sent that to the client, and the table knows what the client sends.
    /// The offsets are those of the error itself.
    #[inline(always)]
    pub fn about<F: Frame + ?Sized>(&self, frame: &F, quote: &Self) -> Option<Flow<A>> {
        let [client_port, port] = quote.ports(frame)?.reversed();
        let end = quote.upper + size_of::<Ports>();
        if quote.source != self.destination || end > self.network + self.total_length {
            return None;
        }
        let protocol = Protocol::from_number(quote.protocol)?;
        let turned = Self { source: quote.destination, ..*self };
        Some(turned.flow([client_port, port], protocol))
    }

    /// The flow of a packet that has ports.
    #[inline(always)]
    pub fn own_flow<F: Frame + ?Sized>(&self, frame: &F) -> Option<Flow<A>> {
        let ports = self.ports(frame)?;
        Some(self.flow([ports.source, ports.destination], Protocol::from_number(self.protocol)?))
    }

    /// The flow of a later fragment's datagram, which the first one has told.
    #[inline(always)]
    pub fn flow_of(&self, datagram: Datagram) -> Flow<A> {
        self.flow([datagram.source_port, datagram.destination_port], datagram.protocol())
    }

    #[inline(always)]
    fn flow(&self, [source_port, destination_port]: [u16; 2], protocol: Protocol) -> Flow<A> {
        Flow {
            source: self.source,
            destination: self.destination,
            source_port,
            destination_port,
            protocol,
            ttl: self.ttl,
            network: self.network,
            transport: self.upper,
            total_length: self.total_length,
        }
    }

    #[inline(always)]
    fn ports<F: Frame + ?Sized>(&self, frame: &F) -> Option<Ports> {
        if self.is_later_fragment() { None } else { frame.read::<Ports>(self.upper) }
    }

    /// What all fragments of its datagram have in common. In IPv6 the id is all.
    #[inline(always)]
    pub fn key(&self) -> Key {
        let (source, destination) = (self.source.mapped(), self.destination.mapped());
        let protocol = if size_of::<A>() == size_of::<V4>() { self.protocol } else { 0 };
        Key { source, destination, id: self.id as u32, protocol: protocol.into() }
    }

    /// What it carries of its datagram. An error: its lengths contradict each other.
    #[inline(always)]
    pub const fn piece(&self) -> Result<Piece, Reason> {
        let end = self.network + self.total_length;
        if self.data > end {
            return Err(Reason::BadLength);
        }
        Piece::new((self.fragment >> 1) as u16, end - self.data, self.fragment & 1 != 0)
    }

    /// The same of a first fragment; `None`: it is none, or one that nothing can follow.
    #[inline(always)]
    pub const fn first_piece(&self) -> Option<Piece> {
        match self.piece() {
            Ok(piece) if self.is_first_fragment() => Some(piece),
            _ => None,
        }
    }
}

impl Ports {
    #[inline(always)]
    const fn reversed(self) -> [u16; 2] {
        [self.destination, self.source]
    }
}

/// The ICMP header (RFC 792, RFC 4443), which has one length in both families.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Icmp {
    kind: u8,
    _code: u8,
    _checksum: u16,
    _rest: u32,
}

const ICMP_LENGTH: usize = size_of::<Icmp>();

/// The type of the ICMP message at this offset.
#[inline(always)]
pub(super) fn icmp_kind<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<u8> {
    frame.read::<Icmp>(at).map(|icmp| icmp.kind)
}

impl RelatedHeaders for V4 {
    const ICMP: u8 = protocol::ICMP;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    #[inline(always)]
    fn head<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Head<Self>> {
        let ip = frame.read::<Ipv4>(network)?;
        let upper = network + ip.header_length()?;
        let word = ip.fragment.host();
        let more = word & MORE_FRAGMENTS != 0;
        Some(Head {
            source: ip.source,
            destination: ip.destination,
            protocol: ip.protocol,
            ttl: ip.ttl,
            network,
            upper,
            data: upper,
            fragment: ((word & FRAGMENT_OFFSET) as usize) << 1 | more as usize,
            id: ip.id as usize,
            total_length: ip.total_length.host() as usize,
        })
    }
}

#[cfg(test)]
mod tests;
