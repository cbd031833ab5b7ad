//! What this node knows of the others besides their roles, which are the machine's matter.

use std::collections::{BTreeMap, BTreeSet};

use lb_model::ids::{GroupId, NodeId};

use crate::message::{Heartbeat, Readiness, Role};

#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<NodeId, Peer>);

#[derive(Debug, Default)]
struct Peer {
    session: Option<u64>,
    /// Counts the sessions that were heard.
    life: u64,
    readiness: Option<Readiness>,
    config_digest: Option<u64>,
    /// Groups that it could take.
    stands_by: BTreeSet<GroupId>,
    mac: Option<[u8; 6]>,
}

impl Peers {
    /// Numbers the sessions in the order in which they were proven. A session's own number is the sender's clock at its
    /// start, which may have been set back; the machine wants each life to be larger than the one before.
    pub(super) fn heard(&mut self, heartbeat: &mut Heartbeat) {
        let peer = self.0.entry(heartbeat.from).or_default();
        if peer.session.replace(heartbeat.session) != Some(heartbeat.session) {
            peer.life += 1;
        }
        peer.readiness = Some(heartbeat.readiness);
        peer.config_digest = Some(heartbeat.config_digest);
        let standby = heartbeat.groups.iter().filter(|status| status.role == Role::Standby);
        peer.stands_by = standby.map(|status| status.group).collect();
        heartbeat.session = peer.life;
    }

    /// The node's MAC on the VIPs' interface. The last one known stays: the kernel forgets MACs when the interface loses its
    /// link, and when it returns the first packets to be relayed come before the MAC is known again.
    pub(super) fn set_mac(&mut self, node: NodeId, mac: [u8; 6]) {
        self.0.entry(node).or_default().mac = Some(mac);
    }

    /// 0: it was never heard.
    pub(super) fn life(&self, node: NodeId) -> u64 {
        self.0.get(&node).map_or(0, |peer| peer.life)
    }

    pub(super) fn mac(&self, node: NodeId) -> Option<[u8; 6]> {
        self.0.get(&node)?.mac
    }

    /// The node with this MAC.
    pub(super) fn at(&self, mac: [u8; 6]) -> Option<NodeId> {
        self.0.iter().find(|(_, peer)| peer.mac == Some(mac)).map(|(node, _)| *node)
    }

    pub(super) fn readiness(&self, node: NodeId) -> Option<Readiness> {
        self.0.get(&node)?.readiness
    }

    pub(super) fn config_digest(&self, node: NodeId) -> Option<u64> {
        self.0.get(&node)?.config_digest
    }

    /// An operator wants it to stay out, or it stops.
    pub(super) fn leaves_as_meant(&self, node: NodeId) -> bool {
        self.readiness(node).is_some_and(|readiness| readiness.maintenance)
    }

    /// Whether it could take the group, as it last said.
    pub(super) fn stands_by(&self, node: NodeId, group: GroupId) -> bool {
        self.0.get(&node).is_some_and(|peer| peer.stands_by.contains(&group))
    }

    /// Whether packets sent to it arrive and are balanced.
    pub(super) fn carries(&self, node: NodeId) -> bool {
        self.readiness(node).is_some_and(|readiness| readiness.link && readiness.data_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::GroupStatus;

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

    #[test]
    fn a_node_stands_by_for_the_groups_of_which_it_says_so() {
        let status = |(group, role)| GroupStatus { group, role, term: 1, offered_to: None, yielded: false };
        let mut message = heartbeat(1, 1);
        let roles = [Role::Standby, Role::Fault, Role::Active, Role::Standby];
        message.groups = (0..).map(GroupId).zip(roles).map(status).collect();
        let mut peers = Peers::default();
        peers.heard(&mut message);
        let stands_by = |peers: &Peers| -> Vec<u32> {
            (0..10).filter(|&group| peers.stands_by(NodeId(1), GroupId(group))).collect()
        };
        assert_eq!(stands_by(&peers), [0, 3]);
        assert!(!peers.stands_by(NodeId(2), GroupId(0)), "never heard");
        message.groups.iter_mut().for_each(|group| group.role = Role::Fault);
        peers.heard(&mut message);
        assert!(stands_by(&peers).is_empty());
    }
}
