//! Persistence: new connections of a client go to the server that it is *bound* to.
//!
//! A binding begins with a connection's first packet, as a tentative one in a map of its own
//! (`TENTATIVE`), so that a flood of first packets pushes out tentative ones alone. Once a
//! connection is established it is a full one (`BINDINGS`), and packets that go to the server
//! prolong it now and then. A first packet of TCP prolongs nothing: clients that try again and
//! again do not keep a server that does not answer. Both maps are the kernel's LRU hashes: what
//! was not used for longest goes when there is no room.
//!
//! A binding names the server by its address, so that all services of a group share it, and so does
//! the next `lb`; which number that address has in a service, if bound clients may go to it, is in
//! `BOUND_SERVERS`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::V6;

/// How a service binds clients. Value of the map `PERSISTENCE`, by service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Persistence {
    /// What of a client's address tells clients apart.
    pub mask: V6,
    /// Services with the same number share bindings; 0: the service binds nobody.
    pub group: u64,
    /// Nanoseconds.
    pub timeout_ns: u64,
    /// The same of a tentative binding.
    pub tentative_ns: u64,
    /// 1: each first packet prolongs a binding, as there may be no other ones (UDP).
    pub at_once: u64,
}

impl Persistence {
    #[inline(always)]
    pub const fn key(&self, client: V6) -> Key {
        let [high, low] = self.mask.0;
        Key { client: V6([client.0[0] & high, client.0[1] & low]), group: self.group }
    }
}

/// Whom a binding is of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Key {
    /// Masked.
    pub client: V6,
    pub group: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Binding {
    /// The server's address.
    pub server: V6,
    /// CLOCK_MONOTONIC.
    pub until_ns: u64,
}

/// Key of the map `BOUND_SERVERS`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BoundServer {
    pub server: V6,
    /// Number of the service.
    pub service: u64,
}

const _: () = assert!(size_of::<Persistence>() == 48 && size_of::<Key>() == 24 && size_of::<Binding>() == 24);

/// Tentative bindings at most.
pub const TENTATIVE: u32 = 1 << 16;

/// The mask of a prefix of so many bits, of an IPv4 address as it stands in a [`V6`].
pub const fn mask(is_ipv4: bool, prefix: u8) -> V6 {
    let bits = if is_ipv4 { 96 + prefix as u32 } else { prefix as u32 };
    let mask = if bits == 0 { 0 } else { u128::MAX << (128 - if bits > 128 { 128 } else { bits }) };
    V6::from_octets(mask.to_be_bytes())
}

/// The number of a group: of its VIP and name, or of the service itself if it has none. The same in
/// each process (FNV-1a, 64 bits).
pub fn group(vip: V6, name: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in vip.octets().iter().chain(name) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    if hash == 0 { 1 } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Address as _, V4};

    #[test]
    fn clients_of_a_prefix_have_one_key() {
        let client = |last: u8| V4::from_octets([192, 0, 2, last]).mapped();
        let persistence = |prefix| Persistence { mask: mask(true, prefix), group: 1, ..Default::default() };
        assert_eq!(persistence(24).key(client(1)), persistence(24).key(client(254)));
        assert_ne!(persistence(32).key(client(1)), persistence(32).key(client(2)));
        assert_eq!(persistence(31).key(client(2)), persistence(31).key(client(3)));
        assert_eq!(persistence(32).key(client(7)).client, client(7));
        let client6 = |low: u8| V6::from_octets([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, low]);
        let persistence = |prefix| Persistence { mask: mask(false, prefix), group: 1, ..Default::default() };
        assert_eq!(persistence(64).key(client6(1)), persistence(64).key(client6(9)));
        assert_ne!(persistence(128).key(client6(1)), persistence(128).key(client6(9)));
        assert_eq!(mask(false, 0), V6::UNSPECIFIED);
    }

    #[test]
    fn groups_are_told_apart_by_vip_and_name() {
        let (one, other) = (V4(1).mapped(), V4(2).mapped());
        assert_eq!(group(one, b"site"), group(one, b"site"));
        assert!(group(one, b"site") != group(other, b"site") && group(one, b"site") != group(one, b"ftp"));
    }
}
