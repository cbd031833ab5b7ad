//! Who answers for the VIP, and what the directors' processes take.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Result, anyhow};

use super::fault::descriptors;
use crate::cluster::VIP;
use crate::lab::{Director, Node};

/// Who answered when the client asked by ARP.
#[derive(Debug, Clone)]
pub struct Answered {
    pub begin: Instant,
    pub end: Instant,
    pub macs: BTreeSet<String>,
}

/// Asks all the time.
pub(super) struct OwnerWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Answered>>,
}

impl OwnerWatch {
    pub(super) fn start(client: &Node) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, client) = (Arc::clone(&stop), client.clone());
        let work = move || {
            let mut all = Vec::new();
            while !stopping.load(Ordering::Relaxed) {
                let begin = Instant::now();
                // Nobody has an answer for the moments of a take-over.
                let Ok(macs) = client.who_has(VIP) else { continue };
                all.push(Answered { begin, end: Instant::now(), macs });
            }
            all
        };
        Ok(Self { stop, thread: std::thread::Builder::new().name("owners".to_owned()).spawn(work)? })
    }

    pub(super) fn finish(self) -> Vec<Answered> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("it panicked")).unwrap_or_default()
    }
}

/// What a process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub kilobytes: u64,
    pub descriptors: usize,
    pub threads: u64,
}

/// What a director took at first and last, over all its processes; and the most.
#[derive(Debug, Clone)]
pub struct Growth {
    pub director: String,
    pub first: Option<Taken>,
    pub last: Option<Taken>,
}

/// A process may take so much more than at first.
const KILOBYTES: u64 = 32 * 1024;
const DESCRIPTORS: usize = 24;
const THREADS: u64 = 4;

impl Growth {
    pub(super) fn of(director: &Director) -> Self {
        Self { director: director.node().name().to_owned(), first: None, last: None }
    }

    /// Of a cluster that is at rest.
    pub(super) fn measure(&mut self, director: &Director) {
        let process = format!("/proc/{}", director.process().pid());
        let process = Path::new(&process);
        let Ok(status) = fs::read_to_string(process.join("status")) else { return };
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        let taken = Taken {
            kilobytes: number("VmRSS:"),
            descriptors: descriptors(process),
            threads: number("Threads:"),
        };
        self.first.get_or_insert(taken);
        self.last = Some(taken);
    }

    /// What has grown without bounds.
    pub fn trouble(&self) -> Option<String> {
        let (first, last) = (self.first?, self.last?);
        let grown = last.kilobytes > first.kilobytes * 3 / 2 + KILOBYTES
            || last.descriptors > first.descriptors + DESCRIPTORS
            || last.threads > first.threads + THREADS;
        grown.then(|| format!("it grows without bounds: {self}"))
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { director, first, last } = self;
        let (Some(first), Some(last)) = (first, last) else { return write!(f, "{director}: not measured") };
        write!(
            f,
            "{director}: {} to {} KiB, {} to {} descriptors, {} to {} threads",
            first.kilobytes, last.kilobytes, first.descriptors, last.descriptors, first.threads, last.threads
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_within_bounds_is_none() {
        let taken = |kilobytes, descriptors, threads| Some(Taken { kilobytes, descriptors, threads });
        let growth = |last| Growth { director: "ha1".to_owned(), first: taken(40_000, 60, 15), last };
        assert_eq!(growth(taken(60_000, 80, 17)).trouble(), None);
        assert!(growth(taken(200_000, 60, 15)).trouble().is_some());
        assert!(growth(taken(40_000, 100, 15)).trouble().is_some());
        assert!(growth(taken(40_000, 60, 30)).trouble().is_some());
    }
}
