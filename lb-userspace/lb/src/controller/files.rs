//! Notices that the configuration changed: the file, what it includes, and the files that values
//! and lists of clients are read from.
//!
//! By asking for their metadata: that sees an editor's rename, a symlink that is switched
//! (Kubernetes) and a file system that sends no events. Each look costs a stat(2) for every file
//! and a search for every pattern of `include`. A file that is still written to is not taken: half
//! a configuration would take half of the services away.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lb_config::Sources;

use super::writers::{self, Writers};

/// What tells one version of a file from another: device, inode, size, and when its content or its
/// mode last changed.
pub(super) type Version = (u64, u64, u64, i64, i64);

/// The versions of a file and of those that belong to it; `None`: it is not there.
type Versions = Vec<(PathBuf, Option<Version>)>;

/// A file that nobody has open for writing is taken when it has been the same for so long.
const SETTLED: Duration = Duration::from_millis(400);
/// The same of one of which that cannot be told.
const SETTLED_UNKNOWN: Duration = Duration::from_secs(3);
/// A file that is open for writing for longer than this is worth a word.
const LONG: Duration = Duration::from_secs(5);
/// How long a start waits for a file that is being written.
const START: Duration = Duration::from_secs(10);

/// A file with what belongs to it, and the versions that were read last.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    /// What else counts, as the file said when it was read.
    sources: Sources,
    read: Option<Versions>,
    /// Versions that have not been read, and since when they are there.
    settling: Option<(Versions, Instant)>,
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
        let sources = Sources::default();
        let read = versions(&path, &sources);
        Self { path, sources, read, settling: None, wanted: false, told: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file now, as it is. `None`: it is being written, and a later look will say when it
    /// is whole.
    pub(super) fn read<T>(&mut self, mut read: impl FnMut(&Path) -> T) -> Option<T> {
        self.read_all(|path| (read(path), Sources::default()))
    }

    /// The same of a file that names others. Where it names others than before it is read once
    /// more, so that none of them changes unseen.
    pub(super) fn read_all<T>(&mut self, read: impl FnMut(&Path) -> (T, Sources)) -> Option<T> {
        let Some((versions, found)) = read_whole(&self.path, &mut self.sources, read) else {
            self.wanted = true;
            return None;
        };
        (self.read, self.settling, self.wanted, self.told) = (versions, None, false, false);
        Some(found)
    }

    /// The same for whoever may still refuse what is found: what is new in the file stays new to
    /// later looks.
    pub(super) fn glance<T>(&self, read: impl FnMut(&Path) -> (T, Sources)) -> Option<T> {
        read_whole(&self.path, &mut self.sources.clone(), read).map(|(_, found)| found)
    }

    /// Whether all of it is as it was read last, and nobody is writing to it.
    pub(super) fn is_as_read(&self) -> bool {
        let now = versions(&self.path, &self.sources);
        let paths = now.iter().flatten().filter(|(_, version)| version.is_some());
        let writers = writers_of(paths.map(|(path, _)| path.as_path()));
        !self.wanted && now.is_some() && now == self.read && writers != Writers::Some
    }

    /// Before a start: waits until all of it is whole. What takes too long is read as it is, and
    /// again when a later look says that it is whole.
    pub(super) fn read_patiently<T>(&mut self, mut read: impl FnMut(&Path) -> (T, Sources)) -> T {
        let deadline = Instant::now() + START;
        loop {
            if let Some(found) = self.read_all(&mut read) {
                return found;
            }
            if Instant::now() >= deadline {
                return read(&self.path).0;
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// A file that is gone is no new version; one that belongs to it may go.
    pub(super) fn poll(&mut self, now: Instant) -> FileChange {
        let versions = versions(&self.path, &self.sources);
        let is_new = self.wanted || versions != self.read;
        let Some(versions) = versions.filter(|_| is_new) else {
            (self.settling, self.told) = (None, false);
            return FileChange::None;
        };
        let since = match &self.settling {
            Some((settling, since)) if *settling == versions => *since,
            _ => now,
        };
        let there = versions.iter().filter(|(_, version)| version.is_some());
        let writers = writers_of(there.map(|(path, _)| path.as_path()));
        self.settling = Some((versions, since));
        let lasted = now - since;
        let settled = match writers {
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
        let mut paths = vec![self.path.clone()];
        paths.extend(self.sources.paths());
        let written = paths.iter().find(|path| writers::of(path) == Writers::Some).unwrap_or(&self.path);
        let who = writers::name(written).unwrap_or_else(|| "another program".to_owned());
        format!(
            "{}: {who} has it open for writing; lb takes the file once it has been closed",
            written.display()
        )
    }
}

/// Reads a file and what belongs to it, as `sources` say; where it names others, once more. `None`:
/// somebody is writing to one of them.
fn read_whole<T>(
    path: &Path,
    sources: &mut Sources,
    mut read: impl FnMut(&Path) -> (T, Sources),
) -> Option<(Option<Versions>, T)> {
    let (before, found) = loop {
        let before = versions(path, sources);
        let (found, named) = read(path);
        if named == *sources {
            break (before, found);
        }
        *sources = named;
    };
    let paths = before.iter().flatten().map(|(path, _)| path.as_path());
    let is_whole = writers_of(paths) != Writers::Some && versions(path, sources) == before;
    is_whole.then_some((before, found))
}

/// Somebody if one of the files has a writer; unknown if that cannot be told of one.
fn writers_of<'p>(paths: impl Iterator<Item = &'p Path>) -> Writers {
    let mut all = Writers::None;
    for writers in paths.map(writers::of) {
        match writers {
            Writers::Some => return Writers::Some,
            Writers::Unknown => all = Writers::Unknown,
            Writers::None => {}
        }
    }
    all
}

/// `None`: the file is not there.
fn versions(path: &Path, sources: &Sources) -> Option<Versions> {
    let own = version(path)?;
    let others = sources.paths().into_iter().map(|path| {
        let version = version(&path);
        (path, version)
    });
    Some([(path.to_owned(), Some(own))].into_iter().chain(others).collect())
}

/// `None`: the file is not there.
pub(super) fn version(path: &Path) -> Option<Version> {
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
    fn files_that_belong_to_it_come_change_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let [path, included, secret] =
            ["lb.yaml", "services.d/web.yaml", "port"].map(|name| folder.path().join(name));
        fs::write(
            &path,
            "interface: eth0\ninclude: [services.d/*.yaml]\nservices:\n  - vip: 192.0.2.10:80\n    \
             servers: [{ address: 192.0.2.21, weight: \"${file:port}\" }]\n",
        )
        .unwrap();
        let mut watched = Watched::new(path);
        let mut reads = 0;
        let mut read = |watched: &mut Watched| {
            watched.read_all(|path| {
                reads += 1;
                let mut files = lb_config::Files::open(path).unwrap();
                (files.config().is_ok(), files.sources())
            })
        };
        assert_eq!(read(&mut watched), Some(false), "a file of a value is not there yet");
        let start = Instant::now();
        let settled = |watched: &mut Watched, step: u32| {
            let begin = start + SETTLED * (2 * step);
            assert_eq!(watched.poll(begin), FileChange::None);
            watched.poll(begin + SETTLED)
        };
        assert_eq!(settled(&mut watched, 0), FileChange::None);
        fs::write(&secret, "1").unwrap();
        assert_eq!(settled(&mut watched, 1), FileChange::Whole);
        assert_eq!(read(&mut watched), Some(true));
        fs::create_dir(folder.path().join("services.d")).unwrap();
        assert_eq!(settled(&mut watched, 2), FileChange::None, "a folder is no file");
        fs::write(&included, "services: [{ vip: '192.0.2.11:80', fallback: local }]").unwrap();
        assert_eq!(settled(&mut watched, 3), FileChange::Whole);
        assert_eq!(read(&mut watched), Some(true));
        let writer = File::options().append(true).open(&included).unwrap();
        assert_eq!(read(&mut watched), None, "an included file may be half written, too");
        assert!(watched.being_written().starts_with(&*included.display().to_string()));
        drop(writer);
        assert_eq!(settled(&mut watched, 4), FileChange::Whole);
        assert_eq!(read(&mut watched), Some(true));
        assert_eq!(settled(&mut watched, 5), FileChange::None);
        fs::remove_file(&included).unwrap();
        assert_eq!(settled(&mut watched, 6), FileChange::Whole);
        assert_eq!(read(&mut watched), Some(true));
        assert_eq!(settled(&mut watched, 7), FileChange::None);
        assert_eq!(reads, 7, "once more only when there are others");
    }

    #[test]
    fn a_list_of_clients_that_changes_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let [path, deny] = ["lb.yaml", "deny"].map(|name| folder.path().join(name));
        let text = format!(
            "interface: eth0\nclients: {{ deny_file: {} }}\nservices: [{{ vip: '192.0.2.10:80', fallback: local }}]\n",
            deny.display()
        );
        fs::write(&path, text).unwrap();
        fs::write(&deny, "198.51.100.0/24\n").unwrap();
        let mut watched = Watched::new(path);
        let denied = |watched: &mut Watched| {
            watched.read_all(|path| {
                let mut files = lb_config::Files::open(path).unwrap();
                let config = files.config();
                (config.ok().map(|config| config.denied.lists.deny.len()), files.sources())
            })
        };
        assert_eq!(denied(&mut watched), Some(Some(1)));
        let start = Instant::now();
        assert_eq!(watched.poll(start), FileChange::None);
        fs::write(&deny, "198.51.100.0/24\n203.0.113.9\n").unwrap();
        assert_eq!(watched.poll(start), FileChange::None, "it may still be written to");
        assert_eq!(watched.poll(start + SETTLED), FileChange::Whole);
        assert_eq!(denied(&mut watched), Some(Some(2)));
        assert_eq!(watched.poll(start + SETTLED * 2), FileChange::None);
        let writer = File::options().append(true).open(&deny).unwrap();
        assert_eq!(denied(&mut watched), None, "a list may be half written, too");
        drop(writer);
    }

    #[test]
    fn a_glance_takes_no_half_written_file_and_leaves_what_is_new_to_later_looks() {
        let (_folder, path, watched) = watched();
        let glance = |watched: &Watched| {
            watched.glance(|path| (fs::read_to_string(path).unwrap(), Sources::default()))
        };
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"half").unwrap();
        assert_eq!(glance(&watched), None);
        writer.write_all(b" and whole").unwrap();
        drop(writer);
        assert_eq!(glance(&watched).as_deref(), Some("half and whole"));
        let (start, mut watched) = (Instant::now(), watched);
        assert_eq!(watched.poll(start), FileChange::None);
        assert_eq!(watched.poll(start + SETTLED), FileChange::Whole, "it is new to the director");
    }

    #[test]
    fn what_is_as_it_was_read_is_not_read_again() {
        let (_folder, path, mut watched) = watched();
        assert!(watched.is_as_read());
        let writer = File::options().append(true).open(&path).unwrap();
        assert!(!watched.is_as_read(), "it may be changing");
        drop(writer);
        assert!(watched.is_as_read());
        fs::write(&path, "another").unwrap();
        assert!(!watched.is_as_read());
        assert_eq!(text(&mut watched).as_deref(), Some("another"));
        assert!(watched.is_as_read());
        fs::remove_file(&path).unwrap();
        assert!(!watched.is_as_read());
    }

    #[test]
    fn a_start_waits_for_an_included_file_that_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let [path, included] = ["lb.yaml", "more.yaml"].map(|name| folder.path().join(name));
        fs::write(&path, "interface: eth0\ninclude: [more.yaml]\n").unwrap();
        let mut writer = File::create(&included).unwrap();
        let mut watched = Watched::new(path);
        let writing = std::thread::spawn(move || {
            sleep(Duration::from_millis(300));
            writer.write_all(b"services: [{ vip: '192.0.2.10:80', fallback: local }]\n").unwrap();
        });
        let services = watched.read_patiently(|path| {
            let mut files = lb_config::Files::open(path).unwrap();
            (files.config().map(|config| config.services.len()).ok(), files.sources())
        });
        assert_eq!(services, Some(1));
        writing.join().unwrap();
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
