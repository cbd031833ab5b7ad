//! Ids of nodes and groups.

pub use lb_common::lease::MAX_GROUPS;
use sha2::{Digest as _, Sha256};

/// A node's index in the configuration's list of nodes, which is the same on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

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

/// The first four bytes of the name's SHA-256, as in heartbeats.
pub fn name_hash(name: &str) -> u32 {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(name));
    u32::from_be_bytes([a, b, c, d])
}

/// Maximum number of nodes.
pub const MAX_NODES: usize = 16;
