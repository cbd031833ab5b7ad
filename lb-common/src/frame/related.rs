//! Packets that belong to another one: an ICMP error belongs to the packet that it quotes, a later
//! fragment to the first one of its datagram.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{FRAGMENT_OFFSET, Flow, Frame, Ipv4, Link, MORE_FRAGMENTS, Ports};
use crate::addr::{Address, V4};
use crate::service::Protocol;

/// An ICMP error, as far as what it quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError<A> {
    pub destination: A,
    pub ttl: u8,
    /// Offset of its IP header in the frame.
    pub network: usize,
    /// Offset of the IP header that it quotes.
    pub quote: usize,
    /// Length of the whole IP packet by its header, bytes.
    pub total_length: usize,
}

/// The beginning of the packet that an ICMP error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote<A> {
    pub source: A,
    pub destination: A,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: Protocol,
    /// Offset of what follows its ports.
    pub end: usize,
}

impl<A: Address> IcmpError<A> {
    /// The flow of the connection that the error is about, if its receiver has sent what it quotes:
    /// the server sent that to the client, and the table knows what the client sends. The offsets
    /// are those of the error itself.
    #[inline(always)]
    pub fn about(&self, quote: &Quote<A>) -> Option<Flow<A>> {
        if quote.source != self.destination || quote.end > self.network + self.total_length {
            return None;
        }
        Some(Flow {
            source: quote.destination,
            destination: quote.source,
            source_port: quote.destination_port,
            destination_port: quote.source_port,
            protocol: quote.protocol,
            ttl: self.ttl,
            network: self.network,
            transport: self.quote - ICMP_LENGTH,
            total_length: self.total_length,
        })
    }
}

/// What of such packets is read differently in each family.
pub trait RelatedHeaders: Address {
    /// `None`: it is no ICMP error that a connection's server should hear of.
    fn icmp_error<F: Frame + ?Sized>(frame: &F, link: &Link) -> Option<IcmpError<Self>>;

    /// The packet that an ICMP error quotes at this offset of the frame. `None`: not enough of it,
    /// or one without ports.
    fn quote<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<Quote<Self>>;
}

/// The ICMP header (RFC 792, RFC 4443); for the program it has one length in both families.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Icmp {
    pub(super) kind: u8,
    _code: u8,
    _checksum: u16,
    _rest: u32,
}

pub(super) const ICMP_LENGTH: usize = size_of::<Icmp>();

const ICMP: u8 = 1;
const DESTINATION_UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// Whether it is an ICMP error that a connection's server should hear of, so far as can be told
/// without what it quotes.
#[inline(always)]
pub(super) fn is_error<F: Frame + ?Sized>(frame: &F, ip: &Ipv4, transport: usize) -> bool {
    ip.protocol == ICMP
        && ip.fragment.host() & (FRAGMENT_OFFSET | MORE_FRAGMENTS) == 0
        && frame.read::<Icmp>(transport).is_some_and(|icmp| {
            matches!(icmp.kind, DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
        })
}

impl RelatedHeaders for V4 {
    #[inline(always)]
    fn icmp_error<F: Frame + ?Sized>(frame: &F, link: &Link) -> Option<IcmpError<Self>> {
        let ip = frame.read::<Ipv4>(link.network)?;
        let transport = link.network + ip.header_length()?;
        is_error(frame, &ip, transport).then(|| IcmpError {
            destination: ip.destination,
            ttl: ip.ttl,
            network: link.network,
            quote: transport + ICMP_LENGTH,
            total_length: ip.total_length.host() as usize,
        })
    }

    #[inline(always)]
    fn quote<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<Quote<Self>> {
        let ip = frame.read::<Ipv4>(at)?;
        let transport = at + ip.header_length()?;
        if ip.fragment.host() & FRAGMENT_OFFSET != 0 {
            return None;
        }
        let protocol = Protocol::from_number(ip.protocol)?;
        let ports = frame.read::<Ports>(transport)?;
        Some(Quote {
            source: ip.source,
            destination: ip.destination,
            source_port: ports.source,
            destination_port: ports.destination,
            protocol,
            end: transport + size_of::<Ports>(),
        })
    }
}

#[cfg(test)]
mod tests;
