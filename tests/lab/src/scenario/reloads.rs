//! A configuration that changes again and again, while clients speak to what stays the same in it.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::alone::{Alone, BOTH, SERVICE, configuration};
use crate::lab::Node;

const PATIENCE: Duration = Duration::from_secs(60);
/// A request without an answer for this long has failed.
const ANSWER: Duration = Duration::from_secs(15);
/// From one request to the next.
const PACE: Duration = Duration::from_millis(5);

/// The configuration of a round: the service that stays, and others that come, go and change, some
/// with the same servers, at the same VIP and at one that comes and goes.
fn changing(node: &Node, connections: u32, round: u32) -> Result<String> {
    const SCHEDULERS: [&str; 5] = ["rr", "wlc", "mh", "sed", "lc"];
    let mut text = configuration(node, connections, BOTH)?;
    let vip = if round.is_multiple_of(2) { "211.58.250.6" } else { "211.58.250.8" };
    if vip != "211.58.250.6" {
        text = text.replace("vips: [211.58.250.6/25]", "vips: [211.58.250.6/25, 211.58.250.8/25]");
    }
    for place in 0..=round % 4 {
        let (number, weight) = (round + place, round % 7 + 1);
        let name = if place == 0 { name(round) } else { format!("other-{place}") };
        let port = if place == 0 { 9000 } else { 9001 + number % 5 * 4 + place };
        let second = if number.is_multiple_of(3) { "" } else { ", { address: 211.58.250.27 }" };
        let protocol = if number.is_multiple_of(5) { "udp" } else { "tcp" };
        let scheduler = SCHEDULERS[number as usize % SCHEDULERS.len()];
        writeln!(
            text,
            "  - {{ name: {name}, vip: '{vip}:{port}', protocol: {protocol}, scheduler: {scheduler}, drain: {}s, \
             servers: [{{ address: 211.58.250.25, weight: {weight} }}{second}] }}",
            number % 3
        )?;
    }
    Ok(text)
}

/// What the first of the changing services is called in a round.
fn name(round: u32) -> String {
    format!("round-{round}")
}

impl Alone {
    /// So many reloads, each of which has taken effect before the next.
    pub fn reload_again_and_again(&self, connections: u32, rounds: u32) -> Result<()> {
        for round in 1..=rounds {
            self.director.reconfigure(&changing(&self.talk.ha1, connections, round)?)?;
            self.director.process().signal(Signal::SIGHUP);
            let is_there = |name: &str| {
                self.director.wait_until(name, PATIENCE, |status| {
                    status.config_error.is_none()
                        && status.services.iter().any(|service| service.name == name)
                })
            };
            is_there(&name(round)).with_context(|| self.director.log_tail())?;
        }
        Ok(())
    }
}

/// Requests over new connections, one after the other.
pub struct Newcomers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Served>>,
}

/// What became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    pub requests: u64,
    /// Refused, reset, without an answer for 15 s, or with another one than wanted.
    pub failed: u64,
}

impl Served {
    /// The share that got its answer.
    pub fn share(&self) -> f64 {
        let Self { requests, failed } = *self;
        if requests == 0 { 0.0 } else { 1.0 - failed as f64 / requests as f64 }
    }
}

impl Newcomers {
    pub fn start(client: &Node) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, ending) = (client.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            client.run(|| {
                let mut served = Served::default();
                while !ending.load(Ordering::Relaxed) {
                    served.requests += 1;
                    if let Err(error) = ask(served.requests) {
                        served.failed += 1;
                        eprintln!("request {}: {error}", served.requests);
                    }
                    thread::sleep(PACE);
                }
                served
            })
        });
        Self { stop, thread }
    }

    pub fn finish(self) -> Result<Served> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the requests broke off")?
    }
}

/// A connection that sends a block, gets it back, and ends.
fn ask(number: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(SERVICE), ANSWER)?;
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
        assert_eq!(Served { requests: 4, failed: 1 }.share(), 0.75);
        assert_eq!(Served::default().share(), 0.0, "nobody has asked");
    }
}
