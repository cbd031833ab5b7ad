//! Connections that begin one after the other until something happens to a director. They have
//! every age then: the youngest ones only that director knows, and the older ones nobody may lose.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{PATIENCE, Seen, TOLD, speak};
use crate::lab::Node;

/// From one beginning to the next.
const EVERY: Duration = Duration::from_millis(5);

/// Connections that begin until [`Self::begin_no_more`] and go on until [`Self::finish`]. Each
/// sends a block at once, then one after each pace.
pub struct Arrivals {
    begins: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<Result<Vec<Arrival>>>>,
}

struct Arrival {
    established: Instant,
    /// Why it was lost.
    lost: Option<String>,
}

/// What became of the connections, by their age when it happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ages {
    pub older: u64,
    pub older_lost: u64,
    pub younger: u64,
    pub younger_lost: u64,
    /// Blocks that came back changed, of connections of any age.
    pub wrong: u64,
}

impl Arrivals {
    pub fn start(client: &Node, to: SocketAddrV4, pace: Duration) -> Self {
        let (begins, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let seen = Arc::new(Seen::default());
        let work = {
            let (client, begins) = (client.clone(), Arc::clone(&begins));
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            move || {
                client.run(|| -> Result<Vec<Arrival>> {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    Ok(runtime.block_on(begin_all(to, pace, &begins, &stop, &seen)))
                })?
            }
        };
        let thread = Some(std::thread::spawn(work));
        Self { begins, stop, seen, thread }
    }

    /// Call it right before it happens: from then on no connection begins. Returns that moment.
    pub fn begin_no_more(&self) -> Instant {
        self.begins.store(false, Ordering::Relaxed);
        Instant::now()
    }

    /// Each connection sends one more block and waits for it; then all end. Those are older that
    /// had been established for `age` when it happened.
    pub fn finish(mut self, happened: Instant, age: Duration) -> Result<Ages> {
        self.begins.store(false, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the clients have been finished before")?;
        let arrivals = thread.join().ok().context("the clients broke off")??;
        let wrong = self.seen.wrong.load(Ordering::Relaxed);
        Ok(Ages { wrong, ..Ages::of(&arrivals, happened, age) })
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.begins.store(false, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Ages {
    fn of(arrivals: &[Arrival], happened: Instant, age: Duration) -> Self {
        let mut ages = Self::default();
        let mut told = 0;
        for Arrival { established, lost } in arrivals {
            let is_older = *established + age <= happened;
            let (count, gone) = if is_older {
                (&mut ages.older, &mut ages.older_lost)
            } else {
                (&mut ages.younger, &mut ages.younger_lost)
            };
            *count += 1;
            let Some(why) = lost else { continue };
            *gone += 1;
            if is_older && told < TOLD {
                told += 1;
                let old = happened.saturating_duration_since(*established).as_millis();
                eprintln!("a connection is lost that was {old} ms old: {why}");
            }
        }
        ages
    }
}

async fn begin_all(
    to: SocketAddrV4,
    pace: Duration,
    begins: &AtomicBool,
    stop: &Arc<AtomicBool>,
    seen: &Arc<Seen>,
) -> Vec<Arrival> {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut all = JoinSet::new();
    for number in 0_u64.. {
        every.tick().await;
        if !begins.load(Ordering::Relaxed) {
            break;
        }
        all.spawn(one(to, number, pace, Arc::clone(stop), Arc::clone(seen)));
    }
    all.join_all().await.into_iter().flatten().collect()
}

/// `None`: it was never established, so it has no age.
async fn one(
    to: SocketAddrV4,
    number: u64,
    pace: Duration,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
) -> Option<Arrival> {
    let stream = timeout(PATIENCE, TcpStream::connect(to)).await.ok()?.ok()?;
    let established = Instant::now();
    stream.set_nodelay(true).ok()?;
    let lost = speak(stream, number, Duration::ZERO, pace, stop, seen).await;
    Some(Arrival { established, lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_count_from_what_happened() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let lost = |is_lost: bool| is_lost.then(|| "reset".to_owned());
        // The last one was under way when it happened.
        let arrivals: Vec<Arrival> = [(0, false), (300, true), (800, false), (801, true), (1003, true)]
            .into_iter()
            .map(|(ms, is_lost)| Arrival { established: at(ms), lost: lost(is_lost) })
            .collect();
        let ages = Ages::of(&arrivals, at(1000), Duration::from_millis(200));
        let wanted = Ages { older: 3, older_lost: 1, younger: 2, younger_lost: 2, wrong: 0 };
        assert_eq!(ages, wanted);
    }
}
