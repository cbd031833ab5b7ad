//! The tournament by which lc, wlc, sed, nq and ovf pick: a binary tree per service. A leaf holds
//! what its [`Measure`] makes of a server's counts, an inner node the better of the two below it,
//! the root the server that takes the next connection. A pick reads one node; whoever changes a
//! server's counts replays the nodes above its leaf, one for each doubling of the number of
//! servers.
//!
//! Nodes are numbered as in a heap: the root is 1, below node n are 2n and 2n + 1. Two nodes that
//! meet stand in one element of the map `PAIRS`, so that a round of a replay reads and writes one
//! element.
//!
//! CPUs that change counts at the same time may overwrite each other's winners. A node may then be
//! stale until the next replay passes, or until the controller mends it ([`mend`], 20 times a
//! second).

use crate::schedule::{MAX_MEMBERS, Measure, Member};
use crate::server::Counts;
use crate::service::limits::Standing;

/// Rounds from a leaf to the root at most.
const ROUNDS: u32 = MAX_MEMBERS.ilog2();

/// A server in a node, in one word: bits 0 to 11 its position among the members, 12 to 27 a
/// divisor, 28 to 63 a load. The least load over divisor wins. A load of more than 36 bits (268
/// million active connections) counts as the largest there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contestant(pub u64);

impl Contestant {
    const DIVISOR_SHIFT: u32 = 12;
    const LOAD_SHIFT: u32 = 28;
    const MOST: u64 = (1 << 36) - 1;
    /// What an active connection adds to a load.
    const ONE: u64 = Counts::new(1, 0).load();

    /// The leaf beside the last server: it loses against everybody.
    pub const NOBODY: Self = Self(Self::MOST << Self::LOAD_SHIFT);

    /// `position` below [`MAX_MEMBERS`].
    pub const fn new(position: u32, entrant: Entrant, counts: Counts) -> Self {
        Self(position as u64).with_counts(entrant, counts)
    }

    /// The same server with these counts.
    #[inline(always)]
    pub const fn with_counts(self, entrant: Entrant, counts: Counts) -> Self {
        let weight = entrant.weight as u64;
        let load = counts.load();
        let (load, divisor) = match entrant.measure {
            Measure::Load => (load, weight),
            Measure::Delay => (load + Self::ONE, weight),
            // By the largest divisor, an idle server beats every busy one; idle ones compare by
            // load.
            Measure::Queue if load < Self::ONE => (load, u16::MAX as u64),
            Measure::Queue => (load + Self::ONE, weight),
            Measure::Room if counts.active() < entrant.weight as u32 => (1, weight),
            Measure::Room => (Self::MOST, weight),
            Measure::Weight => (1, weight),
        };
        let load = if load > Self::MOST { Self::MOST } else { load };
        Self(self.position() as u64 | divisor << Self::DIVISOR_SHIFT | load << Self::LOAD_SHIFT)
    }

    /// The same server as it stands now. One that is full loses against everybody else.
    #[inline(always)]
    fn standing(self, entrant: Entrant, standing: Standing) -> Self {
        match standing.full {
            true => Self(Self::NOBODY.0 | u64::from(self.position())),
            false => self.with_counts(entrant, standing.counts),
        }
    }

    #[inline(always)]
    pub const fn position(self) -> u32 {
        self.0 as u32 & (MAX_MEMBERS - 1)
    }
    #[inline(always)]
    const fn divisor(self) -> u64 {
        self.0 >> Self::DIVISOR_SHIFT & 0xffff
    }
    #[inline(always)]
    const fn load(self) -> u64 {
        self.0 >> Self::LOAD_SHIFT
    }

    /// The one with the least load by divisor; of equals `self`, which stands further left. By
    /// cross-multiplication: 36 bits by 16 bits do not overflow.
    #[inline(always)]
    pub const fn or(self, right: Self) -> Self {
        if self.load() * right.divisor() <= right.load() * self.divisor() { self } else { right }
    }
}

const _: () = assert!(MAX_MEMBERS == 1 << Contestant::DIVISOR_SHIFT);

/// How a server enters a tournament. Its weight is not 0; it is 1 where weights do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrant {
    pub measure: Measure,
    pub weight: u16,
}

/// Where a server's leaf is, and how it enters: bits 0 to 15 the leaf's number, 16 to 31 the
/// server's weight, 32 to 55 the first element of its tree, 56 to 58 the [`Measure`], 63 whether
/// servers of its service have thresholds. Value of the map `LEAVES`, by server.
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
    const LIMITED: u64 = 1 << 63;

    /// Whether the server may have thresholds.
    #[inline(always)]
    pub const fn is_limited(self) -> bool {
        self.0 & Self::LIMITED != 0
    }
    #[inline(always)]
    const fn tree(self) -> u32 {
        (self.0 >> 32) as u32 & 0xff_ffff
    }
    #[inline(always)]
    const fn node(self) -> u32 {
        self.0 as u32 & 0xffff
    }
    #[inline(always)]
    const fn entrant(self) -> Entrant {
        let measure = Measure::from_number((self.0 >> 56) as u32);
        Entrant { measure, weight: (self.0 >> 16) as u16 }
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
pub fn replay<P: Pairs>(pairs: &P, leaf: Leaf, standing: impl Into<Standing>) -> Option<()> {
    let mut node = leaf.node();
    let mut pair = pairs.pair(leaf.tree() + (node >> 1))?;
    let mut winner = pair.node(node & 1).standing(leaf.entrant(), standing.into());
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

/// The winner of a tree that is not empty, by its position among the members. `None`: nobody has
/// room, or the tree ends too early.
#[inline(always)]
pub fn winner<P: Pairs>(pairs: &P, tree: u32, measure: Measure) -> Option<u32> {
    let winner = pairs.pair(tree)?.node(1);
    let full = winner.divisor() == 0 || matches!(measure, Measure::Room) && winner.load() == Contestant::MOST;
    if full { None } else { Some(winner.position()) }
}

/// Where a service's tournament stands, and what it goes by. A tree of `width` leaves takes `width`
/// elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// First element.
    pub first: u32,
    /// Leaves; a power of two.
    pub width: u32,
    pub measure: Measure,
    /// Some members have thresholds.
    pub limited: bool,
}

impl Tree {
    /// Leaves for so many members.
    pub const fn width_for(members: u32) -> u32 {
        members.next_power_of_two()
    }

    /// The leaf of the member at this position.
    pub const fn leaf(self, position: u32, member: Member) -> Leaf {
        let place = (self.first as u64) << 32 | (self.width + position) as u64;
        let limited = if self.limited { Leaf::LIMITED } else { 0 };
        Leaf(limited | (self.measure as u64) << 56 | (member.weight() as u64) << 16 | place)
    }

    const fn entrant(self, member: Member) -> Entrant {
        Entrant { measure: self.measure, weight: member.weight() }
    }
}

/// The pairs as the controller sees them.
pub trait MendablePair: Pair {
    /// Stores `to` if `from` is there, as one step; true if it was.
    fn swap_node(&self, side: u32, from: Contestant, to: Contestant) -> bool;
}

/// Writes a tree that nobody looks at yet, with these members in their order.
pub fn plant<P: Pairs, S: Into<Standing>>(
    pairs: &P,
    tree: Tree,
    members: &[Member],
    standing: impl Fn(Member) -> S,
) {
    let node = |node: u32| pairs.pair(tree.first + (node >> 1));
    for position in 0..tree.width {
        let number = tree.width + position;
        if let Some(pair) = node(number) {
            let leaf = members.get(position as usize).map_or(Contestant::NOBODY, |member| {
                Contestant(u64::from(position)).standing(tree.entrant(*member), standing(*member).into())
            });
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
pub fn mend<P: Pairs, S: Into<Standing>>(
    pairs: &P,
    tree: Tree,
    members: &[Member],
    standing: impl Fn(Member) -> S,
) -> u32
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
        put(number, &|seen| seen.standing(tree.entrant(*member), standing(*member).into()));
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
    use crate::schedule::least::Least;
    use crate::server::ServerId;

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

    const MEASURES: [Measure; 4] = [Measure::Load, Measure::Delay, Measure::Queue, Measure::Room];

    /// A service with its tournament, its counts, and the rule itself.
    struct Service {
        pairs: Vec<[Cell<u64>; 2]>,
        tree: Tree,
        members: Vec<Member>,
        counts: Vec<Counts>,
    }

    impl Service {
        fn new(measure: Measure, weights: &[u16]) -> Self {
            let members: Vec<_> =
                (1..).zip(weights).map(|(id, weight)| Member::new(ServerId(id), *weight)).collect();
            let width = Tree::width_for(weights.len() as u32);
            let tree = Tree { first: FIRST, width, measure, limited: false };
            let pairs = vec![[const { Cell::new(0) }; 2]; (FIRST + tree.width) as usize];
            plant(&&pairs[..], tree, &members, |_| Counts::default());
            let counts = vec![Counts::default(); weights.len()];
            Self { pairs, tree, members, counts }
        }

        fn winner(&self) -> Option<u32> {
            winner(&&self.pairs[..], FIRST, self.tree.measure)
        }

        fn replay(&self, position: usize) {
            let leaf = self.tree.leaf(position as u32, self.members[position]);
            replay(&&self.pairs[..], leaf, self.counts[position]).unwrap();
        }

        fn mend(&self) -> u32 {
            let counts = |member: Member| self.counts[usize::from(member.server().0) - 1];
            mend(&&self.pairs[..], self.tree, &self.members, counts)
        }

        /// Word for word: every member in order.
        fn by_rule(&self) -> Option<u32> {
            let mut least = Least::new(self.tree.measure);
            for (member, counts) in self.members.iter().zip(&self.counts) {
                least.consider(*member, *counts);
            }
            least.server().map(|server| u32::from(server.0) - 1)
        }
    }

    #[test]
    fn a_load_beyond_all_measure_is_the_largest() {
        let most = Counts::new(u32::MAX, u32::MAX);
        for measure in MEASURES {
            let of = |position, counts| Contestant::new(position, Entrant { measure, weight: 1 }, counts);
            assert_eq!(of(0, most).or(of(1, most)).position(), 0);
            assert_eq!(Contestant::NOBODY.or(of(1, most)).position(), 1, "even that beats nobody");
            assert_eq!(of(1, most).or(Contestant::NOBODY).position(), 1);
            assert_eq!(of(0, most).or(of(1, Counts::default())).position(), 1);
            let heaviest = Entrant { measure, weight: 65_535 };
            assert_eq!(Contestant::new(4095, heaviest, most).position(), 4095);
        }
    }

    #[test]
    fn of_equals_the_first_in_order_wins() {
        for (members, measure) in (1..70).flat_map(|members| MEASURES.map(|measure| (members, measure))) {
            let mut service = Service::new(measure, &vec![2; members]);
            for round in 0..2 {
                for position in 0..members {
                    assert_eq!(service.winner(), Some(position as u32), "{members} members, round {round}");
                    // Of the room for two connections one taken is no difference.
                    let taken = if measure == Measure::Room { 2 } else { 1 };
                    service.counts[position] = Counts::new(round + taken, 0);
                    service.replay(position);
                }
                if measure == Measure::Room {
                    assert_eq!(service.winner(), None, "nobody has room");
                    break;
                }
            }
        }
    }

    #[test]
    fn who_is_full_is_picked_last_and_then_not_at_all() {
        for measure in [Measure::Load, Measure::Delay, Measure::Queue, Measure::Room, Measure::Weight] {
            let service = Service::new(measure, &[3, 65_535, 1]);
            let stand = |position: usize, full: bool| {
                let leaf = service.tree.leaf(position as u32, service.members[position]);
                let counts = Counts::new(u32::from(position == 2), 0);
                replay(&&service.pairs[..], leaf, Standing { counts, full }).unwrap();
            };
            (0..3).for_each(|position| stand(position, false));
            stand(1, true);
            assert_eq!(service.winner(), Some(0), "{measure:?}");
            stand(0, true);
            let last = (measure != Measure::Room).then_some(2);
            assert_eq!(service.winner(), last, "{measure:?}: the busy one, which has no room");
            stand(2, true);
            assert_eq!(service.winner(), None, "{measure:?}");
            stand(1, false);
            assert_eq!(service.winner(), Some(1), "{measure:?}");
        }
    }

    fn weights() -> impl Strategy<Value = Vec<u16>> {
        let weight = prop_oneof![4 => 1u16..5, 1 => 1u16..];
        prop_oneof![3 => proptest::collection::vec(weight.clone(), 1..12), 1 => proptest::collection::vec(weight, 1..300)]
    }

    fn measure() -> impl Strategy<Value = Measure> {
        prop::sample::select(&MEASURES[..])
    }

    proptest! {
        #[test]
        fn picks_what_the_rule_picks(
            measure in measure(),
            weights in weights(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0u32..9, 0u32..600), 1..200),
        ) {
            let mut service = Service::new(measure, &weights);
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
            measure in measure(),
            weights in weights(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0u32..9), 1..50),
            losses in proptest::collection::vec(
                (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u32..9),
                0..20,
            ),
        ) {
            let mut service = Service::new(measure, &weights);
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
                let Some(member) = service.members.get(position) else { continue };
                let stale =
                    Contestant::new(position as u32, service.tree.entrant(*member), Counts::new(active, 1));
                service.pairs[FIRST as usize + number / 2][number % 2].set(stale.0);
            }
            service.mend();
            prop_assert_eq!(service.winner(), service.by_rule());
            prop_assert_eq!(service.mend(), 0, "once is enough");
            prop_assert!(service.pairs[..FIRST as usize].iter().flatten().all(|word| word.get() == 0));
        }
    }
}
