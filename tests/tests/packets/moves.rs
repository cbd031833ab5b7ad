//! A group moves from one director to the other and back, while clients use the same ports again:
//! an entry of an earlier connection must not lead a later one to another server.

use std::collections::BTreeMap;

use lb_common::reason::TableEvent;
use lb_tests::harness::*;

use crate::leases::{Pair, Role};

/// Moves the group to the director `to`; as planned, both serve on what they know.
fn moves(pair: &Pair, to: usize, planned: bool) {
    let from = 1 - to;
    let leases = [0, 1].map(|index| pair.0[index].data_path.leases());
    pair.set(from, if planned { Role::Grace } else { Role::Lapsed }, planned);
    leases[from].next_generation(GROUP);
    pair.set(to, Role::Holder, planned);
    leases[to].next_generation(GROUP);
}

/// The director that has the group is killed, and the other one takes it over.
fn is_killed(pair: &Pair, holder: usize) {
    let next = 1 - holder;
    pair.set(holder, Role::Killed, false);
    pair.set(next, Role::Holder, true);
    pair.0[next].data_path.leases().next_generation(GROUP);
}

/// It starts again, and does not have the group yet. What the next process begins with:
/// `Lease::left_behind`.
fn starts_again(pair: &Pair, index: usize) {
    pair.0[index].data_path.leases().next_generation(GROUP);
    pair.set(index, Role::ServesOn, false);
}

/// The server that a packet finds, and how often it was relayed.
#[track_caller]
fn found(pair: &Pair, at: usize, packet: Packet) -> (usize, u32) {
    let (outcome, relays) = pair.send(at, packet);
    (outcome.server().into(), relays)
}

/// A connection that begins at the director `at` and gets its server.
#[track_caller]
fn begin(pair: &Pair, at: usize, from: Client) {
    assert_eq!(found(pair, at, Packet::syn(from)), (at + 1, 0), "a SYN");
    assert_eq!(found(pair, at, Packet::ack(from)), (at + 1, 0), "what follows it");
}

#[test]
fn a_port_that_was_used_again_elsewhere_leads_to_its_new_connection() {
    for planned in [true, false] {
        let pair = Pair::new();
        moves(&pair, 0, planned);
        let ends: [(&str, Option<u8>); 3] =
            [("left open", None), ("closed", Some(FIN | ACK)), ("reset", Some(RST))];
        for (number, (_, flags)) in (0..).zip(ends) {
            begin(&pair, 0, client(number));
            if let Some(flags) = flags {
                pair.send(0, Packet::tcp(client(number), flags));
            }
        }
        moves(&pair, 1, planned);
        (0..3).for_each(|number| begin(&pair, 1, client(number)));
        moves(&pair, 0, true);
        for (number, (end, _)) in (0..).zip(ends) {
            for _ in 0..2 {
                assert_eq!(found(&pair, 0, Packet::ack(client(number))), (2, 1), "{end}, planned: {planned}");
            }
        }
        // And once more to and fro: what the first director knows of the old connections is not
        // believed by the other.
        moves(&pair, 1, true);
        for (number, (end, _)) in (0..).zip(ends) {
            let server = found(&pair, 1, Packet::ack(client(number))).0;
            assert_eq!(server, 2, "{end}, planned: {planned}, moved twice more");
        }
    }
}

#[test]
fn a_connection_that_outlives_two_moves_is_asked_about_once() {
    let pair = Pair::new();
    moves(&pair, 0, true);
    begin(&pair, 0, client(1));
    moves(&pair, 1, true);
    moves(&pair, 0, true);
    assert_eq!(found(&pair, 0, Packet::ack(client(1))), (1, 2), "the other director sends it back");
    let relayed = pair.0[0].event(TableEvent::Relayed);
    for _ in 0..3 {
        assert_eq!(found(&pair, 0, Packet::ack(client(1))), (1, 0), "and then it is known");
    }
    assert_eq!(pair.0[0].event(TableEvent::Relayed), relayed);
    pair.0[0].assert_counts_are_true();
}

/// Without another director to ask, what is known holds.
#[test]
fn a_director_that_finds_nobody_to_ask_goes_on_with_what_it_knows() {
    let pair = Pair::new();
    moves(&pair, 0, true);
    begin(&pair, 0, client(1));
    moves(&pair, 1, false);
    moves(&pair, 0, false);
    assert_eq!(found(&pair, 0, Packet::ack(client(1))), (1, 0));
    moves(&pair, 1, true);
    assert_eq!(found(&pair, 1, Packet::ack(client(1))), (1, 1));
}

/// A generator of Lehmer's, with a fixed seed: the walk is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        self.0 % sides
    }
}

/// Clients with one port each open, use and close connections, while the group moves to and fro a
/// hundred times.
#[test]
fn no_connection_loses_its_server_in_a_hundred_moves() {
    let mut world = World::new(1);
    for _ in 0..100 {
        world.clients_go_on();
        world.holder = 1 - world.holder;
        moves(&world.pair, world.holder, true);
        world.everyone_is_at_home("moved");
    }
    world.pair.0.iter().for_each(|director| director.assert_counts_are_true());
}

/// The same with directors that are killed, whose programs serve on.
#[test]
fn no_connection_loses_its_server_while_directors_are_killed_and_start_again() {
    let mut world = World::new(2);
    for _ in 0..100 {
        world.clients_go_on();
        let dead = world.holder;
        is_killed(&world.pair, dead);
        world.holder = 1 - dead;
        world.everyone_is_at_home("taken over from one that was killed");
        world.clients_go_on();
        starts_again(&world.pair, dead);
        world.everyone_is_at_home("it has started again");
        world.clients_go_on();
        if world.dice.roll(2) == 0 {
            world.holder = dead;
            moves(&world.pair, dead, true);
            world.everyone_is_at_home("it has the group back");
        }
    }
    world.pair.0.iter().for_each(|director| director.assert_counts_are_true());
}

struct World {
    pair: Pair,
    holder: usize,
    dice: Dice,
    /// Live connections: the server of each.
    live: BTreeMap<u32, usize>,
}

impl World {
    fn new(seed: u64) -> Self {
        let pair = Pair::new();
        moves(&pair, 0, true);
        Self { pair, holder: 0, dice: Dice(seed), live: BTreeMap::new() }
    }

    fn clients_go_on(&mut self) {
        let Self { pair, holder, dice, live } = self;
        for _ in 0..20 {
            let from = dice.roll(12) as u32;
            match (live.get(&from), dice.roll(4)) {
                (None, _) => {
                    // A director that still has an earlier connection open would take the SYN for
                    // one of its.
                    let server = found(pair, *holder, Packet::syn(client(from))).0;
                    assert_eq!(found(pair, *holder, Packet::ack(client(from))).0, server);
                    live.insert(from, server);
                }
                (Some(&server), 0) => {
                    let flags = if dice.roll(2) == 0 { RST } else { FIN | ACK };
                    assert_eq!(found(pair, *holder, Packet::tcp(client(from), flags)).0, server);
                    live.remove(&from);
                }
                (Some(&server), _) => {
                    assert_eq!(found(pair, *holder, Packet::ack(client(from))).0, server);
                }
            }
        }
    }

    #[track_caller]
    fn everyone_is_at_home(&self, when: &str) {
        for (&from, &server) in &self.live {
            assert_eq!(found(&self.pair, self.holder, Packet::ack(client(from))).0, server, "{when}: {from}");
        }
    }
}
