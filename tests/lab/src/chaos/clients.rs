//! Clients that check every byte: connections that stay open, and requests one after the other.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::servers::{GREETING, SERVICE};
use crate::lab::Node;

/// Connections that stay open.
const OPEN: u64 = 100;
/// From one block of such a connection to the next.
const PACE: Duration = Duration::from_millis(100);
/// From one request to the next.
const REQUESTS: Duration = Duration::from_millis(25);
const LONGEST_BLOCK: usize = 4096;
/// Without an answer for so long a connection is lost. TCP tries again after 0.2, 0.6, 1.4, 3, 6.2
/// and 12.6 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that ended otherwise than its client wanted.
#[derive(Debug, Clone)]
pub struct Loss {
    /// It was a request's, or one that stays open.
    pub request: bool,
    pub began: Instant,
    /// `None`: it never was.
    pub established: Option<Instant>,
    /// Its last byte that was right.
    pub last_heard: Instant,
    pub ended: Instant,
    pub server: Option<String>,
    pub why: String,
}

/// What the clients have seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub blocks: AtomicU64,
    pub requests: AtomicU64,
    pub losses: Mutex<Vec<Loss>>,
    /// Answers that nobody should get.
    pub wrong: Mutex<Vec<String>>,
}

/// Running clients.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    thread: JoinHandle<Result<()>>,
}

impl Clients {
    pub(super) fn start(node: &Node) -> Result<Self> {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let (stopping, noting, node) = (Arc::clone(&stop), Arc::clone(&seen), node.clone());
        let work = move || {
            node.run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(speak(stopping, noting));
                Ok(())
            })?
        };
        let thread = std::thread::Builder::new().name("clients".to_owned()).spawn(work)?;
        Ok(Self { stop, seen, thread })
    }

    /// What is under way ends; what came of all.
    pub(super) fn finish(self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("they panicked")));
        if let Err(error) = ended.context("clients") {
            self.seen.note_wrong(format!("{error:#}"));
        }
        self.seen
    }
}

impl Seen {
    fn note_wrong(&self, text: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    pub fn losses(&self) -> Vec<Loss> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn speak(stop: Arc<AtomicBool>, seen: Arc<Seen>) {
    let mut all = tokio::task::JoinSet::new();
    for number in 0..OPEN {
        let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
        all.spawn(async move {
            sleep(PACE * number as u32 / OPEN as u32).await;
            let mut random = Rng::with_seed(number);
            while !stop.load(Ordering::Relaxed) {
                one(&seen, &mut random, None, &stop).await;
                sleep(PACE).await;
            }
        });
    }
    let mut random = Rng::with_seed(OPEN);
    while !stop.load(Ordering::Relaxed) {
        let (stop, seen, mut random) = (Arc::clone(&stop), Arc::clone(&seen), random.fork());
        all.spawn(async move { one(&seen, &mut random, Some(1), &stop).await });
        sleep(REQUESTS).await;
        while all.try_join_next().is_some() {}
    }
    while all.join_next().await.is_some() {}
}

/// One connection, to the end; `blocks`: a request of so many.
async fn one(seen: &Seen, random: &mut Rng, blocks: Option<u32>, stop: &AtomicBool) {
    let began = Instant::now();
    let mut loss = Loss {
        request: blocks.is_some(),
        began,
        established: None,
        last_heard: began,
        ended: began,
        server: None,
        why: String::new(),
    };
    match converse(seen, random, blocks, stop, &mut loss).await {
        Ok(()) if blocks.is_some() => drop(seen.requests.fetch_add(1, Ordering::Relaxed)),
        Ok(()) => {}
        Err(error) => {
            loss.ended = Instant::now();
            loss.why = error.to_string();
            seen.losses.lock().unwrap_or_else(PoisonError::into_inner).push(loss);
        }
    }
}

async fn converse(
    seen: &Seen,
    random: &mut Rng,
    blocks: Option<u32>,
    stop: &AtomicBool,
    loss: &mut Loss,
) -> io::Result<()> {
    let mut stream = in_time("connecting", TcpStream::connect(SERVICE)).await?;
    stream.set_nodelay(true)?;
    loss.established = Some(Instant::now());
    let mut greeting = [0; GREETING];
    in_time("the greeting", stream.read_exact(&mut greeting)).await?;
    match &greeting {
        b"www1\n" | b"www2\n" => {}
        other => seen.note_wrong(format!("a greeting of {other:?}")),
    }
    loss.server = Some(String::from_utf8_lossy(&greeting).trim_end().to_owned());
    loss.last_heard = Instant::now();
    for block in 0.. {
        if blocks.map_or_else(|| stop.load(Ordering::Relaxed), |blocks| block >= blocks) {
            break;
        }
        let sent: Vec<u8> = (0..random.usize(1..LONGEST_BLOCK)).map(|_| random.u8(..)).collect();
        in_time("sending", stream.write_all(&sent)).await?;
        let mut got = vec![0; sent.len()];
        in_time("an answer", stream.read_exact(&mut got)).await?;
        loss.last_heard = Instant::now();
        if got != sent {
            seen.note_wrong(format!("{:?} answers {} bytes otherwise than asked", loss.server, sent.len()));
        }
        seen.blocks.fetch_add(1, Ordering::Relaxed);
        if blocks.is_none() {
            sleep(PACE).await;
        }
    }
    stream.shutdown().await?;
    match in_time("the end", stream.read(&mut [0; 1])).await? {
        0 => Ok(()),
        _ => {
            seen.note_wrong(format!("{:?} says more than it was asked", loss.server));
            Ok(())
        }
    }
}

async fn in_time<T>(what: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(told)
}
