//! One number for each region of a group's connections. Where two directors' numbers are equal, so
//! is what they know.

use lb_model::ids::GroupNumber;

use crate::mirror::{REGIONS, Seen};

/// A region: how many connections (modulo 2^16) in the upper 16 bits, a sum over them below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digest(pub u64);

impl Digest {
    const SUM: u64 = (1 << 48) - 1;

    fn add(&mut self, seen: Seen) {
        let sum = (self.0 & Self::SUM).wrapping_add(seen.weight()) & Self::SUM;
        self.0 = (self.0 & !Self::SUM).wrapping_add(1 << 48) | sum;
    }

    /// Connections in the region.
    pub(crate) const fn connections(self) -> u64 {
        self.0 >> 48
    }
}

/// All regions of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digests(pub Vec<Digest>);

impl Default for Digests {
    fn default() -> Self {
        Self(vec![Digest::default(); REGIONS])
    }
}

impl Digests {
    /// Of what `seen` says about the group.
    pub(crate) fn of(seen: impl Iterator<Item = Seen>, group: GroupNumber) -> Self {
        let mut digests = Self::default();
        for seen in seen.filter(|seen| !seen.is_nothing() && seen.group() == group) {
            digests.0[seen.region()].add(seen);
        }
        digests
    }
}

/// Some of the regions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Regions([u64; REGIONS / 64]);

impl Regions {
    pub(crate) const BYTES: usize = REGIONS / 8;

    /// All of them.
    pub(crate) const ALL: Self = Self([u64::MAX; REGIONS / 64]);

    pub(crate) fn insert(&mut self, region: usize) {
        self.0[region / 64] |= 1 << (region % 64);
    }

    pub(crate) fn contains(&self, region: usize) -> bool {
        self.0[region / 64] >> (region % 64) & 1 != 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == Self::default().0
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
    }

    pub(crate) fn bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes.chunks_exact_mut(8).zip(self.0).for_each(|(to, word)| to.copy_from_slice(&word.to_be_bytes()));
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks();
        let mut regions = Self::default();
        regions.0.iter_mut().zip(words).for_each(|(word, bytes)| *word = u64::from_be_bytes(*bytes));
        regions
    }
}

#[cfg(test)]
mod tests {
    use lb_common::table::connection::{State, Tick};

    use super::*;
    use crate::mirror::Identity;

    const ONE: GroupNumber = GroupNumber(1);

    fn seen(number: u64, state: State, group: GroupNumber) -> Seen {
        Seen::new(Identity::new([0, number], [1, 2], 3), state, Tick(5), group)
    }

    #[test]
    fn order_does_not_count_and_everything_else_does() {
        let some = || (0..1000).map(|number| seen(number, State::Established, ONE));
        let digests = Digests::of(some(), ONE);
        assert_eq!(digests, Digests::of(some().rev(), ONE));
        assert_eq!(digests.0.iter().map(|digest| digest.connections()).sum::<u64>(), 1000);
        assert_eq!(Digests::of(some(), GroupNumber(2)), Digests::default(), "another group");
        let others = [
            Digests::of(some().skip(1), ONE),
            Digests::of(some().skip(1).chain([seen(0, State::FinWait, ONE)]), ONE),
            Digests::of(some().skip(1).chain([seen(1000, State::Established, ONE)]), ONE),
        ];
        for other in others {
            let differ = digests.0.iter().zip(&other.0).filter(|(one, other)| one != other).count();
            assert!((1..=2).contains(&differ), "{differ}");
        }
    }

    #[test]
    fn regions_are_the_same_as_bytes() {
        let mut regions = Regions::default();
        [0, 63, 64, 511].into_iter().for_each(|region| regions.insert(region));
        assert_eq!(Regions::from_bytes(&regions.bytes()), regions);
        assert!(regions.contains(511) && !regions.contains(510) && !regions.is_empty());
    }
}
