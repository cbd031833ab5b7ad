//! Servers that packets do not leave to as they have come: by another interface, or with other VLAN
//! tags.
//!
//! - A packet leaves with the tags that it came with: it stays in its VLAN.
//! - For a server with a VLAN of its own it leaves with that one's tags instead, and then only if
//!   it came from the VLAN that the service has its clients in. What comes from another VLAN is
//!   dropped, so nobody gets from one VLAN into another by way of the director.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::mac::Mac;
use crate::vlan::Vlan;

/// TPID of a tag, of the inner one of two.
pub const TPID: u16 = 0x8100;
/// TPID of the outer one of two (802.1ad).
pub const OUTER_TPID: u16 = 0x88a8;

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

    /// The VLAN that the server is in.
    #[inline(always)]
    const fn of_server(&self) -> Vlan {
        if self.to.is_as_it_came() { self.from } else { self.to }
    }

    /// Whether what a server behind address translation sends may come from this VLAN, in by the
    /// interface of this index; 0: the main one. Where a VLAN's tag is taken off before, by a VLAN
    /// device that packets come in by, it comes without.
    #[inline(always)]
    pub const fn admits_answer(&self, vlan: Vlan, came_by: u32) -> bool {
        match came_by == self.device {
            true => vlan.0 == self.of_server().0,
            false => vlan.0 == Vlan::UNTAGGED.0,
        }
    }

    /// Whether all frames between clients and the server are untagged.
    #[inline(always)]
    pub const fn is_untagged(&self) -> bool {
        self.from.0 == Vlan::UNTAGGED.0 && self.of_server().0 == Vlan::UNTAGGED.0
    }
}

/// TPID of the only or outer tag of a VLAN of which nobody says otherwise.
#[inline(always)]
pub const fn tpid(vlan: Vlan) -> u16 {
    if vlan.tags() == 2 { OUTER_TPID } else { TPID }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_from_where_its_server_is() {
        const MAIN: u32 = 0;
        let (ten, none, as_it_came) = (Vlan::single(10), Vlan::UNTAGGED, Vlan::AS_IT_CAME);
        let egress = |device, from, to| Egress { device, from, to, ..Egress::UNSET };
        for (egress, came_by, vlan, expected) in [
            (egress(MAIN, none, ten), MAIN, ten, true),
            (egress(MAIN, none, ten), MAIN, none, false),
            (egress(MAIN, none, ten), MAIN, Vlan::double(10, 10), false),
            (egress(MAIN, none, ten), 7, ten, false),
            (egress(MAIN, ten, as_it_came), MAIN, ten, true),
            (egress(MAIN, ten, as_it_came), MAIN, none, false),
            (egress(MAIN, ten, none), MAIN, none, true),
            (egress(7, none, none), 7, none, true),
            (egress(7, none, none), 7, ten, false),
            (egress(7, none, ten), 7, ten, true),
            (egress(7, none, ten), 7, none, false),
            (egress(7, none, ten), 8, none, true),
            (egress(7, none, ten), MAIN, ten, false),
        ] {
            assert_eq!(egress.admits_answer(vlan, came_by), expected, "{egress:?} {vlan:?} by {came_by}");
        }
        assert!(egress(7, none, none).is_untagged() && !egress(7, none, ten).is_untagged());
        assert!(!egress(MAIN, ten, as_it_came).is_untagged() && !egress(MAIN, ten, none).is_untagged());
        assert_eq!([none, ten, Vlan::double(1, 2)].map(tpid), [TPID, TPID, OUTER_TPID]);
    }
}
