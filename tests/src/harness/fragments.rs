//! Datagrams in fragments.

use std::ops::Range;

use super::{IP, MORE_FRAGMENTS, Packet, SEGMENT, extended};

const FRAGMENT_HEADER: u8 = 44;

/// The part of this datagram's IP payload that `range` names, in units of 8 bytes, in a frame of
/// its own. Whether more follow is told by the datagram's length.
pub fn fragment(datagram: &Packet, id: u16, range: Range<usize>) -> Vec<u8> {
    let whole = datagram.bytes();
    let network = 14 + 4 * datagram.tags.len();
    let payload = network + 20 + 4 * datagram.ip_options;
    let end = payload + usize::from(u16::from_be_bytes([whole[network + 2], whole[network + 3]]))
        - (payload - network);
    let (from, to) = (payload + range.start * 8, (payload + range.end * 8).min(end));
    let mut frame = [&whole[..payload], &whole[from..to]].concat();
    let more = if to < end { MORE_FRAGMENTS } else { 0 };
    let length = (frame.len() - network) as u16;
    frame[network + 2..network + 4].copy_from_slice(&length.to_be_bytes());
    frame[network + 4..network + 6].copy_from_slice(&id.to_be_bytes());
    frame[network + 6..network + 8].copy_from_slice(&(range.start as u16 | more).to_be_bytes());
    frame
}

/// The same of an IPv6 datagram without extension headers.
pub fn fragment6(datagram: &[u8], id: u32, range: Range<usize>) -> Vec<u8> {
    let (from, to) = (SEGMENT + range.start * 8, (SEGMENT + range.end * 8).min(datagram.len()));
    let mut frame = [&datagram[..SEGMENT], &datagram[from..to]].concat();
    let length = (frame.len() - SEGMENT) as u16;
    frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    let [high, low] = ((range.start as u16) << 3 | u16::from(to < datagram.len())).to_be_bytes();
    let [a, b, c, d] = id.to_be_bytes();
    extended(frame, FRAGMENT_HEADER, [0, high, low, a, b, c, d])
}
