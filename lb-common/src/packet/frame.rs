//! Headers of a packet, from Ethernet to the ports: what is ours, not ours, malformed.
//!
//! Generic over how bytes are read: the program re-checks bounds for the verifier at each read, the
//! host reads a slice. What the tests and the fuzzer see is what runs in the kernel.

mod arp;
mod ipv6;
mod link;
mod plain;
mod related;

use zerocopy::{FromBytes, Immutable, KnownLayout};

pub use self::ipv6::{Upper, of_plain as of_plain_ipv6, plain as plain_ipv6};
use self::link::is_tag;
pub use self::link::{Link, link};
pub use self::plain::{Plain, of_plain, plain};
pub use self::related::{Head, RelatedHeaders};

use crate::addr::{Address, V4, V6};
use crate::packet::numbers::ethertype;
use crate::packet::vlan::Vlan;
use crate::reason::Reason;
use crate::service::{Protocol, ServiceAddress, ServiceInfo};
use crate::table::connection::{Key, tcp_flags};

/// A frame from its Ethernet header on.
pub trait Frame {
    /// The value at `offset`, of any alignment; `None`: the frame ends before its last byte.
    fn read<T: Header>(&self, offset: usize) -> Option<T>;
    /// Whether all fragments of a multi-buffer frame together have at least `length` bytes.
    fn holds(&self, length: usize) -> bool;
    /// Whether its first fragment has at least `length` bytes.
    fn holds_in_one_piece(&self, length: usize) -> bool;
    /// The same number, of which a program's compiler knows nothing.
    #[inline(always)]
    fn kept(number: usize) -> usize {
        number
    }
    /// [`Upper::walk`], which programs do in a function that the verifier looks at once.
    fn upper(&self, next_header: u8, first: usize) -> Option<Upper> {
        Upper::walk(self, next_header, first)
    }
}

/// What can be read from a frame: any bytes make one.
///
/// These types are not packed, on purpose: the compiler reads a packed one byte by byte on BPF,
/// which cost a third of the time of a packet.
pub trait Header: FromBytes + KnownLayout + Immutable + Copy {}

impl<T: FromBytes + KnownLayout + Immutable + Copy> Header for T {}

impl Frame for [u8] {
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        T::read_from_prefix(self.get(offset..)?).ok().map(|(value, _)| value)
    }
    fn holds(&self, length: usize) -> bool {
        length <= self.len()
    }
    fn holds_in_one_piece(&self, length: usize) -> bool {
        length <= self.len()
    }
}

/// A big-endian number of the packet, kept as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
#[repr(transparent)]
struct Net16(u16);

impl Net16 {
    #[inline(always)]
    const fn host(self) -> u16 {
        u16::from_be(self.0)
    }
}

#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ethernet {
    _destination: [u8; 6],
    _source: [u8; 6],
    kind: Net16,
}

/// 802.1Q or 802.1ad tag, after the type that announces it.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct VlanTag {
    control: Net16,
    kind: Net16,
}

/// RFC 791, section 3.1. Addresses as they stand in the packet.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipv4 {
    version_and_length: u8,
    _service: u8,
    total_length: Net16,
    id: u16,
    fragment: Net16,
    ttl: u8,
    protocol: u8,
    _checksum: u16,
    source: V4,
    destination: V4,
}

impl Ipv4 {
    /// Options included, bytes. `None`: it is no such header.
    #[inline(always)]
    const fn header_length(&self) -> Option<usize> {
        let length = (self.version_and_length & 0x0f) as usize * 4;
        if self.version_and_length >> 4 == 4 && length >= size_of::<Self>() { Some(length) } else { None }
    }
}

#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ports {
    source: u16,
    destination: u16,
}

const ETHERNET_LENGTH: usize = size_of::<Ethernet>();
const _: () = assert!(ETHERNET_LENGTH == 14 && size_of::<Ipv4>() == 20);
/// Tags that are looked through: 802.1ad has two.
const MAX_VLAN_TAGS: usize = 2;
const FRAGMENT_OFFSET: u16 = 0x1fff;
const MORE_FRAGMENTS: u16 = 0x2000;
const UDP_LENGTH: usize = 8;
const TCP_LENGTH: usize = 20;

/// What the addresses of a frame say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// IPv4 with TCP or UDP ports: look the service up.
    Flow(Flow<V4>),
    /// IPv6 with TCP or UDP ports.
    FlowV6(Flow<V6>),
    /// An ARP request or a neighbour solicitation: somebody asks for the MAC of this address. The
    /// host's, if it may answer.
    WhoHas(V6),
    /// Any other IPv6 packet, to this address: the host's.
    Ipv6(V6),
    /// It may belong to another packet: an ICMP error about one, a later fragment of its datagram.
    /// Its family's [`RelatedHeaders`] tell more.
    Related,
    /// ICMP echo, …: the host's.
    NotOurs,
    /// Cannot be read as far as the ports.
    Malformed(Reason),
}

/// Addresses and ports as they stand in the packet (network byte order in memory), and where its
/// headers begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow<A> {
    pub source: A,
    pub destination: A,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: Protocol,
    pub ttl: u8,
    /// Offset of the IP header in the frame.
    pub network: usize,
    /// Offset of the TCP or UDP header in the frame.
    pub transport: usize,
    /// Length of the IP packet by its header, bytes.
    pub total_length: usize,
}

impl<A: Address> Flow<A> {
    /// What the connection table knows it by.
    #[inline(always)]
    pub fn key(&self) -> A::Key {
        self.source.key(self.source_port, self.destination_port)
    }

    /// Of a connection in the table: its key, and the service of its server. `None`: the service is
    /// of the other family. No packet belongs to it, so the rest is 0.
    pub fn of_connection<K: Key<Address = A>>(key: K, service: &ServiceInfo) -> Option<Self> {
        let [source_port, destination_port] = key.ports();
        Some(Self {
            source: key.client(),
            destination: A::of_mapped(service.address)?,
            source_port,
            destination_port,
            protocol: Protocol::from_number((service.port_and_protocol >> 16) as u8)?,
            ttl: 0,
            network: 0,
            transport: 0,
            total_length: 0,
        })
    }

    /// What its service is known by.
    #[inline(always)]
    pub fn service(&self) -> ServiceAddress {
        ServiceAddress::new(self.destination.mapped(), self.destination_port, self.protocol)
    }
}

/// The VLAN tags of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tags {
    pub vlan: Vlan,
    /// Priority and drop eligibility of the outer tag, as they stand in its control word; 0 without
    /// a tag.
    pub priority: u16,
    /// Offset of what follows the tags and the EtherType.
    pub network: usize,
}

/// Reads the VLAN tags alone. `None`: as [`link`].
#[inline(always)]
pub fn tags<F: Frame + ?Sized>(frame: &F) -> Option<Tags> {
    let mut ethertype = frame.read::<Ethernet>(0)?.kind.host();
    let mut found = Tags { vlan: Vlan::UNTAGGED, priority: 0, network: ETHERNET_LENGTH };
    let mut tags = 0;
    while is_tag(ethertype) {
        let tag = frame.read::<VlanTag>(found.network)?;
        if tags == MAX_VLAN_TAGS {
            return None;
        }
        let control = tag.control.host();
        if tags == 0 {
            found.priority = control & !Vlan::NUMBER;
        }
        found.vlan = found.vlan.and(control);
        ethertype = tag.kind.host();
        found.network += size_of::<VlanTag>();
        tags += 1;
    }
    Some(found)
}

/// Whether it is an IPv6 packet without VLAN tags.
#[inline(always)]
pub fn is_ipv6<F: Frame + ?Sized>(frame: &F) -> bool {
    frame.read::<Ethernet>(0).is_some_and(|ethernet| ethernet.kind.0 == ethertype::IPV6.to_be())
}

/// Reads a frame as far as the ports.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Parsed {
    let Some(link) = link(frame) else { return Parsed::NotOurs };
    if link.is_ipv6() {
        parse_ipv6(frame, &link, Parsed::FlowV6, |other| other)
    } else {
        parse_ipv4(frame, &link, Parsed::Flow, |other| other)
    }
}

/// As [`parse`], for IPv4 and ARP: goes on with `found` if it is a flow, else with `other`. The
/// program has the stack for one copy of a flow, and a [`Parsed`] that holds one would be another.
#[inline(always)]
pub fn parse_ipv4<F: Frame + ?Sized, T>(
    frame: &F,
    link: &Link,
    found: impl FnOnce(Flow<V4>) -> T,
    other: impl FnOnce(Parsed) -> T,
) -> T {
    match link.ethertype {
        ethertype::IPV4 => match ipv4(frame, link.network) {
            Ok(flow) => found(flow),
            Err(parsed) => other(parsed),
        },
        ethertype::ARP => other(arp::parse(frame, link.network).map_or(Parsed::NotOurs, Parsed::WhoHas)),
        _ => other(Parsed::NotOurs),
    }
}

/// As [`parse_ipv4`], for IPv6.
#[inline(always)]
pub fn parse_ipv6<F: Frame + ?Sized, T>(
    frame: &F,
    link: &Link,
    found: impl FnOnce(Flow<V6>) -> T,
    other: impl FnOnce(Parsed) -> T,
) -> T {
    match ipv6::parse(frame, link.network) {
        Ok(flow) => found(flow),
        Err(parsed) => other(parsed),
    }
}

#[inline(always)]
fn ipv4<F: Frame + ?Sized>(frame: &F, network: usize) -> Result<Flow<V4>, Parsed> {
    let Some(ip) = frame.read::<Ipv4>(network) else { return Err(Parsed::Malformed(Reason::TruncatedIp)) };
    let Some(header_length) = ip.header_length() else {
        return Err(Parsed::Malformed(Reason::BadIpHeader));
    };
    let transport = network + header_length;
    let Some(protocol) = Protocol::from_number(ip.protocol) else {
        let is_icmp = ip.protocol == V4::ICMP && ip.fragment.host() & (FRAGMENT_OFFSET | MORE_FRAGMENTS) == 0;
        let is_error = is_icmp && related::icmp_kind(frame, transport).is_some_and(V4::is_error);
        return Err(if is_error { Parsed::Related } else { Parsed::NotOurs });
    };
    if ip.fragment.host() & FRAGMENT_OFFSET != 0 {
        return Err(Parsed::Related);
    }
    let Some(ports) = frame.read::<Ports>(transport) else {
        return Err(Parsed::Malformed(Reason::TruncatedPorts));
    };
    Ok(Flow {
        source: ip.source,
        destination: ip.destination,
        source_port: ports.source,
        destination_port: ports.destination,
        protocol,
        ttl: ip.ttl,
        network,
        transport,
        total_length: ip.total_length.host() as usize,
    })
}

/// For a packet of a service: checks the rest of its headers and returns the TCP flags, with
/// [`tcp_flags::DATA`] if it carries data (0 for UDP).
#[inline(always)]
pub fn check<F: Frame + ?Sized, A: Address>(frame: &F, flow: &Flow<A>) -> Result<u8, Reason> {
    if flow.source == flow.destination {
        return Err(Reason::SourceIsVip);
    }
    if flow.ttl == 0 {
        return Err(Reason::TtlExpired);
    }
    if !frame.holds(flow.network + flow.total_length) {
        return Err(Reason::BadLength);
    }
    let end = flow.network + flow.total_length;
    match flow.protocol {
        Protocol::Tcp => check_tcp(frame, flow.transport, end),
        Protocol::Udp => check_udp(frame, flow.transport, end),
    }
}

#[inline(always)]
fn check_tcp<F: Frame + ?Sized>(frame: &F, transport: usize, end: usize) -> Result<u8, Reason> {
    // Data offset and flags: bytes 12 and 13 of the header.
    let Some([offset, flags]) = frame.read::<[u8; 2]>(transport + 12) else { return Err(Reason::BadLength) };
    let header_length = (offset >> 4) as usize * 4;
    if header_length < TCP_LENGTH || transport + header_length > end {
        return Err(Reason::BadLength);
    }
    const CLOSING: u8 = tcp_flags::FIN | tcp_flags::RST;
    if flags & tcp_flags::SYN != 0 && flags & CLOSING != 0 {
        return Err(Reason::BadTcpFlags);
    }
    let data = if transport + header_length < end { tcp_flags::DATA } else { 0 };
    Ok(flags & !tcp_flags::DATA | data)
}

#[inline(always)]
fn check_udp<F: Frame + ?Sized>(frame: &F, transport: usize, end: usize) -> Result<u8, Reason> {
    let Some(length) = frame.read::<Net16>(transport + 4) else { return Err(Reason::BadLength) };
    // A first fragment holds less than its UDP header says, so only the lower bound can be told
    // here.
    if (length.host() as usize) < UDP_LENGTH || transport + UDP_LENGTH > end {
        return Err(Reason::BadLength);
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
