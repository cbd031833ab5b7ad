//! The leases of the VIP groups as the maps have them at the start, and the memory behind [`lb_model::lease::Leases`].

use std::sync::atomic::AtomicU64;

use lb_common::control::Control;
use lb_common::lease::{GROUPS, GroupIndex, Lease, MAX_GROUPS};
use lb_common::shared::Shared;
use lb_model::lease::Memory;

use super::mapped::Mapped;

/// What a director is to all groups when its maps are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is alone: active for ever.
    Active,
    /// Somebody will renew the leases of those groups that it is active for.
    Standby,
}

impl Start {
    /// Services of no group are always active.
    pub(super) fn leases(self) -> [Shared<Lease>; GROUPS] {
        let groups = match self {
            Self::Active => Lease::UNLIMITED,
            Self::Standby => Lease::default(),
        };
        let mut leases = [Shared::default(); GROUPS];
        leases[..MAX_GROUPS].fill(Shared::new(groups));
        leases[GroupIndex::UNGROUPED.index()] = Shared::new(Lease::UNLIMITED);
        leases
    }
}

impl Memory for Mapped<Control> {
    fn word(&self, offset: usize) -> &AtomicU64 {
        Self::word(self, 0, offset)
    }
}
