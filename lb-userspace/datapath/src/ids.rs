//! Numbers for services and servers. 0 means unset; a number is not used again before everything
//! that was remembered under it is gone.

use std::collections::BTreeSet;

/// Numbers 1 to `last`.
#[derive(Debug)]
pub(crate) struct Ids {
    /// Every number from here on was never used.
    fresh: u16,
    last: u16,
    free: BTreeSet<u16>,
}

impl Ids {
    /// All but these are free.
    pub(crate) fn besides(taken: impl IntoIterator<Item = u16>, last: u16) -> Self {
        let taken: BTreeSet<u16> = taken.into_iter().collect();
        let fresh = taken.last().map_or(1, |highest| highest.checked_add(1).unwrap_or(0));
        let below = 1..=taken.last().copied().unwrap_or(0);
        Self { fresh, last, free: below.filter(|id| !taken.contains(id)).collect() }
    }

    /// A number nobody has; the lowest of those given back. `None`: all are taken.
    pub(crate) fn take(&mut self) -> Option<u16> {
        if let Some(lowest) = self.free.pop_first() {
            return Some(lowest);
        }
        if self.fresh == 0 || self.fresh > self.last {
            return None;
        }
        let id = self.fresh;
        self.fresh = self.fresh.checked_add(1).unwrap_or(0);
        Some(id)
    }

    /// Gives a number back once nothing remembers it.
    pub(crate) fn give_back(&mut self, id: u16) {
        let was_taken = self.free.insert(id);
        debug_assert!(id != 0 && was_taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_until_given_back() {
        let mut ids = Ids::besides([], 3);
        assert_eq!([ids.take(), ids.take(), ids.take(), ids.take()], [Some(1), Some(2), Some(3), None]);
        ids.give_back(3);
        ids.give_back(2);
        assert_eq!([ids.take(), ids.take(), ids.take()], [Some(2), Some(3), None]);
    }

    #[test]
    fn numbers_that_somebody_has_are_not_given_out() {
        let mut ids = Ids::besides([2, 4], 5);
        assert_eq!([ids.take(), ids.take(), ids.take(), ids.take()], [Some(1), Some(3), Some(5), None]);
        ids.give_back(4);
        assert_eq!(ids.take(), Some(4));
        assert_eq!(Ids::besides([u16::MAX], u16::MAX).free.len(), usize::from(u16::MAX) - 1);
    }

    #[test]
    fn the_last_number_there_is_can_be_taken() {
        let mut ids = Ids::besides([], u16::MAX);
        assert_eq!((1..=u16::MAX).filter(|_| ids.take().is_some()).count(), usize::from(u16::MAX));
        assert_eq!(ids.take(), None);
    }
}
