//! Frequent queries of a snapshot.

use std::net::{IpAddr, SocketAddr};

use lb_model::{Health, canonical};

use super::{ClusterStatus, FindingStatus, GroupStatus, ServerStatus, ServiceStatus, Status, TableStatus};

impl Status {
    /// Whether the server takes connections in each service that has it: its checks succeed, and
    /// its MAC is known.
    pub fn serves(&self, server: &str) -> bool {
        let servers = self.services.iter().flat_map(|service| &service.servers);
        let mut named = servers.filter(|seen| seen.name == server).peekable();
        named.peek().is_some() && named.all(|seen| seen.health == Health::Up && seen.mac.is_some())
    }

    /// The server of this name, in any service.
    pub fn server(&self, name: &str) -> Option<&ServerStatus> {
        self.services.iter().flat_map(|service| &service.servers).find(|server| server.name == name)
    }

    /// The finding with this id, with any subject.
    pub fn finding(&self, id: &str) -> Option<&FindingStatus> {
        self.findings.iter().find(|finding| finding.finding == id)
    }

    /// Packets dropped for this reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops.iter().filter(|drop| drop.reason == reason).map(|drop| drop.count).sum()
    }

    /// Whether the director reports `holder` as active for every group, and its own roles agree.
    pub fn held_by(&self, holder: &str) -> bool {
        let Some(ClusterStatus { node, groups, .. }) = &self.cluster else { return false };
        let fits = |group: &GroupStatus| (group.role == "active") == (node == holder);
        groups.iter().all(|group| group.holder.as_deref() == Some(holder) && fits(group))
    }

    pub fn group(&self, name: &str) -> Option<&GroupStatus> {
        self.cluster.as_ref()?.groups.iter().find(|group| group.name == name)
    }

    /// Whether another node is ready for every group that this node holds.
    pub fn can_leave(&self) -> bool {
        let groups = self.cluster.iter().flat_map(|cluster| &cluster.groups);
        groups.filter(|group| group.role == "active").all(|group| group.has_successor)
    }

    /// Whether no node holds any of the groups.
    pub fn is_held_by_nobody(&self) -> bool {
        self.cluster.iter().flat_map(|cluster| &cluster.groups).all(|group| group.holder.is_none())
    }

    /// Whether the director receives heartbeats of the node `name`.
    pub fn hears(&self, name: &str) -> bool {
        let nodes = self.cluster.iter().flat_map(|cluster| &cluster.nodes);
        nodes.into_iter().any(|node| node.name == name && node.alive)
    }

    /// Whether the fallback serves the first service.
    pub fn on_fallback(&self) -> bool {
        self.services.first().is_some_and(|service| service.on_fallback)
    }
}

impl ServiceStatus {
    /// By its name, its VIP, or its VIP and port.
    pub fn is_called(&self, text: &str) -> bool {
        self.name == text
            || canonical(text).parse::<IpAddr>().is_ok_and(|vip| vip == self.vip)
            || text.parse() == Ok(SocketAddr::new(self.vip, self.port))
    }
}

impl TableStatus {
    /// Whoever watches the table warns if more of its slots are in use than this, in percent. The
    /// table is made for half of its slots (`lb_common::table`), and this is 80 % of that: beyond
    /// half a new connection has a growing chance to find all places taken that it could have. The
    /// rules for Prometheus and the dashboards have the same figure.
    pub const FILLS_ABOVE_PERCENT: u64 = 40;

    /// [`Self::FILLS_ABOVE_PERCENT`] as slots, of so many.
    pub const fn fills_above(slots: u64) -> u64 {
        slots * Self::FILLS_ABOVE_PERCENT / 100
    }
}
