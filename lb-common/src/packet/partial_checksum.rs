//! Checksums that were left to hardware: Linux then writes the sum of the pseudo header alone (RFC
//! 9293, section 3.1) and marks the packet. XDP in a driver loses the mark, and the receiver drops
//! the packet.
//!
//! All words are as they stand in the packet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::V6;
use crate::service::Protocol;

/// The last packet with such a checksum, addresses and port as they stand in it. It may have been
/// for none of our services: the controller knows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Seen {
    pub source: V6,
    pub destination: V6,
    pub destination_port: u16,
    /// The IP header's.
    pub protocol: u16,
    pub reserved: u32,
}

/// Longer segments are not looked at: those that open a TCP connection are at most 60 bytes, most
/// questions to a DNS server are shorter.
pub const LONGEST_SEGMENT: usize = 64;

/// Where a segment has its checksum.
#[inline(always)]
pub const fn offset(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
    }
}

/// The pseudo header's sum for a segment of `length` bytes between addresses with this sum, see
/// [`crate::addr::Address::sum`].
#[inline(always)]
pub const fn pseudo_sum(addresses: u32, protocol: u8, length: u16) -> u16 {
    folded(addresses + (protocol as u16).to_be() as u32 + length.to_be() as u32)
}

/// The ones' complement sum in 16 bits. 0xffff: of a packet, its checksum is right.
#[inline(always)]
pub const fn folded(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Address as _, V4};

    /// 0x0a4d + 0x0064 + 0x0a4d + 0x0006 + 6 + 40. `tests/tests/interface.rs` has a real client.
    #[test]
    fn linux_leaves_the_sum_of_the_pseudo_header() {
        let [client, vip] = [[10, 77, 0, 100], [10, 77, 0, 6]].map(V4::from_octets);
        let sum = pseudo_sum(client.sum() + vip.sum(), 6, 40);
        assert_eq!(sum.to_ne_bytes(), [0x15, 0x32]);
    }

    #[test]
    fn sums_are_folded_until_they_fit() {
        for (sum, wanted) in [(0, 0), (0xffff, 0xffff), (0x1_0000, 1), (0x1_ffff, 1), (u32::MAX, 0xffff)] {
            assert_eq!(folded(sum), wanted, "{sum:x}");
        }
    }
}
