//! Connections that move between directors, while directors are silent and datagrams get lost.

use lb_common::table::connection::{Tick, slack};

use super::*;

const CLIENTS: u32 = 60;

/// Two directors that see packets of one client do so at times this far apart at least: what is
/// closer counts as alike, see `engine::last_use`.
const APART: Duration = Duration::from_secs(6);

/// Ticks by which what is told is later on its ways, all together.
const LATE: u32 = 16;

/// A client's connection as it is in truth.
#[derive(Debug, Clone, Copy)]
struct Journey {
    /// The director that gets its packets.
    node: usize,
    /// Its last packet, and the director that got it.
    used: Option<(Duration, usize)>,
    /// `None`: it has ended, or was never begun.
    state: Option<State>,
}

impl Journey {
    /// What its next packet does; `None`: it has ended.
    fn next_state(&self, rng: &mut Rng) -> Option<State> {
        match (self.state, rng.u8(..10)) {
            (None, _) => Some(State::Established),
            (Some(State::Established), 5) => Some(State::CloseWait),
            (Some(State::Established | State::CloseWait), 6 | 7) => Some(State::FinWait),
            (Some(_), 8 | 9) => None,
            (state, _) => state,
        }
    }
}

struct Journeys {
    world: World,
    rng: Rng,
    clients: Vec<Journey>,
}

impl Journeys {
    fn new(seed: u64, nodes: usize, loss: u8) -> Self {
        let mut rng = Rng::with_seed(seed);
        let world = World::anycast(seed, &vec![16; nodes], loss);
        let begin = |_| Journey { node: rng.usize(..nodes), used: None, state: None };
        let clients = (0..CLIENTS).map(begin).collect();
        Self { world, rng, clients }
    }

    fn nodes(&self) -> usize {
        self.world.directors.len()
    }

    /// One director is cut off or rests, or two do not hear each other, or all is well.
    fn disturb(&mut self) {
        let nodes = self.nodes();
        let node = self.rng.usize(..nodes);
        self.world.reach(&Vec::from_iter(0..nodes));
        self.world.apart.clear();
        match self.rng.u8(..6) {
            0 => self.world.directors[node].set_side(Some(1)),
            1 => self.world.directors[node].set_side(None),
            2 => self.world.apart.push([node, (node + 1) % nodes]),
            _ => {}
        }
    }

    /// Routers send some clients to another director, and packets of some clients come.
    fn go_on(&mut self) {
        let (now, nodes) = (self.world.now, self.nodes());
        for (client, journey) in (0..).zip(&mut self.clients) {
            if self.rng.u8(..8) == 0 {
                journey.node = self.rng.usize(..nodes);
            }
            let is_close = |(at, node): (Duration, usize)| node != journey.node && now < at + APART;
            if self.rng.bool() || journey.used.is_some_and(is_close) {
                continue;
            }
            journey.state = journey.next_state(&mut self.rng);
            journey.used = Some((now, journey.node));
            self.world.happen(journey.node, client, journey.state.unwrap_or(State::Closed));
        }
    }

    fn pass(&mut self) {
        let millis = [5, 50, 200, 1000, 3000, 7000, 12_000];
        self.world.pass(Duration::from_millis(millis[self.rng.usize(..millis.len())]));
    }

    /// All directors know alike what lives, and none knows anything for longer than a time-out
    /// after its last packet.
    fn check(&self) -> Result<(), TestCaseError> {
        for (client, Journey { used, state, .. }) in (0..).zip(&self.clients) {
            let entry = |node| {
                self.world.entry(node, client).filter(|entry| entry.state().is_some_and(look::is_alive))
            };
            let entries: Vec<Option<Entry>> = (0..self.nodes()).map(entry).collect();
            let known: Vec<Option<State>> =
                entries.iter().map(|entry| entry.and_then(Entry::state)).collect();
            if state.is_some() {
                prop_assert!(known.iter().all(Option::is_some), "{client} lives, {state:?}: {known:?}");
                prop_assert!(known.windows(2).all(|two| two[0] == two[1]), "{client}, {state:?}: {known:?}");
            }
            let Some((at, _)) = *used else { continue };
            let idle = Tick::from_ns((self.world.now - at).as_nanos() as u64).0;
            for (node, entry) in entries.iter().enumerate() {
                let Some(entry) = entry else { continue };
                let left = entry.expires().ticks_after(self.world.directors[node].table.now());
                let most = TIMEOUT + slack(TIMEOUT) + LATE;
                prop_assert!(left + idle <= most, "{client}, {state:?}, at {node}: {left} after {idle}");
            }
        }
        for node in 0..self.nodes() {
            let status = self.world.directors[node].engine.status(self.world.now);
            prop_assert!(status.peers.iter().all(|peer| peer.knows_theirs && peer.knows_ours), "{status:?}");
            // No connection stands in two slots.
            self.world.alive(node);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever clients, routers and the network do: no director forgets a connection that was used
    /// after any end that was told, once it is quiet all know the same, and what has ended is gone
    /// after its time-out at the latest.
    #[test]
    fn connections_go_where_routers_send_them(seed in any::<u64>(), loss in 0_u8..30, nodes in 2_usize..4) {
        let mut journeys = Journeys::new(seed, nodes, loss);
        for _ in 0..journeys.rng.usize(4..24) {
            if journeys.rng.u8(..3) == 0 {
                journeys.disturb();
            }
            journeys.go_on();
            journeys.pass();
        }
        journeys.world.network.loss = 0.0;
        journeys.world.apart.clear();
        // Three rounds of digests.
        journeys.world.run_all(Duration::from_secs(35));
        journeys.check()?;
    }
}
