//! The nodes' segments: bridges in a separate namespace.
//!
//! The namespace is separate because bridged frames in the machine's own namespace may pass
//! iptables (`bridge-nf-call-iptables`), which drops frames that cross the bridge twice, as with
//! direct routing.

use std::path::Path;

use anyhow::Result;

use super::{Namespace, State, xdp_pass};

/// A bridge, and the nodes' interface on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// `br0`, with the `eth0` of all nodes.
    Shared,
    /// `br1`, with the directors' `eth1`, for heartbeats.
    Heartbeat,
}

impl Segment {
    const ALL: [Self; 2] = [Self::Shared, Self::Heartbeat];

    pub(super) fn bridge(self) -> &'static str {
        match self {
            Self::Shared => "br0",
            Self::Heartbeat => "br1",
        }
    }

    pub(super) fn interface(self) -> &'static str {
        match self {
            Self::Shared => "eth0",
            Self::Heartbeat => "eth1",
        }
    }
}

/// The switch port of a node, that is the other end of its veth pair: `ha1` for ha1's `eth0`,
/// `ha1-eth1` for its `eth1`.
pub(super) fn port(node: &str, interface: &str) -> String {
    if interface == "eth0" { node.to_owned() } else { format!("{node}-{interface}") }
}

/// Bridges, with a veth pair for each interface of a node.
#[derive(Debug, Clone)]
pub struct Switch {
    namespace: Namespace,
}

impl Switch {
    pub(super) fn new(state: &State) -> Result<Self> {
        let namespace = Namespace::new(state, "switch")?;
        for bridge in Segment::ALL.map(Segment::bridge) {
            namespace
                .ip(&format!("link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"))?;
            namespace.ip(&format!("link set {bridge} up"))?;
        }
        // A switch has no firewall. The setting exists only if the kernel has loaded br_netfilter.
        if namespace.run(|| Path::new("/proc/sys/net/bridge").is_dir())? {
            namespace.sysctl("net/bridge/bridge-nf-call-iptables", "0")?;
            namespace.sysctl("net/bridge/bridge-nf-call-arptables", "0")?;
        }
        Ok(Self { namespace })
    }

    /// The switch of an existing lab.
    pub(super) fn open(state: &State) -> Self {
        Self { namespace: Namespace::open(&state.namespace("switch")) }
    }

    /// Connects the node `name` by a veth pair: the node's end is the segment's interface with the
    /// MAC `mac`, the switch's end is [`port`].
    ///
    /// The port gets an XDP program that passes everything. Without one, packets that an XDP
    /// program on the node's end sends with XDP_TX or a redirect stay in the port's ring for
    /// seconds: veth polls that ring only with XDP.
    pub(super) fn connect(&self, segment: Segment, node: &Namespace, name: &str, mac: &str) -> Result<()> {
        let interface = segment.interface();
        let port = port(name, interface);
        self.namespace.ip(&format!(
            "link add {port} type veth peer name {interface} address {mac} netns {}",
            node.name()
        ))?;
        self.namespace.ip(&format!("link set {port} master {} up", segment.bridge()))?;
        xdp_pass::attach(&self.namespace, &port)
    }

    /// The switch's namespace: the bridges and ports see the frames of all nodes.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
