//! Who answers for the VIP.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::cluster::VIP;
use crate::lab::Node;

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
