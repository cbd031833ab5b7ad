//! Answers to clients of a service that nobody serves (`fallback: refuse`): a TCP reset or an ICMP
//! error, from the VIP.

use crate::addr::{V4, V6};
use crate::table::connection::tcp_flags;

/// ICMP errors that a CPU sends, at this distance on average: 1,000 a second, as Linux does
/// (`icmp_msgs_per_sec`).
pub const EVERY_NS: u64 = 1_000_000;

/// How much sooner ICMP errors may go: 50 at once after a silence, as Linux does
/// (`icmp_msgs_burst`).
pub const BURST_NS: u64 = 50 * EVERY_NS;

/// Whether an ICMP error may be sent now. `due` is when the next one is on average; it is moved if
/// this one may.
#[inline(always)]
pub const fn is_due(due: &mut u64, now_ns: u64) -> bool {
    is_due_at(due, now_ns, EVERY_NS, BURST_NS)
}

/// The same at another pace.
#[inline(always)]
pub const fn is_due_at(due: &mut u64, now_ns: u64, every_ns: u64, burst_ns: u64) -> bool {
    let earliest = now_ns.saturating_sub(burst_ns - every_ns);
    let this = if *due < earliest { earliest } else { *due };
    if this > now_ns {
        return false;
    }
    *due = this + every_ns;
    true
}

/// Whether an answer may go to this source address, as it stands in a packet: one host's, and not a
/// loopback's (RFC 1122, section 3.2.2).
#[inline(always)]
pub const fn may_answer(source: V4) -> bool {
    let [first, ..] = source.octets();
    first != 0 && first != 127 && first < 224
}

/// The same for IPv6 (RFC 4443, section 2.4, e.6).
#[inline(always)]
pub const fn may_answer_v6(source: V6) -> bool {
    let [first, ..] = source.octets();
    let unspecified_or_loopback = source.0[0] == 0 && u64::from_be(source.0[1]) <= 1;
    first != 0xff && !unspecified_or_loopback
}

/// Numbers of a reset, host byte order (RFC 9293, section 3.10.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
}

/// The reset that answers a segment with these numbers and this many bytes of data. `None`: it is a
/// reset itself.
#[inline(always)]
pub const fn reset(sequence: u32, acknowledgement: u32, flags: u8, data: u32) -> Option<Reset> {
    if flags & tcp_flags::RST != 0 {
        return None;
    }
    if flags & tcp_flags::ACK != 0 {
        return Some(Reset { sequence: acknowledgement, acknowledgement: 0, flags: tcp_flags::RST });
    }
    let controls = (flags & tcp_flags::SYN != 0) as u32 + (flags & tcp_flags::FIN != 0) as u32;
    let acknowledgement = sequence.wrapping_add(data).wrapping_add(controls);
    Some(Reset { sequence: 0, acknowledgement, flags: tcp_flags::RST | tcp_flags::ACK })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcp_flags::{ACK, FIN, RST, SYN};

    #[test]
    fn a_reset_fits_the_segment() {
        let answer =
            |flags, data| reset(u32::MAX, 7, flags, data).map(|r| (r.sequence, r.acknowledgement, r.flags));
        assert_eq!(answer(SYN, 0), Some((0, 0, RST | ACK)), "the SYN counts, and numbers wrap");
        assert_eq!(answer(SYN, 10), Some((0, 10, RST | ACK)), "data in a SYN");
        assert_eq!(answer(FIN, 1), Some((0, 1, RST | ACK)));
        assert_eq!(answer(ACK, 10), Some((7, 0, RST)));
        assert_eq!(answer(SYN | ACK, 0), Some((7, 0, RST)));
        assert_eq!(answer(RST, 0), None);
        assert_eq!(answer(RST | ACK, 0), None);
    }

    #[test]
    fn errors_are_limited() {
        const SECOND: u64 = 1_000_000_000;
        let mut due = 0;
        let mut sent_at = |now| (0..1000).filter(|_| is_due(&mut due, now)).count();
        assert_eq!(sent_at(100 * SECOND), 50, "at once");
        assert_eq!(sent_at(100 * SECOND + EVERY_NS - 1), 0);
        assert_eq!(sent_at(100 * SECOND + 4 * EVERY_NS), 4);
        assert_eq!(sent_at(200 * SECOND), 50, "no more after a long silence");
        let mut due = 0;
        assert!(is_due(&mut due, 5), "soon after the machine's start");
    }

    #[test]
    fn one_hosts_addresses_are_answered() {
        let may = |first, last| may_answer(V4::from_octets([first, 0, 0, last]));
        assert!(may(10, 1) && may(223, 255) && may(1, 1));
        assert!(!may(0, 0) && !may(127, 1) && !may(224, 1) && !may(255, 255));
        let may = |first, last| {
            may_answer_v6(V6::from_octets([first, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]))
        };
        assert!(may(0x20, 1) && may(0xfe, 1) && may(0, 2));
        assert!(!may(0, 0) && !may(0, 1) && !may(0xff, 1));
    }
}
