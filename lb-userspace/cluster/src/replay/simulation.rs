//! Two nodes that crash and restart with any clock, and somebody on the network who has recorded
//! every message and plays any of them at any time, besides losing and delaying the genuine ones.
//!
//! What must hold: a node accepts of another's messages only ones made in its own present life or
//! later, each at most once, and never one that was made before one it has already accepted. And
//! once the attacker is tired, both are trusted again.

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::Node;
use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// A node speaks; the message arrives if `true`, and is recorded anyway.
    Speak {
        node: bool,
        arrives: bool,
    },
    /// The attacker plays a recorded message to a node.
    Play {
        node: bool,
        which: prop::sample::Index,
    },
    /// A node restarts, and its clock says this.
    Restart {
        node: bool,
        session: u64,
    },
    Wait,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), prop::bool::weighted(0.7))
            .prop_map(|(node, arrives)| Step::Speak { node, arrives }),
        4 => (any::<bool>(), any::<prop::sample::Index>()).prop_map(|(node, which)| Step::Play { node, which }),
        1 => (any::<bool>(), 0..1_000_u64).prop_map(|(node, session)| Step::Restart { node, session }),
        1 => Just(Step::Wait),
    ]
}

/// A message and when it was made, in steps.
struct Recorded {
    made: usize,
    by: usize,
    envelope: Envelope,
}

struct World {
    nodes: [Node; 2],
    started: [usize; 2],
    /// When the newest message was made that this node has accepted from the other in its present
    /// life.
    newest: [Option<usize>; 2],
    recorded: Vec<Recorded>,
    step: usize,
    now: Duration,
    used: Vec<u64>,
}

impl World {
    fn new() -> Self {
        let nodes = [Node::start(NodeId(0), 500, 0), Node::start(NodeId(1), 500, 1)];
        let (started, newest) = ([0; 2], [None; 2]);
        Self { nodes, started, newest, recorded: Vec::new(), step: 0, now: Duration::ZERO, used: vec![500] }
    }

    fn take(&mut self, step: &Step) {
        self.step += 1;
        self.now += Duration::from_millis(50);
        match *step {
            Step::Speak { node, arrives } => self.speak(usize::from(node), arrives),
            Step::Play { node, which } if !self.recorded.is_empty() => {
                self.deliver(usize::from(node), which.index(self.recorded.len()));
            }
            Step::Play { .. } => {}
            Step::Restart { node, session } => self.restart(usize::from(node), session),
            Step::Wait => self.now += PATIENCE,
        }
    }

    fn speak(&mut self, by: usize, arrives: bool) {
        let envelope = self.nodes[by].speak(self.now);
        self.recorded.push(Recorded { made: self.step, by, envelope });
        if arrives {
            self.deliver(1 - by, self.recorded.len() - 1);
        }
    }

    fn deliver(&mut self, to: usize, which: usize) {
        let Recorded { made, by, envelope } = &self.recorded[which];
        if self.nodes[to].guard.check(envelope, self.now).is_ok() {
            assert_ne!(*by, to, "its own message");
            assert!(*made > self.started[to], "made before the receiver's present life");
            assert!(self.newest[to].is_none_or(|newest| *made > newest), "older than one accepted before");
            self.newest[to] = Some(*made);
        }
    }

    /// Clocks may jump anywhere, but no two lives begin in the same nanosecond.
    fn restart(&mut self, node: usize, session: u64) {
        let session = (session..).find(|session| !self.used.contains(session)).unwrap_or(u64::MAX);
        self.used.push(session);
        let lot = self.used.len() as u8;
        self.nodes[node] = Node::start(NodeId(node as u8), session, lot);
        self.started[node] = self.step;
        self.newest[node] = None;
    }

    fn trusted_at(&self, node: usize, step: usize) -> bool {
        self.newest[node] == Some(step)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn recordings_have_no_effect(steps in vec(any_step(), 1..200)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::Wait);
        for _ in 0..4 {
            for node in [false, true] {
                world.take(&Step::Speak { node, arrives: true });
            }
        }
        prop_assert!(world.trusted_at(0, world.step) && world.trusted_at(1, world.step - 1), "both trust again");
    }
}
