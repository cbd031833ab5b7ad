//! Who speaks for a connection, and whose word counts: what went wrong before there was one rule
//! for it, see `engine::last_use`.

use lb_common::table::connection::slack;

use super::*;

/// Two rounds of digests, and what comes of them.
pub(super) const ALL: Duration = Duration::from_secs(25);

/// Of a client that has IPv4.
fn key(client: u32) -> KeyV4 {
    let [client_port, service_port] = ports(client);
    KeyV4::new(V4(client), client_port, service_port)
}

impl World {
    /// A packet of the client goes to a server of the node's choice.
    pub(super) fn happen_at(&self, node: usize, client: u32, server: u16, state: State) {
        let Director { table, directory, .. } = &self.directors[node];
        table.set(key(client), table.number(directory, server, false), state);
    }

    /// One node is told of a connection by another one, as if it had just been used there.
    fn told(&mut self, [from, to]: [usize; 2], client: u32, server: u16, state: State) {
        let Self { now, directors, .. } = self;
        let Director { table, directory, engine, .. } = &mut directors[to];
        let known = *directory.get().known(table.number(directory, server, false)).expect("known");
        let index = engine.peers.iter().position(|peer| usize::from(peer.id.0) == from).expect("a peer");
        let (server, remaining) = (ServerId(900 + server), TIMEOUT + slack(TIMEOUT));
        engine.peers[index].theirs.insert(server, (GROUP_ID, known.known.backend));
        let (key, hearsay, source) = (key(client), false, None);
        let told = message::Connection { server, key, state, remaining, hearsay, source };
        engine.take(index, |taker| taker.connection(&told, *now));
    }

    /// One node has another one tell all that it knows.
    fn ask(&mut self, asking: usize, asked: usize) {
        let (now, peers) = (self.now, &mut self.directors[asking].engine.peers);
        let peer = peers.iter_mut().find(|peer| usize::from(peer.id.0) == asked).expect("a peer");
        peer.wanted.insert(GROUP_ID, Regions::ALL);
        peer.say(&Message::Want { group: GROUP_ID, regions: Regions::ALL }, now);
    }

    /// A node has no entry of the connection any more, as after its time is up there.
    fn forget(&self, node: usize, client: u32) {
        let entry = self.entry(node, client).expect("an entry");
        let table = &self.directors[node].table;
        for index in 0..table.v4.count() {
            let page = table.v4.page(index);
            for slot in 0..<KeyV4 as table::Layout>::SLOTS_PER_PAGE {
                if page.key(slot) == key(client) && page.entry(slot) == entry {
                    assert!(page.swap_entry(slot, entry, Entry::EMPTY));
                }
            }
        }
        Table::count(&**table, Entry::EMPTY, entry);
    }

    /// Ticks until a node forgets the connection.
    fn left(&self, node: usize, client: u32) -> u32 {
        let entry = self.entry(node, client).expect("an entry");
        entry.expires().ticks_after(self.directors[node].table.now())
    }

    pub(super) fn states(&self, client: u32) -> Vec<Option<State>> {
        (0..self.directors.len()).map(|node| self.state(node, client)).collect()
    }
}

/// It has moved, and has not been used there for so long that it would be told.
#[test]
fn a_use_counts_although_the_owner_tells_again_what_it_knew_before() {
    let mut world = World::anycast(40, &[16, 16], 0);
    world.happen(0, 1, State::Established);
    world.run_all(Duration::from_secs(60));
    world.happen(1, 1, State::Established);
    world.run_all(3 * STEP);
    assert_eq!(world.owned(1, Owner::Other(NodeId(0))), 1);
    world.ask(1, 0);
    world.run_all(10 * STEP);
    assert!(world.left(1, 1) + 4 > TIMEOUT + slack(TIMEOUT), "{} ticks are left", world.left(1, 1));
    assert_eq!(world.states(1), [Some(State::Established); 2]);
}

#[test]
fn what_is_used_here_stays_although_the_owner_has_it_no_more() {
    let mut world = World::anycast(41, &[16, 16, 16], 0);
    [1, 2].into_iter().for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_secs(60));
    world.happen(1, 1, State::Established);
    world.run_all(3 * STEP);
    [1, 2].into_iter().for_each(|client| world.forget(0, client));
    world.run_all(ALL);
    assert_eq!(world.states(1), [Some(State::Established); 3], "its new director has told of it");
    assert_eq!(world.owned(1, Owner::Me), 1);
    assert_eq!(world.states(2), [None::<State>; 3], "nobody uses it");
}

/// Short time-outs are prolonged by little.
#[test]
fn what_nobody_speaks_for_is_whose_packets_come_however_soon() {
    let mut world = World::anycast(49, &[16, 16], 0);
    world.happen(0, 1, State::Established);
    world.run_all(10 * STEP);
    world.start(0);
    world.run_all(Duration::from_millis(4300));
    assert_eq!(world.owned(1, Owner::Nobody), 1);
    world.happen(1, 1, State::Established);
    world.run_all(3 * STEP);
    assert_eq!((world.owned(1, Owner::Me), world.owned(0, Owner::Other(NodeId(1)))), (1, 1));
}

#[test]
fn an_end_at_another_server_is_another_connections() {
    let mut world = World::anycast(42, &[16, 16], 0);
    world.happen_at(0, 1, 1, State::Established);
    world.happen_at(0, 2, 1, State::Established);
    world.run_all(3 * STEP);
    world.told([1, 0], 1, 3, State::Closed);
    world.told([1, 0], 2, 1, State::Closed);
    assert_eq!(world.state(0, 1), Some(State::Established));
    assert_eq!(world.state(0, 2), Some(State::Closed), "its own");
    world.run_all(3 * STEP);
    // And the other way round: what lives takes the place of what has ended.
    world.happen_at(0, 4, 1, State::Closed);
    world.told([1, 0], 4, 3, State::Established);
    assert_eq!(world.state(0, 4), Some(State::Established));
}

/// A late packet of the old connection comes to another director that knows of the new one.
#[test]
fn a_new_connection_on_a_used_port_lives_everywhere_after_a_late_end() {
    let mut world = World::anycast(43, &[16, 16, 16], 0);
    (0..40).for_each(|client| world.happen(1, client, State::Established));
    world.run_all(Duration::from_secs(5));
    (0..40).for_each(|client| world.happen(1, client, State::FinWait));
    world.run_all(3 * STEP);
    (0..40).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(3 * STEP);
    (0..40).for_each(|client| world.happen(1, client, State::Closed));
    world.run_all(4 * STEP);
    // At once, and after some rounds of digests.
    for _ in 0..2 {
        for client in 0..40 {
            assert_eq!(world.states(client), [Some(State::Established); 3], "{client}");
        }
        assert_eq!((world.owned(0, Owner::Me), world.owned(1, Owner::Other(NodeId(0)))), (40, 40));
        world.run_all(ALL);
    }
}

/// All slots are those of connections that have ended here: no successors of theirs come there.
#[test]
fn an_end_counts_whatever_has_ended_in_the_slot_before() {
    let mut world = World::anycast(44, &[1, 16], 0);
    for first in (10_000..14_000).step_by(80) {
        (first..first + 80).for_each(|client| world.happen(0, client, State::Established));
        world.run_all(STEP);
        (first..first + 80).for_each(|client| world.happen(0, client, State::Closed));
        world.run_all(STEP);
    }
    let has_ended = |seen: &Seen| seen.is_nothing() && *seen != Seen::NOTHING;
    let ended = world.directors[0].engine.mirrors.all().filter(has_ended).count();
    assert!(ended > 300, "{ended} of 384 slots");
    (0..20).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(3 * STEP);
    (0..20).for_each(|client| world.happen(1, client, State::Closed));
    world.run_all(3 * STEP);
    assert_eq!((world.alive(0).len(), world.alive(1).len()), (0, 0));
}

/// What both know is hearsay: one of them saw the end, and the other one a packet.
#[test]
fn of_what_nobody_speaks_for_the_end_counts_unless_it_was_used_later() {
    let mut world = World::anycast(45, &[16, 16], 0);
    let starts_again = |world: &mut World| {
        (0..2).for_each(|node| world.start(node));
        world.run_all(ALL);
    };
    (0..20).for_each(|client| world.happen(0, client, State::Established));
    (0..20).for_each(|client| world.happen(1, client, State::FinWait));
    starts_again(&mut world);
    for client in 0..20 {
        assert_eq!(world.states(client), [Some(State::FinWait); 2], "{client}");
    }
    (20..40).for_each(|client| world.happen(1, client, State::FinWait));
    world.run(Duration::from_secs(6), &[]);
    (20..40).for_each(|client| world.happen(0, client, State::Established));
    starts_again(&mut world);
    for client in 20..40 {
        assert_eq!(world.states(client), [Some(State::Established); 2], "{client}");
    }
}

/// It is cut off for longer than others wait for it, and goes on.
#[test]
fn what_ends_at_a_silent_director_ends_everywhere_once_it_is_back() {
    let mut world = World::anycast(46, &[16, 16, 16], 0);
    (0..40).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_millis(50));
    world.directors[0].set_side(Some(1));
    world.pass(Duration::from_secs(8));
    (0..20).for_each(|client| world.happen(0, client, State::Closed));
    world.pass(Duration::from_secs(7));
    // Routers send some to another director meanwhile.
    (20..25).for_each(|client| world.happen(1, client, State::Established));
    world.pass(Duration::from_secs(3));
    world.run_all(ALL);
    world.assert_all_know(20);
    assert_eq!((world.owned(0, Owner::Me), world.owned(1, Owner::Me)), (15, 5));
}

/// What has ended leaves no entry there in the end, and others tell all that they know at once.
#[test]
fn what_a_silent_director_has_forgotten_it_is_not_told_by_others() {
    for seed in 0..12 {
        let mut world = World::anycast(70 + seed, &[16, 16, 16], 0);
        let clients = || (1..40).filter(|client| client % 3 != 0);
        clients().for_each(|client| world.happen(0, client, State::Established));
        world.run_all(Duration::from_millis(50));
        world.directors[0].set_side(Some(1));
        // This one is told in vain: the stream to the silent one begins again.
        world.happen(1, 50, State::Established);
        world.pass(Duration::from_secs(8));
        clients().for_each(|client| world.happen(0, client, State::Closed));
        world.pass(Duration::from_millis(2000 + 35 * seed));
        clients().for_each(|client| world.forget(0, client));
        world.pass(Duration::from_secs(3));
        world.run_all(ALL);
        world.assert_all_know(1);
    }
}

/// It began again at a director that starts, and another one tells that by hearsay to a third one.
#[test]
fn who_is_silent_when_something_lives_again_by_hearsay_learns_it() {
    let mut world = World::anycast(48, &[16, 16, 16], 0);
    for state in [State::Established, State::Closed] {
        (0..20).for_each(|client| world.happen(0, client, state));
        world.run_all(3 * STEP);
    }
    world.apart = vec![[0, 2], [1, 2]];
    world.pass(Duration::from_millis(1200));
    (0..20).for_each(|client| world.happen(0, client, State::Established));
    world.start(0);
    world.pass(Duration::from_millis(500));
    assert_eq!((world.alive(1).len(), world.alive(2).len()), (20, 0));
    // The third one does not hear the first one yet.
    world.apart = vec![[0, 2]];
    world.pass(ALL);
    world.assert_all_know(20);
}

/// Two that are cut off from each other both speak for a connection, to a third one.
#[test]
fn a_third_director_goes_by_the_last_use_whoever_tells_last() {
    let mut world = World::anycast(47, &[16, 16, 16], 0);
    (0..20).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_millis(50));
    world.apart = vec![[0, 1]];
    world.pass(Duration::from_secs(6));
    (0..10).for_each(|client| world.happen(1, client, State::FinWait));
    (10..20).for_each(|client| world.happen(1, client, State::Closed));
    world.pass(4 * STEP);
    for _ in 0..25 {
        for client in 0..20 {
            let wanted = if client < 10 { State::FinWait } else { State::Closed };
            assert_eq!(world.state(2, client), Some(wanted), "{client}");
        }
        world.pass(Duration::from_secs(1));
    }
    for client in 0..10 {
        assert_eq!(world.states(client), [Some(State::FinWait); 3], "{client}: by hearsay");
    }
    assert_eq!(world.alive(0).len(), 10);
    world.apart.clear();
    world.run_all(ALL);
    world.assert_all_know(10);
}
