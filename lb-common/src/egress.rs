//! Servers that packets do not leave to as they have come: by another interface, or with other VLAN
//! tags.
//!
//! - A packet leaves with the tags that it came with: it stays in its VLAN.
//! - For a server with a VLAN of its own it leaves with that one's tags instead, and then only if
//!   it came from the VLAN that the service has its clients in. What comes from another VLAN is
//!   dropped, so nobody gets from one VLAN into another by way of the director.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::mac::Mac;
use crate::numbers::ethertype;
use crate::vlan::Vlan;

/// TPID of a tag, of the inner one of two.
pub const TPID: u16 = ethertype::VLAN;
/// TPID of the outer one of two (802.1ad).
pub const OUTER_TPID: u16 = ethertype::QINQ;

/// Entry of the map `EGRESSES`: how packets leave to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(32))]
pub struct Egress {
    /// Of the other interface; none: the one that packets come in by.
    pub mac: Mac,
    /// Index of the other interface, its key in the map `DEVICES`; 0: none.
    pub device: u32,
    /// The most bytes of an IP packet by direct routing or address translation. A tunnel has its
    /// own.
    pub mtu: u32,
    /// The VLAN that packets must have come from; `Vlan::AS_IT_CAME`: any.
    pub from: Vlan,
    /// The VLAN that they leave into.
    pub to: Vlan,
    /// TPID of the only or outer tag, host byte order.
    pub tpid: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Egress>() == 32);

impl Egress {
    pub const UNSET: Self = Self {
        mac: Mac::NONE,
        device: 0,
        mtu: 0,
        from: Vlan::AS_IT_CAME,
        to: Vlan::AS_IT_CAME,
        tpid: 0,
        reserved: 0,
    };

    /// Whether a packet that came from this VLAN may leave so.
    #[inline(always)]
    pub const fn admits(&self, vlan: Vlan) -> bool {
        self.from.is_as_it_came() || self.from.0 == vlan.0
    }
}
