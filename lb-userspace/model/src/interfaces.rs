//! The interfaces that clients' packets come in by.

use crate::config::{Config, Group};

/// Maximum number of interfaces that clients' packets come in by.
pub const MAX_INTERFACES: usize = lb_common::ingress::MOST as usize + 1;

impl Config {
    /// All interfaces that receive the VIPs' packets, the main one first.
    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        [&self.interface].into_iter().chain(&self.other_interfaces).map(String::as_str)
    }

    /// The interface that the group's VIPs are on, by its place in [`Self::interfaces`].
    pub fn segment_of(&self, group: &Group) -> usize {
        let named = |interface: &String| self.interfaces().position(|name| name == interface);
        group.interface.as_ref().and_then(named).unwrap_or(0)
    }
}
