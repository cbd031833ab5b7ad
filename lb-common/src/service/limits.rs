//! Thresholds: how many connections a server may have (ipvsadm -x, -y).
//!
//! A server that has as many as its upper threshold is *full* and takes no new connections until it
//! has fewer than its lower one. Clients that are bound to it ([`crate::service::binding`]) go on
//! to it all the same, as IPVS has it. CPUs that pick at the same time may each exceed the upper
//! threshold by the one connection that they have picked and not counted yet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::server::Counts;
use crate::shared::Shared;

/// Both thresholds in one word: the upper one in the high half; 0: there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Thresholds(pub u64);

impl Thresholds {
    pub const NONE: Self = Self(0);

    /// `upper` of 0: none. `lower` of 0: three quarters of it, as in IPVS.
    pub const fn new(upper: u32, lower: u32) -> Self {
        let lower = if lower == 0 { (upper as u64 * 3).div_ceil(4) } else { lower as u64 };
        if upper == 0 { Self::NONE } else { Self((upper as u64) << 32 | lower) }
    }

    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
    pub const fn upper(self) -> u32 {
        (self.0 >> 32) as u32
    }
    pub const fn lower(self) -> u32 {
        self.0 as u32
    }

    /// Whether a server with these connections is full; `was`: whether it was before.
    #[inline(always)]
    pub const fn is_full(self, was: bool, counts: Counts) -> bool {
        let connections = counts.active() as u64 + counts.inactive() as u64;
        !self.is_none() && (connections >= self.0 >> 32 || was && connections >= self.0 & 0xffff_ffff)
    }
}

/// Entry of the map `LIMITS`, by server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Limits {
    pub thresholds: Shared<Thresholds>,
    /// 1: the server is full.
    pub full: Shared<u64>,
}

/// A server's connections, and whether it is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    pub counts: Counts,
    pub full: bool,
}

/// Of a server without thresholds.
impl From<Counts> for Standing {
    #[inline(always)]
    fn from(counts: Counts) -> Self {
        Self { counts, full: false }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lower_threshold_is_three_quarters_of_the_upper_one_by_default() {
        for (upper, lower) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (100, 75), (u32::MAX, 3_221_225_472)] {
            assert_eq!(Thresholds::new(upper, 0).lower(), lower, "{upper}");
        }
        assert_eq!((Thresholds::new(10, 4).upper(), Thresholds::new(10, 4).lower()), (10, 4));
        assert_eq!(Thresholds::new(0, 7), Thresholds::NONE);
        assert!(!Thresholds::NONE.is_full(true, Counts::new(u32::MAX, u32::MAX)));
    }

    proptest! {
        /// Word for word as in the module's text, over a history of connections that come and go.
        #[test]
        fn full_from_the_upper_to_below_the_lower(
            (upper, lower) in (1u32..40).prop_flat_map(|upper| (Just(upper), 0..=upper)),
            history in proptest::collection::vec((0u32..30, 0u32..30), 1..60),
        ) {
            let thresholds = Thresholds::new(upper, lower);
            let (mut is, mut expected) = (false, false);
            let mut seen = Vec::new();
            for (active, inactive) in history {
                let connections = active + inactive;
                let below = if lower == 0 { connections * 4 < upper * 3 } else { connections < lower };
                expected = if connections >= upper { true } else { expected && !below };
                is = thresholds.is_full(is, Counts::new(active, inactive));
                seen.push(connections);
                prop_assert_eq!(is, expected, "after {:?}", &seen);
            }
        }
    }
}
