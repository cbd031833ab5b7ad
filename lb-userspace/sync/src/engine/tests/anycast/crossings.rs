//! What two directors tell of one connection at the same moment, so that both may give way, or a
//! third one hears of both: all of them come to know the same, see `engine::last_use`.

use super::rules::ALL;
use super::*;

/// What all know of a connection, what two directors make of it at the same moment, and what
/// counts.
const CROSSINGS: [(Option<State>, [State; 2], Option<State>); 4] = [
    (None, [State::Established, State::FinWait], Some(State::FinWait)),
    (None, [State::Established, State::CloseWait], Some(State::CloseWait)),
    (Some(State::Established), [State::CloseWait, State::FinWait], Some(State::FinWait)),
    (Some(State::Established), [State::CloseWait, State::Closed], None),
];

/// The two hear each other, or only a third one does so for a while.
#[test]
fn of_what_two_tell_at_once_the_end_counts_everywhere() {
    let twos = [(false, [0, 1]), (false, [1, 0]), (true, [0, 1]), (true, [1, 0])];
    for (seed, (apart, two)) in (60..).zip(twos) {
        let mut world = World::anycast(seed, &[16, 16, 16], 0);
        let clients = || (0..40).map(|client| (client, CROSSINGS[client as usize / 10]));
        for (client, (before, ..)) in clients() {
            before.into_iter().for_each(|state| world.happen(2, client, state));
        }
        world.run_all(10 * STEP);
        if apart {
            world.apart.push([0, 1]);
        }
        for (client, (_, states, _)) in clients() {
            two.into_iter().zip(states).for_each(|(node, state)| world.happen(node, client, state));
        }
        world.pass(ALL);
        world.apart.clear();
        world.run_all(ALL);
        for (client, crossing) in clients() {
            let living = |state: &State| look::is_alive(*state);
            let states: Vec<_> = world.states(client).into_iter().map(|state| state.filter(living)).collect();
            assert_eq!(states, [crossing.2; 3], "{seed}: {client}, {crossing:?}");
        }
    }
}

/// A third director goes by the lower number, too, whoever of the two tells it last.
#[test]
fn of_two_servers_that_two_choose_at_once_one_counts_everywhere() {
    for (seed, apart) in [(64, false), (65, false), (66, true), (67, true)] {
        let mut world = World::anycast(seed, &[16, 16, 16], 0);
        if apart {
            world.apart.push([0, 1]);
        }
        (0..20).for_each(|client| world.happen_at(0, client, 1, State::Established));
        (0..20).for_each(|client| world.happen_at(1, client, 2, State::Established));
        for time in [10 * STEP, ALL] {
            world.pass(time);
            world.assert_alike(0, 2);
        }
        world.apart.clear();
        world.run_all(ALL);
        world.assert_all_know(20);
        assert_eq!(world.owned(0, Owner::Me), 20);
    }
}
