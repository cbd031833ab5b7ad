//! One size of cluster, phase by phase: all get to know each other and some connections that stay,
//! each rate of new ones is measured, some directors are cut off and come back, and a director with
//! an empty table takes another one's place.

use std::time::Duration;

use lb_common::table::Layout as _;
use lb_common::table::connection::{KeyV4, KeyV6};
use lb_sync::engine::Footprint;
use lb_sync::simulation::{Director, MOST_DIRECTORS, Network, REST, Setting, World};

use crate::figures::{Cost, Heal, Join, Lags, Memory, Size, Totals};
use crate::plan::Plan;
use crate::population::{Awaited, LIFE, Population};

/// Datagrams are under way for a millisecond: more than on a segment, less than between sites.
const DELAY: Duration = REST;
/// Until all have heard of each other.
const GREETING: Duration = Duration::from_secs(1);
/// The connections that stay are opened in this time.
const FILLING: Duration = Duration::from_millis(500);
/// Directors that are cut off are taken to be gone after three seconds.
const CUT: Duration = Duration::from_secs(4);
/// New connections a second at each director that begin meanwhile, and stay.
const CUT_RATE: u32 = 4;
/// A director that is replaced is away for so long.
const AWAY: Duration = Duration::from_millis(1500);
/// Nothing is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections of a rate of which it is measured when all know them.
const SAMPLES: u64 = 2000;
/// Memory is looked at so often while much is told.
const GLANCE: u32 = 16;

struct Run<'a> {
    directors: usize,
    plan: &'a Plan,
    population: Population,
    say: &'a mut dyn FnMut(&str),
    peers_bytes_most: usize,
}

/// Simulates so many directors: at least two. More than [`MOST_DIRECTORS`] are calculated from as
/// many.
pub fn simulate(directors: usize, plan: &Plan, say: &mut dyn FnMut(&str)) -> Size {
    if directors > MOST_DIRECTORS {
        return simulate(MOST_DIRECTORS, plan, say).scaled(directors);
    }
    let rates = plan.rates(directors);
    let mut run = Run::new(directors, plan, &rates, say);
    run.begin();
    let costs = rates.iter().map(|rate| run.cost(*rate)).collect();
    run.pass(2 * LIFE, 0);
    let memory = run.memory();
    let heal = run.heal();
    let join = run.join();
    // Memory is glanced at: what a short retelling takes may be missed. What is always there is
    // not.
    let peers_bytes_most = run.peers_bytes_most.max(memory.peers_bytes);
    let memory = Memory { peers_bytes_most, ..memory };
    Size { directors, calculated_from: None, costs, memory, join: Some(join), heal: Some(heal) }
}

impl<'a> Run<'a> {
    fn new(directors: usize, plan: &'a Plan, rates: &[u32], say: &'a mut dyn FnMut(&str)) -> Self {
        let most = rates.iter().max().copied().unwrap_or_default();
        // Of new ones those of two seconds, with what of them is over and not overwritten yet.
        let each = plan.connections + CUT_RATE * CUT.as_secs() as u32 + 2 * most;
        // At most at a quarter of its slots: at every moment there is room.
        let pages = KeyV4::pages_for(2 * each * directors as u32) as usize;
        let network = Network { loss: plan.loss, delay: DELAY, reorders: false };
        let setting = Setting { seed: plan.seed, anycast: true, rate: Plan::sync_rate(), network };
        let mut world = World::build(setting, &vec![[pages, 1]; directors]);
        (world.step, world.threads) = (REST, plan.threads);
        let population = Population::new(world, plan.seed);
        Self { directors, plan, population, say, peers_bytes_most: 0 }
    }

    fn say(&mut self, text: &str) {
        let text = format!("{} directors: {text}", self.directors);
        (self.say)(&text);
    }

    fn pass(&mut self, time: Duration, rate: u32) {
        let end = self.population.world.now + time;
        while self.population.world.now < end {
            self.population.step(f64::from(rate), false);
        }
    }

    /// How long it takes until `is_over`.
    fn until(&mut self, mut is_over: impl FnMut(&Population) -> bool) -> Option<f64> {
        let begin = self.population.world.now;
        let mut steps = 0_u32;
        while self.population.world.now < begin + PATIENCE {
            self.population.step(0.0, false);
            steps += 1;
            if steps.is_multiple_of(GLANCE) {
                let most = self.footprints().map(|footprint| footprint.peers).max();
                self.peers_bytes_most = self.peers_bytes_most.max(most.unwrap_or_default());
            }
            if is_over(&self.population) {
                return Some((self.population.world.now - begin).as_secs_f64());
            }
        }
        None
    }

    fn begin(&mut self) {
        self.say("get to know each other and the connections that stay");
        self.pass(GREETING, 0);
        self.open_lasting(FILLING, f64::from(self.plan.connections) / FILLING.as_secs_f64());
        let mut all = Awaited::new(&self.population.lasting, 0..self.directors);
        self.until(|population| all.is_over(population));
        // What was told once needs no room any more.
        self.peers_bytes_most = 0;
    }

    fn open_lasting(&mut self, time: Duration, rate: f64) {
        let end = self.population.world.now + time;
        while self.population.world.now < end {
            self.population.step(rate, true);
        }
    }

    /// What a rate costs.
    fn cost(&mut self, rate: u32) -> Cost {
        self.say(&format!("{rate} new connections a second at each"));
        if rate > 0 {
            self.pass(LIFE + LIFE / 2, rate);
        }
        let before = self.totals(0..self.directors);
        let begin = self.population.world.now;
        let end = begin + self.plan.measured;
        let expected = u64::from(rate) * self.directors as u64 * self.plan.measured.as_secs();
        let (every, mut opened) = (expected.div_ceil(SAMPLES).max(1), 0_u64);
        // Each with the time of its opening and the first director that may not know it.
        let mut waiting: Vec<(u32, Duration, usize)> = Vec::new();
        let mut lags = Vec::new();
        while self.population.world.now < end {
            let now = self.population.world.now;
            self.population.step(f64::from(rate), false);
            // Those of the last moment would not be over in time.
            if now + LIFE / 2 < end {
                for client in &self.population.opened {
                    opened += 1;
                    if opened.is_multiple_of(every) {
                        waiting.push((*client, now, 0));
                    }
                }
            }
            waiting.retain_mut(|(client, since, known)| {
                let lag = self.population.world.now - *since;
                while *known < self.directors && self.population.knows(*known, *client) {
                    *known += 1;
                }
                // Later it would be over.
                let is_done = *known == self.directors || lag >= LIFE;
                if is_done {
                    lags.push(lag);
                }
                !is_done
            });
        }
        let seconds = (self.population.world.now - begin).as_secs_f64();
        let after = self.totals(0..self.directors);
        let cost = after.cost(&before, self.directors, seconds, rate);
        // Those that not all know by now have taken half a second at least.
        lags.extend(waiting.iter().map(|(_, since, _)| end - *since));
        Cost { known: lags_of(lags), ..cost }
    }

    fn totals(&self, nodes: impl IntoIterator<Item = usize>) -> Totals {
        let mut totals = Totals::default();
        for node in nodes {
            let Director { traffic, busy, .. } = &self.population.world.directors[node];
            totals.sent += traffic.sent;
            totals.sent_bytes += traffic.sent_bytes;
            totals.received += traffic.received;
            totals.received_bytes += traffic.received_bytes;
            totals.busy_s += busy.as_secs_f64();
        }
        totals
    }

    fn footprints(&self) -> impl Iterator<Item = Footprint> + '_ {
        self.population.world.directors.iter().map(|director| director.engine.footprint())
    }

    fn memory(&self) -> Memory {
        let [v4, v6] = self.population.world.directors[0].table.page_counts();
        let slots = v4 * KeyV4::SLOTS_PER_PAGE as usize + v6 * KeyV6::SLOTS_PER_PAGE as usize;
        let mirrors = self.population.world.directors[0].engine.footprint().mirrors;
        Memory {
            connections: self.population.lasting.len(),
            table_bytes_each: 2 * 8 * KeyV4::WORDS_PER_SLOT as usize,
            mirror_bytes_each: 2 * mirrors / slots,
            peers_bytes: self.footprints().map(|footprint| footprint.peers).sum::<usize>() / self.directors,
            peers_bytes_most: 0,
        }
    }

    /// One director in ten, at least one and eight at most, is cut off together with the others of
    /// them, while connections begin on both sides.
    fn heal(&mut self) -> Heal {
        let cut_off = (self.directors / 10).clamp(1, 8);
        self.say(&format!("{cut_off} cut off, and back"));
        let known_before = self.population.lasting.len();
        self.set_side(0..cut_off, Some(1));
        self.open_lasting(CUT, f64::from(CUT_RATE));
        self.set_side(0..cut_off, Some(0));
        let before = self.totals(0..cut_off);
        let mut all = Awaited::new(&self.population.lasting[known_before..], 0..self.directors);
        let know_all_s = self.until(|population| all.is_over(population));
        let further = self.until(|population| (0..cut_off).all(|node| is_in_step(population, node)));
        Heal {
            cut_off,
            know_all_s,
            in_step_s: know_all_s.zip(further).map(|(one, other)| one + other),
            received_mbyte: self.totals(0..cut_off).received_mbyte(&before) / cut_off as f64,
        }
    }

    /// Another machine takes the place of the last director.
    fn join(&mut self) -> Join {
        self.say("one with an empty table joins");
        let node = self.directors - 1;
        self.set_side([node], None);
        self.pass(AWAY, 0);
        self.population.world.replace(node);
        self.set_side([node], Some(0));
        let before = self.totals([node]);
        let mut all = Awaited::new(&self.population.lasting, [node]);
        let knows_all_s = self.until(|population| all.is_over(population));
        let further = self.until(|population| is_in_step(population, node));
        let after = self.totals([node]);
        Join {
            knows_all_s,
            in_step_s: knows_all_s.zip(further).map(|(one, other)| one + other),
            received_mbyte: after.received_mbyte(&before),
            busy_s: after.busy_s - before.busy_s,
        }
    }

    fn set_side(&mut self, nodes: impl IntoIterator<Item = usize>, side: Option<u8>) {
        for node in nodes {
            self.population.world.directors[node].set_side(side);
        }
    }
}

/// Whether the director says that it knows what all others know, and they say so of it.
fn is_in_step(population: &Population, node: usize) -> bool {
    let status = population.world.directors[node].engine.status(population.world.now);
    status.peers.iter().all(|peer| peer.is_up && peer.knows_theirs && peer.knows_ours)
}

fn lags_of(mut lags: Vec<Duration>) -> Option<Lags> {
    lags.sort_unstable();
    let at = |percent: usize| Some(lags.get(lags.len() * percent / 100)?.as_secs_f64() * 1e3);
    Some(Lags { p50_ms: at(50)?, p99_ms: at(99)? })
}
