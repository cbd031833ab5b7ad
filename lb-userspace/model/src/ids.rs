//! What nodes and groups go by.

pub use lb_common::lease::MAX_GROUPS;
use sha2::{Digest as _, Sha256};

/// A node's place in the configuration's list of nodes, which is the same on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

/// A VIP group by its name: the same on all nodes, whatever other groups each of them knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// `lb_config` refuses groups that have the same.
    pub fn of(name: &str) -> Self {
        Self(name_hash(name))
    }
}

/// What stands for a name in heartbeats: the first four bytes of its SHA-256.
pub fn name_hash(name: &str) -> u32 {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(name));
    u32::from_be_bytes([a, b, c, d])
}

/// Nodes at most.
pub const MAX_NODES: usize = 16;
