//! The settings that hold for the whole program, written by the controller, read by every packet;
//! and the time, which every packet needs too.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Address;
use crate::forward::nat::RoutesInForce;
use crate::lease::{GROUPS, Lease};
use crate::mac::Mac;
use crate::program::probe::Ports;
use crate::shared::Shared;

/// What an `lb` that takes over must understand in the maps of the one before: connection table,
/// servers, counts, totals. Raised whenever one of them changes its meaning.
pub const LAYOUT: u64 = 8;

/// The one entry of the map `CONTROL`. Four cache lines and the leases; IPv4 packets to a VIP
/// read two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Control {
    /// Our own MAC on the interface.
    pub mac: Shared<Mac>,
    /// Secret keys of the connection table's hash; the second one odd.
    pub hash_keys: [u64; 2],
    /// The half of the service table that is in force, see [`Half`]; one word, so that a switch is
    /// one store.
    pub half: Shared<Half>,
    /// Pages of the IPv4 connection table minus one; a power of two minus one.
    pub page_mask_v4: u32,
    /// Slots of one half of the service table minus one; a power of two minus one.
    pub service_mask: u32,
    /// Where probes through a VIP come from; one word, so that it changes in one store.
    pub probe_ports: Shared<Ports>,
    /// [`LAYOUT`] of the `lb` that made the maps.
    pub layout: u64,
    /// Until then (CLOCK_MONOTONIC, ns) packets in mid-connection that no entry knows are dropped:
    /// their entries are being copied from the table of the `lb` before.
    pub hold_strays_until: Shared<u64>,
    /// Which addresses may be VIPs, see [`Vips`].
    pub vips: Shared<Vips>,
    /// As `page_mask_v4`, for IPv6.
    pub page_mask_v6: u32,
    /// Which part of the map `ROUTES` is in force, see [`crate::forward::nat::RoutesInForce`].
    pub routes: Shared<RoutesInForce>,
    /// 1: some services have a range of ports, or all, see
    /// [`crate::service::ServiceAddress::of_block`].
    pub has_ranges: Shared<u64>,
    /// The time that the program has read last.
    pub clock: Shared<Reading>,
    /// Index of the main interface, where packets come in by others, too; 0: they do not.
    pub main: Shared<u64>,
    /// 1: some services have rules about their clients, see [`crate::service::admission`].
    pub guarded: Shared<u64>,
    pub reserved: [u64; 2],
    /// Which addresses may be those of servers whose packets are translated back.
    pub translated: Shared<Vips>,
    /// By [`crate::lease::GroupIndex`].
    pub leases: [Shared<Lease>; GROUPS],
}

const _: () = assert!(size_of::<Control>() == 256 + GROUPS * size_of::<Lease>());

/// What the program reads of the kernel's clock once per tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reading {
    /// The kernel's tick counter just before; 0 is never. Stored after `now_ns`.
    pub jiffies: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub now_ns: u64,
}

/// A Bloom filter of one bit per VIP: a packet to any other address is told apart without a lookup.
/// Servers whose packets are translated back have one, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Vips(pub [u64; 8]);

impl Vips {
    /// Word and bit of an address.
    #[inline(always)]
    fn place(address: impl Address) -> (usize, u32) {
        let hash = address.folded().wrapping_mul(0x9e37_79b1);
        ((hash >> 29) as usize, hash >> 23 & 63)
    }
    pub fn insert(&mut self, address: impl Address) {
        let (word, bit) = Self::place(address);
        self.0[word] |= 1 << bit;
    }
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 8]
    }
    /// Every address of either.
    pub fn union(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|word| self.0[word] | other.0[word]))
    }
}

impl Shared<Vips> {
    /// `false`: the address is no VIP. `true`: it may be one.
    #[inline(always)]
    pub fn may_contain(&self, address: impl Address) -> bool {
        let (word, bit) = Vips::place(address);
        // SAFETY: `word` is below 8, and a reference is valid and aligned.
        let word = unsafe { self.as_ptr().cast::<u64>().add(word).read_volatile() };
        word >> bit & 1 != 0
    }
}

/// Which half of the service table is in force, and the seed its services were placed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
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
