//! Numbers for services and servers. 0 means unset; a number is not used again before everything that was remembered
//! under it is gone.

/// Numbers 1 to `last`.
#[derive(Debug)]
pub struct Ids {
    /// Every number from here on was never used.
    fresh: u16,
    last: u16,
    free: Vec<u16>,
}

impl Ids {
    pub fn up_to(last: u16) -> Self {
        Self { fresh: 1, last, free: Vec::new() }
    }

    /// A number nobody has; the lowest of those given back. `None`: all are taken.
    pub fn take(&mut self) -> Option<u16> {
        if let Some(lowest) = self.free.iter().enumerate().min_by_key(|(_, id)| **id).map(|(index, _)| index)
        {
            return Some(self.free.swap_remove(lowest));
        }
        if self.fresh == 0 || self.fresh > self.last {
            return None;
        }
        let id = self.fresh;
        self.fresh = self.fresh.checked_add(1).unwrap_or(0);
        Some(id)
    }

    /// Gives a number back once nothing remembers it.
    pub fn give_back(&mut self, id: u16) {
        debug_assert!(id != 0 && !self.free.contains(&id));
        self.free.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_until_given_back() {
        let mut ids = Ids::up_to(3);
        assert_eq!([ids.take(), ids.take(), ids.take(), ids.take()], [Some(1), Some(2), Some(3), None]);
        ids.give_back(3);
        ids.give_back(2);
        assert_eq!([ids.take(), ids.take(), ids.take()], [Some(2), Some(3), None]);
    }

    #[test]
    fn the_last_number_there_is_can_be_taken() {
        let mut ids = Ids::up_to(u16::MAX);
        assert_eq!((1..=u16::MAX).filter(|_| ids.take().is_some()).count(), usize::from(u16::MAX));
        assert_eq!(ids.take(), None);
    }
}
