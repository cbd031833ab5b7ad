//! What this node knows of the others besides their roles, which are the machine's matter.

use std::collections::BTreeMap;

use crate::cluster::message::{Heartbeat, NodeId, Readiness};

#[derive(Debug, Default)]
pub struct Peers(BTreeMap<NodeId, Peer>);

#[derive(Debug, Default, Clone, Copy)]
struct Peer {
    session: Option<u64>,
    /// Counts the sessions that were heard.
    life: u64,
    readiness: Option<Readiness>,
    config_digest: Option<u64>,
    mac: Option<[u8; 6]>,
}

impl Peers {
    /// Numbers the sessions in the order in which they were proven. A session's own number is the sender's clock at its
    /// start, which may have been set back; the machine wants each life to be larger than the one before.
    pub fn heard(&mut self, heartbeat: &mut Heartbeat) {
        let peer = self.0.entry(heartbeat.from).or_default();
        if peer.session.replace(heartbeat.session) != Some(heartbeat.session) {
            peer.life += 1;
        }
        peer.readiness = Some(heartbeat.readiness);
        peer.config_digest = Some(heartbeat.config_digest);
        heartbeat.session = peer.life;
    }

    /// The node's MAC on the VIPs' interface. The last one known stays: the kernel forgets MACs when the interface loses its
    /// link, and when it returns the first packets to be relayed come before the MAC is known again.
    pub fn set_mac(&mut self, node: NodeId, mac: [u8; 6]) {
        self.0.entry(node).or_default().mac = Some(mac);
    }

    fn get(&self, node: NodeId) -> Peer {
        self.0.get(&node).copied().unwrap_or_default()
    }

    /// 0: it was never heard.
    pub fn life(&self, node: NodeId) -> u64 {
        self.get(node).life
    }

    pub fn mac(&self, node: NodeId) -> Option<[u8; 6]> {
        self.get(node).mac
    }

    pub fn readiness(&self, node: NodeId) -> Option<Readiness> {
        self.get(node).readiness
    }

    pub fn config_digest(&self, node: NodeId) -> Option<u64> {
        self.get(node).config_digest
    }

    /// Whether packets sent to it arrive and are balanced.
    pub fn carries(&self, node: NodeId) -> bool {
        self.readiness(node).is_some_and(|readiness| readiness.link && readiness.data_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(session: u64, sequence: u64) -> Heartbeat {
        Heartbeat {
            from: NodeId(1),
            session,
            sequence,
            readiness: Readiness {
                data_path: true,
                link: true,
                maintenance: false,
                servers: 2,
                references: 0,
            },
            hears: 0,
            config_digest: 7,
            groups: Vec::new(),
        }
    }

    #[test]
    fn a_session_with_an_earlier_clock_is_a_later_life() {
        let mut peers = Peers::default();
        let lives = [2000, 2000, 1000, 1000, 3000].map(|session| {
            let mut message = heartbeat(session, 1);
            peers.heard(&mut message);
            message.session
        });
        assert_eq!(lives, [1, 1, 2, 2, 3]);
        assert!(peers.carries(NodeId(1)) && !peers.carries(NodeId(2)));
    }
}
