//! The tournaments that lc and wlc pick by, as the controller sees them: planted with a schedule,
//! mended while it is in force. The rules are `lb_common::tournament`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lb_common::server::{Counts, ServerId};
use lb_common::service::ServiceId;
use lb_common::tournament::{Contestant, Leaf, MendablePair, Pair, Pairs, Tree, mend, plant};

use super::mapped::Mapped;

/// The maps of the tournaments, and which of them are in force. Shared with the threads of the
/// sweep.
pub struct Tournaments {
    pairs: Mapped<[u64; 2]>,
    leaves: Mapped<u64>,
    /// The servers' connections now.
    counts: Arc<Mapped<u64>>,
    in_force: Mutex<BTreeMap<ServiceId, Tournament>>,
}

/// A tournament and the servers in it, in the order of their leaves.
struct Tournament {
    tree: Tree,
    members: Vec<ServerId>,
}

impl Tournaments {
    pub fn new(pairs: Mapped<[u64; 2]>, leaves: Mapped<u64>, counts: Arc<Mapped<u64>>) -> Self {
        Self { pairs, leaves, counts, in_force: Mutex::default() }
    }

    fn in_force(&self) -> MutexGuard<'_, BTreeMap<ServiceId, Tournament>> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plants a tree where none is in force, and from now on has the program replay it. `leaves`
    /// are those of `members`; without any the service has no tournament any more. What was in
    /// force is free once no packet is under way with it.
    pub fn put_in_force(
        &self,
        service: ServiceId,
        first: u32,
        leaves: &[Contestant],
        members: Vec<ServerId>,
    ) {
        let tree = Tree { first, width: Tree::width_for(leaves.len() as u32) };
        let loaded: Vec<Contestant> =
            leaves.iter().zip(&members).map(|(leaf, member)| leaf.with_load(self.counts(*member))).collect();
        // Nobody mends what is about to go.
        let mut in_force = self.in_force();
        let before = match leaves.is_empty() {
            true => in_force.remove(&service),
            false => {
                plant(&self, tree, &loaded);
                in_force.insert(service, Tournament { tree, members: members.clone() })
            }
        };
        let stay: BTreeSet<&ServerId> = members.iter().collect();
        for member in before.iter().flat_map(|before| &before.members).filter(|old| !stay.contains(old)) {
            self.set_leaf(*member, Leaf::NONE);
        }
        for (position, member) in (0..leaves.len() as u32).zip(&members) {
            self.set_leaf(*member, tree.leaf(position));
        }
    }

    fn set_leaf(&self, server: ServerId, leaf: Leaf) {
        self.leaves.atomic(usize::from(server.0)).store(leaf.0, Ordering::Release);
    }

    fn counts(&self, server: ServerId) -> Counts {
        Counts(self.counts.atomic(usize::from(server.0)).load(Ordering::Acquire))
    }

    /// Brings all tournaments in line with the counts. Returns how many nodes were stale.
    pub fn mend(&self) -> u32 {
        self.in_force().values().map(|tournament| self.mend_one(tournament)).sum()
    }

    /// Mends the tournament of one service, if it has one.
    pub fn mend_service(&self, service: ServiceId) {
        if let Some(tournament) = self.in_force().get(&service) {
            self.mend_one(tournament);
        }
    }

    fn mend_one(&self, tournament: &Tournament) -> u32 {
        mend(&self, tournament.tree, &tournament.members, |server| self.counts(server))
    }
}

/// An element of the map.
pub struct Element<'a>(&'a Mapped<[u64; 2]>, usize);

impl<'a> Pairs for &'a Tournaments {
    type Pair = Element<'a>;
    fn pair(&self, index: u32) -> Option<Element<'a>> {
        let index = index as usize;
        (index < self.pairs.elements()).then_some(Element(&self.pairs, index))
    }
}

impl Pair for Element<'_> {
    fn node(&self, side: u32) -> Contestant {
        Contestant(self.0.word(self.1, side as usize * 8).load(Ordering::Acquire))
    }
    fn set_node(&self, side: u32, to: Contestant) {
        self.0.word(self.1, side as usize * 8).store(to.0, Ordering::Release);
    }
}

impl MendablePair for Element<'_> {
    fn swap_node(&self, side: u32, from: Contestant, to: Contestant) -> bool {
        let word = self.0.word(self.1, side as usize * 8);
        word.compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}
