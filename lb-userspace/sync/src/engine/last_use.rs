//! Two directors that balance a group know different things of a connection: whose word counts.
//!
//! States do not tell which one is older: a client may use its port again. Nor do expiries, because
//! each state has another time-out. What tells is how long ago each side has seen the last packet,
//! and where that is alike, who has told what.

use std::cmp::Ordering;

use lb_common::connection::{State, slack};
use lb_common::service::ServiceInfo;
use lb_model::ids::NodeId;

use crate::mirror::Owner;

/// Ticks by which two directors' times may differ that mean the same.
const ALIKE: u32 = 16;

/// Ticks since the last packet of a connection in this state that expires in `remaining`; some more
/// if the expiry was written ahead, see [`slack`].
pub(super) fn idle(service: &ServiceInfo, state: State, remaining: u32) -> u32 {
    let timeout = service.timeouts[state.timeout_index()];
    (timeout + slack(timeout)).saturating_sub(remaining)
}

/// What one side knows of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub state: State,
    /// See [`idle`].
    pub idle: u32,
}

/// What the table has of a connection that another director tells of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    pub known: Known,
    /// Of one that has ended: who has ended it.
    pub owner: Owner,
}

impl Here {
    /// `Less`: the last packet came here.
    fn order(&self, told: Known) -> Ordering {
        match self.known.idle.abs_diff(told.idle) <= ALIKE {
            true => Ordering::Equal,
            false => self.known.idle.cmp(&told.idle),
        }
    }

    /// Whether the end that `teller` tells may be that of another connection, whose port the client
    /// has used again since.
    pub(super) fn may_succeed(&self, told: Known, teller: NodeId) -> bool {
        told.state.is_over() && !self.known.state.is_over() && self.owner != Owner::Other(teller)
    }

    /// Whether it was used here clearly later than there.
    pub(super) fn is_later(&self, told: Known) -> bool {
        self.order(told).is_lt()
    }

    /// Of one that has ended here, or only begins: whether that is newer than what `teller` says of
    /// it again, or by hearsay.
    pub(super) fn has_gone_on(&self, told: Known, teller: NodeId) -> bool {
        // Who has told the end and tells of it now does so because it began again.
        self.owner != Owner::Other(teller)
            && match self.order(told) {
                Ordering::Less => true,
                // An end that was seen here is on its way to whoever does not know it.
                Ordering::Equal if self.known.state.is_over() => self.owner == Owner::Me,
                Ordering::Equal => told.state.is_over(),
                Ordering::Greater => false,
            }
    }

    /// Of two directors that both speak for a connection the one that has seen its last packet goes
    /// on, and if that is alike the one that has seen its end, and else the `first` one: by those
    /// both come to the same.
    pub(super) fn prevails(&self, told: Known, first: bool) -> bool {
        match (self.order(told), self.known.state.is_over(), told.state.is_over()) {
            (Ordering::Less, ..) | (Ordering::Equal, true, false) => true,
            (Ordering::Greater, ..) | (Ordering::Equal, false, true) => false,
            (Ordering::Equal, ..) => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use State::{Closed, Established, FinWait, SynRecv};

    use super::*;

    const TELLER: NodeId = NodeId(2);
    const LONG: u32 = 10 * ALIKE;

    fn here(state: State, idle: u32, owner: Owner) -> Here {
        Here { known: Known { state, idle }, owner }
    }

    fn told(state: State, idle: u32) -> Known {
        Known { state, idle }
    }

    #[test]
    fn states_with_other_time_outs_are_compared_by_their_last_packets() {
        let mut service = ServiceInfo { timeouts: [3600; 8], ..ServiceInfo::UNSET };
        service.timeouts[FinWait.timeout_index()] = 480;
        assert_eq!(idle(&service, Established, 3600 + 64), 0);
        assert_eq!(idle(&service, FinWait, 480 + 60), 0);
        assert_eq!((idle(&service, FinWait, 440), idle(&service, Established, 0)), (100, 3664));
        assert_eq!(idle(&service, FinWait, 9999), 0, "nothing is newer than now");
    }

    #[test]
    fn an_end_is_the_connections_own_unless_another_one_began() {
        let owners = [Owner::Me, Owner::Nobody, Owner::Other(NodeId(1))];
        for owner in owners {
            assert!(here(SynRecv, 0, owner).may_succeed(told(Closed, 0), TELLER));
            assert!(here(Established, 0, owner).may_succeed(told(FinWait, 0), TELLER));
            assert!(!here(FinWait, 0, owner).may_succeed(told(Closed, 0), TELLER));
            assert!(!here(Established, 0, owner).may_succeed(told(Established, 0), TELLER));
        }
        assert!(!here(Established, 0, Owner::Other(TELLER)).may_succeed(told(FinWait, 0), TELLER));
    }

    #[test]
    fn what_has_ended_here_is_not_raised_by_those_who_have_not_heard_of_it() {
        let ended = |owner| here(Closed, LONG, owner);
        for owner in [Owner::Me, Owner::Nobody, Owner::Other(NodeId(1))] {
            assert!(ended(owner).has_gone_on(told(Established, 2 * LONG), TELLER), "{owner:?}: stale");
            assert!(!ended(owner).has_gone_on(told(Established, 0), TELLER), "{owner:?}: it began again");
        }
        assert!(ended(Owner::Me).has_gone_on(told(Established, LONG), TELLER));
        assert!(!ended(Owner::Nobody).has_gone_on(told(Established, LONG), TELLER));
        assert!(!ended(Owner::Other(TELLER)).has_gone_on(told(Established, 2 * LONG), TELLER));
    }

    #[test]
    fn what_only_begins_here_gives_way_to_what_is_established_there() {
        let begun = here(SynRecv, 0, Owner::Nobody);
        assert!(begun.has_gone_on(told(Established, LONG), TELLER), "of the one before");
        assert!(!begun.has_gone_on(told(Established, 0), TELLER));
        assert!(begun.has_gone_on(told(FinWait, 0), TELLER));
    }

    #[test]
    fn both_sides_come_to_the_same() {
        let states = [Established, FinWait];
        for (one, other) in states.into_iter().flat_map(|one| states.map(|other| (one, other))) {
            for (one_idle, other_idle) in [(0, 0), (0, ALIKE), (0, LONG), (LONG, 0), (LONG, LONG)] {
                let one_stays = here(one, one_idle, Owner::Me).prevails(told(other, other_idle), true);
                let other_stays = here(other, other_idle, Owner::Me).prevails(told(one, one_idle), false);
                assert_ne!(one_stays, other_stays, "{one:?} {one_idle}, {other:?} {other_idle}");
            }
        }
        assert!(here(Established, 0, Owner::Me).prevails(told(FinWait, LONG), false));
        assert!(!here(Established, LONG, Owner::Me).prevails(told(FinWait, 0), true));
        assert!(!here(Established, 0, Owner::Me).prevails(told(FinWait, 0), true), "an end comes later");
    }
}
