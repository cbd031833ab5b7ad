//! The tournament by which lc and wlc pick: a binary tree per service. A leaf holds a server's
//! load, an inner node the better of the two below it, the root the server that takes the next
//! connection. A pick reads one node; whoever changes a server's counts replays the nodes above its
//! leaf, one for each doubling of the number of servers.
//!
//! Nodes are numbered as in a heap: the root is 1, below node n are 2n and 2n + 1. Two nodes that
//! meet stand in one element of the map `PAIRS`, so that a round of a replay reads and writes one
//! element.
//!
//! CPUs that change counts at the same time may overwrite each other's winners. A node may then be
//! stale until the next replay passes, or until the controller mends it ([`mend`], 20 times a
//! second).

use crate::schedule::MAX_MEMBERS;
use crate::server::{Counts, ServerId};

/// Rounds from a leaf to the root at most.
const ROUNDS: u32 = MAX_MEMBERS.ilog2();

/// A server in a node, in one word: bits 0 to 11 its position among the members, 12 to 27 its
/// weight (1 for lc), 28 to 63 its load. A load of more than 36 bits (268 million active
/// connections) counts as the largest there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contestant(pub u64);

impl Contestant {
    const WEIGHT_SHIFT: u32 = 12;
    const LOAD_SHIFT: u32 = 28;
    const MOST: u64 = (1 << 36) - 1;

    /// The leaf beside the last server: it loses against everybody.
    pub const NOBODY: Self = Self(Self::MOST << Self::LOAD_SHIFT);

    /// `position` below [`MAX_MEMBERS`], `weight` above 0.
    pub const fn new(position: u32, weight: u16) -> Self {
        Self((weight as u64) << Self::WEIGHT_SHIFT | position as u64)
    }

    #[inline(always)]
    pub const fn with_load(self, counts: Counts) -> Self {
        let load = counts.load();
        let load = if load > Self::MOST { Self::MOST } else { load };
        Self(self.0 & ((1 << Self::LOAD_SHIFT) - 1) | load << Self::LOAD_SHIFT)
    }

    #[inline(always)]
    pub const fn position(self) -> u32 {
        self.0 as u32 & (MAX_MEMBERS - 1)
    }
    #[inline(always)]
    const fn weight(self) -> u64 {
        self.0 >> Self::WEIGHT_SHIFT & 0xffff
    }
    #[inline(always)]
    const fn load(self) -> u64 {
        self.0 >> Self::LOAD_SHIFT
    }

    /// The one with the least load by weight; of equals `self`, which stands further left. By
    /// cross-multiplication: 36 bits by 16 bits do not overflow.
    #[inline(always)]
    pub const fn or(self, right: Self) -> Self {
        if self.load() * right.weight() <= right.load() * self.weight() { self } else { right }
    }
}

const _: () = assert!(MAX_MEMBERS == 1 << Contestant::WEIGHT_SHIFT);

/// Where a server's leaf is: the first element of its tree in the upper half, the leaf's number in
/// the lower one. Value of the map `LEAVES`, by server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Leaf(pub u64);

impl Leaf {
    /// The server is in no tournament.
    pub const NONE: Self = Self(0);

    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
    #[inline(always)]
    const fn tree(self) -> u32 {
        (self.0 >> 32) as u32
    }
    #[inline(always)]
    const fn node(self) -> u32 {
        self.0 as u32
    }
}

/// The two nodes of an element, which other CPUs and the controller read and write at the same
/// time. `side` is 0 or 1.
pub trait Pair {
    fn node(&self, side: u32) -> Contestant;
    fn set_node(&self, side: u32, to: Contestant);
}

/// The elements of the map `PAIRS`.
pub trait Pairs {
    type Pair: Pair;
    /// `None` past the end.
    fn pair(&self, index: u32) -> Option<Self::Pair>;
}

/// Carries a server's new counts from its leaf to the root, as far as they change a winner. `None`:
/// the tree ends too early, which is an inconsistency of the maps.
#[inline(always)]
pub fn replay<P: Pairs>(pairs: &P, leaf: Leaf, counts: Counts) -> Option<()> {
    let mut node = leaf.node();
    let mut pair = pairs.pair(leaf.tree() + (node >> 1))?;
    let mut winner = pair.node(node & 1).with_load(counts);
    let mut round = 0;
    while round <= ROUNDS {
        if pair.node(node & 1) == winner {
            break; // and so all above it stays
        }
        pair.set_node(node & 1, winner);
        if node <= 1 {
            break;
        }
        let other = pair.node(node & 1 ^ 1);
        winner = if node & 1 == 0 { winner.or(other) } else { other.or(winner) };
        node >>= 1;
        pair = pairs.pair(leaf.tree() + (node >> 1))?;
        round += 1;
    }
    Some(())
}

/// The winner of a tree that is not empty, by its position among the members.
#[inline(always)]
pub fn winner<P: Pairs>(pairs: &P, tree: u32) -> Option<u32> {
    Some(pairs.pair(tree)?.node(1).position())
}

/// Where a service's tournament stands. A tree of `width` leaves takes `width` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// First element.
    pub first: u32,
    /// Leaves; a power of two.
    pub width: u32,
}

impl Tree {
    /// Leaves for so many members.
    pub const fn width_for(members: u32) -> u32 {
        members.next_power_of_two()
    }

    pub const fn leaf(self, position: u32) -> Leaf {
        Leaf((self.first as u64) << 32 | (self.width + position) as u64)
    }
}

/// The pairs as the controller sees them.
pub trait MendablePair: Pair {
    /// Stores `to` if `from` is there, as one step; true if it was.
    fn swap_node(&self, side: u32, from: Contestant, to: Contestant) -> bool;
}

/// Writes a tree that nobody looks at yet, with these leaves in their order.
pub fn plant<P: Pairs>(pairs: &P, tree: Tree, leaves: &[Contestant]) {
    let node = |node: u32| pairs.pair(tree.first + (node >> 1));
    for position in 0..tree.width {
        let number = tree.width + position;
        if let Some(pair) = node(number) {
            let leaf = leaves.get(position as usize).copied().unwrap_or(Contestant::NOBODY);
            pair.set_node(number & 1, leaf);
        }
    }
    for number in (1..tree.width).rev() {
        if let (Some(below), Some(pair)) = (pairs.pair(tree.first + number), node(number)) {
            pair.set_node(number & 1, below.node(0).or(below.node(1)));
        }
    }
}

/// Brings a tree in line with its members' counts, in the order of their positions, and returns how
/// many nodes were stale. A node that changes meanwhile is left to whoever changes it: a tree that
/// is right is not disturbed.
pub fn mend<P: Pairs>(pairs: &P, tree: Tree, members: &[ServerId], counts: impl Fn(ServerId) -> Counts) -> u32
where
    P::Pair: MendablePair,
{
    let node = |node: u32| pairs.pair(tree.first + (node >> 1));
    let mut mended = 0;
    let mut put = |number: u32, right: &dyn Fn(Contestant) -> Contestant| {
        let Some(pair) = node(number) else { return };
        let seen = pair.node(number & 1);
        let right = right(seen);
        mended += u32::from(seen != right && pair.swap_node(number & 1, seen, right));
    };
    for (number, member) in (tree.width..).zip(members) {
        put(number, &|seen| seen.with_load(counts(*member)));
    }
    for number in (1..tree.width).rev() {
        let Some(below) = pairs.pair(tree.first + number) else { break };
        put(number, &|_| below.node(0).or(below.node(1)));
    }
    mended
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::schedule::{Least, Member};

    pub struct HostPair<'a>(&'a [Cell<u64>; 2]);

    impl Pair for HostPair<'_> {
        fn node(&self, side: u32) -> Contestant {
            Contestant(self.0[side as usize].get())
        }
        fn set_node(&self, side: u32, to: Contestant) {
            self.0[side as usize].set(to.0);
        }
    }

    impl MendablePair for HostPair<'_> {
        fn swap_node(&self, side: u32, from: Contestant, to: Contestant) -> bool {
            let equal = self.0[side as usize].get() == from.0;
            if equal {
                self.set_node(side, to);
            }
            equal
        }
    }

    impl<'a> Pairs for &'a [[Cell<u64>; 2]] {
        type Pair = HostPair<'a>;
        fn pair(&self, index: u32) -> Option<HostPair<'a>> {
            self.get(index as usize).map(HostPair)
        }
    }

    /// Where the tests' tree begins: what stands before it is somebody else's.
    const FIRST: u32 = 3;

    /// A service with its tournament, its counts, and the rule itself.
    struct Service {
        pairs: Vec<[Cell<u64>; 2]>,
        tree: Tree,
        members: Vec<ServerId>,
        weights: Vec<u16>,
        counts: Vec<Counts>,
    }

    impl Service {
        fn new(weights: &[u16]) -> Self {
            let members = (1..=weights.len() as u16).map(ServerId).collect();
            let tree = Tree { first: FIRST, width: Tree::width_for(weights.len() as u32) };
            let pairs = vec![[const { Cell::new(0) }; 2]; (FIRST + tree.width) as usize];
            let leaves: Vec<_> =
                (0..).zip(weights).map(|(at, weight)| Contestant::new(at, *weight)).collect();
            plant(&&pairs[..], tree, &leaves);
            let counts = vec![Counts::default(); weights.len()];
            Self { pairs, tree, members, weights: weights.to_vec(), counts }
        }

        fn winner(&self) -> u32 {
            winner(&&self.pairs[..], FIRST).unwrap()
        }

        fn replay(&self, position: usize) {
            replay(&&self.pairs[..], self.tree.leaf(position as u32), self.counts[position]).unwrap();
        }

        fn mend(&self) -> u32 {
            mend(&&self.pairs[..], self.tree, &self.members, |server| self.counts[usize::from(server.0) - 1])
        }

        /// Word for word: every member in order.
        fn by_rule(&self) -> u32 {
            let mut least = Least::NONE;
            for ((member, weight), counts) in self.members.iter().zip(&self.weights).zip(&self.counts) {
                least.consider(Member::new(*member, *weight), *counts, true);
            }
            u32::from(least.server().unwrap().0) - 1
        }
    }

    #[test]
    fn a_load_beyond_all_measure_is_the_largest() {
        let (first, second) = (Contestant::new(0, 1), Contestant::new(1, 1));
        let most = Counts::new(u32::MAX, u32::MAX);
        assert_eq!(first.with_load(most).or(second.with_load(most)).position(), 0);
        assert_eq!(first.with_load(most).or(second.with_load(Counts::new(1 << 27, 0))).position(), 1);
        assert_eq!(Contestant::NOBODY.or(second.with_load(most)).position(), 1, "even that beats nobody");
        assert_eq!(second.with_load(most).or(Contestant::NOBODY).position(), 1);
        assert_eq!(Contestant::new(4095, 65_535).with_load(most).position(), 4095);
    }

    #[test]
    fn of_equals_the_first_in_order_wins() {
        for members in 1..70 {
            let mut service = Service::new(&vec![2; members]);
            for round in 0..2 {
                for position in 0..members {
                    assert_eq!(service.winner(), position as u32, "{members} members, round {round}");
                    service.counts[position].0 += 1;
                    service.replay(position);
                }
            }
        }
    }

    fn weights() -> impl Strategy<Value = Vec<u16>> {
        let weight = prop_oneof![4 => 1u16..5, 1 => 1u16..];
        prop_oneof![3 => proptest::collection::vec(weight.clone(), 1..12), 1 => proptest::collection::vec(weight, 1..300)]
    }

    proptest! {
        #[test]
        fn picks_what_the_rule_picks(
            weights in weights(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0u32..9, 0u32..600), 1..200),
        ) {
            let mut service = Service::new(&weights);
            for (member, active, inactive) in changes {
                let position = member.index(weights.len());
                service.counts[position] = Counts::new(active, inactive);
                service.replay(position);
                prop_assert_eq!(service.winner(), service.by_rule());
            }
            prop_assert_eq!(service.mend(), 0, "nothing is stale");
        }

        /// Two CPUs replay at the same time: any of their reads and writes may come to nothing.
        #[test]
        fn what_a_race_left_is_mended(
            weights in weights(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0u32..9), 1..50),
            losses in proptest::collection::vec(
                (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u32..9),
                0..20,
            ),
        ) {
            let mut service = Service::new(&weights);
            for (member, active) in changes {
                let position = member.index(weights.len());
                service.counts[position] = Counts::new(active, 0);
                service.replay(position);
            }
            for (node, member, active) in losses {
                let number = 1 + node.index(2 * service.tree.width as usize - 1);
                // In a leaf an earlier load, in a node above it any winner of an earlier time.
                let position = match number.checked_sub(service.tree.width as usize) {
                    Some(position) => position,
                    None => member.index(weights.len()),
                };
                let Some(weight) = weights.get(position) else { continue };
                let stale = Contestant::new(position as u32, *weight).with_load(Counts::new(active, 1));
                service.pairs[FIRST as usize + number / 2][number % 2].set(stale.0);
            }
            service.mend();
            prop_assert_eq!(service.winner(), service.by_rule());
            prop_assert_eq!(service.mend(), 0, "once is enough");
            prop_assert!(service.pairs[..FIRST as usize].iter().flatten().all(|word| word.get() == 0));
        }
    }
}
