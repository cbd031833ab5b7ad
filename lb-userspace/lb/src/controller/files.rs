//! Notices that the configuration file changed.
//!
//! By asking for its metadata: that sees an editor's rename, a symlink that is switched
//! (Kubernetes) and a file system that sends no events, and costs one stat(2) each time. A file
//! that is still written to is not taken: half a configuration would take half of the services
//! away.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::writers::{self, Writers};

/// What tells one version of a file from another: device, inode, size, and when its content or its
/// mode last changed.
type Version = (u64, u64, u64, i64, i64);

/// A file that nobody has open for writing is taken when it has been the same for so long.
const SETTLED: Duration = Duration::from_millis(400);
/// The same of one of which that cannot be told.
const SETTLED_UNKNOWN: Duration = Duration::from_secs(3);
/// A file that is open for writing for longer than this is worth a word.
const LONG: Duration = Duration::from_secs(5);
/// How long a start waits for a file that is being written.
const START: Duration = Duration::from_secs(10);

/// A file and the version that was read last.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    read: Option<Version>,
    /// A version that has not been read, and since when it is there.
    settling: Option<(Version, Instant)>,
    /// It is to be read as soon as nobody writes to it, whether it is new or not.
    wanted: bool,
    /// That it is being written has been told.
    told: bool,
}

/// What there is to do about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileChange {
    None,
    /// There is a new version, and it is whole as far as can be told.
    Whole,
    /// There is a new version, which somebody has had open for writing for long. Said once.
    StillWritten,
}

impl Watched {
    pub(super) fn new(path: PathBuf) -> Self {
        let read = version(&path);
        Self { path, read, settling: None, wanted: false, told: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file now, as it is. `None`: it is being written, and a later look will say when it
    /// is whole.
    pub(super) fn read<T>(&mut self, read: impl FnOnce(&Path) -> T) -> Option<T> {
        let before = version(&self.path);
        let found = read(&self.path);
        if writers::of(&self.path) == Writers::Some || version(&self.path) != before {
            self.wanted = true;
            return None;
        }
        (self.read, self.settling, self.wanted, self.told) = (before, None, false, false);
        Some(found)
    }

    /// A file that is gone is no new version.
    pub(super) fn poll(&mut self, now: Instant) -> FileChange {
        let version = version(&self.path);
        let Some(version) = version.filter(|_| self.wanted || version != self.read) else {
            (self.settling, self.told) = (None, false);
            return FileChange::None;
        };
        let since = match self.settling {
            Some((settling, since)) if settling == version => since,
            _ => now,
        };
        self.settling = Some((version, since));
        let lasted = now - since;
        let settled = match writers::of(&self.path) {
            _ if self.wanted && lasted == Duration::ZERO => false,
            Writers::None => self.wanted || lasted >= SETTLED,
            Writers::Unknown => lasted >= SETTLED_UNKNOWN,
            Writers::Some => {
                let tell = lasted >= LONG && !self.told;
                self.told |= tell;
                return if tell { FileChange::StillWritten } else { FileChange::None };
            }
        };
        if settled { FileChange::Whole } else { FileChange::None }
    }

    /// In words, that it is being written and by whom.
    pub(super) fn being_written(&self) -> String {
        let who = writers::name(&self.path).unwrap_or_else(|| "another program".to_owned());
        format!(
            "{}: {who} has it open for writing; it is taken as soon as that has closed it",
            self.path.display()
        )
    }
}

/// Before a start: waits for a file that is being written, if it does not take too long.
pub(super) fn wait_until_whole(path: &Path) {
    let deadline = Instant::now() + START;
    while writers::of(path) == Writers::Some && Instant::now() < deadline {
        sleep(Duration::from_millis(100));
    }
}

fn version(path: &Path) -> Option<Version> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    /// A file on a file system with leases, as it was read.
    fn watched() -> (tempfile::TempDir, PathBuf, Watched) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb.yaml");
        fs::write(&path, "one").unwrap();
        let watched = Watched::new(path.clone());
        (folder, path, watched)
    }

    fn text(watched: &mut Watched) -> Option<String> {
        watched.read(|path| fs::read_to_string(path).unwrap())
    }

    #[test]
    fn a_new_version_is_noticed_once_it_has_settled() {
        let (_folder, path, mut watched) = watched();
        let start = Instant::now();
        assert_eq!(watched.poll(start), FileChange::None);
        fs::write(&path, "three").unwrap();
        assert_eq!(watched.poll(start), FileChange::None, "it may still be written to");
        assert_eq!(watched.poll(start + SETTLED), FileChange::Whole);
        assert_eq!(text(&mut watched).as_deref(), Some("three"));
        assert_eq!(watched.poll(start + SETTLED * 2), FileChange::None);
        fs::remove_file(&path).unwrap();
        assert_eq!(watched.poll(start + SETTLED * 3), FileChange::None);
        assert_eq!(watched.poll(start + SETTLED * 9), FileChange::None);
    }

    #[test]
    fn c1_a_file_that_is_open_for_writing_is_not_taken_however_long_it_takes() {
        let (_folder, path, mut watched) = watched();
        let (start, mut writer) = (Instant::now(), File::create(&path).unwrap());
        writer.write_all(b"half").unwrap();
        assert_eq!(watched.poll(start), FileChange::None);
        assert_eq!(watched.poll(start + LONG / 2), FileChange::None);
        assert_eq!(watched.poll(start + LONG), FileChange::StillWritten);
        assert_eq!(watched.poll(start + LONG * 2), FileChange::None, "it is said once");
        assert!(watched.being_written().contains(&format!("(pid {})", std::process::id())));
        assert_eq!(text(&mut watched), None, "not even when it is wanted");
        assert_eq!(watched.poll(start + LONG * 3), FileChange::None);
        writer.write_all(b" and whole").unwrap();
        drop(writer);
        // It was wanted, so it is taken at the next look but one.
        assert_eq!(watched.poll(start + LONG * 4), FileChange::None);
        assert_eq!(watched.poll(start + LONG * 4 + Duration::from_millis(1)), FileChange::Whole);
        assert_eq!(text(&mut watched).as_deref(), Some("half and whole"));
        assert_eq!(watched.poll(start + LONG * 5), FileChange::None);
    }

    #[test]
    fn c1_a_file_that_changes_while_it_is_read_is_read_again() {
        let (_folder, path, mut watched) = watched();
        let torn = watched.read(|path| fs::write(path, "other").unwrap());
        assert_eq!(torn, None);
        let start = Instant::now();
        assert_eq!(watched.poll(start), FileChange::None);
        assert_eq!(watched.poll(start + Duration::from_millis(250)), FileChange::Whole);
        assert_eq!(text(&mut watched).as_deref(), Some("other"));
        fs::write(&path, "another").unwrap();
        assert_eq!(watched.poll(start), FileChange::None);
    }
}
