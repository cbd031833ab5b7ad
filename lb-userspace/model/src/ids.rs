//! Ids of nodes and groups.

use std::fmt;

use lb_common::lease::GroupIndex;
pub use lb_common::lease::MAX_GROUPS;
use sha2::{Digest as _, Sha256};

/// A node's index in the configuration's list of nodes, which is the same on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

impl NodeId {
    /// In the list of nodes.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A VIP group's id, derived from its name: the same on all nodes, whatever other groups each node
/// knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// `lb_config` refuses two groups with the same id.
    pub fn of(name: &str) -> Self {
        Self(name_hash(name))
    }
}

/// A VIP group's number on this node, for as long as `lb` runs: that of its lease, and of orders
/// about its addresses. Below [`MAX_GROUPS`]. Other nodes know the group by its [`GroupId`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u8);

impl GroupNumber {
    /// Which lease the group has.
    pub const fn lease(self) -> GroupIndex {
        GroupIndex::group(self.0)
    }

    /// The group's bit in a word with a bit for each; 0: the word has none for it.
    pub const fn bit(self) -> u32 {
        match 1_u32.checked_shl(self.0 as u32) {
            Some(bit) => bit,
            None => 0,
        }
    }
}

impl fmt::Display for GroupNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The first four bytes of the name's SHA-256, as in heartbeats.
pub fn name_hash(name: &str) -> u32 {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(name));
    u32::from_be_bytes([a, b, c, d])
}

/// Maximum number of nodes.
pub const MAX_NODES: usize = 16;
