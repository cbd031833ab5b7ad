//! Room in the maps `SCHEDULE_WORDS` and `PAIRS`, handed out to schedules: first fit.

/// A run of elements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Region {
    pub start: u32,
    pub len: u32,
}

impl Region {
    fn end(self) -> u32 {
        self.start + self.len
    }
}

/// Free regions in order of their start, no two of them adjacent.
#[derive(Debug)]
pub(crate) struct Allocator {
    free: Vec<Region>,
}

impl Allocator {
    pub(crate) fn new(elements: u32) -> Self {
        Self { free: vec![Region { start: 0, len: elements }] }
    }

    /// `None`: no free run is that long. A region of length 0 is always there.
    pub(crate) fn allocate(&mut self, len: u32) -> Option<Region> {
        if len == 0 {
            return Some(Region { start: 0, len });
        }
        let index = self.free.iter().position(|free| free.len >= len)?;
        let start = self.free[index].start;
        if self.free[index].len == len {
            self.free.remove(index);
        } else {
            self.free[index].start += len;
            self.free[index].len -= len;
        }
        Some(Region { start, len })
    }

    pub(crate) fn release(&mut self, region: Region) {
        if region.len == 0 {
            return;
        }
        let index = self.free.partition_point(|free| free.start < region.start);
        self.free.insert(index, region);
        self.merge_with_next(index);
        if index > 0 {
            self.merge_with_next(index - 1);
        }
    }

    fn merge_with_next(&mut self, index: usize) {
        if let Some(next) = self.free.get(index + 1).copied()
            && self.free[index].end() == next.start
        {
            self.free[index].len += next.len;
            self.free.remove(index + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn regions_never_overlap_and_all_comes_back(steps in proptest::collection::vec((any::<bool>(), 1u32..40), 1..200)) {
            let mut allocator = Allocator::new(256);
            let mut held: Vec<Region> = Vec::new();
            for (allocate, number) in steps {
                if allocate {
                    if let Some(region) = allocator.allocate(number) {
                        prop_assert!(region.end() <= 256);
                        prop_assert!(held.iter().all(|other| region.end() <= other.start || other.end() <= region.start));
                        held.push(region);
                    }
                } else if !held.is_empty() {
                    allocator.release(held.swap_remove(number as usize % held.len()));
                }
            }
            for region in held {
                allocator.release(region);
            }
            prop_assert_eq!(allocator.free, vec![Region { start: 0, len: 256 }]);
        }
    }
}
