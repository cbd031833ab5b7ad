//! Since when another machine that announces a group's VIP disputes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lb_model::ids::{GroupNumber, MAX_GROUPS};

/// By group, from when on announcements of others count: before that another director had the
/// group, as planned or because this one was away. The heartbeat thread writes, any thread reads.
#[derive(Debug, Clone)]
pub struct Disputes(Arc<[AtomicU64; MAX_GROUPS]>);

impl Default for Disputes {
    fn default() -> Self {
        Self(Arc::new(std::array::from_fn(|_| AtomicU64::new(0))))
    }
}

impl Disputes {
    /// Times are of CLOCK_MONOTONIC.
    pub(super) fn begin(&self, group: GroupNumber, from: Duration) {
        if let Some(known) = self.0.get(usize::from(group.0)) {
            known.store(u64::try_from(from.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
        }
    }

    /// Whether an announcement of another machine counts that came then.
    pub fn count(&self, group: GroupNumber, came: Duration) -> bool {
        let from = self.0.get(usize::from(group.0)).map(|from| from.load(Ordering::Acquire));
        from.is_none_or(|from| came >= Duration::from_nanos(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_counts_from_when_on_the_group_is_this_directors_alone() {
        let (disputes, second) = (Disputes::default(), Duration::from_secs(1));
        let reader = disputes.clone();
        assert!(reader.count(GroupNumber(3), Duration::ZERO), "it had it at all times");
        disputes.begin(GroupNumber(3), second);
        let counts = |group| [second - Duration::from_nanos(1), second].map(|came| reader.count(group, came));
        assert_eq!(counts(GroupNumber(3)), [false, true]);
        assert_eq!(counts(GroupNumber(2)), [true, true], "another group");
    }
}
