//! Planned hand-overs lose no connection: the node that gave a group up goes on balancing what still reaches it, and the
//! one that took it sends it the packets of connections that it does not know itself.
//!
//! Both promises are leases in the data path, renewed with each heartbeat: a node that is killed or frozen stops by
//! itself, and a successor stops sending to a node that it does not hear any more.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::machine::{Cause, Machine};
use crate::cluster::message::{GroupId, NodeId};
use crate::dataplane::lease::Leases;

use super::peers::Peers;

/// By group, what is owed to connections that began elsewhere.
#[derive(Debug, Default)]
pub struct Handovers(BTreeMap<GroupId, Side>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// This node gave the group up, and balances on what comes here.
    Gave,
    /// This node took it from one that does so, in that life of it.
    Took { from: NodeId, life: u64 },
}

impl Handovers {
    /// The group is being released. `true`: its connections are served on.
    pub fn gives(&mut self, group: GroupId, why: &Cause) -> bool {
        let planned = matches!(
            why,
            Cause::Failover { .. }
                | Cause::Failback { .. }
                | Cause::BetterPlaced { .. }
                | Cause::Maintenance
                | Cause::StandbyCommand
        );
        match planned {
            true => self.0.insert(group, Side::Gave),
            false => self.0.remove(&group),
        };
        planned
    }

    /// The group is being taken.
    pub fn takes(&mut self, group: GroupId, why: &Cause, peers: &Peers) {
        let from = match *why {
            Cause::Offered { by } => Some(by),
            Cause::PeerGaveUp { peer } => Some(peer),
            _ => None,
        };
        match from {
            Some(from) => self.0.insert(group, Side::Took { from, life: peers.life(from) }),
            None => self.0.remove(&group),
        };
    }

    pub fn is_served_on(&self, group: GroupId) -> bool {
        self.0.get(&group) == Some(&Side::Gave)
    }

    /// Renews what is promised: our own service until `lease`, a peer's as long as it can be heard, which `heard` bounds.
    pub fn renew(
        &mut self,
        machine: &Machine,
        peers: &Peers,
        leases: &Leases,
        lease: Duration,
        heard: Duration,
    ) {
        self.0.retain(|&group, side| {
            let partner = match *side {
                Side::Gave => {
                    leases.grace(group.0, lease);
                    machine.holder(group).filter(|&holder| machine.hears(holder))
                }
                Side::Took { from, life } => {
                    let serves = machine.hears(from) && peers.life(from) == life && peers.carries(from);
                    serves.then_some(from)
                }
            };
            let relay = partner.and_then(|node| peers.mac(node)).map(|mac| (mac, heard));
            leases.relay(group.0, relay);
            *side == Side::Gave || partner.is_some()
        });
    }
}
