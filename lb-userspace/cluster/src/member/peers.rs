//! What this node knows of the others besides their roles, which are the machine's matter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_common::mac::Mac;
use lb_model::ids::{GroupId, NodeId};
use lb_model::lease::SERVE_ON;

use crate::message::{Heartbeat, Readiness, Role};

#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<NodeId, Peer>);

#[derive(Debug, Default)]
struct Peer {
    session: Option<u64>,
    /// Counts the sessions that were heard.
    life: u64,
    heard: Duration,
    readiness: Option<Readiness>,
    /// The peer has said in this session that its program is attached.
    began: bool,
    config_digest: Option<u64>,
    /// Groups that the peer could take.
    stands_by: BTreeSet<GroupId>,
    mac: Option<Mac>,
    /// Its host does not answer for its address.
    unreachable: bool,
}

impl Peers {
    /// Numbers the sessions in the order in which they were proven. A session's own number is the
    /// sender's clock at its start, which may have been set back; the machine wants each life to be
    /// larger than the one before.
    pub(super) fn heard(&mut self, heartbeat: &mut Heartbeat, arrived: Duration) {
        let peer = self.0.entry(heartbeat.from).or_default();
        if peer.session.replace(heartbeat.session) != Some(heartbeat.session) {
            peer.life += 1;
            peer.began = false;
        }
        peer.heard = arrived;
        peer.began |= heartbeat.readiness.data_path;
        peer.readiness = Some(heartbeat.readiness);
        peer.config_digest = Some(heartbeat.config_digest);
        let standby = heartbeat.groups.iter().filter(|status| status.role == Role::Standby);
        peer.stands_by = standby.map(|status| status.group).collect();
        heartbeat.session = peer.life;
    }

    /// The node's MAC on the VIPs' interface; `None`: its host does not answer. The last one known
    /// stays: the kernel forgets MACs when the interface loses its link, and when it returns the
    /// first packets to be relayed come before the MAC is known again.
    pub(super) fn set_mac(&mut self, node: NodeId, mac: Option<Mac>) {
        let peer = self.0.entry(node).or_default();
        peer.unreachable = mac.is_none();
        peer.mac = mac.or(peer.mac);
    }

    pub(super) fn mac(&self, node: NodeId) -> Option<Mac> {
        self.0.get(&node)?.mac
    }

    /// The node with this MAC.
    pub(super) fn at(&self, mac: Mac) -> Option<NodeId> {
        self.0.iter().find(|(_, peer)| peer.mac == Some(mac)).map(|(node, _)| *node)
    }

    pub(super) fn readiness(&self, node: NodeId) -> Option<Readiness> {
        self.0.get(&node)?.readiness
    }

    pub(super) fn config_digest(&self, node: NodeId) -> Option<u64> {
        self.0.get(&node)?.config_digest
    }

    /// Whether it could take the group, as it last said.
    pub(super) fn stands_by(&self, node: NodeId, group: GroupId) -> bool {
        self.0.get(&node).is_some_and(|peer| peer.stands_by.contains(&group))
    }

    /// Whether packets that are sent to it arrive, and meet a program: its own, or while it starts
    /// that of the life before.
    pub(super) fn carries(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|peer| match peer.readiness {
            Some(readiness) if readiness.data_path => readiness.link,
            Some(_) => !peer.began,
            None => false,
        })
    }

    pub(super) fn first_that_carries(&self) -> Option<NodeId> {
        self.0.keys().copied().find(|node| self.carries(*node))
    }

    /// Why a node that is silent at `now` has left no program behind that serves on; `None`: it
    /// has, as far as can be told.
    pub(super) fn abandoned(&self, node: NodeId, now: Duration) -> Option<Abandoned> {
        let Some(peer) = self.0.get(&node).filter(|_| self.carries(node)) else {
            return Some(Abandoned::NoDataPath);
        };
        if peer.mac.is_none() || peer.unreachable {
            return Some(Abandoned::Unreachable);
        }
        (now.saturating_sub(peer.heard) >= RELAY_ON).then_some(Abandoned::TooLong)
    }
}

/// Packets are relayed to a silent node for a shorter time than its program takes them, should the
/// clocks differ in speed.
const RELAY_ON: Duration = Duration::from_secs(SERVE_ON.as_secs() / 10 * 9);

/// Why nothing is relayed to a silent node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// The node had said that its program was gone, or that its interface carried nothing.
    NoDataPath,
    /// The node's host does not answer either.
    Unreachable,
    /// The node was silent for so long that its program does not serve on.
    TooLong,
    /// The node was fenced.
    Fenced,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::GroupStatus;

    const NOW: Duration = Duration::from_secs(1000);

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
            standing: None,
        }
    }

    #[test]
    fn a_session_with_an_earlier_clock_is_a_later_life() {
        let mut peers = Peers::default();
        let lives = [2000, 2000, 1000, 1000, 3000].map(|session| {
            let mut message = heartbeat(session, 1);
            peers.heard(&mut message, NOW);
            message.session
        });
        assert_eq!(lives, [1, 1, 2, 2, 3]);
        assert!(peers.carries(NodeId(1)) && !peers.carries(NodeId(2)));
    }

    #[test]
    fn a_node_that_starts_again_carries_until_it_says_that_its_program_is_gone() {
        let mut peers = Peers::default();
        let mut says = |session, data_path, link| {
            let mut message = heartbeat(session, 1);
            (message.readiness.data_path, message.readiness.link) = (data_path, link);
            peers.heard(&mut message, NOW);
            peers.carries(NodeId(1))
        };
        assert!(says(1, true, true));
        assert!(!says(1, true, false), "its cable is out");
        assert!(!says(1, false, true), "its program is gone");
        assert!(says(2, false, false), "it starts, and the program of its life before is there");
        assert!(says(2, true, true));
        assert!(!says(2, false, true));
    }

    #[test]
    fn a_silent_node_is_abandoned_when_its_host_is_gone_or_after_nine_minutes() {
        let mut peers = Peers::default();
        let silent = |peers: &Peers, seconds| peers.abandoned(NodeId(1), NOW + Duration::from_secs(seconds));
        assert_eq!(silent(&peers, 1), Some(Abandoned::NoDataPath), "never heard");
        peers.heard(&mut heartbeat(1, 1), NOW);
        assert_eq!(silent(&peers, 1), Some(Abandoned::Unreachable), "nobody knows where it is");
        peers.set_mac(NodeId(1), Some(Mac::new([2; 6])));
        assert_eq!((silent(&peers, 539), silent(&peers, 540)), (None, Some(Abandoned::TooLong)));
        peers.set_mac(NodeId(1), None);
        assert_eq!(silent(&peers, 1), Some(Abandoned::Unreachable));
        assert_eq!(peers.mac(NodeId(1)), Some(Mac::new([2; 6])), "should it speak again");
        peers.set_mac(NodeId(1), Some(Mac::new([2; 6])));
        let mut last = heartbeat(1, 2);
        last.readiness.data_path = false;
        peers.heard(&mut last, NOW);
        assert_eq!(silent(&peers, 1), Some(Abandoned::NoDataPath), "it has said so");
    }

    #[test]
    fn a_node_stands_by_for_the_groups_of_which_it_says_so() {
        let status = |(group, role)| GroupStatus { group, role, term: 1, offered_to: None, yielded: false };
        let mut message = heartbeat(1, 1);
        let roles = [Role::Standby, Role::Fault, Role::Active, Role::Standby];
        message.groups = (0..).map(GroupId).zip(roles).map(status).collect();
        let mut peers = Peers::default();
        peers.heard(&mut message, NOW);
        let stands_by = |peers: &Peers| -> Vec<u32> {
            (0..10).filter(|&group| peers.stands_by(NodeId(1), GroupId(group))).collect()
        };
        assert_eq!(stands_by(&peers), [0, 3]);
        assert!(!peers.stands_by(NodeId(2), GroupId(0)), "never heard");
        message.groups.iter_mut().for_each(|group| group.role = Role::Fault);
        peers.heard(&mut message, NOW);
        assert!(stands_by(&peers).is_empty());
    }
}
