//! The threads that keep the connection table in order. One walks over it: expires what was idle
//! too long, purges what belonged to servers that are gone, and counts. It runs at memory speed;
//! the program goes on meanwhile. The other one mends the tournaments.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lb_common::server::ServerId;
use lb_common::table::connection::Tick;
use lb_system::clock::now_ns;
use lb_system::vital_signs::{Pulse, RHYTHM};

use super::bindings::{Due, Keeper};
use super::table::{Census, Table};
use super::tally::{Counting, Tally};

/// From the start of one walk to the start of the next, at least.
const PERIOD: Duration = Duration::from_millis(500);
/// The walk takes at most this part of a core: a table for 16 million connections (512 MiB) is
/// walked every few seconds.
const SHARE_OF_CORE: u32 = 20;
/// A walk is cut into so many parts with pauses in between, so that a large table does not take a
/// core at once.
const PARTS: usize = 16;

/// A walk may take longer than the one before.
const MARGIN: Duration = Duration::from_secs(1);

/// From one mending of the tournaments to the next: what a race between CPUs left stale is right
/// again within 100 ms.
const MENDING: Duration = Duration::from_millis(50);

const WALKER: &str = "lb-sweep";
const MENDER: &str = "lb-mend";

/// The thread that walks, and the one that mends tournaments, for which a part of a walk may take
/// too long.
pub struct Sweeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    mending: Option<JoinHandle<()>>,
}

struct Shared {
    table: Arc<Table>,
    stop: AtomicBool,
    /// Of the thread that walks, and of the one that mends.
    pulses: [Pulse; 2],
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    census: Census,
    /// Servers to purge, and how many full walks each has behind it.
    purging: BTreeMap<ServerId, u32>,
}

impl Sweeper {
    /// `keeper`: whoever has bindings live as long as connections do. `tally`: whoever counts the
    /// connections of each client.
    pub fn start(table: Arc<Table>, keeper: Option<Keeper>, tally: Option<Tally>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            table,
            stop: AtomicBool::new(false),
            pulses: Default::default(),
            progress: Mutex::default(),
        });
        let walker = shared.clone();
        let thread =
            std::thread::Builder::new().name(WALKER.to_owned()).spawn(move || walker.run(keeper, tally))?;
        let mender = shared.clone();
        let mending = std::thread::Builder::new().name(MENDER.to_owned()).spawn(move || mender.mend())?;
        Ok(Self { shared, thread: Some(thread), mending: Some(mending) })
    }

    pub fn table(&self) -> &Table {
        &self.shared.table
    }

    /// The threads, by their names, give signs of life.
    pub fn pulses(&self) -> [(&'static str, Pulse); 2] {
        let [walker, mender] = self.shared.pulses.clone();
        [(WALKER, walker), (MENDER, mender)]
    }

    /// Slots in use at the last walk; entries expired and purged since the start.
    pub fn census(&self) -> Census {
        self.shared.progress().census.clone()
    }

    /// From now on removes every entry of `server`, until [`Self::purged`] has named it.
    pub fn purge(&self, server: ServerId) {
        self.shared.progress().purging.insert(server, 0);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Servers of which nothing is left in the table; each is named once. Two full walks: a packet
    /// that was being scheduled while the first one passed by is found by the second.
    pub fn purged(&self) -> Vec<ServerId> {
        let mut progress = self.shared.progress();
        let done: Vec<ServerId> =
            progress.purging.iter().filter(|(_, walks)| **walks >= 2).map(|(id, _)| *id).collect();
        progress.purging.retain(|_, walks| *walks < 2);
        done
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in [self.thread.take(), self.mending.take()].into_iter().flatten() {
            thread.thread().unpark();
            // A panic of the walk has been reported by its thread; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn run(&self, mut keeper: Option<Keeper>, mut tally: Option<Tally>) {
        // From the start of one walk to the start of the next.
        let mut period = PERIOD;
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let busy = self.walk(keeper.as_mut(), tally.as_mut(), period);
            period = PERIOD.max(busy * SHARE_OF_CORE);
            self.rest(begun + period);
        }
    }

    /// Until then, or until the thread is woken.
    fn rest(&self, until: Instant) {
        loop {
            self.pulses[0].beat();
            let (begun, left) = (Instant::now(), until.saturating_duration_since(Instant::now()));
            let part = left.min(RHYTHM);
            std::thread::park_timeout(part);
            if part == left || begun.elapsed() < part {
                return;
            }
        }
    }

    fn mend(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.table.mend_tournaments();
            self.pulses[1].beat();
            std::thread::park_timeout(MENDING);
        }
    }

    /// Returns how long it was at work, pauses not counted. `period` is how long the walk before
    /// took, with the pause after it.
    fn walk(&self, keeper: Option<&mut Keeper>, tally: Option<&mut Tally>, period: Duration) -> Duration {
        let begun = Instant::now();
        // What runs out before the next walk but one has seen it.
        let due = keeper.as_deref().map(|keeper| keeper.due(now_ns(), period * 3 + MARGIN));
        let due = due.and_then(|due| due.inspect_err(|error| tracing::debug!("{error:#}")).ok());
        let counting = tally.as_deref().map(Tally::begin);
        let listed = begun.elapsed();
        let purging: Vec<ServerId> = self.progress().purging.keys().copied().collect();
        let pages = self.table.pages();
        let step = pages.div_ceil(PARTS);
        let mut sum = Census::default();
        let mut busy = listed;
        for first in (0..pages).step_by(step) {
            let begun = Instant::now();
            let now = Tick::from_ns(now_ns());
            let purge = |server| !purging.is_empty() && purging.binary_search(&server).is_ok();
            let range = first..pages.min(first + step);
            let part = self.table.sweep_for(range, now, purge, due.as_ref(), counting.as_ref());
            sum.add(&part);
            busy += begun.elapsed();
            if self.stop.load(Ordering::Relaxed) {
                return busy;
            }
            self.pulses[0].beat();
            // As long a pause as the part took: at most half a core at a time.
            std::thread::sleep(begun.elapsed().min(PERIOD / PARTS as u32));
        }
        let alive = due.map(Due::alive).unwrap_or_default();
        if let Some(keeper) = keeper {
            keeper.prolong(alive, now_ns(), period * 3 + MARGIN);
        }
        let counts = counting.map(Counting::counts);
        if let (Some(tally), Some(counts)) = (tally, counts) {
            let begun = Instant::now();
            if let Err(error) = tally.tell(counts) {
                tracing::debug!("connections of some clients are not counted: {error}");
            }
            busy += begun.elapsed();
        }
        let mut progress = self.progress();
        progress.census.used = 0;
        progress.census.used_v6 = 0;
        progress.census.add(&sum);
        for server in purging {
            if let Some(walks) = progress.purging.get_mut(&server) {
                *walks += 1;
            }
        }
        busy
    }
}
