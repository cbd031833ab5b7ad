//! Connections of whose clients nothing proves that they are real: servers that speak first, and
//! floods that answer their own handshakes.

use super::*;

impl World {
    /// The client has answered the handshake, and has nothing to say.
    fn answers(&self, node: usize, client: u32) {
        self.happen(node, client, State::SynRecv);
        self.happen(node, client, State::Unproven);
    }

    /// Entries of IPv4 in this state at a node.
    fn count_v4(&self, node: usize, state: State) -> usize {
        let pages = &self.directors[node].table.v4;
        let states = (0..pages.count()).flat_map(|index| {
            let page = pages.page(index);
            (0..KeyV4::SLOTS_PER_PAGE).map(move |slot| page.entry(slot).state())
        });
        states.filter(|found| *found == Some(state)).count()
    }

    fn has_told(&self, node: usize) -> u64 {
        self.directors[node].engine.status(self.now).peers.iter().map(|peer| peer.told).sum()
    }
}

#[test]
fn a_connection_whose_server_speaks_first_is_on_the_other_side_at_once() {
    let mut world = World::new(80, &[16, 8], 0);
    world.run_all(Duration::from_secs(1));
    (0..60).for_each(|client| world.answers(0, client));
    world.run_all(3 * STEP);
    for client in 0..60 {
        assert_eq!(world.state(1, client), Some(State::Unproven), "{client}");
    }
    let Director { table, .. } = &world.directors[1];
    assert_eq!(table.counts(), table.recount());
    // Its data prove it, and then it is known like all others.
    (0..30).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(3 * STEP);
    assert_eq!(world.state(1, 7), Some(State::Established));
    world.assert_alike(0, 1);
    // It may end without any.
    (30..60).for_each(|client| world.happen(0, client, State::FinUnproven));
    world.run_all(Duration::from_secs(5));
    assert_eq!(world.state(1, 40), Some(State::FinUnproven));
}

#[test]
fn what_is_unproven_is_told_once() {
    let mut world = World::new(81, &[16, 16], 0);
    world.run_all(Duration::from_secs(1));
    (0..60).for_each(|client| world.answers(0, client));
    world.run_all(Duration::from_secs(30));
    assert_eq!(world.has_told(0), 60);
    // The one that takes over knows that the others know it.
    world.activate(1);
    world.run_all(Duration::from_secs(30));
    assert_eq!(world.has_told(1), 0);
}

#[test]
fn a_flood_of_handshakes_is_told_within_bounds_and_the_proven_before_it() {
    let mut world = World::new(82, &[512, 512], 0);
    world.run_all(Duration::from_secs(1));
    let mut client = 0;
    for second in 0..3 {
        for _ in 0..200 {
            (client..client + 100).for_each(|client| world.answers(0, client));
            client += 100;
            world.run_all(STEP);
        }
        world.happen(0, 1_000_000 + second, State::Established);
        world.run_all(2 * STEP);
        assert_eq!(world.state(1, 1_000_000 + second), Some(State::Established));
    }
    let told = world.has_told(0);
    assert!(told < 10_000 * 3 + 2000, "{told} of {client}");
    assert!(told > 10_000 * 3 - 2000, "{told} of {client}");
    // The rest is told once there is time.
    world.run_all(Duration::from_secs(8));
    assert!(world.has_told(0) > 55_000, "{}", world.has_told(0));
}

#[test]
fn nothing_gives_way_for_what_another_director_cannot_prove() {
    let mut world = World::new(83, &[64, 1], 0);
    world.run_all(Duration::from_secs(1));
    // The other one's page is full of what gives way first of all.
    (0..2000).for_each(|client| world.happen(1, client, State::SynRecv));
    let before = world.count_v4(1, State::SynRecv);
    assert!(before > 200, "{before} of 256 slots");
    (10_000..10_600).for_each(|client| world.answers(0, client));
    world.run_all(Duration::from_secs(5));
    assert_eq!(world.count_v4(1, State::SynRecv), before);
    // What is proven takes their places.
    (20_000..20_100).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(3 * STEP);
    assert!(world.count_v4(1, State::SynRecv) < before);
    assert!(world.count_v4(1, State::Established) > 40);
}

#[test]
fn a_node_that_joins_gets_what_is_unproven_too() {
    for proven in [0, 100] {
        let mut world = World::new(84, &[64, 64], 0);
        world.run(Duration::from_secs(1), &[0]);
        (0..300).for_each(|client| world.answers(0, client));
        (1000..1000 + proven).for_each(|client| world.happen(0, client, State::Established));
        world.run(Duration::from_secs(5), &[0]);
        world.replace(1);
        world.run_all(Duration::from_secs(4));
        for client in 0..300 {
            assert_eq!(world.state(1, client), Some(State::Unproven), "{client}, beside {proven}");
        }
    }
}

#[test]
fn directors_that_serve_at_once_know_what_is_unproven_and_whose_it_becomes() {
    let mut world = World::of(85, &[16, 16, 16], 0, true);
    world.run_all(Duration::from_secs(1));
    (0..60).for_each(|client| world.answers(client as usize % 3, client));
    world.run_all(3 * STEP);
    for client in 0..60 {
        for node in 0..3 {
            assert_eq!(world.state(node, client), Some(State::Unproven), "{client} at {node}");
        }
    }
    world.run_all(Duration::from_secs(30));
    assert_eq!((0..3).map(|node| world.has_told(node)).sum::<u64>(), 2 * 60, "nobody tells it on");
    // Data come, by another director than the handshake.
    (0..60).for_each(|client| world.happen((client as usize + 1) % 3, client, State::Established));
    world.run_all(3 * STEP);
    for node in 0..3 {
        let Director { table, directory, engine, .. } = &world.directors[node];
        assert_eq!(table.alive(directory).len(), 60, "{node}");
        let mine = engine.mirrors.all().filter(|seen| !seen.is_nothing() && seen.owner() == Owner::Me);
        assert_eq!(mine.count(), 20, "{node}");
        world.assert_alike(0, node);
    }
}
