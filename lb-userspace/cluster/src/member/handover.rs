//! Take-overs lose no connection: the program of the node that had a group goes on with those that
//! it knows, and the node that took the group sends it the packets of connections that it does not
//! know itself.
//!
//! - **As planned**, and where one of two holders gives way to the other, the node that gave the
//!   group up also balances what still reaches it: clients learn one after the other where the VIP
//!   is now.
//! - **With a process that has ended**, stopped or killed or frozen, only what is relayed is
//!   served, by the program that the kernel keeps (`Lease::serves_on` of lb-common). The new node
//!   relays for a bounded time, and no longer than the other one's host answers: what a machine
//!   swallows that is gone should follow its service's rule.
//!
//! All of these promises are leases in the data path, renewed with each heartbeat: whoever is
//! killed or frozen stops by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_model::ids::{GroupId, NodeId};
use lb_model::lease::{Leases, SERVE_ON};

use super::numbers::GroupNumbers;
use super::peers::{Abandoned, Peers};
use crate::machine::{Cause, Machine};

/// By group, what is owed to connections that began elsewhere.
#[derive(Debug, Default)]
pub(super) struct Handovers(BTreeMap<GroupId, Side>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// This node gave the group up, and balances on what comes here. Until somebody has it, what
    /// this node does not know goes to `to`: the next holder, if that is known, or the one that had
    /// it before.
    Gave { to: Option<NodeId> },
    /// This node took it from one whose program serves on. `silent`: without its process, as far as
    /// is known.
    Took { from: NodeId, silent: bool },
}

/// News of connections that began on a node that is silent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedOn {
    pub group: GroupId,
    pub node: NodeId,
    /// `None`: its program serves them, and their packets are relayed from now on. Otherwise why
    /// they are not, any more.
    pub ended: Option<Abandoned>,
}

/// What promises are renewed by.
pub(super) struct Facts<'a> {
    pub machine: &'a Machine,
    pub peers: &'a Peers,
    pub numbers: &'a GroupNumbers,
    pub now: Duration,
}

impl Handovers {
    /// The group is being released. `true`: what comes here is balanced on.
    pub(super) fn gives(&mut self, group: GroupId, why: &Cause) -> bool {
        let to = match *why {
            Cause::Failover { to } | Cause::Failback { to } | Cause::BetterPlaced { to } => Some(to),
            // Clients may have this node's MAC until the other one has announced itself again.
            Cause::SplitBrain { winner: to } | Cause::PeerTookOver { peer: to } => Some(to),
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

    /// The group is being taken: from a node whose program serves its connections on, if it returns
    /// one.
    pub(super) fn takes(&mut self, group: GroupId, why: &Cause, peers: &Peers) -> Option<NodeId> {
        let from = match *why {
            Cause::Offered { by } => Some(by),
            Cause::PeerGaveUp { peer } if peers.carries(peer) => Some(peer),
            Cause::PeerDead { peer } => Some(peer),
            // Who had it before this life of ours is not known. Of two nodes it was the other one,
            // if not this one.
            Cause::NobodyHasIt => peers.first_that_carries(),
            _ => None,
        };
        match from {
            Some(from) => self.0.insert(group, Side::Took { from, silent: false }),
            None => self.0.remove(&group),
        };
        from
    }

    pub(super) fn is_served_on(&self, group: GroupId) -> bool {
        matches!(self.0.get(&group), Some(Side::Gave { .. }))
    }

    /// Forgets the group: neither side owes anything for it any more.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.0.remove(&group);
    }

    /// Renews what is promised: our own service until `lease`, and for longer to what others relay;
    /// a peer's as long as it serves on, which `heard` bounds. Returns what operators should know.
    pub(super) fn renew(
        &mut self,
        facts: &Facts<'_>,
        leases: &Leases,
        lease: Duration,
        heard: Duration,
    ) -> Vec<ServedOn> {
        let Facts { machine, peers, numbers, now } = *facts;
        for place in numbers.groups().filter_map(|group| numbers.of(group)) {
            leases.serve_on(place, now.saturating_add(SERVE_ON));
        }
        let mut news = Vec::new();
        self.0.retain(|&group, side| {
            let Some(place) = numbers.of(group) else { return false };
            let partner = match side {
                Side::Gave { to } => {
                    leases.grace(place, lease);
                    machine.holder(group).or(*to).filter(|&node| machine.hears(node))
                }
                Side::Took { from, silent } => {
                    let node = *from;
                    let was_silent = std::mem::replace(silent, !machine.hears(node));
                    let ended = peers.abandoned(node, now).filter(|_| *silent);
                    if ended.is_some() || *silent && !was_silent {
                        news.push(ServedOn { group, node, ended });
                    }
                    let serves = if *silent { ended.is_none() } else { peers.carries(node) };
                    serves.then_some(node)
                }
            };
            let relay = partner.and_then(|node| peers.mac(node)).map(|mac| (mac, heard));
            leases.relay(place, relay);
            matches!(side, Side::Gave { .. }) || partner.is_some()
        });
        news
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use lb_common::mac::Mac;
    use lb_model::lease::Memory;

    use super::super::numbers;
    use super::*;
    use crate::machine::{Input, Settings};
    use crate::message::{Heartbeat, Readiness};

    const OTHER: NodeId = NodeId(1);
    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 6]);
    const DEAD: Cause = Cause::PeerDead { peer: OTHER };

    /// Room for all leases.
    struct Words([AtomicU64; 1024]);

    impl Memory for Words {
        fn word(&self, offset: usize) -> &AtomicU64 {
            &self.0[offset / 8]
        }
    }

    impl Words {
        fn have(&self, value: u64) -> bool {
            self.0.iter().any(|word| word.load(Ordering::Relaxed) == value)
        }
    }

    /// This node with one group, and another node.
    struct Scene {
        machine: Machine,
        peers: Peers,
        numbers: GroupNumbers,
        group: GroupId,
        words: Arc<Words>,
        handovers: Handovers,
        now: Duration,
        said: u64,
    }

    impl Scene {
        /// The other node has been heard, and is known by its MAC.
        fn new() -> Self {
            let text = "{ interface: eth0, groups: [{ name: web, vips: [192.0.2.10/32] }],
                services: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }] }] }";
            let config = lb_config::parse(text, "test.yaml").expect("a configuration");
            let mut numbers = GroupNumbers::default();
            numbers.add(numbers::numbers(&config.groups));
            let now = Duration::from_secs(1000);
            let mut scene = Self {
                machine: Machine::new(Settings::new(NodeId(0), 2, 1), now),
                peers: Peers::default(),
                numbers,
                group: config.groups[0].id(),
                words: Arc::new(Words(std::array::from_fn(|_| AtomicU64::new(0)))),
                handovers: Handovers::default(),
                now,
                said: 0,
            };
            scene.peers.set_mac(OTHER, Some(MAC));
            scene.hears(1, true);
            scene
        }

        fn hears(&mut self, session: u64, data_path: bool) {
            self.said += 1;
            let mut heartbeat = Heartbeat {
                from: OTHER,
                session,
                sequence: self.said,
                readiness: Readiness {
                    data_path,
                    link: data_path,
                    maintenance: false,
                    servers: 2,
                    references: 0,
                },
                hears: 1,
                config_digest: 0,
                groups: Vec::new(),
                standing: None,
            };
            self.peers.heard(&mut heartbeat, self.now);
            self.machine.handle(Input::Heartbeat(heartbeat), self.now);
        }

        /// Nothing is heard for so long.
        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            // The machine's patience counts only while it is called; after a second nothing changes
            // any more.
            for _ in 0..20 {
                self.now += Duration::from_millis(50).min(end - self.now);
                self.machine.handle(Input::Timer, self.now);
            }
            self.now = end;
        }

        fn takes(&mut self, why: &Cause) -> bool {
            self.handovers.takes(self.group, why, &self.peers).is_some()
        }

        fn renew(&mut self) -> Vec<Option<Abandoned>> {
            let facts =
                Facts { machine: &self.machine, peers: &self.peers, numbers: &self.numbers, now: self.now };
            let leases = Leases::new(Arc::clone(&self.words) as Arc<dyn Memory>);
            let news = self.handovers.renew(&facts, &leases, self.now, self.now);
            news.iter().map(|news| news.ended).collect()
        }

        fn relays(&self) -> bool {
            self.words.have(MAC.word())
        }
    }

    #[test]
    fn what_others_relay_is_served_for_ten_minutes_after_the_last_heartbeat() {
        let mut scene = Scene::new();
        scene.renew();
        let until = (scene.now + SERVE_ON).as_nanos();
        assert!(scene.words.have(u64::try_from(until).expect("64 bits")));
        assert!(!scene.relays());
    }

    #[test]
    fn a_holder_that_gives_way_to_another_one_serves_on_and_relays_what_it_does_not_know() {
        for why in [Cause::SplitBrain { winner: OTHER }, Cause::PeerTookOver { peer: OTHER }] {
            let mut scene = Scene::new();
            assert!(scene.handovers.gives(scene.group, &why), "{why:?}");
            scene.renew();
            assert!(scene.handovers.is_served_on(scene.group) && scene.relays(), "{why:?}");
        }
        let mut scene = Scene::new();
        assert!(!scene.handovers.gives(scene.group, &Cause::NotHeard { peer: OTHER }), "it tells us nothing");
    }

    #[test]
    fn a_node_that_dies_is_relayed_to_until_its_host_does_not_answer() {
        let mut scene = Scene::new();
        scene.pass(Duration::from_secs(1));
        assert!(scene.takes(&DEAD));
        assert_eq!(scene.renew(), [None], "it is told once");
        assert_eq!((scene.renew(), scene.relays()), (vec![], true));
        scene.peers.set_mac(OTHER, None);
        assert_eq!(scene.renew(), [Some(Abandoned::Unreachable)]);
        assert!(!scene.relays());
        scene.peers.set_mac(OTHER, Some(MAC));
        assert_eq!((scene.renew(), scene.relays()), (vec![], false), "it may have booted meanwhile");
    }

    #[test]
    fn a_node_that_dies_is_relayed_to_for_nine_minutes() {
        let mut scene = Scene::new();
        scene.pass(Duration::from_secs(1));
        scene.takes(&DEAD);
        scene.renew();
        scene.pass(Duration::from_secs(538));
        assert_eq!((scene.renew(), scene.relays()), (vec![], true));
        scene.pass(Duration::from_secs(1));
        assert_eq!((scene.renew(), scene.relays()), (vec![Some(Abandoned::TooLong)], false));
    }

    #[test]
    fn a_node_that_comes_back_is_relayed_to_all_the_time() {
        let mut scene = Scene::new();
        scene.pass(Duration::from_secs(1));
        scene.takes(&DEAD);
        scene.renew();
        // It starts, and its program is the one of its earlier life.
        for data_path in [false, true] {
            scene.hears(2, data_path);
            assert_eq!((scene.renew(), scene.relays()), (vec![], true));
        }
        scene.hears(2, false);
        assert_eq!((scene.renew(), scene.relays()), (vec![], false), "its program is gone");
    }

    #[test]
    fn a_node_that_stops_as_meant_is_relayed_to_when_it_is_silent() {
        for says_that_nothing_stays in [false, true] {
            let mut scene = Scene::new();
            assert!(scene.takes(&Cause::PeerGaveUp { peer: OTHER }));
            assert_eq!((scene.renew(), scene.relays()), (vec![], true));
            if says_that_nothing_stays {
                scene.hears(1, false);
                scene.renew();
            }
            scene.pass(Duration::from_secs(1));
            let news = if says_that_nothing_stays { vec![] } else { vec![None] };
            assert_eq!((scene.renew(), scene.relays()), (news, !says_that_nothing_stays));
        }
    }

    #[test]
    fn a_node_that_starts_and_finds_a_group_that_nobody_has_asks_the_other_one() {
        let mut scene = Scene::new();
        assert!(scene.takes(&Cause::NobodyHasIt));
        assert_eq!((scene.renew(), scene.relays()), (vec![], true));
    }

    #[test]
    fn a_node_that_had_no_program_any_more_is_not_relayed_to() {
        let mut scene = Scene::new();
        scene.hears(1, false);
        assert!(!scene.takes(&Cause::PeerGaveUp { peer: OTHER }));
        assert!(!scene.takes(&Cause::NobodyHasIt));
        assert!(!scene.relays());
        scene.pass(Duration::from_secs(1));
        scene.takes(&DEAD);
        assert_eq!((scene.renew(), scene.relays()), (vec![Some(Abandoned::NoDataPath)], false));
    }
}
