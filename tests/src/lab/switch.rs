//! The segment that all nodes are on: a bridge in a namespace of its own.
//!
//! Its own, because in the machine's namespace bridged frames can go through iptables (`bridge-nf-call-iptables`),
//! which loses frames that cross the bridge twice, as those of direct routing do.

use anyhow::Result;

use super::{Namespace, State, xdp_pass};

/// A bridge to which nodes are connected by a veth pair each.
#[derive(Debug, Clone)]
pub struct Switch {
    namespace: Namespace,
}

impl Switch {
    pub(super) fn new(state: &State) -> Result<Self> {
        let namespace = Namespace::new(state, "switch")?;
        namespace.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        namespace.ip("link set br0 up")?;
        Ok(Self { namespace })
    }

    /// Connects `node`: its end is `eth0` with the address `mac`, the switch's port has the node's name.
    ///
    /// The port gets an XDP program that passes everything. Without one, what an XDP program on the node's end sends
    /// with XDP_TX or a redirect sits in the port's ring for seconds: only with XDP does veth poll that ring.
    pub(super) fn connect(&self, node: &Namespace, port: &str, mac: &str) -> Result<()> {
        self.namespace
            .ip(&format!("link add {port} type veth peer name eth0 address {mac} netns {}", node.name()))?;
        self.namespace.ip(&format!("link set {port} master br0 up"))?;
        xdp_pass::attach(&self.namespace, port)
    }

    /// The switch's own namespace: frames of every node can be seen on `br0` and on the ports, which are named after the
    /// nodes.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
