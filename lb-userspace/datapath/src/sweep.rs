//! The walk over the connection table: expires what was idle too long, purges what belonged to servers that are gone,
//! and counts. It runs at memory speed in a thread of its own; the program goes on meanwhile.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lb_common::connection::{Entry, Key, KeyV4, Tick};
use lb_common::server::{Counts, ServerId};
use lb_common::spills::{Pressed, RawSpills, Settle, Spills, Walk};
use lb_common::table::{Layout as _, Page, RawPage};
use lb_system::clock::now_ns;

use super::mapped::Mapped;
use super::tournaments::Tournaments;

/// The connection table and the counts of its servers, as memory.
pub struct Table {
    pages: Mapped<RawPage>,
    spills: Mapped<RawSpills>,
    counts: Arc<Mapped<u64>>,
    /// What goes by the counts, unless they are another program's.
    tournaments: Option<Arc<Tournaments>>,
}

/// One page of the table, of connections with this kind of key.
pub struct PageView<'a, K> {
    pages: &'a Mapped<RawPage>,
    spills: &'a Mapped<RawSpills>,
    index: usize,
    key: PhantomData<K>,
}

impl<'a, K> PageView<'a, K> {
    fn word(&self, word: u32) -> &'a AtomicU64 {
        self.pages.word(self.index, word as usize * 8)
    }

    fn spills(&self, field: usize) -> &'a AtomicU64 {
        self.spills.word(self.index, field)
    }
}

impl<K: Key> Page for PageView<'_, K> {
    type Key = K;
    fn read(&self, word: u32) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }
    fn write(&self, word: u32, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }
    fn swap(&self, word: u32, from: u64, to: u64) -> bool {
        self.word(word).compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

impl<K> Spills for PageView<'_, K> {
    fn recent(&self) -> u64 {
        self.spills(offset_of!(RawSpills, recent)).load(Ordering::SeqCst)
    }
    fn lines(&self) -> u64 {
        self.recent() | self.settled()
    }
    fn add_recent(&self, bits: u64) {
        self.spills(offset_of!(RawSpills, recent)).fetch_or(bits, Ordering::SeqCst);
    }
    fn pressed(&self) -> Pressed {
        Pressed(self.spills(offset_of!(RawSpills, pressed)).load(Ordering::Relaxed))
    }
    fn set_pressed(&self, pressed: Pressed) {
        self.spills(offset_of!(RawSpills, pressed)).store(pressed.0, Ordering::Relaxed);
    }
}

impl<K> Settle for PageView<'_, K> {
    fn settled(&self) -> u64 {
        self.spills(offset_of!(RawSpills, settled)).load(Ordering::SeqCst)
    }
    fn clear_recent(&self, bits: u64) {
        self.spills(offset_of!(RawSpills, recent)).fetch_and(!bits, Ordering::SeqCst);
    }
    fn add_settled(&self, bits: u64) {
        self.spills(offset_of!(RawSpills, settled)).fetch_or(bits, Ordering::SeqCst);
    }
    fn swap_settled(&self, from: u64, to: u64) {
        let settled = self.spills(offset_of!(RawSpills, settled));
        // If it fails, somebody else has walked; the next walk is right.
        let _ = settled.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed);
    }
}

/// What one walk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Slots in use.
    pub used: u64,
    /// Entries whose time was over, removed by this walk.
    pub expired: u64,
    /// Entries of purged servers, removed by this walk.
    pub purged: u64,
}

impl Table {
    pub fn new(
        pages: Mapped<RawPage>,
        spills: Mapped<RawSpills>,
        counts: Arc<Mapped<u64>>,
        tournaments: Option<Arc<Tournaments>>,
    ) -> Self {
        Self { pages, spills, counts, tournaments }
    }

    pub fn page(&self, index: usize) -> PageView<'_, KeyV4> {
        PageView { pages: &self.pages, spills: &self.spills, index, key: PhantomData }
    }

    /// Brings the tournaments in line with the counts.
    pub fn mend_tournaments(&self) {
        if let Some(tournaments) = &self.tournaments {
            tournaments.mend();
        }
    }

    pub fn slots(&self) -> u64 {
        self.pages.elements() as u64 * u64::from(KeyV4::SLOTS_PER_PAGE)
    }

    pub fn bytes(&self) -> usize {
        self.pages.bytes()
    }

    pub fn counts(&self, server: ServerId) -> Counts {
        Counts(self.counts.atomic(usize::from(server.0)).load(Ordering::Relaxed))
    }

    /// Every entry there is now, with its key. Entries change while this goes on.
    pub fn entries(&self) -> impl Iterator<Item = (KeyV4, Entry)> + '_ {
        (0..self.pages.elements()).flat_map(move |index| {
            let page = self.page(index);
            (0..KeyV4::SLOTS_PER_PAGE).filter_map(move |slot| {
                let (key, entry) = (page.key(slot), page.entry(slot));
                (entry.state().is_some() && page.key(slot) == key).then_some((key, entry))
            })
        })
    }

    /// Counts of every server, from the entries themselves: what `counts` must equal once packets pause.
    pub fn recount(&self) -> BTreeMap<ServerId, Counts> {
        let mut counts: BTreeMap<ServerId, Counts> = BTreeMap::new();
        for (_, entry) in self.entries() {
            counts.entry(entry.server()).or_default().0 += entry.counts();
        }
        counts
    }

    /// One walk over the pages of `range`. Servers for which `purge` holds lose their entries.
    pub fn sweep(
        &self,
        range: std::ops::Range<usize>,
        now: Tick,
        purge: impl Fn(ServerId) -> bool,
    ) -> Census {
        let mut census = Census::default();
        for index in range {
            let page = self.page(index);
            let (walk, mut spilled) = (Walk::begin(&page), 0);
            for slot in 0..KeyV4::SLOTS_PER_PAGE {
                let entry = page.entry(slot);
                if entry == Entry::EMPTY {
                    continue;
                }
                spilled |= entry.away().map_or(0, |line| 1 << line);
                let purged = entry.state().is_some() && purge(entry.server());
                if !purged && !entry.expires().is_past(now) {
                    census.used += 1;
                } else if page.swap_entry(slot, entry, Entry::EMPTY) {
                    self.settle(entry);
                    *(if purged { &mut census.purged } else { &mut census.expired }) += 1;
                } else {
                    census.used += 1; // the program was faster: the entry lives
                }
            }
            walk.end(&page, spilled);
        }
        if census.expired + census.purged > 0 {
            self.mend_tournaments();
        }
        census
    }

    /// Notes an entry in its server's counts, in the place of the one before.
    pub fn count(&self, entry: Entry, before: Option<Entry>) {
        if let Some(before) = before {
            self.settle(before);
        }
        let counts = self.counts.atomic(usize::from(entry.server().0));
        counts.fetch_add(entry.counts(), Ordering::Relaxed);
    }

    /// Takes an entry that was removed off its server's counts.
    fn settle(&self, entry: Entry) {
        if entry.state().is_some() {
            let counts = self.counts.atomic(usize::from(entry.server().0));
            counts.fetch_sub(entry.counts(), Ordering::Relaxed);
        }
    }

    pub fn pages(&self) -> usize {
        self.pages.elements()
    }
}

/// From the start of one walk to the start of the next, at least.
const PERIOD: Duration = Duration::from_millis(500);
/// The walk takes at most this part of a core: a table for 16 million connections (512 MiB) is walked every few seconds.
const SHARE_OF_CORE: u32 = 20;
/// A walk is cut into so many parts with pauses in between, so that a large table does not take a core at once.
const PARTS: usize = 16;

/// From one mending of the tournaments to the next: what a race between CPUs left stale is right again within 100 ms.
const MENDING: Duration = Duration::from_millis(50);

/// The thread that walks, and the one that mends tournaments, for which a part of a walk may take too long.
pub struct Sweeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    mending: Option<JoinHandle<()>>,
}

struct Shared {
    table: Arc<Table>,
    stop: AtomicBool,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    used: u64,
    expired: u64,
    /// Servers to purge, and how many full walks each has behind it.
    purging: BTreeMap<ServerId, u32>,
}

impl Sweeper {
    pub fn start(table: Arc<Table>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { table, stop: AtomicBool::new(false), progress: Mutex::default() });
        let walker = shared.clone();
        let thread = std::thread::Builder::new().name("lb-sweep".to_owned()).spawn(move || walker.run())?;
        let mender = shared.clone();
        let mending = std::thread::Builder::new().name("lb-mend".to_owned()).spawn(move || mender.mend())?;
        Ok(Self { shared, thread: Some(thread), mending: Some(mending) })
    }

    pub fn table(&self) -> &Table {
        &self.shared.table
    }

    /// Slots in use at the last walk, and entries expired since the start.
    pub fn census(&self) -> (u64, u64) {
        let progress = self.shared.progress();
        (progress.used, progress.expired)
    }

    /// From now on removes every entry of `server`, until [`Self::purged`] has named it.
    pub fn purge(&self, server: ServerId) {
        self.shared.progress().purging.insert(server, 0);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Servers of which nothing is left in the table; each is named once. Two full walks: a packet that was being
    /// scheduled while the first one passed by is found by the second.
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

    fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let busy = self.walk();
            let period = PERIOD.max(busy * SHARE_OF_CORE);
            std::thread::park_timeout(period.saturating_sub(begun.elapsed()));
        }
    }

    fn mend(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.table.mend_tournaments();
            std::thread::park_timeout(MENDING);
        }
    }

    /// Returns how long it was at work, pauses not counted.
    fn walk(&self) -> Duration {
        let purging: Vec<ServerId> = self.progress().purging.keys().copied().collect();
        let pages = self.table.pages();
        let step = pages.div_ceil(PARTS);
        let mut sum = Census::default();
        let mut busy = Duration::ZERO;
        for first in (0..pages).step_by(step) {
            let begun = Instant::now();
            let now = Tick::from_ns(now_ns());
            let part = self.table.sweep(first..pages.min(first + step), now, |server| {
                !purging.is_empty() && purging.binary_search(&server).is_ok()
            });
            sum.used += part.used;
            sum.expired += part.expired;
            busy += begun.elapsed();
            if self.stop.load(Ordering::Relaxed) {
                return busy;
            }
            // As long a pause as the part took: at most half a core at a time.
            std::thread::sleep(begun.elapsed().min(PERIOD / PARTS as u32));
        }
        let mut progress = self.progress();
        progress.used = sum.used;
        progress.expired += sum.expired;
        for server in purging {
            if let Some(walks) = progress.purging.get_mut(&server) {
                *walks += 1;
            }
        }
        busy
    }
}
