//! Tunnels: the packet travels to its server inside an outer packet, which may cross routers.
//!
//! - IP in IP (RFC 2003, RFC 2473): an outer IP header and nothing else
//! - GUE (draft-ietf-intarea-gue, variant 0): UDP, whose source port is the flow's hash, and a
//!   header of four bytes
//! - GRE (RFC 2784) without a checksum
//!
//! Here are the rules and the outer headers' words; the program makes room and writes them.

mod sum;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Address, V4, V6};
use crate::packet::checksum::{self, halves};
use crate::packet::frame::Flow;
use crate::packet::numbers::{ethertype, protocol};

pub use self::sum::inner_sum;

/// What the outer header is followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Ipip = 1,
    Gue = 2,
    Gre = 3,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Ipip, Self::Gue, Self::Gre];

    /// The word of the configuration and of ipvsadm's `--tun-type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        }
    }

    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Ipip),
            2 => Some(Self::Gue),
            3 => Some(Self::Gre),
            _ => None,
        }
    }

    /// Bytes between the outer IP header and the inner one.
    #[inline(always)]
    pub const fn shim(self) -> usize {
        match self {
            Self::Ipip => 0,
            Self::Gue => UDP + 4,
            Self::Gre => 4,
        }
    }

    /// Bytes before the inner packet.
    #[inline(always)]
    pub const fn overhead(self, outer_is_ipv4: bool) -> usize {
        self.shim() + if outer_is_ipv4 { IPV4 } else { IPV6 }
    }
}

/// UDP port of GUE (RFC 6335's registry).
pub const GUE_PORT: u16 = 6080;
/// Time to live of outer packets.
pub const TTL: u8 = 64;
/// The least that an IPv6 link carries (RFC 8200, section 5).
pub const LEAST_MTU_V6: u32 = 1280;
/// Words of the longest outer headers.
pub const MAX_WORDS: usize = (IPV6 + UDP + 4) / 4;
/// Words of the longest ones that begin with IPv4.
pub const MAX_WORDS_V4: usize = (IPV4 + UDP + 4) / 4;

const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const DONT_FRAGMENT: u16 = 0x4000;
/// Source ports of GUE: the dynamic ones (RFC 6335, section 6).
const DYNAMIC_PORTS: u16 = 0xc000;

/// Entry of the map `TUNNELS`: what a server that is reached by a tunnel needs besides its next
/// hop. One cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Tunnel {
    /// Of the outer packets; of the same family as `destination`.
    pub source: V6,
    /// The server's own address.
    pub destination: V6,
    /// Which bits of `source`'s last 32 come from the flow's hash; host byte order.
    pub source_mask: u32,
    /// The most bytes of an outer packet.
    pub mtu: u32,
    /// UDP port of GUE, as it stands in a packet (network byte order in memory).
    pub port: u16,
    /// A [`Kind`]; 0: unset.
    pub kind: u8,
    pub reserved: [u8; 21],
}

const _: () = assert!(size_of::<Tunnel>() == 64);

impl Tunnel {
    pub const UNSET: Self = Self {
        source: V6::UNSPECIFIED,
        destination: V6::UNSPECIFIED,
        source_mask: 0,
        mtu: 0,
        port: 0,
        kind: 0,
        reserved: [0; 21],
    };

    #[inline(always)]
    pub const fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind)
    }

    #[inline(always)]
    pub fn is_ipv4(&self) -> bool {
        self.destination.is_mapped()
    }

    /// The most bytes of an inner packet.
    #[inline(always)]
    pub fn room(&self, kind: Kind) -> u32 {
        self.mtu.saturating_sub(kind.overhead(self.is_ipv4()) as u32)
    }

    /// The same, and what an ICMP error tells the sender of a larger one.
    #[inline(always)]
    pub fn told_mtu(&self, kind: Kind, inner_is_ipv4: bool) -> u32 {
        let room = self.room(kind);
        if inner_is_ipv4 || room > LEAST_MTU_V6 { room } else { LEAST_MTU_V6 }
    }
}

/// A hash of the flow that servers' network cards and routers on the way can spread by.
#[inline(always)]
pub fn flow_hash<A: Address>(flow: &Flow<A>) -> u32 {
    let ports = u64::from(flow.source_port) << 16 | u64::from(flow.destination_port);
    // The finaliser of MurmurHash3, which lets every bit count in every other.
    let mixed = u64::from(flow.source.folded()) << 32 | ports;
    let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (mixed ^ mixed >> 33) as u32
}

/// What the outer headers tell of the packet in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    pub is_ipv4: bool,
    /// DSCP and ECN: the second byte of an IPv4 header, the traffic class of IPv6.
    pub class: u8,
    /// Bytes of it.
    pub length: u32,
    /// See [`flow_hash`].
    pub hash: u32,
    /// See [`inner_sum`]; looked at for GUE over IPv6 alone. `None`: the UDP checksum is 0.
    pub sum: Option<u32>,
}

impl Inner {
    #[inline(always)]
    const fn protocol(&self) -> u8 {
        if self.is_ipv4 { protocol::IPV4 } else { protocol::IPV6 }
    }
}

/// Hands the words of the outer headers to `put`, each with its number, as they stand in a packet.
///
/// - DSCP and ECN are the inner packet's (RFC 6040, section 4.1; RFC 2983, the uniform model).
/// - An outer IPv4 packet is never fragmented, so its identification is 0 (RFC 6864, section 4.1).
/// - The flow label is the flow's hash (RFC 6438).
///
/// `OUTER_IPV4`: the outer header is of IPv4, as [`Tunnel::is_ipv4`] tells.
#[inline(always)]
pub fn write<const OUTER_IPV4: bool>(
    tunnel: &Tunnel,
    kind: Kind,
    inner: &Inner,
    mut put: impl FnMut(usize, u32),
) {
    let payload = inner.length + kind.shim() as u32;
    let protocol = match kind {
        Kind::Ipip => inner.protocol(),
        Kind::Gue => protocol::UDP,
        Kind::Gre => protocol::GRE,
    };
    let (source, first) = if OUTER_IPV4 {
        (write_ipv4(tunnel, inner, payload, protocol, &mut put), IPV4 / 4)
    } else {
        (write_ipv6(tunnel, inner, payload, protocol, &mut put), IPV6 / 4)
    };
    match kind {
        Kind::Ipip => {}
        Kind::Gre => {
            let ethertype = if inner.is_ipv4 { ethertype::IPV4 } else { ethertype::IPV6 };
            put(first, pair(0, ethertype.to_be()));
        }
        Kind::Gue => {
            let ports = pair((DYNAMIC_PORTS | inner.hash as u16).to_be(), tunnel.port);
            let length = (payload as u16).to_be();
            let header = u32::from_ne_bytes([0, inner.protocol(), 0, 0]);
            let sum = match inner.sum {
                Some(sum) if !OUTER_IPV4 => {
                    let protocol = u32::from(u16::from(protocol::UDP).to_be());
                    // The length counts twice: in the header and in the pseudo header.
                    let own = halves(ports) + 2 * u32::from(length) + halves(header) + protocol;
                    let sum = checksum::of(own + source + tunnel.destination.sum() + sum);
                    // 0 would say that there is none (RFC 768).
                    if sum == 0 { u16::MAX } else { sum }
                }
                _ => 0,
            };
            put(first, ports);
            put(first + 1, pair(length, sum));
            put(first + 2, header);
        }
    }
}

/// RFC 791, section 3.1. Returns the sum of the source's words.
#[inline(always)]
fn write_ipv4(
    tunnel: &Tunnel,
    inner: &Inner,
    payload: u32,
    protocol: u8,
    put: &mut impl FnMut(usize, u32),
) -> u32 {
    let hashed = (inner.hash & tunnel.source_mask).to_be();
    let source = (tunnel.source.0[1] >> LAST_32) as u32 | hashed;
    let destination = (tunnel.destination.0[1] >> LAST_32) as u32;
    let length = (payload + IPV4 as u32) as u16;
    let first = pair(u16::from_ne_bytes([0x45, inner.class]), length.to_be());
    let fragment = pair(0, DONT_FRAGMENT.to_be());
    let third = u16::from_ne_bytes([TTL, protocol]);
    let sum = halves(first) + halves(fragment) + u32::from(third) + halves(source) + halves(destination);
    put(0, first);
    put(1, fragment);
    put(2, pair(third, checksum::of(sum)));
    put(3, source);
    put(4, destination);
    V4(source).sum()
}

/// RFC 8200, section 3. Returns the sum of the source's words.
#[inline(always)]
fn write_ipv6(
    tunnel: &Tunnel,
    inner: &Inner,
    payload: u32,
    protocol: u8,
    put: &mut impl FnMut(usize, u32),
) -> u32 {
    let word = |address: &V6, half: usize, low: bool| {
        (address.0[half] >> if low { LAST_32 } else { 32 - LAST_32 }) as u32
    };
    let label = inner.hash >> 12;
    put(0, (6 << 28 | u32::from(inner.class) << 20 | label).to_be());
    put(1, pair((payload as u16).to_be(), u16::from_ne_bytes([protocol, TTL])));
    let hashed = (inner.hash & tunnel.source_mask).to_be();
    let source = V6([tunnel.source.0[0], tunnel.source.0[1] | u64::from(hashed) << LAST_32]);
    for (at, address) in [(2, &source), (6, &tunnel.destination)] {
        put(at, word(address, 0, false));
        put(at + 1, word(address, 0, true));
        put(at + 2, word(address, 1, false));
        put(at + 3, word(address, 1, true));
    }
    source.sum()
}

/// Where the last four bytes of an address stand in its second word.
const LAST_32: u32 = if cfg!(target_endian = "little") { 32 } else { 0 };

/// Two words of two bytes, each as it stands in a packet, as one of four.
#[inline(always)]
const fn pair(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests;
