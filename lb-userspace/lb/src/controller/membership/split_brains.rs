//! Two active nodes that go on announcing the same VIPs are one event, not one a second.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use lb_cluster::machine::{Event, Seen};
use lb_cluster::member::driver::Report;
use lb_model::ids::GroupId;

/// From one line about a foreign announcement to the next one about the same group.
const PACE: Duration = Duration::from_secs(60);

/// When each group's last foreign announcement was recorded.
#[derive(Debug, Default)]
pub(super) struct SplitBrains(HashMap<GroupId, Instant>);

impl SplitBrains {
    /// Whether the report is worth a record.
    pub(super) fn is_recorded(&mut self, report: &Report) -> bool {
        self.is_recorded_at(report, Instant::now())
    }

    fn is_recorded_at(&mut self, report: &Report, now: Instant) -> bool {
        let Report::Event(Event::SplitBrain { group, seen: Seen::Announcement }) = report else {
            return true;
        };
        let recent = self.0.get(group).is_some_and(|last| now - *last < PACE);
        if !recent {
            self.0.insert(*group, now);
        }
        !recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::ids::NodeId;

    #[test]
    fn foreign_announcements_are_recorded_once_a_minute_and_all_else_always() {
        let mut seen = SplitBrains::default();
        let start = Instant::now();
        let announced =
            |group| Report::Event(Event::SplitBrain { group: GroupId(group), seen: Seen::Announcement });
        let mut at =
            |second, report: &Report| seen.is_recorded_at(report, start + Duration::from_secs(second));
        assert_eq!(
            [0, 1, 59, 60, 61].map(|second| at(second, &announced(0))),
            [true, false, false, true, false]
        );
        assert!(at(61, &announced(1)), "another group");
        let peer = Seen::Heartbeat { peer: NodeId(1) };
        let heard = Report::Event(Event::SplitBrain { group: GroupId(0), seen: peer });
        assert!(at(61, &heard) && at(61, &heard));
    }
}
