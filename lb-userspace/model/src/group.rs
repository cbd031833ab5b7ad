//! What kinds of groups of VIPs there are.

use std::time::Duration;

use crate::config::Group;

/// How many directors serve a group at a time, and how clients' packets find them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupKind {
    /// One: the VIPs are on its interface, and it announces them on the segment.
    Failover,
    /// All that could: a routing daemon announces the VIPs of each, and routers spread clients.
    Anycast(Anycast),
}

/// How a director tells its routing daemon that it serves a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anycast {
    /// The device that has the VIPs as long as they are to be announced. It goes with the process.
    /// Default `lb-anycast`; several groups may have it in common.
    pub device: String,
    /// How long a director that leaves goes on forwarding after it has taken the VIPs away, before
    /// it counts as gone. Default 1 s.
    pub withdraw_wait: Duration,
}

impl Group {
    /// What there is to know of a group that every director serves; `None`: one director has it.
    pub const fn anycast(&self) -> Option<&Anycast> {
        match &self.kind {
            GroupKind::Failover => None,
            GroupKind::Anycast(anycast) => Some(anycast),
        }
    }
}
