//! What the directors tell of what happens: their event log, in the order and at the time of its
//! coming. A clock that jumps does not matter to that.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use lb_api::events::Record;

use crate::lab::{Director, log};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(50);
/// So many bytes tell the log of one process from that of the next: they have a time.
const BEGINNING: u64 = 96;

/// An event, and when it was there.
#[derive(Debug, Clone)]
pub struct Told {
    pub at: Instant,
    pub director: String,
    pub event: Record,
}

/// Reads the events of both directors, over all their processes. What `lb events` shows is of one
/// process, which may be killed or stand still; its log has the same events.
pub(super) struct EventWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Told>>,
}

impl EventWatch {
    pub(super) fn start(directors: [&Director; 2]) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let mut logs = directors.map(|director| {
            let name = director.node().name();
            (name.to_owned(), Tail::of(director.node().state().log(&format!("{name}-lb"))))
        });
        let work = move || {
            let mut all = Vec::new();
            loop {
                // One more look after the last event.
                let is_over = stopping.load(Ordering::Relaxed);
                for (director, log) in &mut logs {
                    // A file that is being made has nothing yet.
                    let events = log.new_events().unwrap_or_default();
                    let at = Instant::now();
                    all.extend(events.into_iter().map(|event| Told {
                        at,
                        director: director.clone(),
                        event,
                    }));
                }
                if is_over {
                    return all;
                }
                std::thread::sleep(LOOK);
            }
        };
        Ok(Self { stop, thread: std::thread::Builder::new().name("events".to_owned()).spawn(work)? })
    }

    pub(super) fn finish(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// A file that grows, and begins anew with each process.
struct Tail {
    path: PathBuf,
    beginning: Vec<u8>,
    /// Bytes of whole lines that have been read.
    read: u64,
}

impl Tail {
    fn of(path: PathBuf) -> Self {
        Self { path, beginning: Vec::new(), read: 0 }
    }

    fn new_events(&mut self) -> io::Result<Vec<Record>> {
        let mut file = File::open(&self.path)?;
        let mut beginning = Vec::new();
        file.by_ref().take(BEGINNING).read_to_end(&mut beginning)?;
        if !beginning.starts_with(&self.beginning) {
            self.read = 0;
        }
        self.beginning = beginning;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.read += whole as u64;
        Ok(String::from_utf8_lossy(&bytes[..whole]).lines().filter_map(log::event).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(second: u32, event: &str) -> String {
        format!(
            "{{\"timestamp\":\"2026-11-28T20:00:{second:02}Z\",\"level\":\"INFO\",\"fields\":{{\"message\":\"it is \
             so\",\"event\":\"{event}\"}}}}\n"
        )
    }

    #[test]
    fn each_event_is_told_once_over_all_processes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ha1-lb.log");
        let mut tail = Tail::of(path.clone());
        assert!(tail.new_events().is_err(), "there is no file yet");
        let mut look = |text: &str| -> Vec<String> {
            fs::write(&path, text).expect("a file");
            let events = tail.new_events().expect("a log");
            events.into_iter().map(|event| event.event).collect()
        };
        let (first, second) = (line(0, "attached"), line(1, "vip_taken"));
        assert_eq!(look(&first), ["attached"]);
        assert_eq!(look(&(first.clone() + &second[..20])), [""; 0], "half a line");
        assert_eq!(look(&(first.clone() + &second + "no event\n")), ["vip_taken"]);
        assert_eq!(look(&(first.clone() + &second + "no event\n")), [""; 0]);
        // The next process, whose log is longer than that one's.
        let next = [line(7, "taken_over"), line(8, "attached"), line(9, "role_changed")].concat();
        assert_eq!(look(&(next.clone() + &second)), ["taken_over", "attached", "role_changed", "vip_taken"]);
        // And one whose log is empty at first.
        assert_eq!(look(""), [""; 0]);
        assert_eq!(look(&second), ["vip_taken"]);
    }
}
