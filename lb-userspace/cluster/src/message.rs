//! What nodes tell each other: one kind of message, the heartbeat, which carries everything.
//!
//! A heartbeat says how things are, not what to do: a lost one is made good by the next, a repeated
//! one changes nothing.

use lb_model::ids::{GroupId, NodeId};

use super::standing::exchange::Note;

/// Sent to all other nodes over all paths, every interval and at once when something changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    pub from: NodeId,
    /// Which life of the sender: larger after each of its restarts.
    pub session: u64,
    /// Larger with each message of a session; the same message on two paths has one number.
    pub sequence: u64,
    pub readiness: Readiness,
    /// The nodes that the sender hears, bit `1 << NodeId`: one that is not among them knows that
    /// the path is cut one way.
    pub hears: u16,
    /// Of the configuration that must be equal on all nodes.
    pub config_digest: u64,
    /// One per group that the sender knows, in the order of their ids.
    pub groups: Vec<GroupStatus>,
    /// Some heartbeats carry orders of operators.
    pub standing: Option<Note>,
}

/// What a node could serve with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Readiness {
    /// The XDP program is attached and its maps are in step.
    pub data_path: bool,
    /// The interface carries packets.
    pub link: bool,
    /// The operator wants this node to stay out.
    pub maintenance: bool,
    /// Real servers that this node finds healthy.
    pub servers: u16,
    /// Reference hosts that this node reaches.
    pub references: u8,
}

/// How a group stands on the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupStatus {
    pub group: GroupId,
    pub role: Role,
    /// How often the group has changed hands as far as the sender knows; the larger one is newer.
    pub term: u64,
    /// For a planned hand-over: the node that the sender wants to take the group next.
    ///
    /// A standby that names itself asks the active node for the group (an operator's `failback`,
    /// given on this side).
    pub offered_to: Option<NodeId>,
    /// An operator moved the group away from the sender: automatic failback does not bring it back.
    pub yielded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Could not serve.
    Fault,
    Standby,
    /// Is taking the VIPs.
    Acquiring,
    Active,
    /// Is giving the VIPs up.
    Releasing,
}
