//! IP addresses as they stand in a packet, network byte order in memory, and what differs between
//! the two families.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::packet::checksum;
use crate::table::connection::{Key, KeyV4, KeyV6};

/// An address of either family. Whatever is generic over it is compiled once for each.
pub trait Address: Copy + PartialEq {
    /// What the connection table holds of this family's client and ports.
    type Key: Key;

    /// The key of the connection from this client.
    fn key(self, client_port: u16, service_port: u16) -> Self::Key;

    /// The same address in the one form that services, servers and the controller use.
    fn mapped(self) -> V6;

    /// The reverse of [`Self::mapped`]; `None`: an address of the other family.
    fn of_mapped(address: V6) -> Option<Self>;

    /// The sum of its words of two bytes, as they stand in the packet: at most 0x7_fff8.
    fn sum(self) -> u32;

    /// 32 bits of it, for filters and hashes that need not tell all addresses apart.
    fn folded(self) -> u32;
}

/// An IPv4 address.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct V4(pub u32);

/// An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2).
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct V6(pub [u64; 2]);

impl V4 {
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl V6 {
    /// `::`, which is nobody's.
    pub const UNSPECIFIED: Self = Self([0; 2]);

    /// Whether it stands for an IPv4 address.
    #[inline(always)]
    pub const fn is_mapped(self) -> bool {
        let low = u64::from_be(self.0[1]);
        self.0[0] == 0 && low >> 32 == 0xffff
    }

    #[inline(always)]
    pub const fn of_v4(address: V4) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])])
    }

    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])])
    }

    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.0[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.0[1].to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

impl Address for V4 {
    type Key = KeyV4;

    #[inline(always)]
    fn key(self, client_port: u16, service_port: u16) -> KeyV4 {
        KeyV4::new(self, client_port, service_port)
    }
    #[inline(always)]
    fn mapped(self) -> V6 {
        V6::of_v4(self)
    }
    fn of_mapped(address: V6) -> Option<Self> {
        let [.., a, b, c, d] = address.octets();
        let found = Self::from_octets([a, b, c, d]);
        (found.mapped() == address).then_some(found)
    }
    #[inline(always)]
    fn sum(self) -> u32 {
        checksum::halves(self.0)
    }
    #[inline(always)]
    fn folded(self) -> u32 {
        self.0
    }
}

impl Address for V6 {
    type Key = KeyV6;

    #[inline(always)]
    fn key(self, client_port: u16, service_port: u16) -> KeyV6 {
        KeyV6::new(self, client_port, service_port)
    }
    #[inline(always)]
    fn mapped(self) -> V6 {
        self
    }
    fn of_mapped(address: V6) -> Option<Self> {
        V4::of_mapped(address).is_none().then_some(address)
    }
    #[inline(always)]
    fn sum(self) -> u32 {
        let of = |word: u64| {
            let word = (word & 0xffff_ffff) + (word >> 32);
            (word & 0xffff) as u32 + (word >> 16) as u32
        };
        of(self.0[0]) + of(self.0[1])
    }
    /// Of an IPv4 address the same as [`V4`]'s.
    #[inline(always)]
    fn folded(self) -> u32 {
        let [high, low] = self.0;
        let [.., mapped] = V6::of_v4(V4(0)).0;
        let words = high ^ low ^ mapped;
        words as u32 ^ (words >> 32) as u32
    }
}

impl From<core::net::IpAddr> for V6 {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(address) => V4::from(address).mapped(),
            core::net::IpAddr::V6(address) => Self::from_octets(address.octets()),
        }
    }
}

impl From<core::net::Ipv4Addr> for V4 {
    fn from(address: core::net::Ipv4Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<V4> for core::net::Ipv4Addr {
    fn from(address: V4) -> Self {
        address.octets().into()
    }
}

/// An IPv4 address comes back as one.
impl From<V6> for core::net::IpAddr {
    fn from(address: V6) -> Self {
        core::net::Ipv6Addr::from(address.octets()).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_lead_back(octets: [u8; 16], v4: [u8; 4]) {
            let v6 = IpAddr::from(octets).to_canonical();
            prop_assert_eq!(IpAddr::from(V6::from(v6)), v6);
            let address = V4::from_octets(v4);
            prop_assert_eq!(IpAddr::from(address.mapped()), IpAddr::from(v4));
            prop_assert_eq!(address.mapped().folded(), address.folded());
        }
    }
}
