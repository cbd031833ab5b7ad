//! The configuration file with what it includes, and why its newest version is not in force.

use std::path::Path;
use std::time::{Instant, SystemTime};

use lb_config::Sources;

use super::files::{FileChange, Watched};

pub(super) struct ConfigFile {
    file: Watched,
    error: Option<String>,
    /// When the version in force was taken.
    since: SystemTime,
}

impl ConfigFile {
    /// Its version is in force.
    pub(super) fn new(file: Watched) -> Self {
        Self { file, error: None, since: SystemTime::now() }
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// When the version in force was taken, in seconds since 1970.
    pub(super) fn since(&self) -> u64 {
        self.since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Why the file's version is not in force, if it is not.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    pub(super) fn poll(&mut self, now: Instant) -> FileChange {
        self.file.poll(now)
    }

    /// Reads the file now. `None`: it is being written, and a later poll tells when it is whole.
    pub(super) fn read<T>(&mut self, read: impl FnMut(&Path) -> (T, Sources)) -> Option<T> {
        self.file.read_all(read)
    }

    /// The same for whoever may still refuse what is found.
    pub(super) fn glance<T>(&self, read: impl FnMut(&Path) -> (T, Sources)) -> Option<T> {
        self.file.glance(read)
    }

    /// Whether the version in force is the newest one, and nobody is writing another.
    pub(super) fn is_in_force(&self) -> bool {
        self.error.is_none() && self.file.is_as_read()
    }

    /// In words, that somebody has it open for writing.
    pub(super) fn being_written(&self) -> String {
        self.file.being_written()
    }

    /// Half a configuration would take half of the services away. Returns what is waited for,
    /// unless that is known.
    pub(super) fn wait_for_writer(&mut self) -> Option<&str> {
        let waits = self.file.being_written();
        if self.error.as_ref() == Some(&waits) {
            return None;
        }
        self.error = Some(waits);
        self.error()
    }

    /// The file's version is in force.
    pub(super) fn accepted(&mut self) {
        self.error = None;
        self.since = SystemTime::now();
    }

    pub(super) fn refused(&mut self, why: &anyhow::Error) {
        self.error = Some(format!("{why:#}"));
    }

    pub(super) fn into_watched(self) -> Watched {
        self.file
    }
}
