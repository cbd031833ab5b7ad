//! The segments that nodes are on: bridges in a namespace of their own.
//!
//! Their own, because in the machine's namespace bridged frames can go through iptables (`bridge-nf-call-iptables`),
//! which loses frames that cross the bridge twice, as those of direct routing do.

use std::path::Path;

use anyhow::Result;

use super::{Namespace, State, xdp_pass};

/// A bridge, and the interface by which nodes are on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// `br0`, where all nodes are by their `eth0`.
    Shared,
    /// `br1`, where the directors are by their `eth1`, to hear each other.
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

/// The switch's end of a node's cable: `ha1` is where ha1's `eth0` ends, `ha1-eth1` where its `eth1` does.
pub(super) fn port(node: &str, interface: &str) -> String {
    if interface == "eth0" { node.to_owned() } else { format!("{node}-{interface}") }
}

/// Bridges to which nodes are connected by a veth pair for each interface.
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
        // A switch has no firewall. The setting is there only where the machine's kernel has loaded that part.
        if namespace.run(|| Path::new("/proc/sys/net/bridge").is_dir())? {
            namespace.sysctl("net/bridge/bridge-nf-call-iptables", "0")?;
            namespace.sysctl("net/bridge/bridge-nf-call-arptables", "0")?;
        }
        Ok(Self { namespace })
    }

    /// The switch of a lab that exists.
    pub(super) fn open(state: &State) -> Self {
        Self { namespace: Namespace::open(&state.namespace("switch")) }
    }

    /// Connects the node `name`: its end is the segment's interface with the address `mac`, the switch's is [`port`].
    ///
    /// The port gets an XDP program that passes everything. Without one, what an XDP program on the node's end sends
    /// with XDP_TX or a redirect sits in the port's ring for seconds: only with XDP does veth poll that ring.
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

    /// The switch's own namespace: frames of every node can be seen on the bridges and on the ports.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
