//! Several directors that stand in for each other.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Command, Hooks};
use crate::ids::NodeId;

/// The directors of a cluster, one of which is active for each group, and their heartbeat paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Distinguishes clusters on the same network; the same on all nodes. Default `lb`.
    pub name: String,
    /// Index of this machine in `nodes`.
    pub me: NodeId,
    /// At least one, at most 16; the same on all nodes, in the same order.
    pub nodes: Vec<Node>,
    /// See `cluster::auth::file`. Default `/etc/lb/keys`.
    pub key_file: PathBuf,
    /// Heartbeat interval; 10 ms to 10 s, default 50 ms.
    pub interval: Duration,
    /// Dead time: a node that was silent for this long on all paths is dead. At least four
    /// intervals; default 200 ms.
    pub dead: Duration,
    /// A longer silence is logged as a warning; default half of `dead`.
    pub late: Duration,
    /// How long to listen at start before a group is taken; at least `dead`, default 1 s.
    pub initial_dead: Duration,
    /// How long a stop for good waits for the connections that still run through this node; default
    /// 5 s. Other stops wait no longer than clients need to hear where the VIPs are now.
    pub linger: Duration,
    /// At least one if there are two or more nodes, at most 16.
    pub paths: Vec<HeartbeatPath>,
    /// Reference hosts: a node that gets no answer to pings from any of them is cut off; at most
    /// 16.
    pub references: Vec<IpAddr>,
    /// Folder of the files that store maintenance mode and standing orders. Default `/var/lib/lb`.
    pub state: PathBuf,
    pub hooks: Hooks,
    /// Fencing command: runs before this node takes a dead node's groups, which it does only if the
    /// command succeeds.
    pub fence: Option<Command>,
    /// How nodes tell each other about connections; `None`: they do not.
    pub sync: Option<ConnectionSync>,
}

/// Connection synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSync {
    /// UDP port, the same on all nodes. Default 8848.
    pub port: u16,
    /// Bytes a second that this node sends at most. Default 12,500,000 (100 Mbit/s).
    pub rate: u64,
}

impl Default for ConnectionSync {
    fn default() -> Self {
        Self { port: 8848, rate: 12_500_000 }
    }
}

impl Cluster {
    /// The file that exists while this node is in maintenance.
    pub fn maintenance_file(&self) -> PathBuf {
        self.state.join("maintenance")
    }

    /// All nodes but this one.
    pub fn others(&self) -> impl Iterator<Item = &Node> {
        let me = self.me.index();
        self.nodes.iter().enumerate().filter(move |(index, _)| *index != me).map(|(_, node)| node)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Unique.
    pub name: String,
    /// The node's own address on the VIPs' interface, unique. After a hand-over other nodes relay
    /// packets to it.
    pub address: IpAddr,
}

/// A path for heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatPath {
    /// One datagram to each other node. The addresses are in the order of [`Cluster::nodes`].
    Unicast { interface: Option<String>, port: u16, addresses: Vec<IpAddr> },
    /// One datagram to the group.
    Multicast { interface: String, group: SocketAddr },
    /// One datagram to the network's broadcast address, IPv4 only.
    Broadcast { interface: Option<String>, address: SocketAddr },
    /// A null-modem cable between two nodes.
    Serial { device: PathBuf, baud: u32 },
}
