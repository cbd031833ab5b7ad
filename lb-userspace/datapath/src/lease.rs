//! The leases of the VIP groups as the maps have them at the start, and the memory behind
//! [`lb_model::lease::Leases`].

use std::sync::atomic::AtomicU64;

use lb_common::control::Control;
use lb_common::lease::{GROUPS, GroupIndex, Lease, MAX_GROUPS};
use lb_common::shared::Shared;
use lb_model::lease::Memory;

use super::mapped::Mapped;

/// What a director is to all groups when its maps are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The director is alone: active for ever.
    Active,
    /// Somebody will renew the leases of those groups that it is active for.
    Standby,
}

impl Start {
    /// Services of no group are always active. What is known of connections is of the generations
    /// of the `lb` before still, and on standby what its program served on is served on.
    pub(super) fn leases(self, before: Option<&[Shared<Lease>; GROUPS]>) -> [Shared<Lease>; GROUPS] {
        let groups = match self {
            Self::Active => Lease::UNLIMITED,
            Self::Standby => Lease::default(),
        };
        let mut leases = [Lease::default(); GROUPS];
        leases[..MAX_GROUPS].fill(groups);
        leases[GroupIndex::UNGROUPED.index()] = Lease::UNLIMITED;
        for (lease, before) in leases.iter_mut().zip(before.into_iter().flatten()).take(MAX_GROUPS) {
            let before = before.get();
            match self {
                Self::Active => lease.generation = before.generation,
                Self::Standby => *lease = before.left_behind(),
            }
        }
        leases.map(Shared::new)
    }
}

impl Memory for Mapped<Control> {
    fn word(&self, offset: usize) -> &AtomicU64 {
        Self::word(self, 0, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_lb_balances_nothing_of_a_group_and_serves_on() {
        let held = Lease { generation: 3, serve_on_until: 7, ..Lease::UNLIMITED };
        let before = [Shared::new(held); GROUPS];
        let alone = Start::Active.leases(Some(&before));
        assert_eq!(alone[0].get(), Lease { generation: 3, ..Lease::UNLIMITED });
        let standby = Start::Standby.leases(Some(&before));
        assert_eq!(standby[MAX_GROUPS - 1].get(), held.left_behind());
        for leases in [alone, standby, Start::Standby.leases(None)] {
            assert_eq!(leases[GroupIndex::UNGROUPED.index()].get(), Lease::UNLIMITED);
        }
        assert_eq!(Start::Standby.leases(None)[0].get(), Lease::default());
    }
}
