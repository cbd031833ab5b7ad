use std::collections::BTreeMap;

use fastrand::Rng;
use lb_common::addr::{Address, V4, V6};
use lb_common::server::ServerId;
use lb_common::service::binding;
use lb_common::table::connection::{Entry, State};
use lb_common::table::{self, Page};
use proptest::prelude::*;

use super::*;
use crate::simulation::{BINDINGS, Director, GROUP, Kind, MemoryTable, Network, STEP, Setting, World};
use crate::table::Pages;

mod anycast;
mod short;
mod sourced;
mod unproven;

/// Connections by client and ports: the server's address, and the state.
type Alive = BTreeMap<(V6, [u16; 2]), (Vec<u8>, State)>;

impl MemoryTable {
    /// Connections that are alive, with the backends that they go to.
    fn alive(&self, directory: &SharedDirectory) -> Alive {
        let mut found = Alive::new();
        self.alive_of::<KeyV4>(directory, &mut found);
        self.alive_of::<KeyV6>(directory, &mut found);
        found
    }

    fn alive_of<K: Kind>(&self, directory: &SharedDirectory, found: &mut Alive) {
        for index in 0..K::pages(self).count() {
            let page = K::pages(self).page(index);
            for slot in 0..<K as table::Layout>::SLOTS_PER_PAGE {
                let (key, entry) = (page.key(slot), page.entry(slot));
                let Some(state) = entry.state().filter(|state| look::is_alive(*state)) else { continue };
                let server = directory.get().known(entry.server()).expect("known").known.backend.server;
                let before =
                    found.insert((key.client().mapped(), key.ports()), (server.octets().to_vec(), state));
                assert_eq!(before, None, "a connection stands in two slots");
            }
        }
    }

    /// The counts as the entries say.
    fn recount(&self) -> BTreeMap<ServerId, u64> {
        let mut counts = BTreeMap::new();
        let mut add = |entry: Entry| {
            if entry.state().is_some() {
                *counts.entry(entry.server()).or_default() += entry.counts();
            }
        };
        for index in 0..self.v4.count() {
            (0..KeyV4::SLOTS_PER_PAGE).for_each(|slot| add(self.v4.page(index).entry(slot)));
            (0..KeyV6::SLOTS_PER_PAGE).for_each(|slot| add(self.v6.page(index).entry(slot)));
        }
        counts
    }
}

impl World {
    /// A director binds a client, by its number, to a server for five minutes.
    fn bind(&self, node: usize, client: u64, server: u64) {
        let key = binding::Key { client: V6([0, client]), group: BINDINGS };
        self.directors[node].table.bind(key, V6([0, server]), self.now + Duration::from_secs(300));
    }

    /// The clients that a director has bound, with their servers.
    fn bound(&self, node: usize) -> BTreeMap<u64, u64> {
        let bindings = self.directors[node].table.bindings();
        bindings.iter().map(|(key, bound)| (key.client.0[1], bound.server.0[1])).collect()
    }

    /// Directors with so many pages, of which the first one balances, and a network that loses
    /// `loss` percent.
    fn new(seed: u64, pages: &[usize], loss: u8) -> Self {
        Self::of(seed, pages, loss, false)
    }

    fn of(seed: u64, pages: &[usize], loss: u8, anycast: bool) -> Self {
        let network = Network { loss: loss.into(), delay: Duration::ZERO, reorders: true };
        let tables: Vec<[usize; 2]> = pages.iter().map(|pages| [*pages, *pages]).collect();
        Self::build(Setting { seed, anycast, rate: u64::MAX, network }, &tables)
    }

    fn assert_alike(&self, one: usize, other: usize) {
        let [one, other] = [one, other].map(|node| &self.directors[node]);
        let [ones, others] = [one, other].map(|node| node.table.alive(&node.directory));
        let differ = ones.iter().filter(|(key, value)| others.get(*key) != Some(value));
        let differ = differ.chain(others.iter().filter(|(key, value)| ones.get(*key) != Some(value)));
        assert_eq!(differ.take(3).collect::<Vec<_>>(), [], "of {} and {}", ones.len(), others.len());
        for Director { table, .. } in [one, other] {
            assert_eq!(table.counts(), table.recount());
        }
    }
}

#[test]
fn an_established_connection_is_on_the_other_side_at_once_and_a_first_packet_is_not() {
    let mut world = World::new(1, &[4, 8], 0);
    world.run_all(Duration::from_millis(50));
    world.happen(0, 1, State::SynRecv);
    world.happen(0, 2, State::SynRecv);
    world.happen(0, 2, State::Established);
    world.happen(0, 3, State::SynRecv);
    world.happen(0, 3, State::Established);
    world.run_all(2 * STEP);
    let Director { table, directory, .. } = &world.directors[1];
    assert_eq!(table.alive(directory).len(), 2);
    world.happen(0, 2, State::Closed);
    world.run_all(2 * STEP);
    let Director { table, directory, .. } = &world.directors[1];
    assert_eq!(table.alive(directory).len(), 1, "it has ended");
    world.assert_alike(0, 1);
}

#[test]
fn entries_bear_the_generation_of_the_lease_to_come() {
    let mut world = World::new(2, &[4, 4], 0);
    world.run_all(Duration::from_millis(50));
    world.happen(0, 1, State::Established);
    world.run_all(2 * STEP);
    world.activate(1);
    let Director { table, .. } = &world.directors[1];
    let entry = |key: KeyV4| {
        let pages = (0..4).map(|page| table.v4.page(page));
        pages
            .flat_map(|page| {
                (0..KeyV4::SLOTS_PER_PAGE)
                    .map(move |slot| (page.key(slot), page.entry(slot)))
                    .collect::<Vec<_>>()
            })
            .find(|(found, _)| *found == key)
            .map(|(_, entry)| entry)
    };
    let found = entry(KeyV4::new(V4(1), 1, 80_u16.to_be())).expect("an entry");
    assert_eq!(found.generation(), Table::generation(&**table, GROUP));
}

#[test]
fn a_node_that_joins_gets_the_whole_table_and_says_so() {
    let mut world = World::new(3, &[64, 256], 0);
    (0..4000).for_each(|client| world.happen(0, client, State::Established));
    world.run(Duration::from_secs(5), &[0]);
    world.start(1);
    assert!(!world.directors[0].engine.status(world.now).peers[0].knows_ours);
    world.run_all(Duration::from_secs(1));
    assert!(world.directors[0].engine.status(world.now).peers[0].knows_ours);
    assert!(world.directors[1].engine.status(world.now).peers[0].knows_theirs);
    world.assert_alike(0, 1);
}

#[test]
fn a_node_that_joins_says_how_much_of_the_table_has_come() {
    let mut world = World::new(12, &[64, 64], 0);
    (0..8000).for_each(|client| world.happen(0, client, State::Established));
    world.run(Duration::from_secs(5), &[0]);
    world.replace(1);
    // What is under way is seen in between.
    world.network.delay = Duration::from_millis(20);
    let mut shares = [Vec::new(), Vec::new()];
    for _ in 0..400 {
        world.run_all(Duration::from_millis(5));
        let peer = |node: usize| world.directors[node].engine.status(world.now).peers[0].clone();
        shares[0].extend(peer(1).learned);
        shares[1].extend(peer(0).told_again);
    }
    for shares in &shares {
        assert!(shares.is_sorted() && shares.iter().all(|share| (0.0..1.0).contains(share)), "{shares:?}");
    }
    assert!(shares[0].iter().any(|share| (0.1..0.9).contains(share)), "{shares:?}");
    let [at_last, other] = [1, 0].map(|node| world.directors[node].engine.status(world.now).peers[0].clone());
    assert_eq!((at_last.knows_theirs, at_last.learned, other.told_again), (true, None, None));
}

/// Runs until node 0 says that node 1 knows what it knows, which must then be true.
fn run_until_known(world: &mut World) {
    for _ in 0..400 {
        world.run(STEP, &[0, 1]);
        if world.directors[0].engine.status(world.now).peers[0].knows_ours {
            world.assert_alike(0, 1);
            return;
        }
    }
    panic!("not known within two seconds");
}

#[test]
fn a_node_whose_link_was_away_for_a_moment_is_not_said_to_know_all_before_it_does() {
    let mut world = World::new(9, &[16, 16], 0);
    world.run_all(Duration::from_secs(1));
    for away in [1050, 1500, 2500, 3500, 8000] {
        world.run(Duration::from_millis(away), &[0]);
        (0..40).for_each(|client| world.happen(0, away as u32 + client, State::Established));
        world.run(STEP, &[0]);
        assert!(!world.directors[0].engine.status(world.now).peers[0].knows_ours);
        run_until_known(&mut world);
    }
}

#[test]
fn a_node_without_some_servers_is_not_said_to_know_all_before_it_has_them() {
    let mut world = World::new(10, &[16, 16], 0);
    let whole = world.directors[1].directory.get();
    let knows_ours = |world: &World| world.directors[0].engine.status(world.now).peers[0].knows_ours;
    for first in [100, 200] {
        // The second node's checks find no server.
        world.directors[1].directory.set(Directory::new([]));
        world.run_all(Duration::from_secs(1));
        (0..40).for_each(|client| world.happen(0, first + client, State::Established));
        world.run_all(Duration::from_secs(1));
        assert!(!knows_ours(&world));
        world.directors[1].directory.set(Directory::clone(&whole));
        run_until_known(&mut world);
    }
    // Those that never come are not waited for.
    world.directors[1].directory.set(Directory::new([]));
    (0..40).for_each(|client| world.happen(0, 300 + client, State::Established));
    world.run_all(Duration::from_secs(25));
    assert!(knows_ours(&world));
}

#[test]
fn what_a_returning_node_has_too_much_is_removed() {
    let mut world = World::new(4, &[16, 16], 0);
    (0..400).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_secs(1));
    // The second one is away while half of them end, and others begin.
    (0..200).for_each(|client| world.happen(0, client, State::Closed));
    (1000..1100).for_each(|client| world.happen(0, client, State::Established));
    world.run(Duration::from_secs(5), &[0]);
    world.start(1);
    world.run_all(Duration::from_secs(2));
    world.assert_alike(0, 1);
}

/// The balancing director rests while it is asked, for so long that it takes the other one for
/// silent when it goes on.
#[test]
fn a_director_that_rests_before_it_tells_again_tells_all() {
    let mut world = World::new(13, &[16, 16], 0);
    (0..400).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_secs(1));
    for rests in [500, 1500, 2500, 5000] {
        world.directors[0].engine.peers[0].wants(crate::simulation::GROUP_ID, Regions::ALL);
        world.run(Duration::from_millis(rests), &[1]);
        for _ in 0..400 {
            world.run_all(STEP);
            world.assert_alike(0, 1);
        }
    }
}

#[test]
fn quiet_directors_say_little() {
    let mut world = World::new(5, &[64, 64], 0);
    (0..4000).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_secs(2));
    let before = world.sent;
    world.run_all(Duration::from_secs(20));
    // Hellos of both, five a second, and digests twice.
    assert!(world.sent - before < 300, "{}", world.sent - before);
}

#[test]
fn a_table_without_room_takes_what_it_can() {
    let mut world = World::new(6, &[64, 1], 0);
    (0..3000).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_secs(30));
    let status = world.directors[1].engine.status(world.now);
    assert!(status.drops.without_slot > 0, "{status:?}");
    let agreement = status.peers[0].agreement.expect("it has compared");
    assert!(agreement < 0.5, "{agreement}");
}

#[test]
fn neither_the_balancing_director_nor_strangers_change_a_table() {
    let mut world = World::new(7, &[4, 4], 0);
    world.run_all(Duration::from_millis(50));
    // Both balance: a split brain.
    world.directors[1].table.set_balances(true);
    world.happen(0, 1, State::Established);
    world.run_all(Duration::from_secs(1));
    let Director { table, directory, engine, .. } = &mut world.directors[1];
    assert!(table.alive(directory).is_empty());
    assert_eq!(engine.status(world.now).drops.balanced_here, 1);
    assert_eq!(engine.receive(b"nonsense", world.now), None);
    assert_eq!(engine.status(world.now).drops.not_ours, 1);
}

#[test]
fn bound_clients_are_bound_on_the_other_side_too() {
    let mut world = World::new(8, &[4, 4, 4], 10);
    world.bind(0, 1, 100);
    world.run(Duration::from_secs(3), &[0, 1]);
    world.bind(0, 1, 101);
    world.bind(0, 2, 102);
    // The third one comes late.
    world.run_all(Duration::from_secs(6));
    for node in 1..3 {
        assert_eq!(world.bound(node), [(1, 101), (2, 102)].into(), "node {node}");
    }
}

/// Its stream goes on: it was silent for less than it takes to be given up.
#[test]
fn a_client_that_is_bound_while_another_director_is_silent_is_bound_there_once_it_is_back() {
    let mut world = World::new(14, &[4, 4], 0);
    world.run_all(Duration::from_secs(3));
    world.run(Duration::from_millis(1100), &[0]);
    world.bind(0, 1, 100);
    world.run(Duration::from_millis(1500), &[0]);
    world.run_all(Duration::from_secs(6));
    assert_eq!(world.bound(1), [(1, 100)].into());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens while datagrams are lost, nodes restart and the group moves: once it is
    /// quiet, all know the same.
    #[test]
    fn directors_come_to_know_the_same(seed in any::<u64>(), loss in 0_u8..30, nodes in 2_usize..4) {
        let mut rng = Rng::with_seed(seed);
        let pages: Vec<usize> = (0..nodes).map(|_| 1 << rng.u32(3..6)).collect();
        let mut world = World::new(seed, &pages, loss);
        let mut active = 0;
        for _ in 0..rng.usize(1..12) {
            for _ in 0..rng.usize(..300) {
                let state = match rng.u8(..10) {
                    0 => State::SynRecv,
                    1 => State::FinWait,
                    2 => State::Closed,
                    _ => State::Established,
                };
                world.happen(active, rng.u32(..600), state);
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
                    // In order: everybody knows what there is.
                    world.network.loss = 0.0;
                    world.run_all(Duration::from_secs(1));
                    world.network.loss = loss.into();
                    active = rng.usize(..nodes);
                    world.activate(active);
                }
                _ => world.run_all(Duration::from_millis(rng.u64(..200))),
            }
        }
        world.network.loss = 0.0;
        world.run_all(Duration::from_secs(13));
        for node in (0..nodes).filter(|node| *node != active) {
            world.assert_alike(active, node);
            let status = world.directors[node].engine.status(world.now);
            let peer = status.peers.iter().find(|peer| usize::from(peer.node.0) == active).expect("a peer");
            prop_assert!(peer.knows_theirs && peer.is_up);
        }
    }
}
