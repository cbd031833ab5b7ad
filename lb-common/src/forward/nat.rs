//! Address translation: packets to a server get its address and port as their destination, and what
//! the server sends gets the VIP and the service's port as its source (`masq` of ipvsadm).
//!
//! The connection table knows a connection by what its client sends. A server's packet is found
//! there by way of [`Backend`], what it comes from, which tells the server's number and so the
//! service. Where several services use one port of a machine, their servers are a ring
//! ([`Translation::next`]), and the table tells which of them has a connection with that client.
//!
//! Checksums are mended by what has changed (RFC 1624), never computed anew.

pub mod source;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Address, V6};
use crate::mac::Mac;
use crate::packet::checksum;
use crate::packet::partial_checksum::folded;
use crate::packet::vlan::Vlan;
use crate::service::Protocol;

/// Most services that may use one port of a machine by address translation.
pub const LONGEST_RING: u32 = 64;

/// In place of a port: each packet keeps its own, because the service has several.
pub const ANY_PORT: u16 = 0;

/// Entry of the map `TRANSLATIONS`: what a server that is reached by address translation needs
/// besides its next hop. One cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Translation {
    /// The server's own address; `::`: unset.
    pub address: V6,
    /// Clients whose address has the server's bits under this mask reach each other without the
    /// director.
    pub subnet: V6,
    /// The server's port, as it stands in a packet, or [`ANY_PORT`].
    pub port: u16,
    /// The next server of the same address, port and protocol; its own number if there is no other
    /// one.
    pub next: u16,
    /// Number of the pool of addresses that stand in the place of clients, in the map `POOLS`; 0:
    /// clients' own addresses stay.
    pub pool: u16,
    /// Not 0: a server of its ring has a pool.
    pub ring_has_pools: u16,
    /// Number of the service's protocol.
    pub protocol: u16,
    /// Not 0: another ring has servers of this address and protocol. Those of the one have a port,
    /// those of the other [`ANY_PORT`].
    pub beside: u16,
    /// Not 0: what the server sends is looked at by the slow way.
    pub slow_answers: u16,
    /// Not 0: the service schedules each datagram by itself, so whatever the server sends from its
    /// port is an answer, unless another server of its ring has a connection with that client.
    pub each_datagram: u16,
    pub reserved: [u8; 16],
}

const _: () = assert!(size_of::<Translation>() == 64);

impl Translation {
    pub const UNSET: Self = Self {
        address: V6::UNSPECIFIED,
        subnet: V6::UNSPECIFIED,
        port: 0,
        next: 0,
        pool: 0,
        ring_has_pools: 0,
        protocol: 0,
        beside: 0,
        slow_answers: 0,
        each_datagram: 0,
        reserved: [0; 16],
    };

    #[inline(always)]
    pub fn is_set(&self) -> bool {
        self.address != V6::UNSPECIFIED
    }

    /// Whether a packet may come from either server: address, port and protocol are the same.
    #[inline(always)]
    pub fn is_same_backend(&self, other: &Self) -> bool {
        let same_port = self.port == other.port || self.port == ANY_PORT || other.port == ANY_PORT;
        self.address == other.address && same_port && self.protocol == other.protocol
    }

    /// The port that the server gets packets to this port of the VIP at.
    #[inline(always)]
    pub const fn port_of(&self, vip_port: u16) -> u16 {
        if self.port == ANY_PORT { vip_port } else { self.port }
    }

    /// Where packets of the other ring come from, see [`Self::beside`], of those that this server
    /// would send from `port`.
    #[inline(always)]
    pub const fn other_backend(&self, port: u16) -> Backend {
        let port = if self.port == ANY_PORT { port } else { ANY_PORT };
        Backend { address: self.address, port, protocol: self.protocol, reserved: 0 }
    }

    /// Whether a packet from its address and port can be from this server alone, and is answered as
    /// plainly as may be.
    #[inline(always)]
    pub const fn is_alone(&self, number: u16) -> bool {
        self.next == number && self.ring_has_pools | self.beside | self.slow_answers == 0
    }

    /// Whether clients' packets come to the server from an address of ours.
    #[inline(always)]
    pub const fn has_pool(&self) -> bool {
        self.pool != 0
    }

    /// Whether this client and the server reach each other without the director.
    #[inline(always)]
    pub fn is_near(&self, client: V6) -> bool {
        is_under(client, self.address, self.subnet)
    }
}

/// Whether both addresses have the same bits under a mask.
#[inline(always)]
const fn is_under(address: V6, other: V6, mask: V6) -> bool {
    (address.0[0] ^ other.0[0]) & mask.0[0] | (address.0[1] ^ other.0[1]) & mask.0[1] == 0
}

/// The mask of a prefix of an address; `length` as the address's family counts it.
pub fn mask(address: core::net::IpAddr, length: u8) -> V6 {
    let length = if address.is_ipv4() { u32::from(length) + 96 } else { length.into() };
    let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
    V6::from_octets(mask.to_be_bytes())
}

/// Key of the map `BACKENDS`: where a server's packets come from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Backend {
    pub address: V6,
    /// As it stands in a packet, or [`ANY_PORT`].
    pub port: u16,
    pub protocol: u16,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Backend>() == 24);

impl Backend {
    /// `port` as it stands in a packet.
    #[inline(always)]
    pub fn new(address: V6, port: u16, protocol: Protocol) -> Self {
        Self { address, port, protocol: protocol.number().into(), reserved: 0 }
    }
}

/// Elements of the map `GUESSES`, a power of two.
pub const GUESSES: u32 = 1 << 14;

/// Where a server's number is guessed by the last two words of its address and its port.
#[inline(always)]
pub fn guess<A: Address>(address: A, port: u16) -> u32 {
    let word = address.folded() ^ (port as u32).rotate_left(16);
    word.wrapping_mul(0x9e37_79b1) >> (u32::BITS - GUESSES.ilog2())
}

/// Routes that the map `ROUTES` has room for, twice: one half is filled while the other one is in
/// force.
pub const MOST_ROUTES: u32 = 128;

/// Which routes are in force: the number of the first one, and how many, in one word so that they
/// change in one store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct RoutesInForce(pub u32);

impl RoutesInForce {
    pub const fn new(first: u32, count: u32) -> Self {
        Self(first << 16 | count)
    }
    #[inline(always)]
    pub const fn first(self) -> u32 {
        self.0 >> 16
    }
    #[inline(always)]
    pub const fn count(self) -> u32 {
        self.0 & 0xffff
    }
}

/// Entry of the map `ROUTES`: a route to clients. Longer prefixes stand before shorter ones, so the
/// first one that fits is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Route {
    pub prefix: V6,
    pub mask: V6,
    pub hop: Hop,
    /// Index of the interface that packets leave by; 0: the main one.
    pub device: u32,
    /// The VLAN that the clients are in. What goes to clients of another one does not go by it.
    pub vlan: Vlan,
}

const _: () = assert!(size_of::<Route>() == 48);

impl Route {
    pub const UNSET: Self = Self {
        prefix: V6::UNSPECIFIED,
        mask: V6::UNSPECIFIED,
        hop: Hop::NONE,
        device: 0,
        vlan: Vlan::UNTAGGED,
    };

    /// Whether it is one of the main interface, without a tag.
    #[inline(always)]
    pub const fn is_plain(&self) -> bool {
        self.device | self.vlan.0 == 0
    }

    #[inline(always)]
    pub fn leads_to(&self, address: V6) -> bool {
        is_under(address, self.prefix, self.mask)
    }
}

/// How a packet to a client leaves: a MAC in bits 0 to 47, or bit 48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Hop(pub u64);

impl Hop {
    /// There is no way, or the next hop's MAC is not known.
    pub const NONE: Self = Self(0);
    /// The client is on the segment: its MAC is that from which its packets come, in the map
    /// `STATIONS`.
    pub const ON_LINK: Self = Self(1 << 48);

    pub const fn by(mac: Mac) -> Self {
        Self(mac.word())
    }

    #[inline(always)]
    pub const fn mac(self) -> Option<Mac> {
        if self.0 == 0 || self.0 == Self::ON_LINK.0 { None } else { Some(Mac::from_word(self.0)) }
    }
}

/// What has changed in the words that a checksum covers: the sum of the new words and of the old
/// ones' complements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delta(pub u32);

impl Delta {
    #[inline(always)]
    pub const fn of_word(old: u16, new: u16) -> Self {
        Self((!old) as u32 + new as u32)
    }

    #[inline(always)]
    pub fn of_address<A: Address>(old: A, new: A) -> Self {
        // Words of 16 bits have their complement in 0xffff.
        let all = (size_of::<A>() / 2) as u32 * 0xffff;
        Self(all - old.sum() + new.sum())
    }

    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum after the change.
    #[inline(always)]
    pub const fn mend(self, checksum: u16) -> u16 {
        checksum::of((!checksum) as u32 + self.0)
    }

    /// The checksum of a segment or datagram after the change. A datagram of UDP without one has
    /// none (RFC 768), and what adds up to 0 stands as 0xffff.
    #[inline(always)]
    pub const fn mend_transport(self, protocol: Protocol, checksum: u16) -> u16 {
        match protocol {
            Protocol::Udp if checksum == 0 => 0,
            Protocol::Udp => match self.mend(checksum) {
                0 => 0xffff,
                mended => mended,
            },
            Protocol::Tcp => self.mend(checksum),
        }
    }

    /// The sum of a pseudo header whose addresses have changed, where hardware is to add the rest:
    /// it is not complemented, and knows of no port (see [`crate::packet::partial_checksum`]).
    #[inline(always)]
    pub const fn mend_partial(self, sum: u16) -> u16 {
        folded(sum as u32 + self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::addr::V4;
    use crate::packet::partial_checksum::pseudo_sum;

    /// The checksum of a segment between these addresses, from all of it.
    fn whole<A: Address>(addresses: [A; 2], protocol: Protocol, words: &[u16]) -> u16 {
        let pseudo =
            pseudo_sum(addresses[0].sum() + addresses[1].sum(), protocol.number(), words.len() as u16 * 2);
        checksum::of(u32::from(pseudo) + words.iter().map(|word| u32::from(*word)).sum::<u32>())
    }

    fn check<A: Address>(
        [client, vip, server]: [A; 3],
        protocol: Protocol,
        words: &[u16],
        port: u16,
    ) -> Result<(), TestCaseError> {
        let before = whole([client, vip], protocol, words);
        let mut changed = Vec::from(words);
        changed[1] = port;
        let addresses = Delta::of_address(vip, server);
        let delta = addresses.and(Delta::of_word(words[1], port));
        let after = whole([client, server], protocol, &changed);
        match protocol {
            Protocol::Tcp => prop_assert_eq!(delta.mend_transport(protocol, before), after),
            Protocol::Udp => {
                let written = |sum: u16| if sum == 0 { 0xffff } else { sum };
                prop_assert_eq!(delta.mend_transport(protocol, written(before)), written(after));
                prop_assert_eq!(delta.mend_transport(protocol, 0), 0);
            }
        }
        let partial = |addresses: [A; 2]| pseudo_sum(addresses[0].sum() + addresses[1].sum(), 6, 40);
        prop_assert_eq!(addresses.mend_partial(partial([client, vip])), partial([client, server]));
        // And back.
        let back = Delta::of_address(server, vip).and(Delta::of_word(port, words[1]));
        prop_assert_eq!(back.mend(delta.mend(before)), before);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_mended_checksum_is_that_of_the_whole_segment(
            v4: [u32; 3],
            v6: [[u64; 2]; 3],
            words in proptest::collection::vec(
                prop_oneof![Just(0_u16), Just(0xffff), any::<u16>()], 4..40),
            port: u16,
        ) {
            // A segment without a bit set has no sum but 0, which nothing is told from.
            prop_assume!(v4.iter().all(|address| *address != 0) && v6.iter().all(|[a, b]| a | b != 0));
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                check(v4.map(V4), protocol, &words, port)?;
                check(v6.map(V6), protocol, &words, port)?;
            }
        }

        #[test]
        fn a_route_leads_to_its_prefix(address: [u8; 4], other: [u8; 4], length in 0_u8..=32) {
            let [address, other] = [address, other].map(core::net::Ipv4Addr::from);
            let bits = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let mask = mask(address.into(), length);
            let prefix = core::net::IpAddr::from(address).into();
            let route = Route { prefix, mask, hop: Hop::NONE, device: 0, vlan: Vlan::UNTAGGED };
            let expected = (address.to_bits() ^ other.to_bits()) & bits == 0;
            prop_assert_eq!(route.leads_to(core::net::IpAddr::from(other).into()), expected);
            prop_assert!(!route.leads_to(V6([1, 2])), "of the other family");
        }
    }

    /// The sums that there are two ways to write of.
    #[test]
    fn zero_and_its_complement() {
        let delta = Delta::of_word(1, 1);
        for (protocol, sum, mended) in [
            (Protocol::Udp, 0, 0),
            (Protocol::Udp, 0xffff, 0xffff),
            (Protocol::Tcp, 0xffff, 0),
            (Protocol::Tcp, 0, 0),
        ] {
            // 0 and 0xffff are one number here; a receiver takes either.
            assert_eq!(delta.mend_transport(protocol, sum), mended, "{protocol:?} {sum:#x}");
        }
        let all = mask([10, 0, 0, 0].into(), 0);
        assert!(is_under(V4(1).mapped(), V4(2).mapped(), all) && !is_under(V4(1).mapped(), V6([1, 1]), all));
        assert_eq!(Hop::by(Mac::new([2, 0, 0, 0, 0, 1])).mac(), Some(Mac::new([2, 0, 0, 0, 0, 1])));
        assert_eq!((Hop::NONE.mac(), Hop::ON_LINK.mac()), (None, None));
        let some = RoutesInForce::new(128, 7);
        assert_eq!((some.first(), some.count()), (128, 7));
    }
}
