//! Addresses of our own in the place of clients (`source_nat`): a packet to a server gets a port of
//! one of them as its source, so that the server's answer comes back to the director, wherever the
//! client is.
//!
//! A port is taken for a connection by an insertion into `REPLIES` that fails where it is there
//! already, so two CPUs never take the same one. It is the connection's until the controller has
//! found the connection's entry gone.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Translation;
use crate::addr::V6;

/// Most addresses of a pool. A power of two.
pub const MOST_ADDRESSES: usize = 16;
/// Pools that the map `POOLS` has room for; number 0 is none.
pub const MOST_POOLS: u32 = 256;
/// The ports of each address: below those that Linux gives to connections of the host itself.
pub const FIRST_PORT: u16 = 1024;
pub const LAST_PORT: u16 = 32_767;
/// Connections with an address of ours in all, for which the maps have room.
pub const MOST_CONNECTIONS: u32 = 1 << 19;
/// Ports that are tried for a new connection.
pub const ATTEMPTS: u32 = 32;

/// Addresses that connections to a server's port come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Pool {
    pub addresses: [V6; MOST_ADDRESSES],
    /// How many addresses there are; 0: unset.
    pub count: u32,
    /// Host byte order.
    pub first_port: u16,
    /// How many ports of each address.
    pub ports: u16,
}

const _: () = assert!(size_of::<Pool>() == 264);

impl Pool {
    pub const UNSET: Self =
        Self { addresses: [V6::UNSPECIFIED; MOST_ADDRESSES], count: 0, first_port: 0, ports: 0 };

    /// The first [`MOST_ADDRESSES`] of these addresses, with all ports that they have.
    pub fn new(addresses: &[V6]) -> Self {
        let mut pool = Self { first_port: FIRST_PORT, ports: LAST_PORT - FIRST_PORT + 1, ..Self::UNSET };
        for (place, address) in pool.addresses.iter_mut().zip(addresses) {
            *place = *address;
            pool.count += 1;
        }
        pool
    }

    /// The end that this attempt tries for the connection of this hash. `None`: the pool is empty.
    #[inline(always)]
    pub fn candidate(&self, hash: u64, attempt: u32) -> Option<Endpoint> {
        let (count, ports) = (u64::from(self.count), u64::from(self.ports));
        if count == 0 || ports == 0 {
            return None;
        }
        // Anywhere at first, and then the neighbours: of a small pool no port is left out.
        let jumps = attempt < ATTEMPTS / 2;
        let step =
            if jumps { u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { attempt.into() };
        let number = hash.wrapping_add(step);
        let address = self.addresses[(number % count) as usize & (MOST_ADDRESSES - 1)];
        let port = self.first_port.wrapping_add((number / count % ports) as u16);
        Some(Endpoint { address, port: port.to_be(), reserved: [0; 3] })
    }
}

/// An address and port. Value of the map `SOURCES`: what stands in the place of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoint {
    pub address: V6,
    /// As it stands in a packet.
    pub port: u16,
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<Endpoint>() == 24);

/// Whose connection it is. Key of the map `SOURCES`, value of `REPLIES`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Client {
    pub address: V6,
    /// As it stands in a packet.
    pub port: u16,
    /// Number of the server, which tells the service.
    pub server: u16,
    /// Of a service with several ports that which the connection has, as it stands in a packet.
    pub service_port: u16,
    pub reserved: u16,
}

const _: () = assert!(size_of::<Client>() == 24);

impl Client {
    /// `port` as it stands in a packet. `service_port`: 0 where the server tells it.
    #[inline(always)]
    pub const fn new(address: V6, port: u16, server: u16, service_port: u16) -> Self {
        Self { address, port, server, service_port, reserved: 0 }
    }

    /// Where the search for a port begins, mixed with the secret `keys`: the same one at all
    /// servers.
    #[inline(always)]
    pub const fn hash(&self, keys: [u64; 2]) -> u64 {
        let odd = keys[1] | 1;
        let mixed = (self.address.0[0] ^ keys[0]).wrapping_mul(odd);
        let mixed = (mixed ^ mixed >> 32).wrapping_add(self.address.0[1]).wrapping_mul(odd);
        let mixed = (mixed ^ mixed >> 32).wrapping_add(self.port as u64).wrapping_mul(odd);
        mixed ^ mixed >> 32
    }
}

/// What a server's packet to an address of ours says. Key of the map `REPLIES`; numbers as they
/// stand in a packet.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Reply {
    pub server: V6,
    pub address: V6,
    pub server_port: u16,
    pub port: u16,
    pub protocol: u16,
    pub reserved: u16,
}

const _: () = assert!(size_of::<Reply>() == 40);

impl Reply {
    /// `port`: the server's, as it stands in a packet.
    #[inline(always)]
    pub const fn new(translation: &Translation, port: u16, to: &Endpoint) -> Self {
        Self {
            server: translation.address,
            address: to.address,
            server_port: port,
            port: to.port,
            protocol: translation.protocol,
            reserved: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::addr::{Address as _, V4};

    proptest! {
        #[test]
        fn candidates_are_of_the_pool(hash: u64, count in 1_usize..=16, first: u16, ports in 1_u16..1000) {
            let first = first.min(u16::MAX - ports);
            let addresses: Vec<V6> = (0..count as u32).map(|number| V4(number + 1).mapped()).collect();
            let pool = Pool { first_port: first, ports, ..Pool::new(&addresses) };
            for attempt in 0..ATTEMPTS {
                let found = pool.candidate(hash, attempt).expect("it has addresses");
                prop_assert!(addresses.contains(&found.address));
                let port = u16::from_be(found.port);
                prop_assert!((first..first + ports).contains(&port));
            }
        }

        /// Up to 16 ports in all, each is tried: no connection is refused while one is free.
        #[test]
        fn a_small_pool_is_searched_in_full(hash: u32, count in 1_usize..=4, ports in 1_u16..=4) {
            let hash = u64::from(hash);
            let addresses: Vec<V6> = (0..count as u32).map(|number| V4(number + 1).mapped()).collect();
            let pool = Pool { ports, ..Pool::new(&addresses) };
            let tried: BTreeSet<(V6, u16)> = (0..ATTEMPTS)
                .filter_map(|attempt| pool.candidate(hash, attempt))
                .map(|found| (found.address, found.port))
                .collect();
            prop_assert_eq!(tried.len(), count * usize::from(ports));
        }
    }

    #[test]
    fn an_empty_pool_has_no_ports() {
        assert_eq!(Pool::UNSET.candidate(7, 0), None);
        let pool = Pool::new(&[V4(1).mapped()]);
        assert_eq!((pool.count, pool.first_port, pool.ports), (1, 1024, 31_744));
    }

    #[test]
    fn clients_begin_at_different_places() {
        let keys = [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321];
        let hashes: BTreeSet<u64> =
            (0..1000).map(|port| Client::new(V4(1).mapped(), port, 7, 0).hash(keys)).collect();
        assert_eq!(hashes.len(), 1000);
    }
}
