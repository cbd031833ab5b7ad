//! What a cluster machine must know from the start, and which of it makes sense.

use std::time::Duration;

use lb_model::ids::GroupNumber;

use super::{Failback, GroupId, MAX_GROUPS, MAX_NODES, NodeId};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    pub me: NodeId,
    /// How many nodes there are, this one included; their ids are 0, 1, 2, …
    pub nodes: u8,
    /// Which life of this node it is: larger after each restart.
    pub session: u64,
    /// Of the configuration that must be equal on all nodes.
    pub config_digest: u64,
    /// From one heartbeat to the next.
    pub interval: Duration,
    /// A node that was silent for so long over all paths is dead.
    pub dead: Duration,
    /// After the start, how long to listen before anything is claimed.
    pub initial_dead: Duration,
    /// How long the data path may be active after each heartbeat, see [`Settings::longest_lease`].
    pub lease: Duration,
    /// A longer pause between two heartbeats of a peer is worth a warning.
    pub late: Duration,
    /// A take-over that lasts longer has failed.
    pub takeover: Duration,
    /// How long a node stays out after a failed take-over; doubled with each failure in a row, up
    /// to 64 times.
    pub retry: Duration,
    /// For how long a peer must be better placed (see [`super::Fitness`]) before a working node
    /// hands over to it.
    pub give_way: Duration,
    /// How many reference hosts are configured.
    pub references: u8,
    /// The node starts in maintenance: an operator had put it there in an earlier life.
    pub maintenance: bool,
    pub groups: Vec<GroupSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupSettings {
    pub id: GroupId,
    /// The nodes that may have the group, the preferred one first.
    pub preference: Vec<NodeId>,
    pub failback: Failback,
    /// Every node that could serves it at once; preference and failback say nothing then.
    pub anycast: Option<Anycast>,
}

/// Of a group that every node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Anycast {
    /// Its bit is in [`super::LocalReadiness::usable`].
    pub number: GroupNumber,
    /// How long a release lasts that is meant, see [`lb_model::Anycast::withdraw_wait`].
    pub withdraw_wait: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("a cluster has 1 to {MAX_NODES} nodes, not {0}")]
    Nodes(u8),
    #[error("this node has number {}, the last one is {}", .me.0, nodes.saturating_sub(1))]
    Me { me: NodeId, nodes: u8 },
    #[error("at most {MAX_GROUPS} groups of addresses, not {0}")]
    Groups(usize),
    #[error("two groups have the id {0:?}")]
    GroupTwice(GroupId),
    #[error("{group:?} prefers a node {} that does not exist", .node.0)]
    UnknownNode { group: GroupId, node: NodeId },
    #[error("{group:?} names node {} twice", .node.0)]
    NodeTwice { group: GroupId, node: NodeId },
    #[error("{0:?} has no node")]
    NoNode(GroupId),
    #[error("the heartbeat interval must not be zero")]
    Interval,
    #[error("a lease of {lease:?} would lapse in normal operation: at least two intervals, {at_least:?}")]
    LeaseTooShort { lease: Duration, at_least: Duration },
    #[error(
        "with a lease of {lease:?} a dead node could hold its addresses after a peer took them: at most {at_most:?} \
         (nine tenths of the dead time less one interval)"
    )]
    LeaseTooLong { lease: Duration, at_most: Duration },
    #[error("the initial dead time {initial:?} must not be shorter than the dead time {dead:?}")]
    InitialDead { initial: Duration, dead: Duration },
}

impl Settings {
    /// Today's defaults; no groups yet.
    pub fn new(me: NodeId, nodes: u8, session: u64) -> Self {
        let (interval, dead) = (Duration::from_millis(50), Duration::from_millis(200));
        Self {
            me,
            nodes,
            session,
            config_digest: 0,
            interval,
            dead,
            initial_dead: Duration::from_secs(1),
            lease: Self::longest_lease(interval, dead),
            late: dead / 2,
            takeover: Duration::from_secs(2),
            retry: Duration::from_secs(5),
            give_way: Duration::from_secs(1),
            references: 0,
            maintenance: false,
            groups: Vec::new(),
        }
    }

    /// The longest lease that has surely run out when a peer takes over, and the default.
    ///
    /// A peer counts the dead time from the last heartbeat it heard. The last renewal may be one
    /// interval younger, if one heartbeat was lost on all paths just before the sender froze. A
    /// tenth of the dead time is for clocks that differ in speed by up to 5 % either way.
    pub fn longest_lease(interval: Duration, dead: Duration) -> Duration {
        dead.saturating_mul(9).checked_div(10).unwrap_or_default().saturating_sub(interval)
    }

    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_times()?;
        if self.nodes == 0 || usize::from(self.nodes) > MAX_NODES {
            return Err(SettingsError::Nodes(self.nodes));
        }
        if self.me.0 >= self.nodes {
            return Err(SettingsError::Me { me: self.me, nodes: self.nodes });
        }
        if self.groups.len() > MAX_GROUPS {
            return Err(SettingsError::Groups(self.groups.len()));
        }
        for (place, group) in self.groups.iter().enumerate() {
            if self.groups[..place].iter().any(|before| before.id == group.id) {
                return Err(SettingsError::GroupTwice(group.id));
            }
            self.check_group(group.id, &group.preference)?;
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), SettingsError> {
        let lease = self.lease;
        if self.interval.is_zero() {
            return Err(SettingsError::Interval);
        }
        let at_least = self.interval.saturating_mul(2);
        if lease < at_least {
            return Err(SettingsError::LeaseTooShort { lease, at_least });
        }
        let at_most = Self::longest_lease(self.interval, self.dead);
        if lease > at_most {
            return Err(SettingsError::LeaseTooLong { lease, at_most });
        }
        if self.initial_dead < self.dead {
            return Err(SettingsError::InitialDead { initial: self.initial_dead, dead: self.dead });
        }
        Ok(())
    }

    fn check_group(&self, group: GroupId, preference: &[NodeId]) -> Result<(), SettingsError> {
        if preference.is_empty() {
            return Err(SettingsError::NoNode(group));
        }
        for (place, &node) in preference.iter().enumerate() {
            if node.0 >= self.nodes {
                return Err(SettingsError::UnknownNode { group, node });
            }
            if preference[..place].contains(&node) {
                return Err(SettingsError::NodeTwice { group, node });
            }
        }
        Ok(())
    }
}
