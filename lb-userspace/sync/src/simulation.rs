//! Directors in simulated time and without sockets: the engine of the product, a connection table
//! in memory, and a network that loses and delays datagrams. The tests of this crate are made of
//! it, and `cargo xtask simulate`; no product has it.
//!
//! - `director`: one of them, and what the thread of `service` does in a round
//! - `memory`: its connection table
//!
//! All of it follows from a seed, but for the processor time that is measured.

mod director;
mod memory;

use std::thread;
use std::time::Duration;

use fastrand::Rng;
use lb_cluster::auth::{ClusterId, KeyId, Keys};
use lb_common::addr::{Address as _, V4, V6};
use lb_common::service::Protocol;
use lb_common::table::connection::{Entry, KeyV4, KeyV6, State};
use lb_model::ids::{GroupId, GroupNumber, NodeId};

pub use self::director::{Director, Traffic};
pub use self::memory::{Kind, MemoryPage, MemoryPages, MemoryTable};
use crate::backend::Backend;
use crate::engine::{Engine, Me};
use crate::link::Lot;
use crate::service;

/// The one group of VIPs, by its number on each director.
pub const GROUP: GroupNumber = GroupNumber(0);
/// Its name.
pub const GROUP_ID: GroupId = GroupId(77);
/// The number that bindings of its services bear.
pub const BINDINGS: u64 = 5;
/// Ticks until a connection expires.
pub const TIMEOUT: u32 = 3600;
/// Real servers of the service of each family.
pub const SERVERS: u16 = 3;

/// A director to which nothing comes looks at its table so often.
pub const STEP: Duration = service::STEP;
/// One to which something comes rests for so long.
pub const REST: Duration = service::REST;

/// More directors than this cannot be told apart on the wire.
pub const MOST_DIRECTORS: usize = 1 + u8::MAX as usize;

/// The clock begins here, so that what is due "never so far" differs from what is due now.
const BEGIN: Duration = Duration::from_secs(1000);

/// Random numbers from a seed.
pub fn lot(seed: u64) -> Lot {
    let mut rng = Rng::with_seed(seed);
    Box::new(move || rng.u64(1..))
}

/// The key of the simulated cluster.
pub fn keys() -> Keys {
    Keys::new([(KeyId(1), &[7_u8; 32][..])], KeyId(1)).expect("a key")
}

fn vip(v6: bool) -> V6 {
    if v6 { V6([0x20, 0x10]) } else { V4::from_octets([192, 0, 2, 10]).mapped() }
}

/// Server `number`, from 1, of the service of either family.
fn backend(number: u16, v6: bool) -> Backend {
    let server = V4::from_octets([192, 0, 2, 20 + number as u8]).mapped();
    Backend { vip: vip(v6), port: 80, protocol: Protocol::Tcp, server }
}

/// What becomes of datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub struct Network {
    /// Percent that get lost.
    pub loss: f64,
    /// 0: what is sent in a step arrives in it.
    pub delay: Duration,
    /// Those of one step arrive in any order.
    pub reorders: bool,
}

/// Some directors of a cluster with one group of VIPs, and the network between them.
pub struct World {
    pub now: Duration,
    /// The clock's step: [`STEP`], or [`REST`] to see what happens in between.
    pub step: Duration,
    pub network: Network,
    pub directors: Vec<Director>,
    /// Directors of one side that do not hear each other all the same.
    pub apart: Vec<[usize; 2]>,
    /// Datagrams so far.
    pub sent: u64,
    /// Processors that directors are simulated on. What happens does not depend on it.
    pub threads: usize,
    rng: Rng,
    setting: Setting,
}

/// What all directors have in common.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub seed: u64,
    /// All directors balance the group at once; else one of them does.
    pub anycast: bool,
    /// Bytes a second that a director sends at most.
    pub rate: u64,
    pub network: Network,
}

impl World {
    /// A director for each of `tables`, which says how many pages it has for IPv4 and for IPv6.
    pub fn build(setting: Setting, tables: &[[usize; 2]]) -> Self {
        assert!(tables.len() <= MOST_DIRECTORS, "{} directors have no numbers", tables.len());
        let mut rng = Rng::with_seed(setting.seed);
        let directors =
            tables.iter().map(|pages| Director::new(*pages, rng.u64(..), setting, BEGIN)).collect();
        let Setting { network, .. } = setting;
        let mut world = Self {
            now: BEGIN,
            step: STEP,
            network,
            directors,
            apart: Vec::new(),
            sent: 0,
            threads: 1,
            rng,
            setting,
        };
        for node in 0..world.directors.len() {
            world.start(node);
        }
        if !setting.anycast {
            world.activate(0);
        }
        world
    }

    /// The process of a node starts, with the table that it finds.
    pub fn start(&mut self, node: usize) {
        let others = (0..self.directors.len()).filter(|other| *other != node).map(|node| NodeId(node as u8));
        let session = self.now.as_millis() as u64;
        let me = Me { node: NodeId(node as u8), session, cluster: ClusterId::of("lb"), keys: keys() };
        let seed = self.rng.u64(..);
        let lots = |peer: NodeId| lot(seed ^ u64::from(peer.0));
        let Director { table, directory, engine, .. } = &mut self.directors[node];
        *engine = Engine::new(me, others, table.clone(), directory.clone(), lots);
    }

    /// Another machine takes a node's place, with an empty table.
    pub fn replace(&mut self, node: usize) {
        let Director { table, side, .. } = &self.directors[node];
        let (pages, side) = (table.page_counts(), *side);
        let mut director = Director::new(pages, self.rng.u64(..), self.setting, self.now);
        director.set_side(side);
        self.directors[node] = director;
        self.start(node);
    }

    /// From now on this node balances, and no other.
    pub fn activate(&mut self, node: usize) {
        for (index, Director { table, .. }) in self.directors.iter().enumerate() {
            table.set_balances(index == node);
        }
    }

    /// From now on these directors run and hear each other, and no others run.
    pub fn reach(&mut self, reached: &[usize]) {
        for (node, director) in self.directors.iter_mut().enumerate() {
            director.set_side(reached.contains(&node).then_some(0));
        }
    }

    /// One step of the clock: directors do their rounds, the network carries what they send.
    pub fn step(&mut self) {
        self.now += self.step;
        let now = self.now;
        let part = self.directors.len().div_ceil(self.threads.max(1)).max(1);
        let rounds = |part: &mut [Director]| part.iter_mut().for_each(|director| director.round(now));
        if self.threads <= 1 {
            rounds(&mut self.directors);
        } else {
            thread::scope(|scope| {
                for part in self.directors.chunks_mut(part) {
                    scope.spawn(move || rounds(part));
                }
            });
        }
        self.carry();
    }

    fn carry(&mut self) {
        let Self { network, directors, apart, rng, .. } = self;
        let mut under_way = Vec::new();
        for (from, Director { side, outbox, .. }) in directors.iter_mut().enumerate() {
            under_way.extend(outbox.drain(..).map(|(to, datagram)| (from, *side, to, datagram)));
        }
        self.sent += under_way.len() as u64;
        if network.reorders {
            rng.shuffle(&mut under_way);
        }
        for (from, side, NodeId(to), datagram) in under_way {
            let is_lost = network.loss > 0.0 && rng.f64() * 100.0 < network.loss;
            let to = usize::from(to);
            let hears = !apart.iter().any(|pair| pair.contains(&from) && pair.contains(&to));
            let to = &mut directors[to];
            if side.is_some() && to.side == side && hears && !is_lost {
                to.arrives(self.now + network.delay, datagram);
            }
        }
        if network.delay.is_zero() {
            directors.iter_mut().for_each(|director| director.receive(self.now, usize::MAX));
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Lets time pass while these directors run and hear each other, and no others run.
    pub fn run(&mut self, time: Duration, reached: &[usize]) {
        self.reach(reached);
        self.pass(time);
    }

    /// Lets time pass for all.
    pub fn run_all(&mut self, time: Duration) {
        self.run(time, &Vec::from_iter(0..self.directors.len()));
    }

    /// Something happens to a connection at a node, of either family: every third client has IPv6.
    pub fn happen(&self, node: usize, client: u32, state: State) {
        let Director { table, directory, .. } = &self.directors[node];
        match key(client) {
            AnyKey::V4(key) => table.set(key, table.number(directory, server(client), false), state),
            AnyKey::V6(key) => table.set(key, table.number(directory, server(client), true), state),
        }
    }

    /// What a node knows of a connection.
    pub fn state(&self, node: usize, client: u32) -> Option<State> {
        self.entry(node, client)?.state()
    }

    /// What a node's table has of a connection.
    pub fn entry(&self, node: usize, client: u32) -> Option<Entry> {
        let Director { table, directory, .. } = &self.directors[node];
        match key(client) {
            AnyKey::V4(key) => table.entry(key, table.number(directory, server(client), false)),
            AnyKey::V6(key) => table.entry(key, table.number(directory, server(client), true)),
        }
    }
}

enum AnyKey {
    V4(KeyV4),
    V6(KeyV6),
}

fn server(client: u32) -> u16 {
    1 + (client % u32::from(SERVERS)) as u16
}

fn key(client: u32) -> AnyKey {
    let ports = [client as u16 | 1, 80_u16.to_be()];
    match client.is_multiple_of(3) {
        true => AnyKey::V6(KeyV6::new(V6([u64::from(client), 5]), ports[0], ports[1])),
        false => AnyKey::V4(KeyV4::new(V4(client), ports[0], ports[1])),
    }
}
