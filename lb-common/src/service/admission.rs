//! Which clients a service takes and how much of them: lists of addresses, and limits.
//!
//! A client is an address, or all addresses that begin with the same bits
//! ([`Admission::mask`]). A rate is a token bucket in the form of the generic cell rate algorithm
//! (ITU-T I.371): instead of tokens a bucket holds the time at which it is full again. So it is one
//! word, nothing has to fill it, and an unused one is all zero.
//!
//! How many connections a client has, the sweep counts with each walk (map `CLIENT_CONNECTIONS`),
//! and the program adds what the client has opened since ([`Since`]). So whatever ends a
//! connection, or takes its entry away, the count cannot drift: the next walk counts anew.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::V6;
use crate::reason::Reason;
use crate::service::Protocol;
use crate::shared::Shared;
use crate::table::connection::{State, first};

/// Buckets count in sixteenths of a nanosecond, so that a rate of millions is exact.
pub const SHIFT: u32 = 4;
const SECOND: u64 = 1_000_000_000 << SHIFT;

/// How much may come in a second, and at once. All zero: as much as likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rate {
    /// The time between two, in sixteenths of a nanosecond; 0: no limit.
    pub interval: u64,
    /// The time that the whole burst takes.
    pub burst: u64,
}

impl Rate {
    pub const NONE: Self = Self { interval: 0, burst: 0 };

    /// So many in a second, and that many at once. `rate` of 0: no limit.
    pub const fn per_second(rate: u32, burst: u32) -> Self {
        match rate {
            0 => Self::NONE,
            rate => {
                let interval = SECOND / rate as u64;
                Self { interval, burst: interval * burst as u64 }
            }
        }
    }

    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.interval == 0
    }

    /// What `bucket` holds after one more at `now_ns`, or 0: that is too many.
    #[inline(always)]
    pub const fn after(&self, bucket: u64, now_ns: u64) -> u64 {
        let now = now_ns << SHIFT;
        let full = if bucket > now { bucket } else { now } + self.interval;
        if full - now > self.burst { 0 } else { full }
    }
}

/// Entry of the map `ADMISSIONS`, by service. All zero: whoever likes, as much as they like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Admission {
    /// The part of an address that tells clients apart.
    pub mask: [u64; 2],
    pub client_new: Rate,
    pub client_packets: Rate,
    pub service_new: Rate,
    pub service_packets: Rate,
    /// Connections that a client may have at a time; 0: any number.
    pub connections: u64,
    /// [`Self::LISTED`] and so on.
    pub flags: u64,
}

impl Admission {
    /// The service has lists of its own.
    pub const LISTED: u64 = 1;
    /// Among them one of clients who are denied, so known connections are looked at, too.
    pub const DENIES: u64 = 2;
    /// Whoever is in no list may open no connection.
    pub const LISTED_ONLY: u64 = 4;
    /// There is a list of clients whom every service denies, see [`EVERY_SERVICE`].
    pub const DENIED_EVERYWHERE: u64 = 8;

    #[inline(always)]
    pub const fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Whether packets of known connections are looked at, too.
    pub const fn is_for_every_packet(&self) -> bool {
        self.flags & (Self::DENIES | Self::DENIED_EVERYWHERE) != 0 || self.limits_packets()
    }

    /// Whether packets are limited, and not connections alone.
    #[inline(always)]
    pub const fn limits_packets(&self) -> bool {
        !self.client_packets.is_none() || !self.service_packets.is_none()
    }

    /// Whether connections are limited, how often they are opened or how many there are.
    #[inline(always)]
    pub const fn limits_connections(&self) -> bool {
        !self.client_new.is_none() || !self.service_new.is_none() || self.connections != 0
    }

    /// Whether each client is limited by itself, so that it has an account.
    #[inline(always)]
    pub const fn limits_clients(&self) -> bool {
        !self.client_new.is_none() || !self.client_packets.is_none() || self.connections != 0
    }

    /// Whether there is nothing to look at.
    pub const fn is_none(&self) -> bool {
        self.flags == 0 && !self.limits_packets() && !self.limits_connections()
    }

    /// Why the lists refuse a packet, if they do. `look` finds what the list of a number says:
    /// [`ALLOWED`], [`DENIED`] or something else where it does not have the client.
    ///
    /// A service's own lists come first: they may take what every other service denies. Who is not
    /// listed goes on with the connections there are.
    #[inline(always)]
    pub fn listed(&self, service: u32, opens: bool, look: impl Fn(u32) -> u32) -> Option<Reason> {
        if self.has(Self::LISTED) && (opens || self.has(Self::DENIES)) {
            match look(service) {
                ALLOWED => return None,
                DENIED => return Some(Reason::ClientDenied),
                _ => {}
            }
        }
        if self.has(Self::DENIED_EVERYWHERE) && look(EVERY_SERVICE) == DENIED {
            return Some(Reason::ClientDenied);
        }
        if opens && self.has(Self::LISTED_ONLY) { Some(Reason::ClientUnlisted) } else { None }
    }

    /// Whose buckets a packet is taken out of.
    #[inline(always)]
    pub const fn client(&self, service: u32, address: V6) -> ClientKey {
        let [high, low] = self.mask;
        ClientKey { address: V6([address.0[0] & high, address.0[1] & low]), service: service as u64 }
    }
}

/// Whether a packet opens a connection. `known`: the state of the one that the table knows with its
/// addresses; a SYN that comes again opens nothing.
#[inline(always)]
pub const fn opens(protocol: Protocol, flags: u8, known: Option<State>) -> bool {
    match (first(protocol, flags), known) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(State::SynRecv), Some(known)) => {
            !matches!(known, State::SynRecv | State::Established | State::Unproven)
        }
        (Some(_), Some(_)) => false,
    }
}

/// A refusal as a number that functions of the program return; 0: none.
#[inline(always)]
pub const fn number_of(refused: Option<Reason>) -> u32 {
    match refused {
        Some(reason) => reason as u32,
        None => 0,
    }
}

/// The reverse of [`number_of`].
#[inline(always)]
pub const fn refusal(number: u32) -> Option<Reason> {
    const DENIED: u32 = Reason::ClientDenied as u32;
    const UNLISTED: u32 = Reason::ClientUnlisted as u32;
    const NEW: u32 = Reason::ClientNewLimit as u32;
    const PACKETS: u32 = Reason::ClientPacketLimit as u32;
    const CONNECTIONS: u32 = Reason::ClientConnectionLimit as u32;
    const SERVICE_NEW: u32 = Reason::ServiceNewLimit as u32;
    const SERVICE_PACKETS: u32 = Reason::ServicePacketLimit as u32;
    match number {
        DENIED => Some(Reason::ClientDenied),
        UNLISTED => Some(Reason::ClientUnlisted),
        NEW => Some(Reason::ClientNewLimit),
        PACKETS => Some(Reason::ClientPacketLimit),
        CONNECTIONS => Some(Reason::ClientConnectionLimit),
        SERVICE_NEW => Some(Reason::ServiceNewLimit),
        SERVICE_PACKETS => Some(Reason::ServicePacketLimit),
        _ => None,
    }
}

/// Bits of [`Listed`] before the address.
pub const LIST_BITS: u32 = 32;

/// The list of clients whom every service denies; no service has this number.
pub const EVERY_SERVICE: u32 = 0;

/// What a prefix in the map `LISTED` is of, behind the length that the kernel puts first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Listed {
    /// Number of the service, or [`EVERY_SERVICE`].
    pub list: u32,
    /// The address in four words, because the key of such a map is not aligned to more.
    pub address: [u32; 4],
}

impl Listed {
    #[inline(always)]
    pub const fn new(list: u32, address: V6) -> Self {
        let [high, low] = address.0;
        Self { list, address: words(high, low) }
    }
}

/// The four words of an address, in the order in which they stand in it.
#[inline(always)]
const fn words(high: u64, low: u64) -> [u32; 4] {
    match cfg!(target_endian = "little") {
        true => [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32],
        false => [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32],
    }
}

/// Values of the map `LISTED`.
pub const ALLOWED: u32 = 1;
pub const DENIED: u32 = 2;

/// Key of the maps `CLIENTS`, `REFUSED_CLIENTS` and `CLIENT_CONNECTIONS`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ClientKey {
    /// Masked.
    pub address: V6,
    pub service: u64,
}

/// Value of the map `BUCKETS`, by service, and part of [`Account`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Buckets {
    pub new: u64,
    pub packets: u64,
}

/// Value of the map `CLIENTS`: what a client has used up, and what it has done, at a service that
/// limits each client. Of `REFUSED_CLIENTS`, where clients stand whom a list refuses, `refused`
/// alone counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Account {
    pub buckets: Buckets,
    /// Connections that it has opened, packets that were looked at, and those that were refused.
    pub opened: u64,
    pub packets: u64,
    pub refused: u64,
    pub since: Since,
}

/// How many connections a client has opened since a walk over the connection table has ended: the
/// number of the walk above, the count below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Since(pub u64);

impl Since {
    /// The count, where `walk` was the last one.
    #[inline(always)]
    pub const fn count(self, walk: u64) -> u64 {
        if self.0 >> 32 == walk & 0xffff_ffff { self.0 & 0xffff_ffff } else { 0 }
    }

    /// One more.
    #[inline(always)]
    pub const fn and_one(self, walk: u64) -> Self {
        Self(((walk & 0xffff_ffff) << 32) | (self.count(walk) + 1))
    }
}

/// The one element of the map `WALKS`: the number of the last walk that has counted connections.
pub type Walks = Shared<u64>;

/// Clients whose accounts are kept at a time. Whoever was looked at longest ago is forgotten first,
/// and begins with full buckets.
pub const CLIENTS: u32 = 1 << 15;

/// The same of clients whom lists refuse: they stand apart, so that a flood of them makes nobody
/// else forgotten.
pub const REFUSED_CLIENTS: u32 = 1 << 12;

/// Clients whose connections are counted. Those beyond are limited by what they open between two
/// walks alone.
pub const CLIENT_CONNECTIONS: u32 = 1 << 17;

/// Prefixes of all lists together: twice what a configuration has at most, because what a reload
/// brings and what it takes away are there together for a moment.
pub const PREFIXES: u32 = 1 << 18;

#[cfg(test)]
mod tests;
