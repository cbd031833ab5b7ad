//! The Ethernet header and the VLAN tags.

use super::{ETHERNET_LENGTH, Ethernet, Frame, MAX_VLAN_TAGS, VlanTag};
use crate::packet::numbers::ethertype;

/// What follows the Ethernet header and the VLAN tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub(super) ethertype: u16,
    /// Its offset in the frame.
    pub(super) network: usize,
}

impl Link {
    /// Offset of the IP header in the frame.
    #[inline(always)]
    pub const fn network(&self) -> usize {
        self.network
    }

    #[inline(always)]
    pub const fn is_ipv6(&self) -> bool {
        self.ethertype == ethertype::IPV6
    }
}

/// Reads the Ethernet header and the VLAN tags. `None`: too short, or with more tags than are
/// looked through.
#[inline(always)]
pub fn link<F: Frame + ?Sized>(frame: &F) -> Option<Link> {
    let mut ethertype = frame.read::<Ethernet>(0)?.kind.host();
    let mut network = ETHERNET_LENGTH;
    let mut tags = 0;
    while is_tag(ethertype) {
        let tag = frame.read::<VlanTag>(network)?;
        if tags == MAX_VLAN_TAGS {
            return None;
        }
        ethertype = tag.kind.host();
        // The compiler would count from -8 on, and Linux 7.3 reads nothing behind such an offset.
        network = F::kept(network + size_of::<VlanTag>());
        tags += 1;
    }
    Some(Link { ethertype, network })
}

/// One comparison instead of three, because the verifier follows all that comes after each.
#[inline(always)]
pub(super) const fn is_tag(ethertype: u16) -> bool {
    let (one, other, old) =
        (ethertype ^ ethertype::VLAN, ethertype ^ ethertype::QINQ, ethertype ^ ethertype::QINQ_BEFORE);
    one as u64 * other as u64 * old as u64 == 0
}
