//! What nearly all traffic consists of, read and checked in one go: frames without VLAN tags and
//! without IP options, with a UDP datagram, a TCP segment in mid-connection or one that opens a
//! connection.
//!
//! Each instruction counts here, so several fields are compared in one word.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{
    ETHERNET_LENGTH, FRAGMENT_OFFSET, Flow, Frame, Ipv4, MORE_FRAGMENTS, Net16, Ports, TCP_LENGTH, UDP_LENGTH,
};
use crate::addr::V4;
use crate::forward::peer::MARK;
use crate::service::Protocol;
use crate::table::connection::{self, tcp_flags};

/// A packet that the fast way is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain<A> {
    /// A UDP datagram, or a TCP segment in mid-connection: ACK; no SYN, FIN, RST.
    GoesOn(Flow<A>),
    /// A TCP segment that opens a connection: SYN; no ACK, FIN, RST.
    Opens(Flow<A>),
}

impl<A> Plain<A> {
    /// The flow of a packet that need not open a connection.
    #[inline(always)]
    pub fn going_on(self) -> Option<Flow<A>> {
        match self {
            Self::GoesOn(flow) => Some(flow),
            Self::Opens(_) => None,
        }
    }
}

/// What follows the ports, as far as a segment's flags.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Rest {
    /// TCP: the sequence number.
    udp_length: Net16,
    _sequence: u16,
    _acknowledgement: [u16; 2],
    tcp_offset: u8,
    tcp_flags: u8,
}

impl Rest {
    /// What the packet is, if its lengths fit.
    #[inline(always)]
    pub(super) fn of<F: Frame + ?Sized, A>(&self, frame: &F, flow: Flow<A>) -> Option<Plain<A>> {
        let end = flow.network + flow.total_length;
        if !frame.holds_in_one_piece(end) {
            return None;
        }
        match flow.protocol {
            Protocol::Tcp => {
                let length = (self.tcp_offset >> 4) as usize * 4;
                if length < TCP_LENGTH || flow.transport + length > end {
                    None
                } else if connection::goes_on(self.tcp_flags) {
                    Some(Plain::GoesOn(flow))
                } else if self.tcp_flags & CONNECTING == tcp_flags::SYN {
                    Some(Plain::Opens(flow))
                } else {
                    None
                }
            }
            Protocol::Udp => {
                let fits =
                    self.udp_length.host() as usize >= UDP_LENGTH && flow.transport + UDP_LENGTH <= end;
                fits.then_some(Plain::GoesOn(flow))
            }
        }
    }
}

/// Flags of which a segment that opens a connection has SYN alone.
const CONNECTING: u8 = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::FIN | tcp_flags::RST;

/// EtherType, version and header length, type of service; the last one may be any.
const KIND: usize = 12;
const KIND_MASK: u32 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0]);
const IPV4_WITHOUT_OPTIONS: u32 = u32::from_ne_bytes([0x08, 0x00, 0x45, 0]);
const TOTAL_LENGTH: usize = 16;
/// Fragment word, time to live, protocol.
const FRAGMENT: usize = 20;
const TIME_TO_LIVE: u32 = u32::from_ne_bytes([0, 0, 0xff, 0]);
const FRAGMENT_AND_PROTOCOL: u32 = {
    let [high, low] = (FRAGMENT_OFFSET | MORE_FRAGMENTS | MARK).to_be_bytes();
    u32::from_ne_bytes([high, low, 0, 0xff])
};
const WHOLE_TCP: u32 = u32::from_ne_bytes([0, 0, 0, Protocol::Tcp as u8]);
const WHOLE_UDP: u32 = u32::from_ne_bytes([0, 0, 0, Protocol::Udp as u8]);
const ADDRESSES: usize = 26;
const PORTS: usize = 34;
const REST: usize = 38;

/// `None` says nothing but that [`super::parse`] and [`super::check`] must look; where there is a
/// flow, they would say the same.
#[inline(always)]
pub fn plain<F: Frame + ?Sized>(frame: &F) -> Option<Plain<V4>> {
    // The farthest first: what is before it needs no more checks of bounds then.
    let rest = frame.read::<Rest>(REST)?;
    let word = frame.read::<u32>(FRAGMENT)?;
    let [source, destination] = frame.read::<[V4; 2]>(ADDRESSES)?;
    if frame.read::<u32>(KIND)? & KIND_MASK != IPV4_WITHOUT_OPTIONS
        || word & TIME_TO_LIVE == 0
        || source == destination
    {
        return None;
    }
    let protocol = match word & FRAGMENT_AND_PROTOCOL {
        WHOLE_TCP => Protocol::Tcp,
        WHOLE_UDP => Protocol::Udp,
        _ => return None,
    };
    rest.of(frame, flow(frame, [source, destination], word, protocol)?)
}

/// The flow of a frame that [`plain`] has accepted: nothing is looked at again.
#[inline(always)]
pub fn of_plain<F: Frame + ?Sized>(frame: &F) -> Option<Flow<V4>> {
    // The farthest first, as above.
    let _ = frame.read::<Ports>(PORTS)?;
    let addresses = frame.read::<[V4; 2]>(ADDRESSES)?;
    let word = frame.read::<u32>(FRAGMENT)?;
    flow(frame, addresses, word, Protocol::from_number(word.to_ne_bytes()[3])?)
}

/// `word`: fragment word, time to live, protocol.
#[inline(always)]
fn flow<F: Frame + ?Sized>(
    frame: &F,
    [source, destination]: [V4; 2],
    word: u32,
    protocol: Protocol,
) -> Option<Flow<V4>> {
    let ports = frame.read::<Ports>(PORTS)?;
    Some(Flow {
        source,
        destination,
        source_port: ports.source,
        destination_port: ports.destination,
        protocol,
        ttl: word.to_ne_bytes()[2],
        network: ETHERNET_LENGTH,
        transport: ETHERNET_LENGTH + size_of::<Ipv4>(),
        total_length: frame.read::<Net16>(TOTAL_LENGTH)?.host() as usize,
    })
}
