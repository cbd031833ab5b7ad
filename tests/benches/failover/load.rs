//! A machine that is too busy for everything: heartbeats must come in time all the same, and no
//! planned move may cost a request.

use std::hint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::unique_name;

use crate::report::Load;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(30);

/// Keeps all cores busy for `duration` and counts how often a director took the VIP meanwhile.
pub(crate) fn measure(duration: Duration) -> Result<Load> {
    let talk = Talk::new(&unique_name("load"))?;
    let pair = Pair::start(&talk, Settings::DEFAULT)?;
    let before = takes(&pair)?;
    let take_overs = under_load(|| watch(&pair, before, duration))?;
    // Whatever has happened must have come to rest by now.
    pair.wait_until_held_by("ha1")?;
    Ok(Load { minutes: duration.as_secs() / 60, false_take_overs: take_overs })
}

/// Twice as many busy loops as there are cores, all of ordinary priority: whoever else wants a core
/// has to queue.
pub(crate) fn under_load<T>(work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..2 * cores {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn watch(pair: &Pair, before: usize, duration: Duration) -> Result<usize> {
    let start = Instant::now();
    loop {
        let left = duration.saturating_sub(start.elapsed());
        thread::sleep(left.min(PROGRESS));
        let take_overs = takes(pair)? - before;
        let (elapsed, duration) = (start.elapsed().as_secs(), duration.as_secs());
        eprintln!("load, {elapsed} of {duration} s: {take_overs} false take-overs");
        if elapsed >= duration {
            return Ok(take_overs);
        }
    }
}

fn takes(pair: &Pair) -> Result<usize> {
    Ok(pair.ha1.takes(VIP)? + pair.ha2.takes(VIP)?)
}
