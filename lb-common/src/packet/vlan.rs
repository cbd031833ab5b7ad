//! VLANs (IEEE 802.1Q), and QinQ: two tags, one in the other.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The VLAN that a frame is in: 0 of a frame without a tag, the tag's number (VID), or of QinQ the
/// outer one in bits 16 to 27 and the inner one below. A tag of number 0 has a priority alone, and
/// the frame is in no VLAN (IEEE 802.1Q, section 9.6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Vlan(pub u32);

impl Vlan {
    /// No tag.
    pub const UNTAGGED: Self = Self(0);
    /// Whatever a frame has come with.
    pub const AS_IT_CAME: Self = Self(u32::MAX);
    /// The largest number; 4095 is reserved.
    pub const MAX_NUMBER: u16 = 4094;
    /// Bits of a number in a tag; above them are priority and drop eligibility.
    pub const NUMBER: u16 = 0x0fff;

    pub const fn single(number: u16) -> Self {
        Self(number as u32)
    }

    pub const fn double(outer: u16, inner: u16) -> Self {
        Self((outer as u32) << 16 | inner as u32)
    }

    /// The VLAN of a frame with another tag inside of those seen so far.
    #[inline(always)]
    pub const fn and(self, tag: u16) -> Self {
        Self(self.0 << 16 | (tag & Self::NUMBER) as u32)
    }

    #[inline(always)]
    pub const fn is_as_it_came(self) -> bool {
        self.0 == Self::AS_IT_CAME.0
    }

    /// Number of the outer one of two tags; 0: there is one tag at most.
    #[inline(always)]
    pub const fn outer(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Number of the only or inner tag.
    #[inline(always)]
    pub const fn inner(self) -> u16 {
        self.0 as u16
    }

    /// Tags that a frame of this VLAN has.
    #[inline(always)]
    pub const fn tags(self) -> usize {
        (self.0 != 0) as usize + (self.outer() != 0) as usize
    }
}

/// As the configuration has it.
impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.outer(), self.inner()) {
            (0, 0) => f.write_str("none"),
            (0, number) => write!(f, "{number}"),
            (outer, inner) => write!(f, "{outer}.{inner}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn tags_add_up_to_a_vlan() {
        let of = |tags: &[u16]| tags.iter().fold(Vlan::UNTAGGED, |vlan, tag| vlan.and(*tag));
        assert_eq!(of(&[]), Vlan::UNTAGGED);
        assert_eq!(of(&[0xe000 | 120]), Vlan::single(120));
        assert_eq!(of(&[100, 0x3000 | 200]), Vlan::double(100, 200));
        assert_eq!(of(&[0xe000]), Vlan::UNTAGGED, "priority alone");
        assert_eq!(of(&[0, 7]), Vlan::single(7));
        let texts = [&[][..], &[120], &[100, 200]].map(|tags| (of(tags).tags(), of(tags).to_string()));
        assert_eq!(texts, [(0, "none".into()), (1, "120".into()), (2, "100.200".into())]);
        assert!(!of(&[4095, 4095]).is_as_it_came());
    }
}
