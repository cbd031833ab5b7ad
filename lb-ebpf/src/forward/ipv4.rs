//! Words of the IPv4 header, and its checksum after a change.

use lb_common::checksum;
use lb_common::frame::Frame as _;

use crate::sys::packet::Packet;

/// Offsets of words in the header (RFC 791, section 3.1).
pub const FRAGMENT: usize = 6;
/// Time to live in the high byte, protocol in the low one.
pub const TTL: usize = 8;
const CHECKSUM: usize = 10;

/// The word at `at` of the header at `network`, host byte order.
#[inline(always)]
pub fn word(packet: &Packet, network: usize, at: usize) -> Option<u16> {
    packet.read::<u16>(network + at).map(u16::from_be)
}

/// Changes that word. Nothing happens where the frame is too short, which [`word`] has told before.
#[inline(never)]
pub fn set_word(packet: &Packet, network: usize, at: usize, new: u16) {
    let (Some(word), Some(sum)) = (packet.at::<u16>(network + at), packet.at::<u16>(network + CHECKSUM))
    else {
        return;
    };
    // SAFETY: bounds checked by `at`; for alignment see `Packet::read`.
    unsafe {
        let old = u16::from_be(*word);
        *word = new.to_be();
        *sum = checksum::mended(u16::from_be(*sum), old, new).to_be();
    }
}
