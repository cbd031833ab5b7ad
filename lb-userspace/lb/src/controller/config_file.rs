//! The configuration file with what it includes, and why its newest version is not in force.

use std::path::Path;
use std::time::Instant;

use lb_config::Sources;

use super::files::{FileChange, Watched};

pub(super) struct ConfigFile {
    file: Watched,
    error: Option<String>,
}

impl ConfigFile {
    pub(super) const fn new(file: Watched) -> Self {
        Self { file, error: None }
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
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
    }

    pub(super) fn refused(&mut self, why: &anyhow::Error) {
        self.error = Some(format!("{why:#}"));
    }

    pub(super) fn into_watched(self) -> Watched {
        self.file
    }
}
