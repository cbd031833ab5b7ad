//! Groups that several directors balance at once.

use self::rules::ALL;
use super::*;
use crate::simulation::{GROUP_ID, TIMEOUT};

mod crossings;
mod journeys;
mod rules;

fn ports(client: u32) -> [u16; 2] {
    [client as u16 | 1, 80_u16.to_be()]
}

impl World {
    /// As [`World::new`], and all of them balance.
    fn anycast(seed: u64, pages: &[usize], loss: u8) -> Self {
        let mut world = Self::of(seed, pages, loss, true);
        world.run_all(Duration::from_millis(500));
        world
    }

    fn alive(&self, node: usize) -> Alive {
        let Director { table, directory, .. } = &self.directors[node];
        table.alive(directory)
    }

    /// Connections that the node takes to be `owner`'s.
    fn owned(&self, node: usize, owner: Owner) -> usize {
        let seen = self.directors[node].engine.mirrors.all();
        seen.filter(|seen| !seen.is_nothing() && seen.owner() == owner).count()
    }

    /// The second one has asked the first one for all that it knows, and has its answer to come.
    fn begin_to_tell_again(&mut self, from: usize, to: usize) {
        let engine = &mut self.directors[to].engine;
        let bits = |seen: &[Seen]| vec![0; seen.len().div_ceil(64)];
        let (v4, v6) = (bits(&engine.mirrors.v4), bits(&engine.mirrors.v6));
        let peer = engine.peers.iter_mut().find(|peer| usize::from(peer.id.0) == from).expect("a peer");
        peer.mentions.insert(GROUP_ID, Mentions { regions: Regions::ALL, v4, v6 });
    }

    fn assert_all_know(&self, count: usize) {
        let counts: Vec<usize> = (0..self.directors.len()).map(|node| self.alive(node).len()).collect();
        assert!(counts.iter().all(|found| *found == count), "{counts:?}, not {count} each");
        (1..self.directors.len()).for_each(|node| self.assert_alike(0, node));
    }
}

#[test]
fn what_each_of_them_opens_all_of_them_know() {
    let mut world = World::anycast(20, &[8, 4, 16], 0);
    for node in 0..3 {
        (0..50).for_each(|client| world.happen(node, 1000 * node as u32 + client, State::Established));
    }
    world.run_all(3 * STEP);
    world.assert_all_know(150);
    // Several rounds of digests erase nothing.
    world.run_all(Duration::from_secs(35));
    world.assert_all_know(150);
}

#[test]
fn a_connection_that_comes_by_another_director_is_that_ones() {
    let mut world = World::anycast(21, &[8, 4, 16], 0);
    (0..50).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(3 * STEP);
    (0..50).for_each(|client| world.happen(1, client, State::FinWait));
    world.run_all(3 * STEP);
    for node in 0..3 {
        let states: Vec<State> = world.alive(node).into_values().map(|(_, state)| state).collect();
        assert_eq!(states, [State::FinWait; 50], "node {node}");
    }
    (0..20).for_each(|client| world.happen(2, client, State::Closed));
    world.run_all(3 * STEP);
    world.assert_all_know(30);
    world.run_all(Duration::from_secs(25));
    world.assert_all_know(30);
}

#[test]
fn a_director_that_starts_again_erases_nothing_and_learns_all() {
    let mut world = World::anycast(22, &[16, 16, 16], 0);
    for node in 0..3 {
        (0..100).for_each(|client| world.happen(node, 1000 * node as u32 + client, State::Established));
    }
    world.run_all(Duration::from_secs(1));
    // The program goes on meanwhile.
    world.run(Duration::from_secs(5), &[1, 2]);
    (500..520).for_each(|client| world.happen(0, client, State::Established));
    (600..620).for_each(|client| world.happen(1, client, State::Established));
    world.run(Duration::from_secs(1), &[1, 2]);
    world.start(0);
    world.run_all(Duration::from_secs(25));
    world.assert_all_know(340);
}

#[test]
fn what_a_director_opened_that_has_died_others_tell_the_next_one() {
    let mut world = World::anycast(23, &[16, 16, 16], 0);
    world.run(Duration::from_secs(5), &[0, 1]);
    (0..100).for_each(|client| world.happen(0, client, State::Established));
    world.run(Duration::from_secs(1), &[0, 1]);
    world.run(Duration::from_secs(5), &[1]);
    world.start(2);
    world.run(Duration::from_secs(1), &[1, 2]);
    assert_eq!(world.alive(2).len(), 100);
    let status = world.directors[2].engine.status(world.now);
    assert!(status.peers.iter().any(|peer| peer.node == NodeId(1) && peer.knows_theirs), "{status:?}");
    // The dead one begins anew with an empty mirror, and nobody forgets anything.
    world.start(0);
    world.run_all(Duration::from_secs(25));
    world.assert_all_know(100);
}

#[test]
fn what_its_owner_says_is_gone_is_gone_and_nothing_else() {
    let mut world = World::anycast(24, &[16, 16, 16], 0);
    (0..100).for_each(|client| world.happen(0, client, State::Established));
    (100..200).for_each(|client| world.happen(2, client, State::Established));
    world.run_all(Duration::from_secs(1));
    // Node 1 hears of nothing for a moment.
    (0..50).for_each(|client| world.happen(0, client, State::Closed));
    (300..330).for_each(|client| world.happen(0, client, State::Established));
    (400..440).for_each(|client| world.happen(1, client, State::Established));
    world.run(Duration::from_secs(2), &[0, 2]);
    world.run_all(Duration::from_secs(25));
    world.assert_all_know(50 + 100 + 30 + 40);
}

/// Both of the directors that may do so, and both ends.
#[test]
fn an_end_counts_while_all_is_told_again() {
    for (opens, ends) in [(0, 1), (1, 0)] {
        let mut world = World::anycast(26, &[16, 16], 0);
        (0..20).for_each(|client| world.happen(opens, client, State::Established));
        world.run_all(Duration::from_millis(50));
        world.begin_to_tell_again(ends, opens);
        (0..10).for_each(|client| world.happen(ends, client, State::Closed));
        (10..20).for_each(|client| world.happen(ends, client, State::FinWait));
        world.run_all(3 * STEP);
        for node in 0..2 {
            let states: Vec<State> = world.alive(node).into_values().map(|(_, state)| state).collect();
            assert_eq!(states, [State::FinWait; 10], "node {node}, ended at {ends}");
        }
    }
}

/// It is told of as an open one at that very moment, before the end was looked at.
#[test]
fn an_end_that_nobody_has_heard_of_yet_counts() {
    let mut world = World::anycast(32, &[16, 16], 0);
    (0..20).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_millis(50));
    world.happen(1, 5, State::Closed);
    let (now, engine) = (world.now, &mut world.directors[1].engine);
    let [client_port, service_port] = ports(5);
    let (key, state, remaining) = (KeyV4::new(V4(5), client_port, service_port), State::Established, TIMEOUT);
    let servers: Vec<ServerId> = engine.peers[0].theirs.keys().copied().collect();
    for (server, hearsay) in servers.into_iter().flat_map(|server| [(server, true), (server, false)]) {
        let told = message::Connection { server, key, state, remaining, hearsay, source: None };
        engine.take(0, |taker| taker.connection(&told, now));
    }
    assert_eq!(world.state(1, 5), Some(State::Closed));
    world.run_all(Duration::from_secs(25));
    world.assert_all_know(19);
}

#[test]
fn what_is_told_again_is_its_owners_whatever_gave_way_for_it() {
    let mut world = World::anycast(27, &[16, 4], 0);
    // The second one's table is full of what has ended.
    (10_000..13_000).for_each(|client| world.happen(1, client, State::Closed));
    world.run(Duration::from_secs(2), &[0]);
    (0..100).for_each(|client| world.happen(0, client, State::Established));
    world.run(Duration::from_secs(1), &[0]);
    world.run_all(Duration::from_secs(5));
    world.assert_all_know(100);
    assert_eq!((world.owned(0, Owner::Me), world.owned(1, Owner::Other(NodeId(0)))), (100, 100));
    assert_eq!(world.owned(1, Owner::Me), 0);
}

/// A director that has missed the ends tells what it knew, once by hearsay and once as its own.
#[test]
fn what_has_ended_is_not_raised_again_and_who_has_missed_that_learns_it() {
    for (owner, starts_again) in [(0, true), (1, false)] {
        let mut world = World::anycast(28, &[16, 16, 16], 0);
        (0..60).for_each(|client| world.happen(owner, client, State::Established));
        world.run_all(Duration::from_millis(50));
        world.run(Duration::from_secs(6), &[0, 2]);
        (0..40).for_each(|client| world.happen(0, client, State::Closed));
        world.run(Duration::from_secs(1), &[0, 2]);
        if starts_again {
            world.start(1);
        }
        world.run_all(Duration::from_secs(25));
        world.assert_all_know(20);
    }
}

#[test]
fn what_has_ended_and_begun_again_is_known_to_who_has_missed_both() {
    let mut world = World::anycast(29, &[16, 16, 16], 0);
    (0..60).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_millis(50));
    (0..60).for_each(|client| world.happen(0, client, State::Closed));
    world.run_all(Duration::from_millis(50));
    // At once, and the second one hears nothing; then the first one tells by hearsay.
    (0..60).for_each(|client| world.happen(0, client, State::Established));
    world.run(Duration::from_secs(4), &[0, 2]);
    world.start(0);
    world.run_all(Duration::from_secs(25));
    world.assert_all_know(60);
}

/// The old connection was another director's, which tells its end while the new one begins here.
#[test]
fn a_new_connection_on_a_used_port_outlives_the_end_of_the_old_one() {
    let mut world = World::anycast(30, &[16, 16, 16], 0);
    (0..40).for_each(|client| world.happen(1, client, State::Established));
    world.run_all(Duration::from_secs(5));
    (0..40).for_each(|client| world.happen(1, client, State::FinWait));
    world.run_all(3 * STEP);
    // Some are open here when the end comes, and of the others a first packet has come.
    (0..20).for_each(|client| world.happen(0, client, State::SynRecv));
    (20..40).for_each(|client| world.happen(0, client, State::Established));
    (0..40).for_each(|client| world.happen(1, client, State::Closed));
    world.run_all(3 * STEP);
    for client in 0..40 {
        let wanted = if client < 20 { State::SynRecv } else { State::Established };
        assert_eq!(world.state(0, client), Some(wanted), "{client}");
    }
    (0..20).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_secs(25));
    world.assert_all_know(40);
    assert_eq!(world.owned(0, Owner::Me), 40);
}

#[test]
fn what_a_silent_director_speaks_for_is_whose_packets_come_next() {
    let mut world = World::anycast(31, &[16, 16, 16], 0);
    (0..100).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_millis(50));
    world.run(Duration::from_secs(9), &[1, 2]);
    (60..65).for_each(|client| world.happen(1, client, State::Established));
    world.run(3 * STEP, &[1, 2]);
    assert_eq!(world.owned(1, Owner::Other(NodeId(0))), 100, "it may only be late");
    world.run(Duration::from_secs(6), &[1, 2]);
    assert_eq!((world.owned(1, Owner::Me), world.owned(2, Owner::Other(NodeId(1)))), (5, 5));
    assert_eq!(world.owned(1, Owner::Other(NodeId(0))), 95, "they stay its own");
    (0..60).for_each(|client| world.happen(1, client, State::Established));
    world.run(3 * STEP, &[1, 2]);
    assert_eq!((world.owned(1, Owner::Me), world.owned(2, Owner::Other(NodeId(1)))), (65, 65));
    // It was only cut off: what nobody else has is its own still.
    world.run_all(Duration::from_secs(25));
    world.assert_all_know(100);
    assert_eq!((world.owned(0, Owner::Me), world.owned(1, Owner::Me)), (35, 65));
}

#[test]
fn a_client_that_two_bind_at_once_is_bound_to_one_server() {
    let mut world = World::anycast(25, &[4, 4, 4], 0);
    world.bind(0, 1, 100);
    world.bind(1, 1, 101);
    world.bind(2, 2, 102);
    world.run_all(Duration::from_secs(5));
    world.bind(1, 2, 103);
    world.run_all(Duration::from_secs(5));
    for node in 0..3 {
        assert_eq!(world.bound(node), [(1, 100), (2, 103)].into(), "node {node}");
    }
}

/// It is asked for all, and then it rests for so long that it takes the other one for silent.
#[test]
fn what_a_start_finds_is_told_although_its_director_rests_before_it_tells() {
    for rests in [500, 1500, 2500, 5000] {
        let mut world = World::anycast(33, &[16, 16], 0);
        (0..40).for_each(|client| world.happen(0, client, State::Established));
        world.start(0);
        let is_asked = |world: &World| !world.directors[0].engine.peers[0].jobs.is_empty();
        for _ in 0..100 {
            world.run_all(STEP);
            if is_asked(&world) {
                break;
            }
        }
        assert!(is_asked(&world) && world.alive(1).is_empty());
        world.run(Duration::from_millis(rests), &[1]);
        world.run_all(ALL);
        world.assert_all_know(40);
    }
}

/// A director that starts anew learns of its own servers, or the other one does, when all was told.
#[test]
fn what_goes_to_servers_that_come_later_is_known_to_all() {
    for late in [0, 1] {
        let mut world = World::anycast(34, &[16, 16], 0);
        (0..40).for_each(|client| world.happen(0, client, State::Established));
        let whole = world.directors[late].directory.get();
        let some = (1..=3).map(ServerId).filter_map(|number| Some((number, whole.known(number)?.known)));
        world.directors[late].directory.set(Directory::new(some));
        world.start(0);
        world.run_all(ALL);
        world.directors[late].directory.set(Directory::clone(&whole));
        world.run_all(ALL);
        world.assert_all_know(40);
    }
}

/// Routers spread clients over directors while datagrams are lost, directors restart and routers
/// change their minds. No director forgets a connection that lives, and once it is quiet all know
/// them.
fn living_are_known_to_all(seed: u64, loss: u8, nodes: usize) -> Result<(), TestCaseError> {
    let mut rng = Rng::with_seed(seed);
    let pages: Vec<usize> = (0..nodes).map(|_| 1 << rng.u32(4..6)).collect();
    let mut world = World::anycast(seed, &pages, loss);
    let mut state: BTreeMap<u32, State> = BTreeMap::new();
    let mut way = 0_u32;
    for _ in 0..rng.usize(1..12) {
        for _ in 0..rng.usize(..300) {
            let client = rng.u32(..600);
            let next = match (rng.u8(..10), state.get(&client)) {
                (0, Some(State::Established)) => State::FinWait,
                (1, Some(State::Established | State::FinWait)) => State::Closed,
                _ => State::Established,
            };
            state.insert(client, next);
            // Routers spread clients over all directors.
            world.happen((client + way) as usize % nodes, client, next);
        }
        let everybody = Vec::from_iter(0..nodes);
        match rng.u8(..10) {
            0 => {
                let away = rng.usize(..nodes);
                let others: Vec<_> = everybody.into_iter().filter(|node| *node != away).collect();
                world.run(Duration::from_millis(rng.u64(..5000)), &others);
            }
            1 => world.start(rng.usize(..nodes)),
            2 => {
                // Everybody knows what there is, and then the routers change their minds.
                world.network.loss = 0.0;
                world.run_all(Duration::from_secs(12));
                world.network.loss = loss.into();
                way += 1;
            }
            _ => world.run_all(Duration::from_millis(rng.u64(..200))),
        }
    }
    world.network.loss = 0.0;
    world.run_all(Duration::from_secs(25));
    let living = state.iter().filter(|(_, state)| **state != State::Closed);
    let living: Vec<u32> = living.map(|(client, _)| *client).collect();
    for node in 0..nodes {
        let known = world.alive(node);
        let key = |client: u32| match client.is_multiple_of(3) {
            true => (V6([u64::from(client), 5]), ports(client)),
            false => (V4(client).mapped(), ports(client)),
        };
        let missing: Vec<_> = living.iter().filter(|client| !known.contains_key(&key(**client))).collect();
        prop_assert!(missing.is_empty(), "node {node} lacks {missing:?}");
        let status = world.directors[node].engine.status(world.now);
        prop_assert!(status.peers.iter().all(|peer| peer.knows_theirs && peer.knows_ours), "{status:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_connection_that_lives_is_known_to_all(seed in any::<u64>(), loss in 0_u8..30, nodes in 2_usize..4) {
        living_are_known_to_all(seed, loss, nodes)?;
    }
}

/// A client used its port again within the moment in which its director looked at nothing, or in
/// which processes began anew, and others went by the end of the connection before.
#[test]
fn what_began_again_while_nobody_looked_is_known_to_all() {
    let found = [
        (6_274_815_349_793_512_483, 0, 2),
        (4_029_739_908_483_862_866, 0, 2),
        (5_498_660_873_841_559_189, 7, 2),
        (7_778_587_876_219_816_098, 0, 3),
        (12_773_160_033_025_679_843, 0, 3),
        (16_686_411_752_907_911_779, 27, 3),
    ];
    for (seed, loss, nodes) in found {
        living_are_known_to_all(seed, loss, nodes).unwrap_or_else(|error| panic!("{seed}: {error}"));
    }
}

/// A director rested between the question for all that it knows and its answer, and told nothing as
/// if that were all. So what it had found at its start was known to nobody else.
#[test]
fn what_a_start_has_found_is_known_to_all() {
    let (seed, loss, nodes) = (4_561_847_118_868_782_162, 20, 2);
    living_are_known_to_all(seed, loss, nodes).unwrap_or_else(|error| panic!("{seed}: {error}"));
}
