//! Who asks for the MAC of an IPv4 address.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{Frame, Net16};
use crate::addr::{Address as _, V4, V6};
use crate::packet::numbers::ethertype;

/// RFC 826, for Ethernet and IPv4. Addresses as they stand in the packet.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Arp {
    hardware: Net16,
    protocol: Net16,
    lengths: [u8; 2],
    operation: Net16,
    _sender_mac: [u8; 6],
    /// Not aligned in it.
    sender: [u8; 4],
    _target_mac: [u8; 6],
    target: V4,
}

const _: () = assert!(size_of::<Arp>() == 28);
const REQUEST: u16 = 1;

/// The address that an ARP request asks for. `None`: another message, a malformed one, or one that
/// asks for nothing: an announcement has its own address as the target (RFC 5227, section 3), and
/// must reach whoever watches for conflicts; a probe has no sender (section 2.1.1), its answer gets
/// into nobody's ARP cache and truly says that the address is still here.
#[inline(always)]
pub(super) fn parse<F: Frame + ?Sized>(frame: &F, network: usize) -> Option<V6> {
    let arp = frame.read::<Arp>(network)?;
    let is_ethernet_ipv4 =
        arp.hardware.host() == 1 && arp.protocol.host() == ethertype::IPV4 && arp.lengths == [6, 4];
    let sender = V4::from_octets(arp.sender);
    let asks = arp.operation.host() == REQUEST && sender != arp.target && sender != V4(0);
    (is_ethernet_ipv4 && asks).then_some(arp.target.mapped())
}
