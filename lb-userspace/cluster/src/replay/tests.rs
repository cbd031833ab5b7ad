//! Each rule by itself; [`super::simulation`] plays them all against somebody who has recorded
//! everything.

use super::*;
use crate::message::{Heartbeat, Readiness};

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);
const NOW: Duration = Duration::ZERO;

/// A node with its guard.
pub(super) struct Node {
    pub guard: Guard,
    me: Identity,
    sequence: u64,
}

impl Node {
    pub(super) fn start(node: NodeId, session: u64, lot: u8) -> Self {
        let me = Identity { node, session };
        Self { guard: Guard::new(me, [A, B, NodeId(2)], [lot; 32]), me, sequence: 0 }
    }

    pub(super) fn speak(&mut self, now: Duration) -> Envelope {
        self.sequence += 1;
        let readiness =
            Readiness { data_path: true, link: true, maintenance: false, servers: 0, references: 0 };
        let heartbeat = Heartbeat {
            from: self.me.node,
            session: self.me.session,
            sequence: self.sequence,
            readiness,
            hears: 0,
            config_digest: 0,
            groups: Vec::new(),
            standing: None,
        };
        Envelope { heartbeat, challenge: self.guard.challenge(), echoes: self.guard.echoes(now) }
    }

    fn hear(&mut self, envelope: &Envelope) -> Result<(), DropReason> {
        self.guard.check(envelope, NOW)
    }
}

/// One message each way.
fn talk(a: &mut Node, b: &mut Node) -> (Result<(), DropReason>, Result<(), DropReason>) {
    let to_b = b.hear(&a.speak(NOW));
    let to_a = a.hear(&b.speak(NOW));
    (to_b, to_a)
}

fn acquainted() -> (Node, Node) {
    let (mut a, mut b) = (Node::start(A, 100, 1), Node::start(B, 100, 2));
    assert_eq!(talk(&mut a, &mut b), (Err(DropReason::NotEchoed), Ok(())));
    assert_eq!(talk(&mut a, &mut b), (Ok(()), Ok(())));
    (a, b)
}

#[test]
fn two_paths_make_duplicates_and_overtakings() {
    let (mut a, mut b) = acquainted();
    let [first, second, third] = [a.speak(NOW), a.speak(NOW), a.speak(NOW)];
    assert_eq!(b.hear(&first), Ok(()));
    assert_eq!(b.hear(&first), Err(DropReason::Duplicate));
    assert_eq!(b.hear(&third), Ok(()));
    assert_eq!(b.hear(&second), Err(DropReason::Overtaken));
    assert_eq!(b.hear(&second), Err(DropReason::Duplicate));
    for _ in 0..64 {
        let next = a.speak(NOW);
        assert_eq!(b.hear(&next), Ok(()));
    }
    assert_eq!(b.hear(&third), Err(DropReason::Replayed));
}

#[test]
fn the_sender_restarts() {
    let (mut a, mut b) = acquainted();
    let old = a.speak(NOW);
    let mut a = Node::start(A, 200, 3);
    assert_eq!(
        talk(&mut a, &mut b),
        (Err(DropReason::NotEchoed), Ok(())),
        "b's challenge is spent, it draws another"
    );
    assert_eq!(talk(&mut a, &mut b), (Ok(()), Ok(())));
    assert_eq!(b.hear(&old), Err(DropReason::OldSession));
    assert_eq!(talk(&mut a, &mut b), (Ok(()), Ok(())), "undisturbed");
}

#[test]
fn the_senders_clock_jumps_back() {
    let (mut a, mut b) = acquainted();
    let old = a.speak(NOW);
    let mut a = Node::start(A, 50, 3);
    assert_eq!(talk(&mut a, &mut b), (Err(DropReason::OldSession), Ok(())));
    assert_eq!(talk(&mut a, &mut b), (Ok(()), Ok(())));
    assert_eq!(b.hear(&old), Err(DropReason::NotEchoed));
    assert_eq!(talk(&mut a, &mut b), (Ok(()), Ok(())));
}

#[test]
fn the_receiver_restarts_and_is_shown_recordings() {
    let (mut a, mut b) = acquainted();
    let recorded: Vec<_> = (0..10).map(|_| talked(&mut a, &mut b)).collect();
    let mut b = Node::start(B, 200, 4);
    for message in &recorded {
        assert_eq!(b.hear(message), Err(DropReason::NotEchoed));
    }
    assert_eq!(talk(&mut a, &mut b), (Err(DropReason::NotEchoed), Err(DropReason::NotEchoed)));
    assert_eq!(talk(&mut a, &mut b), (Ok(()), Ok(())));
    for message in &recorded {
        assert_ne!(b.hear(message), Ok(()));
    }
}

fn talked(a: &mut Node, b: &mut Node) -> Envelope {
    let message = a.speak(NOW);
    assert_eq!(b.hear(&message), Ok(()));
    message
}

#[test]
fn recordings_in_a_flood_do_not_keep_a_restarted_node_out() {
    let recorded = acquainted().0.speak(NOW);
    let (mut a, mut b) = (Node::start(A, 200, 5), Node::start(B, 200, 6));
    for round in 0..3 {
        let _ = b.hear(&recorded);
        let (to_b, to_a) = talk(&mut a, &mut b);
        assert!(round == 0 || (to_b, to_a) == (Ok(()), Ok(())), "round {round}: {to_b:?} {to_a:?}");
        let _ = b.hear(&recorded);
    }
}

#[test]
fn a_one_way_path_proves_nothing_new_but_keeps_what_was_proven() {
    let (mut a, mut b) = acquainted();
    for _ in 0..5 {
        assert_eq!(b.hear(&a.speak(NOW)), Ok(()));
    }
    let mut b = Node::start(B, 200, 7);
    for _ in 0..5 {
        assert_eq!(b.hear(&a.speak(NOW)), Err(DropReason::NotEchoed));
    }
}

#[test]
fn who_is_not_a_peer_is_named() {
    let (mut a, mut b) = acquainted();
    let mine = a.speak(NOW);
    assert_eq!(a.hear(&mine), Err(DropReason::FromMyself));
    let mut twin = Node::start(A, 300, 8);
    assert_eq!(a.hear(&twin.speak(NOW)), Err(DropReason::MyId));
    let mut stranger = Node::start(NodeId(9), 100, 9);
    assert_eq!(b.hear(&stranger.speak(NOW)), Err(DropReason::UnknownNode));
}

#[test]
fn what_is_not_heard_any_more_is_not_echoed() {
    let mut b = Node::start(B, 100, 1);
    let mut a = Node::start(A, 100, 2);
    let _ = b.hear(&a.speak(NOW));
    assert_eq!(b.guard.echoes(PATIENCE).len(), 1);
    assert_eq!(b.guard.echoes(PATIENCE + Duration::from_nanos(1)), []);
}

#[test]
fn sessions_are_wall_clock_nanoseconds() {
    assert_eq!(session_at(UNIX_EPOCH + Duration::from_millis(1_500)), 1_500_000_000);
    assert_eq!(session_at(UNIX_EPOCH - Duration::from_secs(1)), 0);
}

#[test]
fn the_window_at_its_ends() {
    let mut window = Window::starting_with(0);
    assert_eq!(window.accept(0), Err(DropReason::Duplicate));
    assert_eq!(window.accept(u64::MAX), Ok(()));
    assert_eq!(window.accept(u64::MAX - 63), Err(DropReason::Overtaken));
    assert_eq!(window.accept(u64::MAX - 64), Err(DropReason::Replayed));
    assert_eq!(window.accept(0), Err(DropReason::Replayed));
}
