//! IPv6 headers, as far as the ports.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::plain::{self, Rest};
use super::related::{Head, RelatedHeaders, icmp_kind};
use super::{ETHERNET_LENGTH, Flow, Frame, Net16, Parsed, Ports, TCP_LENGTH};
use crate::addr::V6;
use crate::packet::numbers::ethertype;
use crate::packet::numbers::icmpv6::NEIGHBOUR_SOLICITATION;
use crate::packet::numbers::protocol::ICMPV6;
use crate::service::Protocol;

/// RFC 8200, section 3.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    version_and_class: u8,
    _class_and_label: [u8; 3],
    payload_length: Net16,
    next_header: u8,
    hop_limit: u8,
    source: V6,
    destination: V6,
}

const LENGTH: usize = size_of::<Header>();
const _: () = assert!(LENGTH == 40);

/// The beginning of most extension headers (RFC 8200, section 4), and of the fragment header.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Extension {
    next_header: u8,
    /// In units of 8 bytes, the first one not counted.
    length: u8,
    /// Fragment header: the offset in the upper 13 bits. Routing header: type, segments left.
    word: Net16,
}

/// RFC 4861, section 4.3.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Solicitation {
    kind: u8,
    _code: u8,
    _checksum: u16,
    _reserved: u32,
    target: V6,
}

const _: () = assert!(size_of::<Solicitation>() == 24);

/// Extension headers that are looked through.
const MAX_EXTENSIONS: usize = 4;
/// Bytes of extension headers that are looked through: an offset in the frame fits into 9 bits.
const MAX_EXTENSION_BYTES: usize = 256;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// RFC 4443: destination unreachable, packet too big, time exceeded, parameter problem.
const FIRST_ERROR: u8 = 1;
const LAST_ERROR: u8 = 4;
const FRAGMENT_LENGTH: usize = 8;
/// Of the identification in the fragment header.
const FRAGMENT_ID: usize = 4;
const FRAGMENT_OFFSET: u16 = 0xfff8;
const MORE_FRAGMENTS: usize = 1;

/// The headers of nearly every packet: no VLAN tag, no extension header. From byte 6 of the frame
/// on, so that the words of the addresses are aligned in it.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Plain {
    _source_mac: [u16; 3],
    kind: Net16,
    ip: Header,
    ports: Ports,
    rest: Rest,
}

const PLAIN_OFFSET: usize = 6;
const _: () = assert!(PLAIN_OFFSET + size_of::<Plain>() <= ETHERNET_LENGTH + LENGTH + TCP_LENGTH);

impl Plain {
    #[inline(always)]
    fn flow(&self) -> Option<Flow<V6>> {
        let ip = &self.ip;
        Some(Flow {
            source: ip.source,
            destination: ip.destination,
            source_port: self.ports.source,
            destination_port: self.ports.destination,
            protocol: Protocol::from_number(ip.next_header)?,
            ttl: ip.hop_limit,
            network: ETHERNET_LENGTH,
            transport: ETHERNET_LENGTH + LENGTH,
            total_length: LENGTH + ip.payload_length.host() as usize,
        })
    }
}

/// `None`: there is none, or one with an address that may not be seen on a network, and that a
/// service of IPv4 must not take for its own.
#[inline(always)]
fn header<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<Header> {
    let ip = frame.read::<Header>(at)?;
    (ip.version_and_class >> 4 == 6 && !ip.destination.is_mapped()).then_some(ip)
}

/// The flow, or what else it is.
#[inline(always)]
pub(super) fn parse<F: Frame + ?Sized>(frame: &F, network: usize) -> Result<Flow<V6>, Parsed> {
    let Some(ip) = header(frame, network) else { return Err(Parsed::NotOurs) };
    if let Some(target) = parse_solicitation(frame, &ip, network + LENGTH) {
        return Err(Parsed::WhoHas(target));
    }
    let the_hosts = Err(Parsed::Ipv6(ip.destination));
    let Some(upper) = frame.upper(ip.next_header, network + LENGTH) else { return the_hosts };
    let transport = upper.at;
    let protocol = Protocol::from_number(upper.kind);
    if upper.later {
        let may_have_ports = protocol.is_some() || is_extension(upper.kind);
        return if may_have_ports { Err(Parsed::Related) } else { the_hosts };
    }
    let Some(protocol) = protocol else {
        let related = upper.kind == ICMPV6 && icmp_kind(frame, transport).is_some_and(V6::is_error);
        return if related { Err(Parsed::Related) } else { the_hosts };
    };
    let Some(ports) = frame.read::<Ports>(transport) else { return the_hosts };
    Ok(Flow {
        source: ip.source,
        destination: ip.destination,
        source_port: ports.source,
        destination_port: ports.destination,
        protocol,
        ttl: ip.hop_limit,
        network,
        transport,
        total_length: LENGTH + ip.payload_length.host() as usize,
    })
}

/// What follows the extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// Its number as a next header.
    pub(super) kind: u8,
    /// Its offset in the frame.
    pub(super) at: usize,
    /// Offset of the fragment header; 0: there is none.
    pub(super) fragment: usize,
    /// Whether it is a later fragment; then it is what the first one begins with.
    pub(super) later: bool,
}

#[inline(always)]
const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT)
}

impl Upper {
    /// Walks over the extension headers, of a later fragment as far as the fragment header.
    /// `None`: more headers than are looked through, or a packet whose destination is not yet its
    /// last one (a routing header with segments left).
    #[inline(always)]
    pub fn walk<F: Frame + ?Sized>(frame: &F, mut next_header: u8, first: usize) -> Option<Self> {
        let mut at = first;
        let mut fragment = 0;
        let mut step = 0;
        while step <= MAX_EXTENSIONS {
            if !is_extension(next_header) {
                return Some(Self { kind: next_header, at, fragment, later: false });
            }
            let extension = frame.read::<Extension>(at)?;
            if next_header == FRAGMENT {
                fragment = at;
                if extension.word.host() & FRAGMENT_OFFSET != 0 {
                    return Some(Self { kind: extension.next_header, at, fragment, later: true });
                }
            } else if next_header == ROUTING && extension.word.host() & 0xff != 0 {
                return None;
            }
            at += if next_header == FRAGMENT { FRAGMENT_LENGTH } else { (extension.length as usize + 1) * 8 };
            next_header = extension.next_header;
            if at - first > MAX_EXTENSION_BYTES {
                return None;
            }
            step += 1;
        }
        None
    }

    /// In a word that is not 0: what a program's function can return.
    #[inline(always)]
    pub const fn packed(self) -> u64 {
        let offsets = (self.at as u64) << 16 | (self.fragment as u64) << 32;
        IS_UPPER | offsets | (self.later as u64) << 8 | self.kind as u64
    }

    /// `None`: the word is 0.
    #[inline(always)]
    pub const fn from_packed(word: u64) -> Option<Self> {
        if word & IS_UPPER == 0 {
            return None;
        }
        let (at, fragment) = ((word >> 16) as usize & OFFSET, (word >> 32) as usize & OFFSET);
        Some(Self { kind: word as u8, at, fragment, later: word >> 8 & 1 != 0 })
    }
}

/// Set in each word that [`Upper::packed`] returns.
const IS_UPPER: u64 = 1 << 63;
/// No offset of a header exceeds this, not in the packet that an ICMP error quotes either.
const OFFSET: usize = 0x3ff;

impl RelatedHeaders for V6 {
    const ICMP: u8 = ICMPV6;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, FIRST_ERROR..=LAST_ERROR)
    }

    #[inline(always)]
    fn head<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<Head<Self>> {
        let ip = header(frame, network)?;
        let upper = frame.upper(ip.next_header, network + LENGTH)?;
        let (mut fragment, mut id, mut data) = (0, 0, upper.at);
        if upper.fragment != 0 {
            let word = frame.read::<Extension>(upper.fragment)?.word.host() as usize;
            // The offset is in the upper 13 bits.
            fragment = word >> 3 << 1 | word & MORE_FRAGMENTS;
            id = frame.read::<u32>(upper.fragment + FRAGMENT_ID)? as usize;
            data = upper.fragment + FRAGMENT_LENGTH;
        }
        Some(Head {
            source: ip.source,
            destination: ip.destination,
            protocol: upper.kind,
            ttl: ip.hop_limit,
            network,
            upper: upper.at,
            data,
            fragment,
            id,
            total_length: LENGTH + ip.payload_length.host() as usize,
        })
    }
}

/// The address that a neighbour solicitation asks for, one that probes for duplicates included:
/// unlike an ARP probe's, its answer goes to all nodes and gets into their caches (RFC 4861,
/// section 7.2.4).
#[inline(always)]
fn parse_solicitation<F: Frame + ?Sized>(frame: &F, ip: &Header, transport: usize) -> Option<V6> {
    if ip.next_header != ICMPV6 {
        return None;
    }
    let message = frame.read::<Solicitation>(transport)?;
    (message.kind == NEIGHBOUR_SOLICITATION).then_some(message.target)
}

/// As [`super::plain`].
#[inline(always)]
pub fn plain<F: Frame + ?Sized>(frame: &F) -> Option<plain::Plain<V6>> {
    let head = frame.read::<Plain>(PLAIN_OFFSET)?;
    let ip = &head.ip;
    if head.kind.0 != ethertype::IPV6.to_be()
        || ip.version_and_class >> 4 != 6
        || ip.destination.is_mapped()
        || ip.source == ip.destination
        || ip.hop_limit == 0
    {
        return None;
    }
    head.rest.of(frame, head.flow()?)
}

/// As [`super::of_plain`].
#[inline(always)]
pub fn of_plain<F: Frame + ?Sized>(frame: &F) -> Option<Flow<V6>> {
    frame.read::<Plain>(PLAIN_OFFSET)?.flow()
}
