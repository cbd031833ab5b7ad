//! IPv6 headers, as far as the ports.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::related::{ICMP_LENGTH, Icmp, IcmpError, Quote, RelatedHeaders};
use super::{
    ETHERNET_LENGTH, ETHERTYPE_IPV6, Flow, Frame, Link, Net16, Parsed, PlainRest, Ports, TCP_LENGTH,
};
use crate::addr::V6;
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
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
/// RFC 4443: destination unreachable, packet too big, time exceeded, parameter problem.
const FIRST_ERROR: u8 = 1;
const LAST_ERROR: u8 = 4;
const FRAGMENT_OFFSET: u16 = 0xfff8;
const MORE_FRAGMENTS: u16 = 1;

/// The headers of nearly every packet: no VLAN tag, no extension header. From byte 6 of the frame
/// on, so that the words of the addresses are aligned in it.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Plain {
    _source_mac: [u16; 3],
    kind: Net16,
    ip: Header,
    ports: Ports,
    rest: PlainRest,
}

const PLAIN_OFFSET: usize = 6;
const _: () = assert!(PLAIN_OFFSET + size_of::<Plain>() <= ETHERNET_LENGTH + LENGTH + TCP_LENGTH);

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
    let Some(upper) = upper(frame, ip.next_header, network + LENGTH) else { return the_hosts };
    let transport = upper.at;
    let Some(protocol) = Protocol::from_number(upper.kind) else {
        return if upper.is_error(frame) { Err(Parsed::Related) } else { the_hosts };
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
#[derive(Clone, Copy)]
struct Upper {
    /// Its number as a next header.
    kind: u8,
    /// Its offset in the frame.
    at: usize,
    /// Whether it is the first one of several fragments.
    fragmented: bool,
}

impl Upper {
    /// Whether it is an ICMP error that a connection's server should hear of, so far as can be told
    /// without what it quotes.
    #[inline(always)]
    fn is_error<F: Frame + ?Sized>(self, frame: &F) -> bool {
        self.kind == ICMPV6
            && !self.fragmented
            && frame.read::<Icmp>(self.at).is_some_and(|icmp| matches!(icmp.kind, FIRST_ERROR..=LAST_ERROR))
    }
}

/// Walks over the extension headers. `None`: a later fragment, more headers than are looked
/// through, or a packet whose destination is not yet its last one (a routing header with segments
/// left).
#[inline(always)]
fn upper<F: Frame + ?Sized>(frame: &F, mut next_header: u8, first: usize) -> Option<Upper> {
    let mut at = first;
    let mut fragmented = false;
    let mut step = 0;
    while step <= MAX_EXTENSIONS {
        if !matches!(next_header, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT) {
            return Some(Upper { kind: next_header, at, fragmented });
        }
        let extension = frame.read::<Extension>(at)?;
        match next_header {
            FRAGMENT if extension.word.host() & FRAGMENT_OFFSET != 0 => return None,
            FRAGMENT => fragmented = extension.word.host() & MORE_FRAGMENTS != 0,
            ROUTING if extension.word.host() & 0xff != 0 => return None,
            _ => {}
        }
        at += if next_header == FRAGMENT { 8 } else { (extension.length as usize + 1) * 8 };
        next_header = extension.next_header;
        if at - first > MAX_EXTENSION_BYTES {
            return None;
        }
        step += 1;
    }
    None
}

impl RelatedHeaders for V6 {
    #[inline(always)]
    fn icmp_error<F: Frame + ?Sized>(frame: &F, link: &Link) -> Option<IcmpError<Self>> {
        let ip = header(frame, link.network)?;
        let upper = upper(frame, ip.next_header, link.network + LENGTH)?;
        upper.is_error(frame).then(|| IcmpError {
            destination: ip.destination,
            ttl: ip.hop_limit,
            network: link.network,
            quote: upper.at + ICMP_LENGTH,
            total_length: LENGTH + ip.payload_length.host() as usize,
        })
    }

    #[inline(always)]
    fn quote<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<Quote<Self>> {
        let ip = header(frame, at)?;
        let upper = upper(frame, ip.next_header, at + LENGTH)?;
        let protocol = Protocol::from_number(upper.kind)?;
        let ports = frame.read::<Ports>(upper.at)?;
        Some(Quote {
            source: ip.source,
            destination: ip.destination,
            source_port: ports.source,
            destination_port: ports.destination,
            protocol,
            end: upper.at + size_of::<Ports>(),
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
pub fn plain<F: Frame + ?Sized>(frame: &F) -> Option<Flow<V6>> {
    let head = frame.read::<Plain>(PLAIN_OFFSET)?;
    let ip = &head.ip;
    if head.kind.0 != ETHERTYPE_IPV6.to_be()
        || ip.version_and_class >> 4 != 6
        || ip.destination.is_mapped()
        || ip.source == ip.destination
        || ip.hop_limit == 0
    {
        return None;
    }
    let flow = Flow {
        source: ip.source,
        destination: ip.destination,
        source_port: head.ports.source,
        destination_port: head.ports.destination,
        protocol: Protocol::from_number(ip.next_header)?,
        ttl: ip.hop_limit,
        network: ETHERNET_LENGTH,
        transport: ETHERNET_LENGTH + LENGTH,
        total_length: LENGTH + ip.payload_length.host() as usize,
    };
    head.rest.is_plain(frame, &flow).then_some(flow)
}
