//! When each of the servers that hang is told of, by the log of whoever checks them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_lab::crowd::Crowd;

/// Between two looks at the log: a detection is late by up to this.
const LOOK: Duration = Duration::from_millis(1);

/// Freezes the frail part of the crowd and returns how long it took until the last of it was told
/// of in `log`.
///
/// `told` reads from a line the server that it takes out, if that is what it is about.
pub(crate) fn worst(
    crowd: &Crowd,
    log: &Path,
    patience: Duration,
    told: impl Fn(&str) -> Option<Ipv4Addr>,
) -> Result<Duration> {
    let mut tail = Tail::new(log)?;
    let mut hanging: BTreeSet<Ipv4Addr> =
        crowd.servers().iter().copied().filter(|server| Crowd::is_frail(*server)).collect();
    crowd.frail.freeze();
    let begun = Instant::now();
    while begun.elapsed() < patience {
        for line in tail.lines()? {
            if let Some(server) = told(&line)
                && hanging.remove(&server)
                && hanging.is_empty()
            {
                return Ok(begun.elapsed());
            }
        }
        thread::sleep(LOOK);
    }
    ensure!(hanging.is_empty(), "{} servers hang and are still in after {patience:?}", hanging.len());
    Ok(begun.elapsed())
}

/// A log as it grows.
struct Tail {
    file: File,
    /// A line that is still being written.
    begun: String,
}

impl Tail {
    /// What it says from now on.
    fn new(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, begun: String::new() })
    }

    /// The lines that came since the last call.
    fn lines(&mut self) -> Result<Vec<String>> {
        self.file.read_to_string(&mut self.begun)?;
        let whole = self.begun.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.begun.drain(..whole).collect();
        Ok(lines.lines().map(str::to_owned).collect())
    }
}
