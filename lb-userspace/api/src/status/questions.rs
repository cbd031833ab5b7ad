//! What is asked of a snapshot again and again.

use lb_model::Health;

use super::{ClusterStatus, FindingStatus, GroupStatus, ServerStatus, Status};

impl Status {
    /// True if the server takes connections, in each service that has it: checked, found well, and with a known MAC.
    pub fn serves(&self, server: &str) -> bool {
        let servers = self.services.iter().flat_map(|service| &service.servers);
        let mut named = servers.filter(|seen| seen.name == server).peekable();
        named.peek().is_some() && named.all(|seen| seen.health == Health::Up && seen.mac.is_some())
    }

    /// The server of this name, in whichever service.
    pub fn server(&self, name: &str) -> Option<&ServerStatus> {
        self.services.iter().flat_map(|service| &service.servers).find(|server| server.name == name)
    }

    /// The finding with this id, about whatever subject.
    pub fn finding(&self, id: &str) -> Option<&FindingStatus> {
        self.findings.iter().find(|finding| finding.finding == id)
    }

    /// Packets dropped for this reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops.iter().filter(|drop| drop.reason == reason).map(|drop| drop.count).sum()
    }

    /// True if the director says that `holder` is active for every group, and its own roles fit that.
    pub fn held_by(&self, holder: &str) -> bool {
        let Some(ClusterStatus { node, groups, .. }) = &self.cluster else { return false };
        let fits = |group: &GroupStatus| (group.role == "active") == (node == holder);
        groups.iter().all(|group| group.holder.as_deref() == Some(holder) && fits(group))
    }

    pub fn group(&self, name: &str) -> Option<&GroupStatus> {
        self.cluster.as_ref()?.groups.iter().find(|group| group.name == name)
    }

    /// True if another node is ready for every group that this one has.
    pub fn can_leave(&self) -> bool {
        let groups = self.cluster.iter().flat_map(|cluster| &cluster.groups);
        groups.filter(|group| group.role == "active").all(|group| group.has_successor)
    }

    /// True if no node has any of the groups.
    pub fn is_held_by_nobody(&self) -> bool {
        self.cluster.iter().flat_map(|cluster| &cluster.groups).all(|group| group.holder.is_none())
    }

    /// True if the director hears the node `name`.
    pub fn hears(&self, name: &str) -> bool {
        let nodes = self.cluster.iter().flat_map(|cluster| &cluster.nodes);
        nodes.into_iter().any(|node| node.name == name && node.alive)
    }

    /// True while the first service is served by its fallback.
    pub fn on_fallback(&self) -> bool {
        self.services.first().is_some_and(|service| service.on_fallback)
    }
}
