//! Time-outs of some seconds: what is in use stays known to the others.

use super::*;

/// Ticks of time-outs, of 4 s and more.
const SHORT: [u32; 7] = [16, 19, 30, 38, 44, 50, 100];

/// Of both families.
const CLIENTS: u32 = 12;

impl World {
    /// With another time-out, from the start.
    fn short(seed: u64, ticks: u32, anycast: bool) -> Self {
        let mut world = Self::of(seed, &[8, 8, 8], 0, anycast);
        world.directors.iter().for_each(|director| director.table.set_timeout(ticks));
        world.run_all(Duration::from_secs(1));
        world
    }

    /// A packet comes that changes no state, of which the program therefore notes nothing.
    fn goes_on(&self, node: usize, client: u32) {
        let Director { table, .. } = &self.directors[node];
        let mut noted = Vec::new();
        table.v4.take_changed(&mut noted);
        table.v6.take_changed(&mut noted);
        self.happen(node, client, State::Established);
        table.v4.take_changed(&mut noted);
        table.v6.take_changed(&mut noted);
    }

    fn is_known(&self, node: usize, client: u32) -> bool {
        let now = Table::now(&*self.directors[node].table);
        self.entry(node, client).is_some_and(|entry| !entry.expires().is_past(now))
    }

    /// Packets come twice a second for a while, and everybody knows the connections meanwhile.
    fn are_used(&mut self, node: usize, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            (0..CLIENTS).for_each(|client| self.goes_on(node, client));
            self.run_all(Duration::from_millis(500));
            for (node, client) in (0..3).flat_map(|node| (0..CLIENTS).map(move |client| (node, client))) {
                assert!(
                    self.is_known(node, client),
                    "{client} at {node}, {:?} before the end",
                    end - self.now
                );
            }
        }
    }
}

#[test]
fn what_is_in_use_stays_known_however_short_its_time_out() {
    for (seed, ticks) in (90..).zip(SHORT) {
        for anycast in [false, true] {
            let mut world = World::short(seed, ticks, anycast);
            (0..CLIENTS).for_each(|client| world.happen(0, client, State::Established));
            world.run_all(3 * STEP);
            world.are_used(0, Duration::from_secs(40));
            let told: u64 =
                world.directors[0].engine.status(world.now).peers.iter().map(|peer| peer.told).sum();
            assert!(
                told < 2 * u64::from(CLIENTS) * 30,
                "{told}: once in one and a half seconds each at most"
            );
        }
    }
}

#[test]
fn what_moves_to_another_director_stays_known_however_short_its_time_out() {
    // Whoever has it now needs four seconds to be sure of that.
    for (seed, ticks) in (100..).zip(SHORT.into_iter().filter(|ticks| *ticks >= 30)) {
        let mut world = World::short(seed, ticks, true);
        (0..CLIENTS).for_each(|client| world.happen(0, client, State::Established));
        world.run_all(3 * STEP);
        world.are_used(0, Duration::from_secs(10));
        world.are_used(1, Duration::from_secs(30));
        let mine = world.directors[1].engine.mirrors.all();
        let mine = mine.filter(|seen| !seen.is_nothing() && seen.owner() == Owner::Me).count();
        assert_eq!(mine, CLIENTS as usize, "with {ticks} ticks");
    }
}
