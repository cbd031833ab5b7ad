//! The tournaments that schedulers pick by, as the controller sees them: planted with a schedule,
//! mended while it is in force. The rules are `lb_common::schedule::tournament`.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lb_common::schedule::Member;
use lb_common::schedule::tournament::{Contestant, Leaf, MendablePair, Pair, Pairs, Tree, mend, plant};
use lb_common::server::{Counts, ServerId};
use lb_common::service::ServiceId;
use lb_common::service::limits::{Limits, Standing};

use super::mapped::Mapped;

/// The maps of the tournaments, and which of them are in force. Shared with the threads of the
/// sweep.
pub struct Tournaments {
    pairs: Mapped<[u64; 2]>,
    leaves: Mapped<u64>,
    /// The servers' connections now.
    counts: Arc<Mapped<u64>>,
    limits: Arc<Mapped<Limits>>,
    in_force: Mutex<BTreeMap<ServiceId, Tournament>>,
}

/// A tournament and the servers in it, in the order of their leaves.
struct Tournament {
    tree: Tree,
    members: Vec<Member>,
}

impl Tournaments {
    pub fn new(
        pairs: Mapped<[u64; 2]>,
        leaves: Mapped<u64>,
        counts: Arc<Mapped<u64>>,
        limits: Arc<Mapped<Limits>>,
    ) -> Self {
        Self { pairs, leaves, counts, limits, in_force: Mutex::default() }
    }

    fn in_force(&self) -> MutexGuard<'_, BTreeMap<ServiceId, Tournament>> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plants a tree of these members where none is in force, and from now on has the program
    /// replay it; without a tree, or without members, the service has no tournament any more. What
    /// was in force is free once no packet is under way with it.
    pub fn put_in_force(&self, service: ServiceId, tree: Option<Tree>, members: Vec<Member>) {
        // Nobody mends what is about to go.
        let mut in_force = self.in_force();
        let tree = tree.filter(|_| !members.is_empty());
        let before = match tree {
            None => in_force.remove(&service),
            Some(tree) => {
                plant(&self, tree, &members, |member| self.standing(tree, member.server()));
                in_force.insert(service, Tournament { tree, members: members.clone() })
            }
        };
        let stay: BTreeSet<ServerId> = members.iter().map(|member| member.server()).collect();
        let before = before.iter().flat_map(|before| &before.members).map(|member| member.server());
        for server in before.filter(|server| !stay.contains(server)) {
            self.set_leaf(server, Leaf::NONE);
        }
        let Some(tree) = tree else { return };
        for (position, member) in (0..).zip(&members) {
            self.set_leaf(member.server(), tree.leaf(position, *member));
        }
    }

    fn set_leaf(&self, server: ServerId, leaf: Leaf) {
        self.leaves.atomic(usize::from(server.0)).store(leaf.0, Ordering::Release);
    }

    /// A server's connections, and whether it is full, which is noted.
    fn standing(&self, tree: Tree, server: ServerId) -> Standing {
        let index = usize::from(server.0);
        let counts = Counts(self.counts.atomic(index).load(Ordering::Acquire));
        if !tree.limited {
            return counts.into();
        }
        let was = self.limits.word(index, offset_of!(Limits, full));
        let before = was.load(Ordering::Acquire);
        let full = self.limits.read(index).thresholds.get().is_full(before != 0, counts);
        if full != (before != 0) {
            // The program may have noted something newer.
            let _ = was.compare_exchange(before, u64::from(full), Ordering::AcqRel, Ordering::Relaxed);
        }
        Standing { counts, full }
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
        let Tournament { tree, members } = tournament;
        mend(&self, *tree, members, |member| self.standing(*tree, member.server()))
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
