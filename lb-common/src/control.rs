//! The settings that hold for the whole program, written by the controller, read by every packet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::lease::{Lease, SLOTS};
use crate::probe::Ports;

/// What an `lb` that takes over must understand in the maps of the one before: connection table, servers, counts, totals. Raised
/// whenever one of them changes its meaning.
pub const LAYOUT: u64 = 2;

/// The one entry of the map `CONTROL`. Two cache lines and the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Control {
    /// Our own MAC on the interface, see [`mac_to_word`].
    pub mac: u64,
    /// Secret keys of the connection table's hash; the second one odd.
    pub hash_keys: [u64; 2],
    /// The half of the service table that is in force, see [`Half`]; one word, so that a switch is one store.
    pub half: u64,
    /// Pages of the connection table minus one; a power of two minus one.
    pub page_mask: u32,
    /// Slots of one half of the service table minus one; a power of two minus one.
    pub service_mask: u32,
    /// Where probes through a VIP come from; one word, so that it changes in one store.
    pub probe_ports: Ports,
    /// [`LAYOUT`] of the `lb` that made the maps.
    pub layout: u64,
    /// Until then (CLOCK_MONOTONIC, ns) packets in mid-connection that no entry knows are dropped: their entries are being
    /// copied from the table of the `lb` before.
    pub hold_strays_until: u64,
    /// Which addresses may be VIPs, see [`Vips`].
    pub vips: Vips,
    /// By [`crate::lease::Slot`].
    pub leases: [Lease; SLOTS],
}

const _: () = assert!(size_of::<Control>() == 128 + SLOTS * size_of::<Lease>());

/// A Bloom filter of one bit per VIP: a packet to any other address is told apart without a lookup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Vips(pub [u64; 8]);

impl Vips {
    /// Word and bit of an address as it stands in a packet.
    #[inline(always)]
    const fn place(address: u32) -> (usize, u32) {
        let hash = address.wrapping_mul(0x9e37_79b1);
        ((hash >> 29) as usize, hash >> 23 & 63)
    }
    pub const fn insert(&mut self, address: u32) {
        let (word, bit) = Self::place(address);
        self.0[word] |= 1 << bit;
    }
    /// `false`: the address is no VIP. `true`: it may be one.
    #[inline(always)]
    pub const fn may_contain(&self, address: u32) -> bool {
        let (word, bit) = Self::place(address);
        self.0[word] >> bit & 1 != 0
    }
    /// Every address of either.
    pub fn union(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|word| self.0[word] | other.0[word]))
    }
}

/// Which half of the service table is in force, and the seed its services were placed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half(pub u64);

impl Half {
    pub const fn new(base: u32, seed: u32) -> Self {
        Self((seed as u64) << 32 | base as u64)
    }
    /// First slot of the half.
    #[inline(always)]
    pub const fn base(self) -> u32 {
        self.0 as u32
    }
    #[inline(always)]
    pub const fn seed(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A MAC address as a number: byte 0 of the address in bits 0 to 7, byte 5 in bits 40 to 47, the rest zero.
pub const fn mac_to_word(mac: [u8; 6]) -> u64 {
    u64::from_le_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
}

/// The reverse of [`mac_to_word`]; bits 48 and up are ignored.
pub const fn word_to_mac(word: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = word.to_le_bytes();
    [a, b, c, d, e, f]
}

/// Bits of a word that hold a MAC.
pub const MAC_MASK: u64 = 0xffff_ffff_ffff;
