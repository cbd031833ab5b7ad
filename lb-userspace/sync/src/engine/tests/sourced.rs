//! Connections in whose clients' place own addresses and ports stand (`source_nat`).

use lb_common::forward::nat::source::{Client, Endpoint};

use super::*;
use crate::table::Entered;

/// An own address and a port of it.
fn end(client: u32, port: u16) -> Endpoint {
    let address = match client.is_multiple_of(3) {
        true => V6([0x20, 0x99]),
        false => V4::from_octets([192, 0, 2, 99]).mapped(),
    };
    Endpoint { address, port: port.to_be(), reserved: [0; 3] }
}

fn own_end(client: u32) -> Endpoint {
    end(client, 1024 + client as u16)
}

impl World {
    /// As [`World::new`], with such servers of IPv6, and of IPv4 if `v4`.
    fn sourced(seed: u64, pages: &[usize], loss: u8, v4: bool) -> Self {
        let world = Self::new(seed, pages, loss);
        for Director { directory, .. } in &world.directors {
            directory.make_sourced(|backend| v4 || !backend.vip.is_mapped());
        }
        world
    }

    /// The client of a connection that the node knows.
    fn client(&self, node: usize, client: u32) -> Option<Client> {
        let server = self.entry(node, client)?.server();
        let address = match client.is_multiple_of(3) {
            true => V6([u64::from(client), 5]),
            false => V4(client).mapped(),
        };
        Some(Client::new(address, client as u16 | 1, server.0, 0))
    }

    /// A client's connection is established at the node by this end.
    fn open(&self, node: usize, client: u32, end: Endpoint) {
        self.happen(node, client, State::Established);
        let of = self.client(node, client).expect("it is known");
        let entered = self.directors[node].table.enter_source(&of, &end, &|_| false);
        assert_eq!(entered, Entered::WasFree, "client {client}");
    }

    fn source(&self, node: usize, client: u32) -> Option<Endpoint> {
        self.directors[node].table.source(&self.client(node, client)?)
    }

    /// The second director is told by the first one.
    fn tell_sourced(&mut self, client: u32, source: Option<Endpoint>, state: State) {
        let now = self.now;
        let Director { table, directory, engine, .. } = &mut self.directors[1];
        let number = table.number(directory, 1 + (client % 3) as u16, false);
        let known = directory.get().known(number).expect("known").known;
        engine.follow_directory(now);
        engine.peers[0].theirs.insert(ServerId(900), (known.group.id, known.backend));
        let key = KeyV4::new(V4(client), client as u16 | 1, 80_u16.to_be());
        let (server, remaining, hearsay) = (ServerId(900), 3600, false);
        let told = message::Connection { server, key, state, remaining, hearsay, source };
        engine.take(0, |taker| taker.connection(&told, now));
        let table = &self.directors[1].table;
        assert_eq!(table.counts(), table.recount());
    }
}

#[test]
fn a_connection_is_known_with_what_stands_in_its_clients_place() {
    let mut world = World::sourced(80, &[4, 8, 16], 10, true);
    world.run_all(Duration::from_secs(3));
    (0..60).for_each(|client| world.open(0, client, own_end(client)));
    world.run_all(Duration::from_secs(1));
    let assert_known = |world: &World, clients: std::ops::Range<u32>| {
        for (node, client) in (0..3).flat_map(|node| clients.clone().map(move |client| (node, client))) {
            assert_eq!(world.source(node, client), Some(own_end(client)), "client {client} at {node}");
        }
        (1..3).for_each(|node| world.assert_alike(0, node));
    };
    assert_known(&world, 0..60);
    // After a take-over the other one tells of them, and of their ends.
    world.activate(1);
    (0..10).for_each(|client| world.happen(1, client, State::Closed));
    (10..20).for_each(|client| world.happen(1, client, State::FinWait));
    (60..70).for_each(|client| world.open(1, client, own_end(client)));
    world.run_all(Duration::from_secs(25));
    assert_known(&world, 10..70);
    assert_eq!(world.directors[0].table.alive(&world.directors[0].directory).len(), 60);
    assert_eq!(world.state(0, 12), Some(State::FinWait));
    // And one that comes with an empty table learns all of it.
    world.replace(2);
    world.directors[2].directory.make_sourced(|_| true);
    world.run_all(Duration::from_secs(13));
    assert_known(&world, 10..70);
    for node in [0, 2] {
        let peers = world.directors[node].engine.status(world.now).peers;
        assert!(peers.iter().any(|peer| peer.node == NodeId(1) && peer.knows_theirs), "{node}: {peers:?}");
    }
}

/// Such a director says nothing of what it understands.
#[test]
fn a_director_of_an_earlier_version_is_told_of_all_others() {
    let mut world = World::sourced(81, &[4, 4], 0, false);
    world.directors[1].engine.peers[0].link.greet_with(Vec::new());
    world.run_all(Duration::from_secs(1));
    for client in 0..60_u32 {
        match client.is_multiple_of(3) {
            true => world.open(0, client, own_end(client)),
            false => world.happen(0, client, State::Established),
        }
    }
    world.run_all(Duration::from_secs(13));
    let known = |world: &World| {
        let known = (0..60).filter(|client| world.entry(1, *client).is_some());
        known.partition::<Vec<u32>, _>(|client| client.is_multiple_of(3))
    };
    let (sourced, plain) = known(&world);
    assert_eq!((sourced.len(), plain.len()), (0, 40));
    let peers = |world: &World| world.directors[0].engine.status(world.now).peers;
    assert!(peers(&world)[0].knows_ours);
    assert_eq!(world.directors[1].engine.status(world.now).drops.malformed, 0);
    // It is upgraded.
    world.start(1);
    world.run_all(Duration::from_secs(3));
    assert_eq!(known(&world).0.len(), 20);
    assert_eq!(world.source(1, 3), Some(own_end(3)));
    world.assert_alike(0, 1);
    assert!(peers(&world)[0].knows_ours);
}

/// It may have been given back and to another one while this director was away.
#[test]
fn a_port_is_whose_the_director_that_balances_says() {
    let mut world = World::sourced(82, &[4, 4], 0, true);
    world.run_all(Duration::from_secs(1));
    world.tell_sourced(1, Some(end(1, 7000)), State::Established);
    assert_eq!(world.source(1, 1), Some(end(1, 7000)));
    world.tell_sourced(4, Some(end(4, 7000)), State::Established);
    assert_eq!((world.state(1, 1), world.source(1, 4)), (None, Some(end(4, 7000))));
    // Another port of the same client, and the first one is free.
    world.tell_sourced(4, Some(end(4, 7001)), State::Established);
    world.tell_sourced(7, Some(end(7, 7000)), State::Established);
    assert_eq!(world.source(1, 4), Some(end(4, 7001)));
    assert_eq!((world.source(1, 7), world.state(1, 4)), (Some(end(7, 7000)), Some(State::Established)));
    // Ends come without.
    world.tell_sourced(7, None, State::Closed);
    assert_eq!(world.state(1, 7), Some(State::Closed));
}

/// Both directors are reloaded, one after the other.
#[test]
fn a_service_may_get_addresses_for_its_clients_place() {
    let mut world = World::new(84, &[4, 4], 0);
    world.run_all(Duration::from_secs(1));
    (0..9).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_secs(1));
    world.assert_alike(0, 1);
    for node in 0..2 {
        world.directors[node].directory.make_sourced(|_| true);
        (0..9 * (1 - node as u32)).for_each(|client| world.open(0, client, own_end(client)));
        world.run_all(Duration::from_secs(1));
    }
    world.run_all(Duration::from_secs(13));
    world.assert_alike(0, 1);
    (0..9).for_each(|client| assert_eq!(world.source(1, client), Some(own_end(client)), "{client}"));
    assert!(world.directors[0].engine.status(world.now).peers[0].knows_ours);
}

#[test]
fn what_others_have_here_stays_theirs_and_without_a_port_nothing_is_entered() {
    let mut world = World::sourced(83, &[4, 4], 0, true);
    world.run_all(Duration::from_secs(1));
    // Of a server without a group.
    let own = Client::new(V4(77).mapped(), 5, 999, 0);
    let entered = world.directors[1].table.enter_source(&own, &end(1, 7000), &|_| false);
    assert_eq!(entered, Entered::WasFree);
    world.tell_sourced(1, Some(end(1, 7000)), State::Established);
    world.tell_sourced(4, None, State::Established);
    assert_eq!((world.state(1, 1), world.state(1, 4)), (None, None));
    assert_eq!(world.directors[1].table.source(&own), Some(end(1, 7000)));
    let drops = world.directors[1].engine.status(world.now).drops;
    assert_eq!((drops.without_source, drops.malformed, drops.without_slot), (1, 1, 0));
}
