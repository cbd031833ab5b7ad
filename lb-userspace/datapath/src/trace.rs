//! Packets that the program tells one by one while somebody traces.
//!
//! The slow way tells them, so whoever traces has [`object::TRACE_PROGRAM`] attached in the entry's
//! place as well: it leaves no packet to the fast way.
//!
//! [`object::TRACE_PROGRAM`]: crate::object::TRACE_PROGRAM

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use lb_common::program::capture::Head;
use lb_common::program::trace::{Event, Settings, Traced};
use lb_system::clock::now_ns;
use zerocopy::FromBytes as _;

use crate::mapped::Mapped;

/// A [`Traced`] as the words it consists of, which aya can copy.
const WORDS: usize = size_of::<Traced>() / 8;
pub(crate) type TracedWords = [u64; WORDS];

/// Since the program was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Packets that were asked for, told or not.
    pub matched: u64,
    /// Those that found no room.
    pub lost: u64,
}

/// The maps.
pub struct Trace {
    settings: Mapped<Settings>,
    traced: PerCpuArray<MapData, TracedWords>,
    events: RingBuf<MapData>,
    captured: RingBuf<MapData>,
}

/// A frame that was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    pub head: Head,
    /// As many as `head.captured` says.
    pub bytes: Vec<u8>,
}

impl Trace {
    pub(crate) fn new(
        settings: Mapped<Settings>,
        traced: PerCpuArray<MapData, TracedWords>,
        events: Map,
        captured: Map,
    ) -> Result<Self> {
        let events = events.try_into().context("map TRACE_EVENTS is not of the expected kind")?;
        let captured = captured.try_into().context("map CAPTURED is not of the expected kind")?;
        settings.write(0, Settings::OFF);
        Ok(Self { settings, traced, events, captured })
    }

    /// Has these packets told for so long, unless this is called again.
    pub fn ask(&self, settings: Settings, time: Duration) {
        let until = now_ns().saturating_add(time.as_nanos() as u64);
        self.settings.write(0, Settings { until: self.settings.read(0).until, ..settings });
        self.settings.word(0, 0).store(until, Ordering::Release);
    }

    /// Nothing is told any more.
    pub fn end(&self) {
        self.settings.word(0, 0).store(0, Ordering::Release);
    }

    /// The next packet that was told, and that nobody has taken yet.
    pub fn take(&mut self) -> Option<Event> {
        while let Some(item) = self.events.next() {
            if let Ok((event, _)) = Event::read_from_prefix(&item) {
                return Some(event);
            }
        }
        None
    }

    /// The next frame that was captured, and that nobody has taken yet.
    pub fn take_captured(&mut self) -> Option<Captured> {
        while let Some(item) = self.captured.next() {
            if let Ok((head, bytes)) = Head::read_from_prefix(&item)
                && let Some(bytes) = bytes.get(..head.captured as usize)
            {
                return Some(Captured { head, bytes: bytes.to_vec() });
            }
        }
        None
    }

    pub fn counted(&self) -> Result<Counted> {
        let per_cpu = self.traced.get(&0, 0).context("cannot read how many packets were traced")?;
        let sum = |word: usize| per_cpu.iter().map(|words| words[word]).sum();
        Ok(Counted { matched: sum(WORDS - 2), lost: sum(WORDS - 1) })
    }
}
