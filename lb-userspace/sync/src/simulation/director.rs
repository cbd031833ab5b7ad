//! One director of a simulation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use lb_cluster::auth::ClusterId;
use lb_model::ids::NodeId;
use lb_system::clock::thread_time;

use super::{MemoryTable, SERVERS, STEP, Setting, keys, lot};
use crate::allowance::Allowance;
use crate::directory::SharedDirectory;
use crate::engine::{Engine, Me};
use crate::service::{BATCH, RECEIVE_BUFFER};

/// What the kernel counts for a datagram in a socket's buffer besides its bytes, about.
const BUFFERED: usize = 768;

/// Datagrams, and bytes of them without the headers of UDP and below, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub sent: u64,
    pub sent_bytes: u64,
    pub received: u64,
    pub received_bytes: u64,
    /// Those for which the socket's buffer had no room.
    pub overflowed: u64,
}

/// A director: its table, its engine, and in the place of its sockets what has come and what goes.
pub struct Director {
    pub table: Arc<MemoryTable>,
    pub directory: SharedDirectory,
    pub engine: Engine<MemoryTable>,
    pub traffic: Traffic,
    /// Processor time of its rounds, as measured.
    pub busy: Duration,
    /// Directors hear those of the same side. `None`: it does not run.
    pub(super) side: Option<u8>,
    pub(super) outbox: Vec<(NodeId, Vec<u8>)>,
    /// With the times at which they arrive, in order.
    inbox: VecDeque<(Duration, Vec<u8>)>,
    buffered: usize,
    allowance: Allowance,
    /// Its last round.
    looked: Duration,
}

impl Director {
    pub(super) fn new(pages: [usize; 2], seed: u64, setting: Setting, now: Duration) -> Self {
        let mut order: Vec<(u16, bool)> =
            (1..=SERVERS).flat_map(|number| [(number, false), (number, true)]).collect();
        Rng::with_seed(seed).shuffle(&mut order);
        let (table, directory) = MemoryTable::new(pages, seed, &order, setting.anycast);
        table.set_time(now);
        let table = Arc::new(table);
        // It knows nobody before it is started.
        let me = Me { node: NodeId(0), session: 0, cluster: ClusterId(0), keys: keys() };
        Self {
            engine: Engine::new(me, [], table.clone(), directory.clone(), |_| lot(0)),
            table,
            directory,
            traffic: Traffic::default(),
            busy: Duration::ZERO,
            side: Some(0),
            outbox: Vec::new(),
            inbox: VecDeque::new(),
            buffered: 0,
            allowance: Allowance::new(setting.rate, now.saturating_sub(STEP)),
            looked: now.saturating_sub(STEP),
        }
    }

    pub fn side(&self) -> Option<u8> {
        self.side
    }

    /// What is under way to one that does not run is lost.
    pub fn set_side(&mut self, side: Option<u8>) {
        self.side = side;
        if side.is_none() {
            self.inbox.clear();
            self.buffered = 0;
        }
    }

    pub(super) fn arrives(&mut self, at: Duration, datagram: Vec<u8>) {
        let size = datagram.len() + BUFFERED;
        // The kernel counts twice what is asked for.
        if self.buffered + size > 2 * RECEIVE_BUFFER {
            self.traffic.overflowed += 1;
            return;
        }
        self.buffered += size;
        self.inbox.push_back((at, datagram));
    }

    /// What the thread does once something has come, or once it is time for a look at the table.
    pub(super) fn round(&mut self, now: Duration) {
        // The clock goes on for the program, whether this thread runs or not.
        self.table.set_time(now);
        let has_come = self.inbox.front().is_some_and(|(arrival, _)| *arrival <= now);
        if self.side.is_none() || !has_come && now < self.looked + STEP {
            return;
        }
        let begun = thread_time();
        self.looked = now;
        self.receive(now, BATCH);
        self.engine.work(now);
        self.allowance.refill(now);
        let Self { engine, allowance, outbox, traffic, .. } = self;
        engine.send(now, &mut allowance.left, |to, datagram| {
            traffic.sent += 1;
            traffic.sent_bytes += datagram.len() as u64;
            outbox.push((to, datagram.to_vec()));
        });
        self.busy += thread_time().saturating_sub(begun);
    }

    /// Takes up to `most` of the datagrams that have arrived.
    pub(super) fn receive(&mut self, now: Duration, most: usize) {
        for _ in 0..most {
            if self.inbox.front().is_none_or(|(arrival, _)| *arrival > now) {
                break;
            }
            let Some((_, datagram)) = self.inbox.pop_front() else { break };
            self.buffered -= datagram.len() + BUFFERED;
            self.traffic.received += 1;
            self.traffic.received_bytes += datagram.len() as u64;
            self.engine.receive(&datagram, now);
        }
    }
}
