//! Connections that two directors know: how soon, and what that costs.
//!
//! Clients' packets go through the active director's own program and maps, so no network takes
//! processor time from what is measured.

use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_api::status::{Status, SyncPeer};
use lb_common::addr::V4;
use lb_common::packet::frame::Flow;
use lb_lab::cluster::pair::{PATIENCE, Pair};
use lb_lab::scenario::several::Several;
use lb_lab::statistics::round_to;
use lb_tests::pinned::Pinned;
use serde::Serialize;

use crate::cases::{MILLION, PATIENT, Run, learns_a_million, peer};
use crate::opener::Opener;
use crate::report::Goal;

/// New connections in a second, and seconds. A little more is asked for than the goal, because the
/// last ones come late.
const RATE: u32 = 50_500;
const LASTS: u32 = 15;
/// The goals.
const NEW_PER_S: u32 = 50_000;
const LAG_MS: f64 = 100.0;
const CPU_SHARE: f64 = 0.4;
const MBIT_S: f64 = 20.0;
const KEPT_SHARE: f64 = 0.999;
const FULL_SYNC_S: f64 = 3.0;
/// Bytes of a datagram's headers: Ethernet, IPv4 and UDP.
const HEADERS: u64 = 14 + 20 + 8;
/// One connection of so many is looked for on the other director until it is there.
const SAMPLE: u32 = 500;
/// One that is not there by then counts as if it had come then.
const LATEST: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_micros(500);

#[derive(Debug, Serialize)]
pub(crate) struct Sync {
    pub name: &'static str,
    /// What was reached.
    new_per_s: u32,
    /// From a connection's last packet to its entry on the other director.
    lag_ms_p99: f64,
    /// Of one core, by the thread that tells and by the one that is told: the larger one.
    cpu_share: f64,
    /// What the active director sent, with the headers of Ethernet, IP and UDP.
    mbit_s: f64,
    /// Of all connections, those that the other director sends to the same server.
    kept_share: f64,
    /// From the start of an `lb` that knows nothing to its knowing a million connections.
    full_sync_s: f64,
}

impl Sync {
    pub(crate) fn goals(&self) -> Vec<Goal> {
        let Self { name: _, new_per_s, lag_ms_p99, cpu_share, mbit_s, kept_share, full_sync_s } = self;
        vec![
            (format!("{new_per_s} new a second, goal {NEW_PER_S} at least"), *new_per_s >= NEW_PER_S),
            (format!("lag p99 {lag_ms_p99:.1} ms, goal {LAG_MS} at most"), *lag_ms_p99 <= LAG_MS),
            (format!("{cpu_share:.3} of a core, goal {CPU_SHARE} at most"), *cpu_share <= CPU_SHARE),
            (format!("{mbit_s:.1} Mbit/s, goal {MBIT_S} at most"), *mbit_s <= MBIT_S),
            (format!("kept {kept_share:.5}, goal {KEPT_SHARE} at least"), *kept_share >= KEPT_SHARE),
            (format!("all in {full_sync_s:.2} s, goal {FULL_SYNC_S} at most"), *full_sync_s <= FULL_SYNC_S),
        ]
    }

    pub(crate) fn head() -> String {
        let cells = ["new/s", "lag p99, ms", "CPU share", "Mbit/s", "kept share", "full sync, s"];
        format!("{:<6}{}", "", cells.map(|cell| format!("{cell:>14}")).concat())
    }

    pub(crate) fn row(&self) -> String {
        let Self { name, new_per_s, lag_ms_p99, cpu_share, mbit_s, kept_share, full_sync_s } = self;
        format!(
            "{name:<6}{new_per_s:>14}{lag_ms_p99:>14.1}{cpu_share:>14.3}{mbit_s:>14.1}{kept_share:>14.5}{full_sync_s:>14.2}"
        )
    }
}

/// What was opened, and how soon samples of it were known.
struct Opened {
    connections: u32,
    took: Duration,
    lags: Vec<Duration>,
    flows: Vec<Flow<V4>>,
}

pub(crate) fn measure(run: &Run<'_>) -> Result<Sync> {
    eprintln!("  a director that knows nothing learns a million connections");
    let full = learns_a_million(run)?;
    eprintln!("  {RATE} new ones a second for {LASTS} s");
    let several = run.start_several(MILLION, PATIENT)?;
    let Pair { ha1, ha2 } = &several.pair;
    ha1.wait_until("ha2 is in step", PATIENCE, |status| peer(status).is_some_and(|peer| peer.knows_ours))?;
    let pinned = [&several.talk.ha1, &several.talk.ha2].map(|node| Pinned::of(node, "eth0", MILLION));
    let [here, there] = pinned;
    let (here, there) = (here?, there?);

    let before = [busy(&ha1.status()?)?, busy(&ha2.status()?)?];
    let sent = sent_bytes(&ha1.status()?)?;
    let Opened { connections, took, mut lags, flows } = open(&several, &here, &there)?;
    sleep(Duration::from_secs(1));
    let after = [busy(&ha1.status()?)?, busy(&ha2.status()?)?];
    let sent = sent_bytes(&ha1.status()?)? - sent;

    let seconds = took.as_secs_f64();
    let shares = before.iter().zip(after).map(|(before, after)| (after - before) / seconds);
    let kept = flows.iter().filter(|flow| {
        let server = here.server(flow);
        server.is_some() && server == there.server(flow)
    });
    lags.sort_unstable();
    let lag = lags.get(lags.len() * 99 / 100).context("no sample was taken")?;
    Ok(Sync {
        name: "sync",
        new_per_s: (f64::from(connections) / seconds) as u32,
        lag_ms_p99: round_to(lag.as_secs_f64() * 1e3, 1),
        cpu_share: round_to(shares.fold(0.0, f64::max), 3),
        mbit_s: round_to(sent as f64 * 8.0 / 1e6 / seconds, 1),
        kept_share: kept.count() as f64 / flows.len() as f64,
        full_sync_s: round_to(full / 1e3, 2),
    })
}

/// Opens connections at the rate, and looks for some of them on the other director.
fn open(several: &Several, here: &Pinned, there: &Pinned) -> Result<Opened> {
    let (asks, asked) = channel();
    thread::scope(|scope| {
        let looking = scope.spawn(move || look_for(there, asked));
        let opened = several.talk.ha1.run(|| {
            let sample = |flow| asks.send((flow, Instant::now())).context("nobody looks");
            Opener::new(several, here)?.open_many(RATE, RATE * LASTS, SAMPLE, sample)
        })?;
        drop(asks);
        let lags = looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (flows, took) = opened?;
        Ok(Opened { connections: flows.len() as u32, took, lags, flows })
    })
}

/// How long each of the connections took until it was there.
fn look_for(there: &Pinned, asked: Receiver<(Flow<V4>, Instant)>) -> Result<Vec<Duration>> {
    let (mut lags, mut missing) = (Vec::new(), Vec::new());
    let mut goes_on = true;
    while goes_on || !missing.is_empty() {
        loop {
            match asked.try_recv() {
                Ok(sample) => missing.push(sample),
                Err(error) => {
                    goes_on = error == std::sync::mpsc::TryRecvError::Empty;
                    break;
                }
            }
        }
        missing.retain(|(flow, since)| {
            let lag = since.elapsed();
            let is_there = there.server(flow).is_some() || lag >= LATEST;
            if is_there {
                lags.push(lag);
            }
            !is_there
        });
        sleep(LOOK);
    }
    Ok(lags)
}

/// Seconds of processor time of the thread that tells.
fn busy(status: &Status) -> Result<f64> {
    let sync = status.cluster.as_ref().and_then(|cluster| cluster.sync.as_ref());
    Ok(sync.context("no synchronisation")?.busy_s)
}

fn sent_bytes(status: &Status) -> Result<u64> {
    let sent = |peer: &SyncPeer| peer.sent_bytes + peer.sent * HEADERS;
    peer(status).map(sent).context("no synchronisation")
}
