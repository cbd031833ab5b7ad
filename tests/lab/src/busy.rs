//! Measurements that depend on time, on a machine that may be busy with other work: their limits
//! are not relaxed; they are repeated.

use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Sampling interval of the watch.
const TICK: Duration = Duration::from_millis(1);

/// Delay of the watch's thread above which the machine is busy: the thread has to share its
/// processor.
const HELD_UP: Duration = Duration::from_millis(15);

/// Part of the time with at least one thread waiting for a processor (PSI) above which the machine
/// is busy.
const CROWDED: f64 = 0.5;

/// Maximum number of measurements on a busy machine.
const TRIES: u32 = 4;

/// What a test says whose measurements have all failed on a busy machine. `cargo xtask test` runs
/// it again when no other test runs, because these may be what the machine was busy with.
pub const GAVE_UP: &str = "measured no more on a busy machine";

/// How long to wait for a calm machine before the next measurement, and how long it must stay calm.
const PATIENCE: Duration = Duration::from_secs(60);
const CALM: Duration = Duration::from_secs(1);

/// The machine's load during some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// The longest delay of the watch's thread.
    pub held_up: Duration,
    /// The part of the time in which a thread waited for a processor (PSI), if the kernel reports
    /// it.
    pub waiting: Option<f64>,
}

impl Load {
    pub fn is_busy(&self) -> bool {
        self.held_up >= HELD_UP || self.waiting.is_some_and(|part| part >= CROWDED)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a thread was held up for {} ms", self.held_up.as_millis())?;
        match self.waiting {
            Some(part) => {
                write!(f, ", and somebody waited for a processor {:.0} % of the time", part * 100.0)
            }
            None => Ok(()),
        }
    }
}

/// Watches the machine's load.
#[derive(Debug)]
pub struct Watch {
    begin: Instant,
    waited: Option<Duration>,
    stop: Arc<AtomicBool>,
    /// Longest delay in microseconds.
    held_up: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn start() -> Self {
        let (stop, held_up) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = thread::spawn({
            let (stop, held_up) = (Arc::clone(&stop), Arc::clone(&held_up));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let before = Instant::now();
                    thread::sleep(TICK);
                    let late = before.elapsed().saturating_sub(TICK);
                    held_up.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
                }
            }
        });
        Self { begin: Instant::now(), waited: waited(), stop, held_up, thread: Some(thread) }
    }

    /// The load since the start of the watch.
    pub fn load(&self) -> Load {
        let whole = self.begin.elapsed().as_secs_f64();
        let waiting = self.waited.zip(waited()).map(|(before, now)| (now - before).as_secs_f64() / whole);
        Load { held_up: Duration::from_micros(self.held_up.load(Ordering::Relaxed)), waiting }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// How long, since the machine's start, threads have waited for a processor.
fn waited() -> Option<Duration> {
    let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
    let total = text.lines().find(|line| line.starts_with("some "))?.split("total=").nth(1)?;
    Some(Duration::from_micros(total.trim().parse().ok()?))
}

/// Returns the result of `measure`. If it fails or panics while the machine is busy, the failure is
/// printed and `measure` runs again, several times. On a calm machine the first failure counts.
///
/// # Errors
/// The last failure, with the machine's load.
pub fn measured<T>(what: &str, mut measure: impl FnMut() -> Result<T>) -> Result<T> {
    for left in (0..TRIES).rev() {
        let watch = Watch::start();
        let outcome = match catch_unwind(AssertUnwindSafe(&mut measure)) {
            Ok(Ok(value)) => return Ok(value),
            other => other,
        };
        let load = watch.load();
        drop(watch);
        let busy = load.is_busy();
        match outcome {
            Ok(outcome) if !busy => return outcome,
            outcome if left == 0 && busy => {
                let gave_up = format!("{what}: {GAVE_UP} after {TRIES} times: {load}");
                println!("{gave_up}");
                return outcome.unwrap_or_else(|panic| resume_unwind(panic)).context(gave_up);
            }
            Err(panic) if !busy => resume_unwind(panic),
            Ok(Err(error)) => println!("busy machine: {load}. Measuring again: {what}: {error:#}"),
            _ => println!("busy machine: {load}. Measuring again: {what}"),
        }
        wait_for_calm();
    }
    unreachable!("the last try returns")
}

/// Waits until the machine is calm, with a time limit.
fn wait_for_calm() {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let watch = Watch::start();
        thread::sleep(CALM);
        if !watch.load().is_busy() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::bail;

    use super::*;

    /// Keeps each processor busy as long as this value lives.
    struct Burners(Arc<AtomicBool>, Vec<JoinHandle<()>>);

    impl Burners {
        fn start() -> Self {
            let stop = Arc::new(AtomicBool::new(false));
            let count = 4 * thread::available_parallelism().map_or(4, usize::from);
            let burn = |_| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || while !stop.load(Ordering::Relaxed) {})
            };
            let threads = (0..count).map(burn).collect();
            Self(stop, threads)
        }
    }

    impl Drop for Burners {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            self.1.drain(..).for_each(|thread| drop(thread.join()));
        }
    }

    #[test]
    fn a_busy_machine_is_seen() {
        let watch = Watch::start();
        let burners = Burners::start();
        let deadline = Instant::now() + PATIENCE;
        while !watch.load().is_busy() {
            assert!(Instant::now() < deadline, "{}", watch.load());
            thread::sleep(Duration::from_millis(20));
        }
        drop(burners);
    }

    #[test]
    fn what_fails_on_a_busy_machine_is_measured_again() {
        let burners = Cell::new(Some(Burners::start()));
        let tries = Cell::new(0);
        let figure = measured("a figure", || {
            tries.set(tries.get() + 1);
            thread::sleep(Duration::from_millis(300));
            // The load ends with the first measurement.
            match burners.take() {
                Some(_) => bail!("too late"),
                None => Ok(7),
            }
        });
        assert_eq!((figure.expect("the second try"), tries.get()), (7, 2));
    }

    #[test]
    fn loads_are_told_from_calm() {
        let load = |millis, waiting| Load { held_up: Duration::from_millis(millis), waiting };
        assert!(!load(14, Some(0.49)).is_busy() && !load(14, None).is_busy());
        assert!(load(15, Some(0.0)).is_busy() && load(15, None).is_busy() && load(0, Some(0.5)).is_busy());
        assert_eq!(
            load(45, Some(0.834)).to_string(),
            "a thread was held up for 45 ms, and somebody waited for a processor 83 % of the time"
        );
    }
}
