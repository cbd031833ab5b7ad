//! Directors that are given orders while messages get lost, come late, twice and in any sequence,
//! while they restart with what is in their files, and while they are cut off from each other. Once
//! that is over they agree, on the newest order about each subject.

use std::time::Duration;

use lb_model::ids::NodeId;
use proptest::collection::vec;
use proptest::prelude::*;

use super::exchange::{Exchange, Note};
use super::*;

const NODES: usize = 3;
const INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
enum Step {
    /// An order is given on a node, whose clock is so far off.
    Order { node: usize, server: u8, wish: Wish, clock_ms: u64 },
    /// All nodes send a heartbeat; which of the messages get lost, a bit each.
    Beat { lost: u16 },
    /// Of the messages that wait this one comes, and stays there if `again`.
    Arrive { which: prop::sample::Index, again: bool },
    /// The node begins anew, with what it had written.
    Restart { node: usize },
    /// The node is cut off from the others, or is so no more.
    Cut { node: usize, is: bool },
}

fn any_step() -> impl Strategy<Value = Step> {
    let wish = prop_oneof![
        Just(Wish::Drain),
        Just(Wish::Serve),
        (0..3_u16).prop_map(Wish::Weight),
        Just(Wish::ConfiguredWeight),
    ];
    prop_oneof![
        3 => (0..NODES, 0..6_u8, wish, 0..100_u64)
            .prop_map(|(node, server, wish, clock_ms)| Step::Order { node, server, wish, clock_ms }),
        6 => any::<u16>().prop_map(|lost| Step::Beat { lost }),
        9 => (any::<prop::sample::Index>(), prop::bool::weighted(0.2))
            .prop_map(|(which, again)| Step::Arrive { which, again }),
        1 => (0..NODES).prop_map(|node| Step::Restart { node }),
        1 => (0..NODES, any::<bool>()).prop_map(|(node, is)| Step::Cut { node, is }),
    ]
}

struct World {
    nodes: [Exchange; NODES],
    cut: [bool; NODES],
    waiting: Vec<(usize, usize, Note)>,
    given: Book,
    now: Duration,
}

impl World {
    fn new() -> Self {
        let nodes = std::array::from_fn(|_| Exchange::default());
        Self { nodes, cut: [false; NODES], waiting: Vec::new(), given: Book::default(), now: INTERVAL }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Order { node, server, wish, clock_ms } => self.order(node, server, wish, clock_ms),
            Step::Beat { lost } => self.beat(lost),
            Step::Arrive { which, again } if !self.waiting.is_empty() => {
                let place = which.index(self.waiting.len());
                let message = self.waiting[place].clone();
                if !again {
                    self.waiting.swap_remove(place);
                }
                self.arrive(message);
            }
            Step::Arrive { .. } => {}
            Step::Restart { node } => {
                let written: Vec<Order> = self.nodes[node].book().orders().cloned().collect();
                self.nodes[node] = Exchange::default();
                self.nodes[node].take(written);
            }
            Step::Cut { node, is } => self.cut[node] = is,
        }
    }

    fn order(&mut self, node: usize, server: u8, wish: Wish, clock_ms: u64) {
        let id = NodeId(node as u8);
        let version = self.nodes[node].book().next_version(id, clock_ms);
        let subject = Subject { server: format!("www{server}"), service: None };
        let order = Order { version, subject, wish, by: String::new(), reason: String::new() };
        self.nodes[node].take(vec![order.clone()]);
        self.given.merge(order);
    }

    fn beat(&mut self, lost: u16) {
        self.now += INTERVAL;
        for from in 0..NODES {
            let hears = (0..NODES).filter(|to| self.passes(from, *to)).fold(0, |bits, to| bits | 1 << to);
            let Some(note) = self.nodes[from].say(hears, self.now) else { continue };
            for to in (0..NODES).filter(|to| *to != from) {
                if lost >> (from * NODES + to) & 1 == 0 {
                    self.waiting.push((from, to, note.clone()));
                }
            }
        }
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        from != to && !self.cut[from] && !self.cut[to]
    }

    fn arrive(&mut self, (from, to, note): (usize, usize, Note)) {
        if self.passes(from, to) {
            self.nodes[to].hear(NodeId(from as u8), note);
        }
    }

    /// Nothing gets lost any more. Returns how many heartbeats it took until all agree.
    fn heal(&mut self) -> Option<usize> {
        self.cut = [false; NODES];
        for beats in 0..200 {
            if self.nodes.iter().all(|node| *node.book() == self.given) {
                return Some(beats);
            }
            for message in std::mem::take(&mut self.waiting) {
                self.arrive(message);
            }
            self.beat(0);
        }
        None
    }
}

proptest! {
    #[test]
    fn all_directors_agree_in_the_end_on_the_newest_orders(steps in vec(any_step(), 0..200)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        let healed = world.heal();
        prop_assert!(healed.is_some(), "{:?} of {:?}", world.nodes, world.given);
    }
}

#[test]
fn an_order_is_with_all_others_after_two_heartbeats() {
    let mut world = World::new();
    world.heal();
    for _ in 0..30 {
        world.beat(0);
        std::mem::take(&mut world.waiting).into_iter().for_each(|message| world.arrive(message));
    }
    world.order(0, 1, Wish::Drain, 7);
    let beats = world.heal().expect("they agree");
    assert!(beats <= 4, "{beats}");
}

#[test]
fn a_director_that_returns_learns_a_large_book() {
    let mut world = World::new();
    for server in 0..200 {
        world.order(0, server, Wish::Drain, 7);
    }
    let beats = world.heal().expect("they agree");
    assert!(beats <= 150, "{beats}");
}

#[test]
fn who_agrees_says_little() {
    let mut world = World::new();
    world.order(0, 1, Wish::Drain, 7);
    world.heal();
    let said = |world: &mut World| {
        world.now += INTERVAL;
        let now = world.now;
        world.nodes[0].say(0b110, now)
    };
    for _ in 0..40 {
        world.beat(0);
        std::mem::take(&mut world.waiting).into_iter().for_each(|message| world.arrive(message));
    }
    let notes: Vec<Note> = (0..40).filter_map(|_| said(&mut world)).collect();
    assert_eq!(notes.len(), 2, "a digest a second");
    assert!(notes.iter().all(|note| note.orders.is_empty()));
    // Nobody is there who could learn anything.
    let lonely = Exchange::default().say(0, INTERVAL).expect("the digest");
    assert!(lonely.orders.is_empty());
}
