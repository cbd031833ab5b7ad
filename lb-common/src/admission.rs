//! Which clients a service takes and how much of them: lists of addresses, and rates.
//!
//! A rate is a token bucket in the form of the generic cell rate algorithm (ITU-T I.371): instead
//! of tokens a bucket holds the time at which it is full again. So it is one word, nothing has to
//! fill it, and an unused one is all zero.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::V6;

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

    /// So many in a second, and that many at once.
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
    /// [`Self::LISTS`] and so on.
    pub flags: u64,
}

impl Admission {
    /// There are lists to look into.
    pub const LISTS: u64 = 1;
    /// Whoever is in no list is not served.
    pub const LISTED_ONLY: u64 = 2;

    #[inline(always)]
    pub const fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Whether packets of known connections are looked at, too.
    pub const fn is_for_every_packet(&self) -> bool {
        self.has(Self::LISTS) || !self.client_packets.is_none() || !self.service_packets.is_none()
    }

    /// Whether there is nothing to look at.
    pub const fn is_none(&self) -> bool {
        !self.is_for_every_packet() && self.client_new.is_none() && self.service_new.is_none()
    }
}

/// Bits of [`Listed`] before the address.
pub const SERVICE_BITS: u32 = 32;

/// What a prefix in the map `LISTED` is of, behind the length that the kernel puts first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Listed {
    pub service: u32,
    /// The address in four words, because the key of such a map is not aligned to more.
    pub address: [u32; 4],
}

impl Listed {
    #[inline(always)]
    pub const fn new(service: u16, address: V6) -> Self {
        let [high, low] = address.0;
        Self { service: service as u32, address: words(high, low) }
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

/// Key of the map `CLIENTS`: whose buckets they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ClientKey {
    pub address: V6,
    pub service: u64,
}

/// Value of the maps `CLIENTS` and `BUCKETS`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Buckets {
    pub new: u64,
    pub packets: u64,
}

/// Clients whose buckets are known at a time. Whoever was looked at longest ago is forgotten first,
/// and begins with full buckets.
pub const CLIENTS: u32 = 32_768;

/// Value of the map `NOTED`, by [`ClientKey`]: what was seen of it, one in [`SAMPLED`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Noted {
    pub opened: u64,
    pub refused: u64,
}

/// Of so many connections and refused packets one is noted, by chance.
pub const SAMPLED: u32 = 32;

/// Clients that are noted at a time; whoever was seen longest ago is forgotten first.
pub const NOTED: u32 = 4096;

/// Prefixes of all lists together.
pub const PREFIXES: u32 = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn taken(rate: &Rate, bucket: &mut u64, now_ns: u64, tries: u32) -> u32 {
        let mut taken = 0;
        for _ in 0..tries {
            let after = rate.after(*bucket, now_ns);
            if after != 0 {
                (*bucket, taken) = (after, taken + 1);
            }
        }
        taken
    }

    #[test]
    fn a_burst_goes_through_and_then_the_rate() {
        let rate = Rate::per_second(100, 5);
        let mut bucket = 0;
        let begun = 3_600_000 * MS;
        assert_eq!(taken(&rate, &mut bucket, begun, 100), 5, "at once");
        assert_eq!(taken(&rate, &mut bucket, begun + 10 * MS, 100), 1, "one each 10 ms");
        assert_eq!(taken(&rate, &mut bucket, begun + 11 * MS, 100), 0);
        assert_eq!(taken(&rate, &mut bucket, begun + 35 * MS, 100), 2);
        assert_eq!(taken(&rate, &mut bucket, begun + 60_000 * MS, 100), 5, "no more than the burst");
    }

    #[test]
    fn rates_are_exact_over_a_second() {
        for per_second in [1, 7, 1000, 1_000_000, 10_000_000] {
            let rate = Rate::per_second(per_second, per_second);
            let mut bucket = rate.after(0, 1) - rate.interval;
            let first = taken(&rate, &mut bucket, 1, per_second.min(20_000) + 1);
            assert_eq!(first, per_second.min(20_001), "{per_second}");
            let total = SECOND / rate.interval;
            assert!(total.abs_diff(per_second.into()) <= u64::from(per_second) / 1000, "{per_second}");
        }
        assert!(Rate::per_second(0, 5).is_none());
    }

    #[test]
    fn what_is_looked_at_follows_from_what_there_is() {
        let rate = Rate::per_second(1, 1);
        let none = Admission::default();
        assert!(none.is_none() && !none.is_for_every_packet());
        let new = Admission { client_new: rate, ..none };
        assert!(!new.is_none() && !new.is_for_every_packet());
        for every in [
            Admission { client_packets: rate, ..none },
            Admission { service_packets: rate, ..none },
            Admission { flags: Admission::LISTS, ..none },
        ] {
            assert!(every.is_for_every_packet() && !every.is_none());
        }
    }

    #[test]
    fn a_listed_address_stands_as_in_a_packet() {
        let address = V6([u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]), u64::from_ne_bytes([9; 8])]);
        let listed = Listed::new(7, address);
        assert_eq!(&listed.as_bytes()[4..12], &[1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
