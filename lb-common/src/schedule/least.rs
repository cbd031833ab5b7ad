//! The rules of the schedulers that go by connections, word for word: every member is looked at, in
//! order. The program's tournament must agree with them.

use crate::schedule::{Measure, Member, Scheduler, Walk};
use crate::server::{Counts, ServerId};

/// What the next active connection adds to a load.
const ONE: u64 = 256;

/// The best member so far.
#[derive(Debug, Clone, Copy)]
pub struct Least {
    measure: Measure,
    weighs: bool,
    best: Option<(Member, Counts)>,
}

impl Least {
    pub const fn new(measure: Measure) -> Self {
        Self { measure, weighs: true, best: None }
    }

    /// `None`: it goes by something else.
    pub const fn of(scheduler: Scheduler) -> Option<Self> {
        match scheduler.walk() {
            Walk::Least(measure) => {
                let weighs = !matches!(scheduler, Scheduler::Lc);
                Some(Self { measure, weighs, best: None })
            }
            Walk::Cursor | Walk::Bucket(_) | Walk::TwoChoices => None,
        }
    }

    /// Its weight is not 0.
    pub fn consider(&mut self, member: Member, counts: Counts) {
        let member = if self.weighs { member } else { Member::new(member.server(), 1) };
        if self.measure == Measure::Room && counts.active() >= u32::from(member.weight()) {
            return;
        }
        let better = self.best.is_none_or(|best| self.is_better((member, counts), best));
        if better {
            self.best = Some((member, counts));
        }
    }

    fn is_better(&self, new: (Member, Counts), best: (Member, Counts)) -> bool {
        let over_weight = |load: fn(u64) -> u64| {
            let [new_load, best_load] = [new, best].map(|(_, counts)| load(counts.load()));
            new_load * u64::from(best.0.weight()) < best_load * u64::from(new.0.weight())
        };
        match self.measure {
            Measure::Load => over_weight(|load| load),
            Measure::Delay => over_weight(|load| load + ONE),
            Measure::Queue => match [new, best].map(|(_, counts)| counts.load() < ONE) {
                [true, true] => new.1.load() < best.1.load(),
                [true, false] => true,
                [false, true] => false,
                [false, false] => over_weight(|load| load + ONE),
            },
            Measure::Room | Measure::Weight => new.0.weight() > best.0.weight(),
        }
    }

    /// `None`: nobody takes a connection.
    pub fn server(&self) -> Option<ServerId> {
        self.best.map(|(member, _)| member.server())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(measure: Measure, loads: &[(u16, u32, u32)]) -> u16 {
        let mut least = Least::new(measure);
        for (index, &(weight, active, inactive)) in loads.iter().enumerate() {
            least.consider(Member::new(ServerId(index as u16 + 1), weight), Counts::new(active, inactive));
        }
        least.server().map_or(0, |server| server.0)
    }

    #[test]
    fn an_active_connection_weighs_as_256_inactive_ones() {
        assert_eq!(pick(Measure::Load, &[(1, 1, 0), (1, 0, 255)]), 2);
        assert_eq!(pick(Measure::Load, &[(1, 1, 0), (1, 0, 256)]), 1);
    }

    #[test]
    fn weighted_least_connections_divides_by_weight() {
        assert_eq!(pick(Measure::Load, &[(4, 3, 0), (2, 2, 0), (1, 1, 0)]), 1);
        assert_eq!(pick(Measure::Load, &[(4, 4, 0), (2, 2, 0), (1, 1, 0)]), 1, "equal: first in order");
        assert_eq!(pick(Measure::Load, &[(65_535, u32::MAX, u32::MAX), (1, 0, 1)]), 2);
    }

    #[test]
    fn the_shortest_expected_delay_counts_the_connection_to_come() {
        assert_eq!(pick(Measure::Delay, &[(1, 0, 0), (3, 1, 0)]), 2, "1/1 against 2/3");
        assert_eq!(pick(Measure::Delay, &[(1, 0, 0), (2, 1, 0)]), 1, "equal: first in order");
        assert_eq!(pick(Measure::Delay, &[(1, 0, 1), (2, 1, 0)]), 2, "but for an inactive one");
    }

    #[test]
    fn nobody_queues_while_somebody_is_idle() {
        assert_eq!(pick(Measure::Queue, &[(65_535, 1, 0), (1, 0, 0), (9, 0, 0)]), 2);
        assert_eq!(pick(Measure::Queue, &[(1, 0, 2), (1, 0, 1), (1, 0, 1)]), 2, "the idlest");
        assert_eq!(pick(Measure::Queue, &[(1, 2, 0), (2, 1, 0)]), 2, "else sed");
        assert_eq!(pick(Measure::Queue, &[(9, 1, 0), (1, 0, 255)]), 2);
        assert_eq!(pick(Measure::Queue, &[(9, 1, 0), (1, 0, 256)]), 1, "as busy as with an active one");
    }

    #[test]
    fn who_has_as_many_as_its_weight_is_full() {
        assert_eq!(pick(Measure::Room, &[(2, 0, 0), (3, 2, 9), (3, 0, 0)]), 2, "the highest weight");
        assert_eq!(pick(Measure::Room, &[(2, 1, 0), (3, 3, 0), (1, 0, 0)]), 1);
        assert_eq!(pick(Measure::Room, &[(2, 2, 0), (3, 4, 0)]), 0, "nobody has room");
    }
}
