//! What the program tells of single packets while somebody traces: the event of a packet, which
//! packets are told, and until when.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::V6;
use crate::control::Vips;
use crate::reason::{Fate, Reason};
use crate::shared::Shared;

/// What was decided for one packet: an entry of the ring buffer `TRACE_EVENTS`. Addresses and ports
/// as they stand in the packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// CLOCK_MONOTONIC, nanoseconds; 0: no packet.
    pub time_ns: u64,
    /// `::`: the headers do not tell.
    pub client: V6,
    pub destination: V6,
    pub client_port: u16,
    pub port: u16,
    /// [`crate::server::ServerId`]; 0: none was picked.
    pub server: u16,
    /// Of the IP packet by its header, bytes; 65535 also stands for more.
    pub length: u16,
    /// The IP header's; 0: not told.
    pub protocol: u8,
    pub tcp_flags: u8,
    /// A [`Way`].
    pub way: u8,
    /// An [`Outcome`].
    pub outcome: u8,
    /// A [`Reason`] or [`NO_REASON`].
    pub reason: u8,
    pub reserved: [u8; 3],
}

/// With the header of 8 bytes that the kernel puts before it, one cache line.
const _: () = assert!(size_of::<Event>() == 56);

/// In [`Event::reason`].
pub const NO_REASON: u8 = 0xff;

/// How a packet's server was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// Its connection is in the table.
    Known = 1,
    /// The scheduler has picked, for the packet opens a connection.
    New = 2,
    /// In mid-connection, no entry knows it: by the hash of the client.
    Stray = 3,
    /// It opens a connection for which the table has no room: by the hash of the client.
    Full = 4,
    /// It comes from its server, which is reached by address translation, and goes to the client.
    Answer = 5,
}

impl Way {
    const ALL: [Self; 5] = [Self::Known, Self::New, Self::Stray, Self::Full, Self::Answer];

    /// `known`: an entry knew the connection. The others are those of the data path's decision.
    #[inline(always)]
    pub const fn of(known: bool, opens: bool, without_entry: bool) -> Self {
        match (opens, without_entry) {
            (true, true) => Self::Full,
            (true, false) => Self::New,
            (false, _) if known => Self::Known,
            (false, _) => Self::Stray,
        }
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// To a server, or without one in the event, to another director.
    Forwarded = 1,
    /// To the controller's own socket.
    Redirected = 2,
    /// To the host, which has it as if no director were here.
    Passed = 3,
    /// To the host, which is the server.
    Delivered = 4,
    /// The reason says whether it was dropped, passed or answered.
    Refused = 5,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Forwarded, Self::Redirected, Self::Passed, Self::Delivered, Self::Refused];
}

/// A bit for each reason that leaves a packet to the host.
const LEFT_TO_HOST: u64 = {
    let mut bits = 0;
    let mut number = 0;
    while number < Reason::COUNT {
        if matches!(Reason::ALL[number].fate(), Fate::Pass) {
            bits |= 1 << number;
        }
        number += 1;
    }
    bits
};

impl Event {
    /// Whether a trace tells of the packet. What the host gets, or a check of the controller's, is
    /// no client's concern, unless it is for a VIP, or nobody can say for whom it is.
    #[inline(always)]
    pub fn concerns_us(&self, vips: &Shared<Vips>) -> bool {
        let host = self.outcome == Outcome::Passed as u8
            || self.outcome == Outcome::Redirected as u8
            || self.outcome == Outcome::Refused as u8 && LEFT_TO_HOST >> (self.reason & 63) & 1 != 0;
        !host || self.destination == V6::UNSPECIFIED || vips.may_contain(self.destination)
    }

    pub fn way(&self) -> Option<Way> {
        Way::ALL.into_iter().find(|way| *way as u8 == self.way)
    }

    /// `None`: the program is not of this version.
    pub fn outcome(&self) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| *outcome as u8 == self.outcome)
    }

    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(usize::from(self.reason)).copied()
    }
}

/// The one entry of the map `TRACE`: until when packets are told, and which. Written by the
/// controller; a change that a packet sees half of tells one packet too many or too few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Settings {
    /// CLOCK_MONOTONIC, nanoseconds; 0: nobody traces. The controller renews it, so a trace ends
    /// with its controller, however that ends.
    pub until: Shared<u64>,
    /// Clients whose address has these bits under the mask; a mask of zeros: all.
    pub client: [Shared<u64>; 2],
    pub client_mask: [Shared<u64>; 2],
    /// `::`: all.
    pub vip: [Shared<u64>; 2],
    /// As it stands in a packet; 0: all.
    pub port: Shared<u16>,
    /// The IP header's; 0: all.
    pub protocol: Shared<u16>,
    /// One of so many packets is told; at least 1.
    pub sample: Shared<u32>,
    /// A bit for each [`Reason`]: only packets with one of them. 0: all packets.
    pub reasons: Shared<u64>,
    /// 1: only packets to the servers below.
    pub by_server: Shared<u64>,
    /// Bytes of each frame that are told with its packet, see [`crate::program::capture`]; 0:
    /// packets are told without.
    pub snaplen: Shared<u64>,
    pub reserved: [u64; 5],
    /// A bit for each number of a server.
    pub servers: [Shared<u64>; 1024],
}

const _: () = assert!(size_of::<Settings>() == 128 + 8192);
const _: () = assert!(Reason::COUNT <= 64, "a reason has a bit in `reasons`");

impl Settings {
    /// Nobody traces.
    pub const OFF: Self = Self {
        until: Shared::new(0),
        client: [Shared::new(0); 2],
        client_mask: [Shared::new(0); 2],
        vip: [Shared::new(0); 2],
        port: Shared::new(0),
        protocol: Shared::new(0),
        sample: Shared::new(1),
        reasons: Shared::new(0),
        by_server: Shared::new(0),
        snaplen: Shared::new(0),
        reserved: [0; 5],
        servers: [Shared::new(0); 1024],
    };

    /// `reasons` of these alone.
    pub fn bits(reasons: impl IntoIterator<Item = Reason>) -> u64 {
        reasons.into_iter().fold(0, |bits, reason| bits | 1 << reason as u32)
    }

    /// Only packets to servers of these numbers.
    pub fn set_servers(&mut self, numbers: impl IntoIterator<Item = u16>) {
        let mut bits = [0_u64; 1024];
        for number in numbers {
            bits[usize::from(number >> 6)] |= 1 << (number & 63);
        }
        self.servers = bits.map(Shared::new);
        self.by_server = Shared::new(1);
    }

    /// Whether a packet is one of those that are asked for.
    #[inline(always)]
    pub fn matches(&self, event: &Event) -> bool {
        let under = |word: usize| {
            (event.client.0[word] ^ self.client[word].get()) & self.client_mask[word].get() == 0
        };
        let vip = V6([self.vip[0].get(), self.vip[1].get()]);
        let (port, protocol) = (self.port.get(), self.protocol.get());
        let reasons = self.reasons.get();
        under(0)
            && under(1)
            && (vip == V6::UNSPECIFIED || vip == event.destination)
            && (port == 0 || port == event.port)
            && (protocol == 0 || protocol == u16::from(event.protocol))
            && (reasons == 0 || event.reason < 64 && reasons >> event.reason & 1 != 0)
            && (self.by_server.get() == 0 || self.has_server(event.server))
    }

    #[inline(always)]
    fn has_server(&self, number: u16) -> bool {
        self.servers[usize::from(number >> 6)].get() >> (number & 63) & 1 != 0
    }
}

/// Entry of the per-CPU map `TRACED`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Traced {
    /// The packet under way.
    pub event: Event,
    /// Packets since the program was loaded that were asked for, told or not.
    pub matched: u64,
    /// Those for which the ring buffer had no room.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Address as _, V4};
    use proptest::prelude::*;

    fn v4(octets: [u8; 4]) -> V6 {
        V4::from_octets(octets).mapped()
    }

    const SYN: Event = Event {
        time_ns: 1,
        client: V6::UNSPECIFIED,
        destination: V6::UNSPECIFIED,
        client_port: 40_000_u16.to_be(),
        port: 80_u16.to_be(),
        server: 700,
        length: 40,
        protocol: 6,
        tcp_flags: 2,
        way: Way::New as u8,
        outcome: Outcome::Forwarded as u8,
        reason: NO_REASON,
        reserved: [0; 3],
    };

    fn syn() -> Event {
        Event { client: v4([10, 0, 0, 7]), destination: v4([211, 58, 250, 6]), ..SYN }
    }

    fn words(address: V6) -> [Shared<u64>; 2] {
        address.0.map(Shared::new)
    }

    #[test]
    fn each_part_of_a_filter_is_a_condition() {
        let off = Settings::OFF;
        let vip = words(v4([211, 58, 250, 6]));
        let network = V6::from_octets([0xff; 16]).0;
        let last_8 = V6::from_octets([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]).0;
        let mask = core::array::from_fn(|word| Shared::new(network[word] & !last_8[word]));
        let client = |octets| Settings { client: words(v4(octets)), client_mask: mask, ..off };
        let refused = Settings { reasons: Shared::new(Settings::bits([Reason::NoServer])), ..off };
        for (filter, expected) in [
            (off, true),
            (client([10, 0, 0, 9]), true),
            (client([10, 0, 1, 7]), false),
            (Settings { vip, ..off }, true),
            (Settings { vip: words(v4([211, 58, 250, 7])), ..off }, false),
            (Settings { port: Shared::new(80_u16.to_be()), ..off }, true),
            (Settings { port: Shared::new(80), ..off }, false),
            (Settings { protocol: Shared::new(6), ..off }, true),
            (Settings { protocol: Shared::new(17), ..off }, false),
            (refused, false),
        ] {
            assert_eq!(filter.matches(&syn()), expected, "{:?}", (filter.client, filter.vip, filter.port));
        }
        let dropped = Event { reason: Reason::NoServer as u8, ..syn() };
        assert!(refused.matches(&dropped) && off.matches(&dropped));
    }

    proptest! {
        #[test]
        fn a_server_is_told_exactly_if_it_was_asked_for(
            asked in proptest::collection::btree_set(any::<u16>(), 0..20),
            other in any::<u16>(),
        ) {
            let mut filter = Settings::OFF;
            filter.set_servers(asked.iter().copied());
            for server in asked.iter().copied().chain([other]) {
                prop_assert_eq!(filter.matches(&Event { server, ..syn() }), asked.contains(&server));
            }
        }
    }

    #[test]
    fn what_only_the_host_is_concerned_with_is_not_told() {
        let mut vips = Vips::default();
        vips.insert(syn().destination);
        let vips = Shared::new(vips);
        let refused = |reason: Reason| (Outcome::Refused, reason as u8);
        let own = v4([192, 0, 2, 1]);
        for (destination, (outcome, reason), expected) in [
            (own, (Outcome::Passed, NO_REASON), false),
            (own, refused(Reason::FragmentUnknown), false),
            (own, refused(Reason::ProbeUnheard), true),
            (own, (Outcome::Redirected, NO_REASON), false),
            (V6::UNSPECIFIED, refused(Reason::TruncatedIp), true),
            (syn().destination, (Outcome::Passed, NO_REASON), true),
            (syn().destination, refused(Reason::FragmentUnknown), true),
        ] {
            let event = Event { destination, outcome: outcome as u8, reason, ..SYN };
            assert_eq!(event.concerns_us(&vips), expected, "{event:?}");
        }
    }

    #[test]
    fn numbers_lead_back_to_what_they_stand_for() {
        for way in Way::ALL {
            assert_eq!(Event { way: way as u8, ..SYN }.way(), Some(way));
        }
        for outcome in Outcome::ALL {
            assert_eq!(Event { outcome: outcome as u8, ..SYN }.outcome(), Some(outcome));
        }
        let nothing = Event { way: 0, outcome: 0, ..SYN };
        assert_eq!((nothing.way(), nothing.outcome(), nothing.reason()), (None, None, None));
        assert_eq!(Event { reason: 13, ..SYN }.reason(), Some(Reason::NoServer));
        for (known, opens, without_entry, way) in [
            (true, false, false, Way::Known),
            (true, true, false, Way::New),
            (false, true, false, Way::New),
            (false, true, true, Way::Full),
            (false, false, false, Way::Stray),
        ] {
            assert_eq!(Way::of(known, opens, without_entry), way);
        }
    }
}
