//! Probes through a VIP: what the controller sends to servers itself, and which answers belong to
//! it.
//!
//! A probe comes from the director's own address and goes to the VIP, at a server's MAC. So the
//! answer comes from the VIP to the director, whose kernel would take it for a forgery: it has the
//! VIP itself.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Address, V6};
use crate::packet::frame::Flow;

/// The time to live that probes are sent with. A server that lacks the VIP and forwards packets
/// sends the probe to the director that has it, which knows it by what is left and does not balance
/// it: another server would answer, and all would seem to be well. One hop is granted, because a
/// server may serve from a container.
pub const TTL: u8 = 2;

/// The ports that probes come from, host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ports {
    pub first: u32,
    pub count: u32,
}

impl Ports {
    /// No check goes through a VIP.
    pub const NONE: Self = Self { first: 0, count: 0 };

    /// Above the ports that the kernel hands out (`net.ipv4.ip_local_port_range` ends at 60999).
    pub const OWN: Self = Self { first: 61_000, count: 65_536 - 61_000 };

    /// `port` as it stands in a packet.
    #[inline(always)]
    pub const fn contain(self, port: u16) -> bool {
        (u16::from_be(port) as u32).wrapping_sub(self.first) < self.count
    }
}

/// What answers to probes of one service have in common: the key of the map `ANSWERS`. Numbers as
/// they stand in a packet.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Answer {
    pub vip: V6,
    /// The address that probes come from.
    pub own: V6,
    pub port: u16,
    /// The IP header's.
    pub protocol: u16,
    pub reserved: u32,
}

impl Answer {
    /// The key that `flow` has if it is an answer.
    #[inline(always)]
    pub fn of<A: Address>(flow: &Flow<A>) -> Self {
        Self {
            vip: flow.source.mapped(),
            own: flow.destination.mapped(),
            port: flow.source_port,
            protocol: flow.protocol.number() as u16,
            reserved: 0,
        }
    }
}

/// Whether a packet for a VIP, of no known connection, is a probe that its server has sent on.
#[inline(always)]
pub fn is_astray<A: Address>(flow: &Flow<A>, ports: Ports) -> bool {
    flow.ttl < TTL && ports.contain(flow.source_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_range() {
        for (ports, port, expected) in [
            (Ports::OWN, 60_999, false),
            (Ports::OWN, 61_000, true),
            (Ports::OWN, 65_535, true),
            (Ports::OWN, 0, false),
            (Ports::NONE, 0, false),
            (Ports::NONE, 61_000, false),
            (Ports { first: 7, count: 1 }, 7, true),
            (Ports { first: 7, count: 1 }, 8, false),
        ] {
            assert_eq!(ports.contain(u16::to_be(port)), expected, "{port} of {ports:?}");
        }
    }
}
