//! All runs of a small cluster, up to a bound: every placement of a few faults in a stretch of
//! time.
//!
//! Checked after each event, by true time and by leases:
//! - never two data paths active at one moment, unless two heartbeats in a row were lost or late
//!   within the last 12 intervals;
//! - without that excuse: never two active together for longer than the dead time while a path
//!   works between them, both ways or one way (`world/overlap.rs` tells what counts);
//! - no node active without a link or a data path.
//!
//! At the end of each run all faults end, and within 40 intervals someone is active, then exactly
//! one, after at most four take-overs, and it stays so for longer than any delay.
//!
//! Bounds: heartbeats every 10 ms, dead after 40 ms, lease 26 ms; two paths of 1 and 4 ms; clocks
//! even or 5 % slow and fast; executors of 0.1 or 15 ms; one group. Two nodes and three, at work,
//! from the start, or all active after a cut that may heal one way first. The usual walks place one
//! fault in up to 14 intervals, two or three in up to 4: 150,000 states. With the environment
//! variable `LB_MODEL_DEPTH=deep` the same tests place two in up to 12 (three nodes: 8), three in 7
//! with clocks 1 % off, and four lost heartbeats or cuts in 9: 28 million states, 10 minutes
//! optimised:
//!
//!     LB_MODEL_DEPTH=deep cargo test --release -p lb-cluster machine::model -- --nocapture
//!
//! A fault strikes between two intervals and lasts any number of them; within an interval its
//! moment is fixed. Ends of faults may come together with each other and with a new fault.
//!
//! `stateright` would do the walk too; it is forty lines here, and the world's clocks, leases and
//! executors would have to be written in either case.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::world::*;
use super::*;

struct Bounds {
    /// Ticks in which faults may strike.
    ticks: u32,
    /// Faults in one run; their ends (restart, thaw, heal, mend) may come in any later tick and are
    /// not counted.
    faults: u32,
    kinds: Vec<Fault>,
}

impl Bounds {
    /// Ticks and faults: the usual ones, and those for `LB_MODEL_DEPTH=deep`.
    fn of(kinds: Vec<Fault>, usual: (u32, u32), deep: (u32, u32)) -> Self {
        let is_deep = std::env::var_os("LB_MODEL_DEPTH").is_some_and(|depth| depth == "deep");
        let (ticks, faults) = if is_deep { deep } else { usual };
        Self { ticks, faults, kinds }
    }
}

struct Walk {
    first: World,
    bounds: Bounds,
    hasher: RandomState,
    seen: HashSet<u64>,
    trace: Vec<(u32, Fault)>,
    steps: u64,
    ends: u64,
}

impl Walk {
    fn explore(bounds: Bounds, world: &World) -> Self {
        let mut walk = Self {
            first: world.clone(),
            bounds,
            hasher: RandomState::new(),
            seen: HashSet::new(),
            trace: Vec::new(),
            steps: 0,
            ends: 0,
        };
        let last = world.tick + walk.bounds.ticks;
        walk.visit(world, last, walk.bounds.faults);
        walk
    }

    fn visit(&mut self, world: &World, last: u32, faults: u32) {
        if !self.seen.insert(self.hasher.hash_one((world, faults))) {
            return;
        }
        if world.tick == last {
            return self.end(world.clone());
        }
        self.step(world.clone(), last, faults);
        let kinds = self.bounds.kinds.clone();
        for fault in kinds.into_iter().chain(ends(world.nodes.len())) {
            let cost = u32::from(!fault.is_end());
            if cost > faults || !world.can(fault) {
                continue;
            }
            let mut next = world.clone();
            self.trace.push((world.tick, fault));
            next.strike(fault);
            if fault.is_end() {
                self.visit(&next, last, faults);
            } else {
                self.step(next, last, faults - cost);
            }
            self.trace.pop();
        }
    }

    fn step(&mut self, mut next: World, last: u32, faults: u32) {
        next.step();
        self.steps += 1;
        if let Err(why) = next.check() {
            self.fail(&why);
        }
        self.visit(&next, last, faults);
    }

    /// No more faults: the cluster must come to rest, and stay there.
    fn end(&mut self, mut world: World) {
        world.heal();
        if !self.seen.insert(self.hasher.hash_one(&world)) {
            return;
        }
        self.ends += 1;
        if let Err(why) = comes_to_rest(world, 40) {
            self.fail(&why);
        }
    }

    /// Tells the run again, line by line.
    fn fail(&self, why: &str) -> ! {
        let mut world = self.first.clone();
        let last = world.tick + self.bounds.ticks;
        for tick in world.tick..last + 60 {
            for (_, fault) in self.trace.iter().filter(|(then, _)| *then == tick) {
                println!("           {fault:?}");
                world.strike(*fault);
            }
            if tick == last {
                println!("           end of all faults");
                world.heal();
            }
            world.step();
            println!("{}", world.line());
        }
        panic!("{why}, after {:?}", self.trace);
    }
}

fn ends(nodes: usize) -> impl Iterator<Item = Fault> {
    let of = |node| [Fault::Restart(node), Fault::Thaw(node), Fault::Mend(node), Fault::Learn(node)];
    (0..nodes).flat_map(of).chain([Fault::Heal])
}

fn faults(nodes: usize) -> Vec<Fault> {
    let of = |node| {
        let peer = (node + 1) % nodes;
        let failover = Command::Failover(GROUP);
        [
            Fault::Crash(node),
            Fault::Freeze(node),
            Fault::Lose(node),
            Fault::Delay(node),
            Fault::Repeat(node),
            Fault::LinkDown(node),
            Fault::DataPathDown(node),
            Fault::CutOff(node),
            Fault::TakeoverFails(node),
            Fault::CutOneWay(node, peer),
            Fault::Command(node, failover),
        ]
    };
    (0..nodes).flat_map(of).chain([Fault::CutAll, Fault::CutPath(0), Fault::CutPath(1)]).collect()
}

/// Everyone up, and the preferred node active.
fn at_work(nodes: usize, speeds: Speeds) -> World {
    put_to_work(World::new(nodes, 1, speeds))
}

fn speeds(rates: [u64; 4], work: [u64; 4]) -> Speeds {
    Speeds { rates, work }
}

const EVEN: [u64; 4] = [1000; 4];
const SLOW_FIRST: [u64; 4] = [950, 1050, 1050, 1050];
const FAST_FIRST: [u64; 4] = [1050, 950, 950, 950];

const QUICK: [u64; 4] = [100; 4];
const SLOW: [u64; 4] = [15_000; 4];

fn walk(name: &str, world: &World, bounds: Bounds) {
    let started = std::time::Instant::now();
    let (ticks, faults) = (bounds.ticks, bounds.faults);
    let walk = Walk::explore(bounds, world);
    println!(
        "{name}: {ticks} ticks, {faults} faults: {} states, {} steps, {} ends, {:?}",
        walk.seen.len(),
        walk.steps,
        walk.ends,
        started.elapsed()
    );
}

/// All combinations of speeds and executors.
fn all_speeds() -> impl Iterator<Item = (String, Speeds)> {
    let rates = [("even", EVEN), ("slow first", SLOW_FIRST), ("fast first", FAST_FIRST)];
    rates.into_iter().flat_map(|(name, rates)| {
        [QUICK, SLOW].map(|work| (format!("{name}, work {} us", work[0]), speeds(rates, work)))
    })
}

/// What goes wrong with messages.
fn losses(nodes: usize) -> Vec<Fault> {
    let of = |node| [Fault::Lose(node), Fault::Delay(node), Fault::HealOneWay(node, (node + 1) % nodes)];
    let paths = [Fault::CutAll, Fault::CutPath(0), Fault::CutPath(1)];
    (0..nodes).flat_map(of).chain(paths).collect()
}

/// The same, and nodes that stop.
fn losses_and_stops(nodes: usize) -> Vec<Fault> {
    let of = |node| [Fault::Repeat(node), Fault::Freeze(node), Fault::Crash(node)];
    losses(nodes).into_iter().chain((0..nodes).flat_map(of)).collect()
}

#[test]
fn two_nodes_at_work() {
    for (name, speeds) in all_speeds() {
        walk(&name, &at_work(2, speeds), Bounds::of(faults(2), (12, 1), (10, 2)));
    }
}

/// A group leaves the configuration of one node after the other, and comes back, while other things
/// go wrong.
#[test]
fn a6_nodes_that_reload() {
    let kinds = |nodes: usize| {
        let of = |node| {
            [
                Fault::Forget(node),
                Fault::Lose(node),
                Fault::Delay(node),
                Fault::Freeze(node),
                Fault::Crash(node),
            ]
        };
        (0..nodes).flat_map(of).collect::<Vec<_>>()
    };
    for (name, speeds) in all_speeds() {
        walk(&name, &at_work(2, speeds), Bounds::of(kinds(2), (5, 2), (10, 2)));
    }
    let world = at_work(3, speeds(SLOW_FIRST, [2_000; 4]));
    walk("three nodes", &world, Bounds::of(kinds(3), (3, 2), (6, 2)));
}

/// One node after the other learns of the group, at any distance.
#[test]
fn a6_a_group_that_nobody_knew() {
    for (name, speeds) in all_speeds() {
        let mut world = at_work(2, speeds);
        (0..2).for_each(|node| world.strike(Fault::Forget(node)));
        (0..20).for_each(|_| world.step());
        let kinds = (0..2).flat_map(|node| [Fault::Lose(node), Fault::Delay(node), Fault::Freeze(node)]);
        walk(&name, &world, Bounds::of(kinds.collect(), (8, 1), (12, 2)));
    }
}

#[test]
fn two_nodes_from_the_start() {
    for (name, speeds) in all_speeds() {
        walk(&name, &World::new(2, 1, speeds), Bounds::of(faults(2), (14, 1), (12, 2)));
    }
}

/// One lost heartbeat, one that comes 3 ms later over the slow path, and a pause just within the
/// lease use the margin up: what is left is for clocks that differ by 2 %.
#[test]
fn two_nodes_and_faults_close_together() {
    for (name, rates) in [("slow first", [990, 1010, 1010, 1010]), ("fast first", [1010, 990, 990, 990])] {
        walk(name, &at_work(2, speeds(rates, QUICK)), Bounds::of(faults(2), (2, 3), (7, 3)));
    }
    let world = at_work(2, speeds(SLOW_FIRST, [2_000; 4]));
    walk("slow first, 5 %", &world, Bounds::of(faults(2), (4, 2), (10, 2)));
}

#[test]
fn two_nodes_and_losses_close_together() {
    for (name, rates) in [("slow first", SLOW_FIRST), ("fast first", FAST_FIRST)] {
        let world = at_work(2, speeds(rates, QUICK));
        walk(name, &world, Bounds::of(losses(2), (4, 3), (9, 4)));
        walk(&format!("{name}, apart"), &split(world), Bounds::of(losses(2), (3, 3), (6, 4)));
    }
}

#[test]
fn two_active_nodes_that_meet() {
    for (name, speeds) in all_speeds() {
        walk(&name, &split(at_work(2, speeds)), Bounds::of(losses_and_stops(2), (4, 1), (7, 2)));
    }
}

#[test]
fn three_nodes_at_work() {
    let world = at_work(3, speeds(SLOW_FIRST, [2_000; 4]));
    walk("three nodes", &world, Bounds::of(faults(3), (10, 1), (8, 2)));
}

#[test]
fn three_active_nodes_that_meet() {
    let world = split(at_work(3, speeds(SLOW_FIRST, [2_000; 4])));
    walk("three nodes", &world, Bounds::of(losses_and_stops(3), (2, 1), (4, 2)));
}

/// The walk finds what it is for.
#[test]
#[should_panic(expected = "two are active at one moment")]
fn a_lease_that_is_too_long_is_found() {
    let settings = (0..2).map(|me| Settings { lease: DEAD + INTERVAL / 2, ..settings(me, 2, 1) });
    let world = World::with(settings.collect(), speeds(SLOW_FIRST, QUICK));
    walk("long lease", &put_to_work(world), Bounds::of(faults(2), (12, 1), (12, 1)));
}

/// With twice the dead time, and so twice the wait for a rival, they keep the promise when they
/// meet both ways.
#[test]
#[should_panic(expected = "two stay active for GroupId(0) beyond the dead time: OneWay")]
fn a_node_that_waits_too_long_to_be_heard_is_found() {
    let settings = (0..2).map(|me| Settings { dead: DEAD * 2, initial_dead: DEAD * 3, ..settings(me, 2, 1) });
    let world = split(put_to_work(World::with(settings.collect(), speeds(SLOW_FIRST, QUICK))));
    walk("long wait", &world, Bounds::of(losses(2), (8, 0), (8, 0)));
}

/// Both take the group in their first moments, apart, and beat together.
#[test]
#[should_panic(expected = "two stay active for GroupId(0) beyond the dead time: Mutual")]
fn heartbeats_that_are_too_far_apart_are_found() {
    let settings = (0..2).map(|me| {
        let (interval, dead) = (DEAD * 3 / 2, DEAD * 6);
        let lease = Settings::longest_lease(interval, dead);
        Settings { interval, dead, lease, initial_dead: dead, ..settings(me, 2, 1) }
    });
    let world = split(World::with(settings.collect(), speeds(EVEN, QUICK)));
    walk("far apart", &world, Bounds::of(Vec::new(), (8, 0), (8, 0)));
}
