//! The sum of an inner packet without a look at its data, for the UDP checksum around it.
//!
//! A right checksum makes what it covers add up to nothing, so the sum of a TCP segment or UDP
//! datagram is that of its pseudo header, negated (the kernel's "local checksum offload"). If the
//! inner checksum is wrong, the outer one is too, and the server drops the packet as it would have
//! dropped the inner one.

use crate::packet::checksum::{self, halves};
use crate::packet::frame::Frame;
use crate::service::Protocol;

/// Offsets in an IPv4 header.
const FRAGMENT: usize = 6;
const PROTOCOL: usize = 9;
const ADDRESSES: usize = 12;
/// "More fragments", and the offset.
const IN_FRAGMENTS: u16 = 0x3fff;
/// Its messages have no pseudo header (RFC 792).
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Offset of a UDP header's checksum.
const UDP_CHECKSUM: usize = 6;
const IPV6: usize = 40;

/// The sum of the words of the packet at `network`, of which `transport` is where its TCP or UDP
/// header stands and `length` how many bytes it has; folded. `None`: the packet does not tell. That
/// is so of UDP without a checksum, of a fragment, and of IPv6 with extension headers.
#[inline(always)]
pub fn inner_sum<F: Frame + ?Sized>(
    frame: &F,
    is_ipv4: bool,
    network: usize,
    transport: usize,
    length: u32,
) -> Option<u32> {
    let carried = length.wrapping_sub(transport.wrapping_sub(network) as u32) as u16;
    let carried = u32::from(carried.to_be());
    if is_ipv4 {
        let fragment = u16::from_be(frame.read::<u16>(network + FRAGMENT)?);
        let protocol = frame.read::<u8>(network + PROTOCOL)?;
        let lacks_checksum =
            protocol == Protocol::Udp.number() && frame.read::<u16>(transport + UDP_CHECKSUM)? == 0;
        if fragment & IN_FRAGMENTS != 0 || lacks_checksum {
            return None;
        }
        let addresses: [u32; 2] = frame.read(network + ADDRESSES)?;
        // The header adds up to nothing by its own checksum.
        let pseudo = match protocol {
            ICMP => 0,
            _ => halves(addresses[0]) + halves(addresses[1]) + number(protocol) + carried,
        };
        return Some(u32::from(checksum::of(pseudo)));
    }
    // Without the addresses.
    let words: [u32; 2] = frame.read(network)?;
    let [_, _, protocol, _] = words[1].to_ne_bytes();
    // Where nothing but an extension header follows, as in a later fragment, `transport` is that.
    let is_summed = protocol == ICMPV6 || Protocol::from_number(protocol).is_some();
    if transport.wrapping_sub(network) != IPV6 || !is_summed {
        return None;
    }
    if protocol == Protocol::Udp.number() && frame.read::<u16>(transport + UDP_CHECKSUM)? == 0 {
        return None;
    }
    // The addresses count in the header, and negated in the pseudo header: together nothing.
    let negated = checksum::of(number(protocol) + carried);
    let sum = halves(words[0]) + halves(words[1]) + u32::from(negated);
    Some((sum & 0xffff) + (sum >> 16))
}

/// The protocol's number as a word of the pseudo header.
#[inline(always)]
const fn number(protocol: u8) -> u32 {
    (protocol as u16).to_be() as u32
}
