//! What goes into a cluster machine and what comes out. Texts for people are made elsewhere.

use std::time::Duration;

use lb_model::ids::GroupNumber;

use super::{GroupId, GroupSettings, Heartbeat, NodeId, Role};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// [`super::Machine::next_timeout`] has come; too early or too often does no harm.
    Timer,
    /// From a peer over any path: authenticated, and not a replay.
    Heartbeat(Heartbeat),
    /// The same, but it came `age` ago and has waited since: this node was busy, or frozen. Who is
    /// dead is judged by when messages came, and all else by now.
    LateHeartbeat {
        message: Heartbeat,
        age: Duration,
    },
    /// What this node could serve with; each change at once.
    Readiness(LocalReadiness),
    Command(Command),
    /// The configuration was read anew.
    Changed(Change),
    /// The take-over that [`Output::Acquire`] asked for is complete.
    TakeoverDone {
        group: GroupId,
    },
    /// The take-over is not complete, or was undone later: the group must go elsewhere.
    TakeoverFailed {
        group: GroupId,
        why: String,
    },
    /// The release is complete: no address is left, the data path is on standby for the group. Also
    /// when parts of it failed and the driver has said so, as long as the lease is gone.
    ReleaseDone {
        group: GroupId,
    },
    /// Someone else announces an address of the group: `rival`, if it is a node of the cluster. The
    /// announcement `came` then, on the clock of `now`: it may have waited to be read.
    Conflict {
        group: GroupId,
        rival: Option<NodeId>,
        came: Duration,
    },
}

/// [`super::super::message::Readiness`] as far as it is found out by looking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LocalReadiness {
    pub data_path: bool,
    pub link: bool,
    pub servers: u16,
    pub references: u8,
    /// Nodes that do not know yet what this one knows of connections, a bit each: automatic
    /// failback waits for them.
    pub behind: u16,
    /// Nodes of which this one does not know yet what they know of connections, a bit each: a group
    /// that every node serves waits for them before it is served here.
    pub unlearned: u16,
    /// Groups that every node serves, by their numbers on this node, which have something here to
    /// serve them with: a bit each.
    pub usable: u32,
}

impl LocalReadiness {
    pub(super) const fn is_usable(&self, number: GroupNumber) -> bool {
        self.usable & number.bit() != 0
    }
}

/// What may change while the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    pub config_digest: u64,
    /// See [`super::Settings::takeover`].
    pub takeover: Duration,
    /// All groups from now on. Of one that stays `preference` must be as it was: with orders that
    /// differ between nodes two could find themselves first at once.
    pub groups: Vec<GroupSettings>,
}

/// What an operator may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Give the group to the next node; automatic failback does not undo it.
    Failover(GroupId),
    /// Give the group to its preferred node; works on the node that has it and on the preferred
    /// one.
    Failback(GroupId),
    /// Give everything up and stay out until [`Command::Resume`] or a restart.
    Standby,
    Resume,
    /// Like standby, but the driver remembers it over restarts (see
    /// [`super::Settings::maintenance`]).
    Maintenance(bool),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Output {
    /// To all other nodes over all paths, before anything else is done.
    Send(Heartbeat),
    /// Take the group's addresses: add, switch to active, announce. Answer with `TakeoverDone` or
    /// `TakeoverFailed`.
    Acquire {
        group: GroupId,
        why: Cause,
    },
    /// Give them up: end the group's lease (the first thing, one write), remove, switch to standby;
    /// answer with `ReleaseDone`. Comes during a take-over too, which is then broken off and
    /// undone, and for every group at the start, for what an earlier life may have left.
    Release {
        group: GroupId,
        why: Cause,
    },
    /// Announce the addresses at once: caches in the network may point elsewhere.
    Announce {
        group: GroupId,
    },
    /// Announce them no more for now: a node that we do not hear has done so last, and caches point
    /// to it.
    PauseAnnouncements {
        group: GroupId,
    },
    /// The data path may be active for the group until then, on the clock of `now`.
    RenewLease {
        group: GroupId,
        until: Duration,
    },
    /// The machine was not called for longer than the lease; the data path has stopped by itself.
    LeaseLost,
    Event(Event),
}

/// What an operator or a log may want to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    PeerUp {
        peer: NodeId,
        session: u64,
    },
    /// A heartbeat came, but late.
    PeerLate {
        peer: NodeId,
        silent: Duration,
    },
    PeerDead {
        peer: NodeId,
        silent: Duration,
    },
    /// The peer came back with a new session before it was found dead.
    PeerRestarted {
        peer: NodeId,
        session: u64,
    },
    /// `after` is how long the group had been in the role `from`.
    RoleChanged {
        group: GroupId,
        from: Role,
        to: Role,
        cause: Cause,
        after: Duration,
    },
    /// The configuration has the group from now on.
    GroupAdded {
        group: GroupId,
    },
    /// The group left the configuration, and nothing of it is left here.
    GroupRemoved {
        group: GroupId,
    },
    SplitBrain {
        group: GroupId,
        seen: Seen,
    },
    SplitBrainResolved {
        group: GroupId,
        winner: NodeId,
        lasted: Duration,
    },
    ConfigDiffers {
        peer: NodeId,
        ours: u64,
        theirs: u64,
    },
    ConfigAgrees {
        peer: NodeId,
    },
    CommandRefused {
        command: Command,
        why: Refusal,
    },
    /// This node's controller was not called for so long.
    Stalled {
        pause: Duration,
    },
}

/// How a second active node showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    Heartbeat {
        peer: NodeId,
    },
    /// By ARP or neighbour discovery; who it is, is not known.
    Announcement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    NoSuchGroup,
    /// The group is here, and no other node is ready for it.
    NobodyReady,
    /// The group is not here; if it is known who has it, there.
    NotHere {
        holder: Option<NodeId>,
    },
    /// The group is already on the node that it would go to.
    AlreadyThere,
    /// This node could not serve the group.
    NotReady,
    /// A failover waited, and a failback came.
    Withdrawn,
    /// Every node serves it.
    Anycast,
}

/// Why a role changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    // Why a node cannot serve, or can again.
    Start,
    NoDataPath,
    NoLink,
    Maintenance,
    StandbyCommand,
    /// The group is not configured for this node.
    NotListed,
    /// The group left the configuration.
    Removed,
    /// Waits after a failed take-over.
    Waiting,
    /// The machine was not called for longer than the lease, as in [`Event::Stalled`].
    Absence,
    Ready,
    /// None of the group's services has a server or a fallback that could serve.
    NoServer,
    /// Ready, and waits to learn the connections that others know.
    NotInStep,
    // Why it takes the group.
    PeerDead {
        peer: NodeId,
    },
    /// The one that had it told that it cannot serve any more.
    PeerGaveUp {
        peer: NodeId,
    },
    Offered {
        by: NodeId,
    },
    NobodyHasIt,
    // What the driver told.
    Done,
    TakeoverFailed {
        why: String,
    },
    TakeoverTimedOut,
    ReleaseStuck,
    // Why it gives the group up, though it works.
    Failover {
        to: NodeId,
    },
    Failback {
        to: NodeId,
    },
    /// The peer has what this node has lost: reference hosts or servers.
    BetterPlaced {
        to: NodeId,
    },
    SplitBrain {
        winner: NodeId,
    },
    /// Both are active, and the peer, which should give way, does not: it cannot hear us.
    NotHeard {
        peer: NodeId,
    },
    AddressConflict,
    // About the lease.
    LeaseLost,
    LeaseRegained,
    PeerTookOver {
        peer: NodeId,
    },
}
