//! The interfaces that packets come in by: those of clients, and what servers send that are reached
//! by address translation.

use crate::config::{Config, Group};

/// Maximum number of interfaces that packets come in by.
pub const MAX_INTERFACES: usize = lb_common::forward::ingress::MOST as usize + 1;

impl Config {
    /// All interfaces that receive the VIPs' packets, the main one first.
    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        [&self.interface].into_iter().chain(&self.other_interfaces).map(String::as_str)
    }

    /// All interfaces that the program is to be on: behind those of [`Self::interfaces`] the others
    /// that servers of `forward: masq` are said to be behind, because what these send comes in
    /// there.
    pub fn ingresses(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.interfaces().collect();
        let servers = self.services.iter().flat_map(|service| &service.servers);
        let behind = servers.filter(|server| server.masq).filter_map(|server| server.interface.as_deref());
        for name in behind {
            if all.len() < MAX_INTERFACES && !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }

    /// The interface that the group's VIPs are on, by its place in [`Self::interfaces`].
    pub fn segment_of(&self, group: &Group) -> usize {
        let named = |interface: &String| self.interfaces().position(|name| name == interface);
        group.interface.as_ref().and_then(named).unwrap_or(0)
    }
}
