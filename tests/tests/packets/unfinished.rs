//! Checksums that were left to hardware: seen in the first packet of a connection, and told from
//! right ones.

use std::net::IpAddr;

use lb_common::addr::{Address as _, V4};
use lb_common::packet::partial_checksum::{Seen, folded, offset, pseudo_sum};
use lb_common::reason::TableEvent;
use lb_common::service::Protocol;
use lb_tests::harness::*;

/// What the frame holds behind the IP header.
struct Segment {
    start: usize,
    length: usize,
    protocol: Protocol,
    /// The pseudo header's.
    sum: u16,
}

impl Segment {
    fn of(packet: &Packet) -> Self {
        let (protocol, header) = match packet.transport {
            Transport::Tcp { options, .. } => (Protocol::Tcp, 20 + 4 * options),
            Transport::Udp => (Protocol::Udp, 8),
        };
        let length = header + packet.payload;
        Self {
            start: 14 + 4 * packet.tags.len() + 20 + 4 * packet.ip_options,
            length,
            protocol,
            sum: pseudo_sum(
                V4::from(*packet.from.ip()).sum() + V4::from(*packet.to.ip()).sum(),
                protocol.number(),
                length as u16,
            ),
        }
    }

    /// The frame with this in the place of its checksum.
    fn with_checksum(&self, mut frame: Vec<u8>, checksum: u16) -> Vec<u8> {
        let at = self.start + offset(self.protocol);
        frame[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
        frame
    }

    /// The sum of the segment and its pseudo header.
    fn whole(&self, frame: &[u8]) -> u16 {
        let segment = &frame[self.start..self.start + self.length];
        let words = segment
            .chunks(2)
            .map(|word| u32::from(u16::from_ne_bytes([word[0], word.get(1).copied().unwrap_or(0)])));
        folded(u32::from(self.sum) + words.sum::<u32>())
    }
}

/// As Linux hands it to its interface.
fn unfinished(packet: &Packet) -> Vec<u8> {
    let segment = Segment::of(packet);
    segment.with_checksum(packet.bytes(), segment.sum)
}

fn finished(packet: &Packet) -> Vec<u8> {
    let segment = Segment::of(packet);
    let frame = segment.with_checksum(packet.bytes(), 0);
    let sum = segment.whole(&frame);
    segment.with_checksum(frame, !sum)
}

/// The right checksum is the pseudo header's sum by chance: the sequence number makes it so.
fn finished_by_chance(packet: &Packet) -> Vec<u8> {
    let segment = Segment::of(packet);
    let mut frame = unfinished(packet);
    let at = segment.start + 4;
    frame[at..at + 2].fill(0);
    let lacking = !segment.whole(&frame);
    frame[at..at + 2].copy_from_slice(&lacking.to_ne_bytes());
    assert_eq!(segment.whole(&frame), 0xffff, "a right checksum");
    frame
}

fn director() -> Director {
    Director::new([(WEB, rr([1, 2])), (WEB_UDP, rr([1, 2]))])
}

/// How many of these frames are seen to be unfinished. All are forwarded.
#[track_caller]
fn seen(frames: impl IntoIterator<Item = Vec<u8>>) -> u64 {
    let director = director();
    for frame in frames {
        assert_eq!(director.send_bytes(&frame).verdict, Verdict::Tx);
    }
    director.event(TableEvent::PartialChecksum)
}

#[test]
fn a_connection_that_begins_with_an_unfinished_checksum_is_seen() {
    let syn = || Packet::syn(client(1));
    let options = Transport::Tcp { flags: SYN, options: 10 };
    let udp = |payload| Packet { payload, ..Packet::udp(client(1)).to(VIP, PORT) };
    for (what, packet) in [
        ("a SYN", syn()),
        ("with as many options as there may be", Packet { transport: options, ..syn() }),
        ("with IP options", Packet { ip_options: 10, ..syn() }),
        ("with tags", Packet { tags: vec![DOT1AD, DOT1Q], ..syn() }),
        ("with padding", Packet { padding: 6, ..syn() }),
        ("with data", Packet { payload: 43, ..syn() }),
        ("a datagram", udp(32)),
        ("an empty datagram", udp(0)),
        ("a datagram of odd length", udp(33)),
        ("the longest that is looked at", udp(56)),
    ] {
        assert_eq!(seen([unfinished(&packet)]), 1, "{what}");
        assert_eq!(seen([finished(&packet)]), 0, "{what}, finished");
    }
}

#[test]
fn where_it_comes_from_and_goes_is_remembered() {
    let director = director();
    director.send_bytes(&unfinished(&Packet::syn(client(7))));
    director.send_bytes(&finished(&Packet::syn(client(8))));
    let Seen { source, destination, destination_port, protocol, .. } =
        director.data_path.executor.maps().partial_checksum.read(0);
    assert_eq!([source, destination].map(IpAddr::from), [*client(7).ip(), VIP].map(IpAddr::from));
    assert_eq!((u16::from_be(destination_port), protocol), (PORT, 6));
}

#[test]
fn a_right_checksum_that_is_the_same_by_chance_is_told_apart() {
    assert_eq!(seen((1..50).map(|number| finished_by_chance(&Packet::syn(client(number))))), 0);
}

#[test]
fn what_does_not_open_a_connection_or_is_long_is_not_looked_at() {
    let long = Packet { payload: 57, ..Packet::udp(client(1)).to(VIP, PORT) };
    assert_eq!(seen([unfinished(&long)]), 0);
    let (syn, ack) = (Packet::syn(client(1)), Packet::ack(client(1)));
    assert_eq!(
        seen([unfinished(&syn), unfinished(&ack)]),
        1,
        "the rest of the connection is like its beginning"
    );
}
