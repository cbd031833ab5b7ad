//! Requests over new connections while something happens to a director: whoever begins then is to
//! get an answer.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::lab::Node;

/// A request without an answer for this long has failed. TCP sends a SYN that was lost again after
/// 1, 3 and 7 s.
const ANSWER: Duration = Duration::from_secs(10);
/// From the end of a client's request to its next one.
const PAUSE: Duration = Duration::from_millis(10);
/// Clients that ask at the same time, in floods and benchmarks.
pub const AT_ONCE: usize = 4;
/// Failures of each client that are printed.
const TOLD: u64 = 3;

/// Clients that make one request after the other, each over a new connection, until
/// [`Self::finish`].
pub struct Newcomers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Served>>>,
}

/// What became of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    pub requests: u64,
    /// Refused, reset, without an answer for 10 s, or with another one than wanted.
    pub failed: u64,
    /// The longest time until a connection was there, or was given up.
    pub slowest: Duration,
}

impl Served {
    /// The share that got its answer.
    pub fn share(&self) -> f64 {
        let Self { requests, failed, slowest: _ } = *self;
        if requests == 0 { 0.0 } else { 1.0 - failed as f64 / requests as f64 }
    }
}

impl Newcomers {
    /// So many clients on `client`, which ask the echo service at `to`.
    pub fn start(client: &Node, to: SocketAddrV4, at_once: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |_| {
            let (client, ending) = (client.clone(), Arc::clone(&stop));
            thread::spawn(move || client.run(|| ask_until(to, &ending)))
        };
        let threads = (0..at_once).map(one).collect();
        Self { stop, threads }
    }

    /// The requests under way end. What became of all of them.
    pub fn finish(mut self) -> Result<Served> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Served::default();
        for thread in self.threads.drain(..) {
            let Served { requests, failed, slowest } =
                thread.join().ok().context("the requests broke off")??;
            all.requests += requests;
            all.failed += failed;
            all.slowest = all.slowest.max(slowest);
        }
        Ok(all)
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask_until(to: SocketAddrV4, ending: &AtomicBool) -> Served {
    let mut served = Served::default();
    while !ending.load(Ordering::Relaxed) {
        served.requests += 1;
        if let Err(error) = ask(to, served.requests, &mut served.slowest) {
            served.failed += 1;
            if served.failed <= TOLD {
                eprintln!("request {}: {error}", served.requests);
            }
        }
        thread::sleep(PAUSE);
    }
    served
}

/// A connection that sends a block, gets it back, and ends.
fn ask(to: SocketAddrV4, number: u64, slowest: &mut Duration) -> io::Result<()> {
    let begun = Instant::now();
    let stream = TcpStream::connect_timeout(&SocketAddr::from(to), ANSWER);
    *slowest = (*slowest).max(begun.elapsed());
    let mut stream = stream?;
    stream.set_read_timeout(Some(ANSWER))?;
    let block: Vec<u8> = (0..64).map(|byte| (number * 31 + byte) as u8).collect();
    stream.write_all(&block)?;
    stream.shutdown(Shutdown::Write)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    if back == block { Ok(()) } else { Err(io::Error::other("another answer than wanted")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_all_requests() {
        assert_eq!(Served { requests: 4, failed: 1, ..Served::default() }.share(), 0.75);
        assert_eq!(Served::default().share(), 0.0, "nobody has asked");
    }
}
