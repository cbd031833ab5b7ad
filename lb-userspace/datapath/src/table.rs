//! The connection table as memory: its pages of both families, and the counts of its servers.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::addr::Address as _;
use lb_common::server::{Counts, ServerId};
use lb_common::table::connection::{Entry, Key, KeyV4, KeyV6, State, Tick};
use lb_common::table::spills::{Pressed, RawSpills, Settle, Spills, Walk};
use lb_common::table::{Layout as _, Page, RawPage};

use super::bindings::Due;
use super::mapped::Mapped;
use super::tally::Counting;
use super::tournaments::Tournaments;

/// Pages in an element of the maps `CHANGED_V4` and `CHANGED_V6`: a byte each.
pub(crate) const PAGES_PER_WORD: u32 = u64::BITS / u8::BITS;

/// The pages of connections with this kind of key.
pub struct Pages<K> {
    pages: Mapped<RawPage>,
    spills: Mapped<RawSpills>,
    /// Unless they are another program's.
    changed: Option<Mapped<u64>>,
    key: PhantomData<K>,
}

impl<K: Key> Pages<K> {
    pub fn new(pages: Mapped<RawPage>, spills: Mapped<RawSpills>) -> Self {
        Self { pages, spills, changed: None, key: PhantomData }
    }

    /// The same with the program's notes of which pages have changed.
    pub fn with_changes(self, changed: Mapped<u64>) -> Self {
        Self { changed: Some(changed), ..self }
    }

    /// Hands over the pages of which the program has noted since the last call that a connection
    /// was established or has ended there.
    pub fn take_changed(&self, mut to: impl FnMut(usize)) {
        let Some(changed) = &self.changed else { return };
        for index in 0..changed.elements() {
            let word = changed.atomic(index);
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Before the page is looked at: what changes meanwhile is noted once more.
            let bytes = word.swap(0, Ordering::SeqCst).to_ne_bytes();
            let pages = bytes.iter().enumerate().filter(|(_, changed)| **changed != 0);
            pages.for_each(|(page, _)| to(index * PAGES_PER_WORD as usize + page));
        }
    }

    pub fn count(&self) -> usize {
        self.pages.elements()
    }

    pub fn slots(&self) -> u64 {
        self.count() as u64 * u64::from(K::SLOTS_PER_PAGE)
    }

    pub fn page(&self, index: usize) -> PageView<'_, K> {
        PageView { pages: self, index }
    }

    /// Every entry there is now, with its key. Entries change while this goes on.
    pub fn entries(&self) -> impl Iterator<Item = (K, Entry)> + '_ {
        (0..self.count()).flat_map(move |index| self.entries_of(index))
    }

    /// The same of one page.
    pub fn entries_of(&self, index: usize) -> impl Iterator<Item = (K, Entry)> + '_ {
        let page = self.page(index);
        (0..K::SLOTS_PER_PAGE).filter_map(move |slot| {
            let (key, entry) = (page.key(slot), page.entry(slot));
            (entry.state().is_some() && page.key(slot) == key).then_some((key, entry))
        })
    }

    /// One walk over the pages of `range`. Servers for which `purge` holds lose their entries; each
    /// entry that goes is handed to `gone`.
    fn sweep(
        &self,
        range: Range<usize>,
        now: Tick,
        purge: impl Fn(ServerId) -> bool,
        gone: impl Fn(Entry),
        due: Option<&Due<'_>>,
        counting: Option<&Counting<'_>>,
    ) -> Census {
        let mut census = Census::default();
        for index in range {
            let page = self.page(index);
            let (walk, mut spilled) = (Walk::begin(&page), 0);
            for slot in 0..K::SLOTS_PER_PAGE {
                let entry = page.entry(slot);
                if entry == Entry::EMPTY {
                    continue;
                }
                spilled |= entry.away().map_or(0, |line| 1 << line);
                let purged = entry.state().is_some() && purge(entry.server());
                if !purged && !entry.expires().is_past(now) {
                    census.used += 1;
                    if let (Some(due), Some(State::Established | State::Udp)) = (due, entry.state()) {
                        due.meet(page.key(slot).client().mapped(), entry.server());
                    }
                    if let Some(counting) = counting {
                        counting.meet(page.key(slot).client().mapped(), entry);
                    }
                } else if page.swap_entry(slot, entry, Entry::EMPTY) {
                    gone(entry);
                    *(if purged { &mut census.purged } else { &mut census.expired }) += 1;
                } else {
                    census.used += 1; // the program was faster: the entry lives
                }
            }
            walk.end(&page, spilled);
        }
        census
    }
}

/// One page, of connections with this kind of key.
pub struct PageView<'a, K> {
    pages: &'a Pages<K>,
    index: usize,
}

impl<'a, K> PageView<'a, K> {
    fn word(&self, word: u32) -> &'a AtomicU64 {
        self.pages.pages.word(self.index, word as usize * 8)
    }

    fn spills(&self, field: usize) -> &'a AtomicU64 {
        self.pages.spills.word(self.index, field)
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
    /// Slots in use by connections of IPv4.
    pub used: u64,
    /// Slots in use by connections of IPv6.
    pub used_v6: u64,
    /// Entries whose time was over, removed by this walk.
    pub expired: u64,
    /// Entries of purged servers, removed by this walk.
    pub purged: u64,
}

impl Census {
    pub(super) fn add(&mut self, other: &Self) {
        let Self { used, used_v6, expired, purged } = other;
        self.used += used;
        self.used_v6 += used_v6;
        self.expired += expired;
        self.purged += purged;
    }
}

/// The connection table and the counts of its servers.
pub struct Table {
    pub v4: Pages<KeyV4>,
    pub v6: Pages<KeyV6>,
    counts: Arc<Mapped<u64>>,
    /// What goes by the counts, unless they are another program's.
    tournaments: Option<Arc<Tournaments>>,
}

impl Table {
    pub fn new(
        v4: Pages<KeyV4>,
        v6: Pages<KeyV6>,
        counts: Arc<Mapped<u64>>,
        tournaments: Option<Arc<Tournaments>>,
    ) -> Self {
        Self { v4, v6, counts, tournaments }
    }

    /// Brings the tournaments in line with the counts.
    pub fn mend_tournaments(&self) {
        if let Some(tournaments) = &self.tournaments {
            tournaments.mend();
        }
    }

    pub fn bytes(&self) -> usize {
        self.v4.pages.bytes() + self.v6.pages.bytes()
    }

    /// Pages of both families; [`Self::sweep`] counts those of IPv4 first.
    pub fn pages(&self) -> usize {
        self.v4.count() + self.v6.count()
    }

    pub fn counts(&self, server: ServerId) -> Counts {
        Counts(self.counts.atomic(usize::from(server.0)).load(Ordering::Relaxed))
    }

    /// Every entry there is now. Entries change while this goes on.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let v4 = self.v4.entries().map(|(_, entry)| entry);
        v4.chain(self.v6.entries().map(|(_, entry)| entry))
    }

    /// Counts of every server, from the entries themselves: what `counts` must equal once packets
    /// pause.
    pub fn recount(&self) -> BTreeMap<ServerId, Counts> {
        let mut counts: BTreeMap<ServerId, Counts> = BTreeMap::new();
        for entry in self.entries() {
            counts.entry(entry.server()).or_default().0 += entry.counts();
        }
        counts
    }

    /// One walk over the pages of `range`. Servers for which `purge` holds lose their entries.
    pub fn sweep(&self, range: Range<usize>, now: Tick, purge: impl Fn(ServerId) -> bool) -> Census {
        self.sweep_for(range, now, purge, None, None)
    }

    /// The same; living connections are told to `due` and `counting`, if there is something.
    pub fn sweep_for(
        &self,
        range: Range<usize>,
        now: Tick,
        purge: impl Fn(ServerId) -> bool,
        due: Option<&Due<'_>>,
        counting: Option<&Counting<'_>>,
    ) -> Census {
        let due = due.filter(|due| !due.is_empty());
        let counting = counting.filter(|counting| counting.is_asked());
        let (border, gone) = (self.v4.count(), |entry| self.settle(entry));
        let mut census =
            self.v4.sweep(range.start.min(border)..range.end.min(border), now, &purge, gone, due, counting);
        let v6 = range.start.saturating_sub(border)..range.end.saturating_sub(border);
        let v6 = self.v6.sweep(v6, now, &purge, gone, due, counting);
        census.add(&Census { used: 0, used_v6: v6.used, ..v6 });
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

    /// Notes an entry in its server's counts, and takes the one before off its own; one without a
    /// state counts nowhere.
    pub fn exchange(&self, entry: Entry, before: Entry) {
        if entry.state().is_some() {
            self.count(entry, None);
        }
        self.settle(before);
    }

    /// Takes an entry that was removed off its server's counts.
    fn settle(&self, entry: Entry) {
        if entry.state().is_some() {
            let counts = self.counts.atomic(usize::from(entry.server().0));
            counts.fetch_sub(entry.counts(), Ordering::Relaxed);
        }
    }
}
