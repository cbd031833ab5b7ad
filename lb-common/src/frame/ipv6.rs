//! IPv6 headers, as far as the ports.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{ETHERNET_LENGTH, ETHERTYPE_IPV6, Flow, Frame, Net16, Parsed, PlainRest, Ports, TCP_LENGTH};
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
const FRAGMENT_OFFSET: u16 = 0xfff8;

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

#[inline(always)]
/// The flow, or what else it is.
pub(super) fn parse<F: Frame + ?Sized>(frame: &F, network: usize) -> Result<Flow<V6>, Parsed> {
    let Some(ip) = frame.read::<Header>(network) else { return Err(Parsed::NotOurs) };
    // No such address may be seen on a network, and a service of IPv4 must not take it for its own.
    if ip.version_and_class >> 4 != 6 || ip.destination.is_mapped() {
        return Err(Parsed::NotOurs);
    }
    if let Some(target) = parse_solicitation(frame, &ip, network + LENGTH) {
        return Err(Parsed::WhoHas(target));
    }
    let the_hosts = Err(Parsed::Ipv6(ip.destination));
    let Some((protocol, transport)) = transport(frame, ip.next_header, network + LENGTH) else {
        return the_hosts;
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

/// Walks over the extension headers. `None`: another protocol, a later fragment, more headers than
/// are looked through, or a packet whose destination is not yet its last one (a routing header with
/// segments left).
#[inline(always)]
fn transport<F: Frame + ?Sized>(frame: &F, mut next_header: u8, first: usize) -> Option<(Protocol, usize)> {
    let mut at = first;
    let mut step = 0;
    while step <= MAX_EXTENSIONS {
        if let Some(protocol) = Protocol::from_number(next_header) {
            return Some((protocol, at));
        }
        let length = match next_header {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT => {
                let extension = frame.read::<Extension>(at)?;
                match next_header {
                    FRAGMENT if extension.word.host() & FRAGMENT_OFFSET != 0 => return None,
                    ROUTING if extension.word.host() & 0xff != 0 => return None,
                    _ => {}
                }
                let length = if next_header == FRAGMENT { 8 } else { (extension.length as usize + 1) * 8 };
                next_header = extension.next_header;
                length
            }
            _ => return None,
        };
        at += length;
        if at - first > MAX_EXTENSION_BYTES {
            return None;
        }
        step += 1;
    }
    None
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
