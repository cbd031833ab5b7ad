//! Fragments that come before the first one of their datagram, or long before others of it. The
//! program hands them over; a thread holds them and has the program look at each again once what it
//! waits for has come. So they go by the same rules as all others, through tunnels too. What the
//! program then would send leaves by a raw socket, because the program itself is not on the
//! interface in that moment.
//!
//! What nobody has claimed within half a second is the host's, as any fragment of an unknown
//! datagram; so many of them that the kernel is busy with little else are given up.

mod again;
mod store;

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData, RingBuf};
use lb_common::packet::fragment::{self, Covered, Datagram, HOLDER_NS, Key, Progress, Trail};
use lb_common::service::refusal;
use lb_net::link::Sender;
use lb_system::clock::now_ns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use zerocopy::FromBytes as _;

pub use self::again::RelatedPrograms;
use self::again::{Programs, Verdict};
use self::store::{Fragment, Store};
use super::mapped::Mapped;

/// How often the program is told that its fragments are taken.
const RENEWAL: Duration = Duration::from_millis(500);

/// Fragments that the host gets so late: one in 20 ms on average, and so many at once. Each takes
/// the kernel up to some milliseconds, because it makes a pool of pages for it.
const LATE_EVERY_NS: u64 = 20_000_000;
const LATE_AT_ONCE: u64 = 64;

/// How long the way of a fragment to the host takes at most.
const PASSING_NS: u64 = 20_000_000;

type KeyBytes = [u8; size_of::<Key>()];
type TrailBytes = [u8; size_of::<Trail>()];

/// The maps.
pub struct Maps {
    /// Keys and values as bytes.
    pub trails: HashMap<MapData, KeyBytes, TrailBytes>,
    held: RingBuf<MapData>,
    /// CLOCK_MONOTONIC, nanoseconds.
    until: Mapped<u64>,
}

impl Maps {
    pub(crate) fn new(trails: Map, held: Map, until: Mapped<u64>) -> Result<Self> {
        let trails = trails.try_into().context("map FRAGMENTS is not of the expected kind")?;
        let held = held.try_into().context("map HELD is not of the expected kind")?;
        until.write(0, 0);
        Ok(Self { trails, held, until })
    }

    /// The program hands early fragments over for so long.
    pub fn take_for(&self, time: Duration) {
        let until = now_ns().saturating_add(time.as_nanos() as u64);
        self.until.atomic(0).store(until, Ordering::Release);
    }

    /// The program hands nothing over any more.
    pub fn take_no_more(&self) {
        self.until.atomic(0).store(0, Ordering::Release);
    }

    /// The next frame that was handed over.
    pub fn take_frame(&mut self) -> Option<Vec<u8>> {
        while let Some(item) = self.held.next() {
            if let Some(frame) = fragment::held_frame(&item) {
                return Some(frame.to_vec());
            }
        }
        None
    }

    /// What the first fragment has left, if it still counts.
    fn trail(&self, key: &Key) -> Option<Trail> {
        let key: KeyBytes = zerocopy::transmute!(*key);
        let bytes = self.trails.get(&key, 0).ok()?;
        Trail::read_from_bytes(&bytes).ok().filter(|trail| now_ns() < trail.until_ns)
    }

    /// What comes of this datagram in the next moment is the host's, unless its first fragment has
    /// come.
    fn leave_to_host(&mut self, key: &Key) {
        if self.trail(key).is_some() {
            return;
        }
        let until_ns = now_ns() + PASSING_NS;
        let (covered, progress) = (Covered::NOTHING, Progress::default());
        let trail = Trail { until_ns, datagram: Datagram::HOSTS, covered, progress };
        let (bytes, trail): (KeyBytes, TrailBytes) =
            (zerocopy::transmute!(*key), zerocopy::transmute!(trail));
        if let Err(error) = self.trails.insert(bytes, trail, 0) {
            tracing::debug!(%error, "no room for a trail");
        }
    }
}

/// What has come of fragments that were held, since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// In their turn.
    sent: AtomicU64,
    /// To the host, whose they are, or because nobody had claimed them.
    passed: AtomicU64,
    given_up: AtomicU64,
}

impl Counts {
    /// Those that were sent, passed to the host, and given up.
    pub fn read(&self) -> [u64; 3] {
        [&self.sent, &self.passed, &self.given_up].map(|count| count.load(Ordering::Relaxed))
    }
}

fn add_one(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// The thread. Dropping it ends it.
pub struct FragmentThread {
    counts: Arc<Counts>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<Maps>>,
}

impl FragmentThread {
    /// `programs` look at fragments; `interface` is the index of the one that the program is
    /// attached to.
    pub fn start(maps: Maps, programs: Arc<RelatedPrograms>, interface: u32) -> Result<Self> {
        let stop = Arc::new(EventFd::new().context("cannot make an eventfd")?);
        let sender = Sender::new(interface, "fragments that were held")?;
        let programs = Programs::new(programs, interface)?;
        let stopped = Arc::clone(&stop);
        let counts = Arc::new(Counts::default());
        let store = Store::default();
        let mut work = Work { maps, programs, sender, store, late: 0, counts: Arc::clone(&counts) };
        let run = move || {
            work.run(&stopped);
            work.maps
        };
        let thread = std::thread::Builder::new().name("lb-fragments".to_owned()).spawn(run)?;
        Ok(Self { counts, stop, thread: Some(thread) })
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for FragmentThread {
    fn drop(&mut self) {
        // An error leaves the thread to its next renewal, which nobody waits for then.
        if self.stop.write(1).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

struct Work {
    maps: Maps,
    programs: Programs,
    sender: Sender,
    store: Store,
    /// When the host may get a late fragment again.
    late: u64,
    counts: Arc<Counts>,
}

impl Work {
    fn run(&mut self, stop: &EventFd) {
        loop {
            self.maps.take_for(Duration::from_nanos(HOLDER_NS));
            if self.rest(stop) {
                break;
            }
            self.work();
        }
        // What is held is let go: nobody will do it later.
        self.maps.take_no_more();
        self.work();
        for key in self.store.due(Duration::MAX) {
            let fragments = self.store.wait(&key, Duration::MAX);
            self.let_go(&fragments, true);
        }
    }

    /// Waits for something to do. True: there is nothing more to do.
    fn rest(&self, stop: &EventFd) -> bool {
        let now = now();
        let pause = self.store.next().map_or(RENEWAL, |next| next.saturating_sub(now).min(RENEWAL));
        let pause = PollTimeout::try_from(pause + Duration::from_micros(999)).unwrap_or(PollTimeout::ZERO);
        let mut files = [
            PollFd::new(self.maps.held.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted, or whatever else: there is no harm in a look too many.
        let _ = poll(&mut files, pause);
        files[1].any() == Some(true)
    }

    fn work(&mut self) {
        while let Some(frame) = self.maps.take_frame() {
            if let Some(fragment) = Fragment::read(&frame) {
                // What made room for it has waited longest.
                let gone = self.store.hold(fragment, now());
                self.let_go(&gone, true);
            }
        }
        for key in self.store.due(now()) {
            if let Some(trail) = self.maps.trail(&key) {
                let fitting = self.store.take_fitting(&key, trail.covered);
                self.let_go(&fitting, trail.datagram.is_hosts());
            }
            let gone = self.store.wait(&key, now());
            self.let_go(&gone, true);
        }
    }

    /// Those that the host may get are lost if they are too many.
    fn let_go(&mut self, fragments: &[Fragment], to_host: bool) {
        const BURST_NS: u64 = LATE_AT_ONCE * LATE_EVERY_NS;
        for fragment in fragments {
            if !to_host || refusal::is_due_at(&mut self.late, now_ns(), LATE_EVERY_NS, BURST_NS) {
                self.again(fragment);
            } else {
                add_one(&self.counts.given_up);
            }
        }
    }

    /// Has the program look at a fragment again, and does what it says.
    fn again(&mut self, fragment: &Fragment) {
        let done = match self.programs.look(fragment.ipv6, &fragment.frame) {
            Ok(Verdict::Send(interface, frame)) => {
                let sent = self.sender.send_by(interface, &frame);
                sent.context("cannot send a fragment").map(|()| &self.counts.sent)
            }
            Ok(Verdict::Pass) => {
                // In generic mode the program on the interface sees it once more, a little later.
                self.maps.leave_to_host(&fragment.key);
                let passed = self.programs.pass(&fragment.frame);
                passed.context("cannot pass a fragment to the host").map(|()| &self.counts.passed)
            }
            // The program has counted why.
            Ok(Verdict::Drop) => return,
            Err(error) => Err(error).context("cannot have a fragment looked at"),
        };
        match done {
            Ok(count) => add_one(count),
            Err(error) => {
                add_one(&self.counts.given_up);
                tracing::debug!("{error:#}");
            }
        }
    }
}

fn now() -> Duration {
    Duration::from_nanos(now_ns())
}
