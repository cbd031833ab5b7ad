//! Planned hand-overs lose no connection: the node that gave a group up goes on balancing what still reaches it, and the
//! one that took it sends it the packets of connections that it does not know itself.
//!
//! Both promises are leases in the data path, renewed with each heartbeat: a node that is killed or frozen stops by
//! itself, and a successor stops sending to a node that it does not hear any more.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_model::ids::{GroupId, NodeId};
use lb_model::lease::Leases;

use super::numbers::GroupNumbers;
use super::peers::Peers;
use crate::machine::{Cause, Machine};

/// By group, what is owed to connections that began elsewhere.
#[derive(Debug, Default)]
pub(super) struct Handovers(BTreeMap<GroupId, Side>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// This node gave the group up, and balances on what comes here. Until somebody has it, what this node does not know
    /// goes to `to`: the next holder, if that is known, or the one that had it before.
    Gave { to: Option<NodeId> },
    /// This node took it from one that does so, in that life of it.
    Took { from: NodeId, life: u64 },
}

impl Handovers {
    /// The group is being released. `true`: its connections are served on.
    pub(super) fn gives(&mut self, group: GroupId, why: &Cause) -> bool {
        let to = match *why {
            Cause::Failover { to } | Cause::Failback { to } | Cause::BetterPlaced { to } => Some(to),
            Cause::Maintenance | Cause::StandbyCommand => match self.0.get(&group) {
                Some(&Side::Took { from, .. }) => Some(from),
                _ => None,
            },
            _ => {
                self.0.remove(&group);
                return false;
            }
        };
        self.0.insert(group, Side::Gave { to });
        true
    }

    /// The group is being taken. `true`: from a node that serves its connections on.
    pub(super) fn takes(&mut self, group: GroupId, why: &Cause, peers: &Peers) -> bool {
        let from = match *why {
            Cause::Offered { by } => Some(by),
            // One that gave up because it had to does not serve on.
            Cause::PeerGaveUp { peer } if peers.leaves_as_meant(peer) => Some(peer),
            _ => None,
        };
        match from {
            Some(from) => self.0.insert(group, Side::Took { from, life: peers.life(from) }),
            None => self.0.remove(&group),
        };
        from.is_some()
    }

    pub(super) fn is_served_on(&self, group: GroupId) -> bool {
        matches!(self.0.get(&group), Some(Side::Gave { .. }))
    }

    /// Nothing is owed for it any more.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.0.remove(&group);
    }

    /// Renews what is promised: our own service until `lease`, a peer's as long as it can be heard, which `heard` bounds.
    pub(super) fn renew(
        &mut self,
        machine: &Machine,
        peers: &Peers,
        numbers: &GroupNumbers,
        leases: &Leases,
        lease: Duration,
        heard: Duration,
    ) {
        self.0.retain(|&group, side| {
            let Some(place) = numbers.of(group) else { return false };
            let partner = match *side {
                Side::Gave { to } => {
                    leases.grace(place, lease);
                    machine.holder(group).or(to).filter(|&node| machine.hears(node))
                }
                Side::Took { from, life } => {
                    let serves = machine.hears(from) && peers.life(from) == life && peers.carries(from);
                    serves.then_some(from)
                }
            };
            let relay = partner.and_then(|node| peers.mac(node)).map(|mac| (mac, heard));
            leases.relay(place, relay);
            matches!(side, Side::Gave { .. }) || partner.is_some()
        });
    }
}
