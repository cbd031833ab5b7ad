//! The file of what was changed at run time, with its journal. What cannot be read is put aside: an
//! operator may mend it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use lb_model::overlay::Overlays;
use lb_system::whole_file;

use super::journal::{self, State};
use crate::controller::files::{Version, version};

/// A file that is smaller is written anew with each change, and has all of them. In bytes.
const SMALL: u64 = 64 * 1024;

/// What the file and its journal say.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub sources: Overlays,
    pub kept: Kept,
}

/// How both were left: who finds them so need not read them.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    file: Option<Version>,
    journal: Option<Version>,
    /// Of the file's content.
    hash: String,
    pub state: State,
}

impl Kept {
    fn now(path: &Path, hash: String, state: State) -> Self {
        Self { file: version(path), journal: version(&journal::beside(path)), hash, state }
    }

    /// Whether nobody has touched the file, nor its journal.
    pub(super) fn is_as_left(&self, path: &Path) -> bool {
        let same = self.file.is_some() && self.file == version(path);
        same && self.journal == version(&journal::beside(path))
    }
}

pub(super) fn read(path: &Path) -> io::Result<Found> {
    // Before they are read, so that no change is missed.
    let there = Kept::now(path, String::new(), State::Whole);
    let (content, mut sources) = match fs::read(path) {
        Ok(text) => {
            let sources = serde_json::from_slice(&text).map_err(io::Error::from)?;
            (text, sources)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => (Vec::new(), Overlays::new()),
        Err(error) => return Err(error),
    };
    let hash = journal::hash(&content);
    let state = journal::replay(path, &hash, &mut sources)?;
    Ok(Found { sources, kept: Kept { hash, state, ..there } })
}

/// Keeps what has come of `before`, which is what the files say as long as they are as they were
/// `kept`: by a line of the journal, or where that would be no less work, by the file as a whole.
pub(super) fn keep(path: &Path, kept: &Kept, before: &Overlays, after: &Overlays) -> io::Result<Kept> {
    if after.is_empty() || kept.state != State::Whole || !kept.is_as_left(path) {
        return write(path, after);
    }
    let size = |version: Option<Version>| version.map_or(0, |(_, _, size, _, _)| size);
    let line = journal::line(before, after)?;
    let longer = size(kept.journal).saturating_add(line.len() as u64);
    if size(kept.file) < SMALL || longer > size(kept.file) {
        return write(path, after);
    }
    match kept.journal {
        _ if line.is_empty() => {}
        None => journal::begin(path, &kept.hash, &line)?,
        Some(_) => journal::extend(path, &line)?,
    }
    Ok(Kept::now(path, kept.hash.clone(), State::Whole))
}

/// The file has all of it then, and there is no journal. Nothing changed is no file.
pub(super) fn write(path: &Path, sources: &Overlays) -> io::Result<Kept> {
    let content = match sources.is_empty() {
        true => Vec::new(),
        false => serde_json::to_vec_pretty(sources)?,
    };
    let hash = journal::hash(&content);
    journal::fold(path, &hash)?;
    match sources.is_empty() {
        false => whole_file::replace(path, &content)?,
        true => match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed?,
        },
    }
    journal::remove(path)?;
    Ok(Kept::now(path, hash, State::Whole))
}

/// What the name of a file that was put aside has more, but for a number.
const ASIDE: &str = ".unreadable";

/// Renames the file with its journal, and says what the file is called now; what was put aside
/// before stays.
pub(super) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    match put_journal_aside(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => rename(path),
    }
}

pub(super) fn put_journal_aside(path: &Path) -> io::Result<PathBuf> {
    rename(&journal::beside(path))
}

fn rename(path: &Path) -> io::Result<PathBuf> {
    let name = |number: u32| {
        let mut name = OsString::from(path);
        name.push(ASIDE);
        if number > 1 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let aside = (1..100).map(name).find(|aside| fs::symlink_metadata(aside).is_err());
    let aside = aside.ok_or_else(|| io::Error::other("there are a hundred of its kind already"))?;
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// The files that were put aside and are still there, by name, each with what it was called.
pub(super) fn aside(path: &Path) -> Vec<(PathBuf, PathBuf)> {
    let both = [path.to_owned(), journal::beside(path)].into_iter();
    both.flat_map(|path| aside_of(&path).into_iter().map(move |aside| (aside, path.clone()))).collect()
}

fn aside_of(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let mut first = name.to_owned();
    first.push(ASIDE);
    let is_one = |found: &OsStr| {
        let more = found.as_encoded_bytes().strip_prefix(first.as_encoded_bytes());
        more.is_some_and(|more| match more.split_first() {
            None => true,
            Some((dot, number)) => *dot == b'.' && number.iter().all(u8::is_ascii_digit),
        })
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut aside: Vec<PathBuf> =
        entries.filter(|entry| is_one(&entry.file_name())).map(|entry| entry.path()).collect();
    aside.sort();
    aside
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use lb_model::overlay::{CLI, Change};

    use super::*;

    fn removal(number: usize) -> Change {
        Change::RemoveService { service: format!("tcp/192.0.2.10:{number}") }
    }

    fn removals(count: usize) -> Overlays {
        Overlays::from([(CLI.to_owned(), (0..count).map(removal).collect())])
    }

    struct Folder {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("overlay.eth0.json");
            Self { _folder: folder, path }
        }

        fn said(&self) -> Overlays {
            read(&self.path).expect("it can be read").sources
        }

        fn inode(&self) -> u64 {
            fs::metadata(&self.path).expect("the file").ino()
        }

        fn has_journal(&self) -> bool {
            journal::beside(&self.path).exists()
        }
    }

    #[test]
    fn single_changes_of_many_do_not_write_all_of_them() {
        const BEFORE: usize = 2_000;
        let folder = Folder::new();
        let path = &folder.path;
        let mut now = removals(BEFORE);
        let mut kept = write(path, &now).expect("it is written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
        kept.file = version(path);
        let inode = folder.inode();
        for number in 0..100 {
            let mut next = now.clone();
            let list = next.get_mut(CLI).expect("a list");
            // Some come, some go.
            match number % 3 {
                0 => drop(list.remove(number)),
                _ => list.push(removal(BEFORE + number)),
            }
            kept = keep(path, &kept, &now, &next).expect("it is kept");
            now = next;
            assert!(kept.is_as_left(path));
        }
        assert_eq!(folder.inode(), inode, "the file is as it was");
        assert_eq!(folder.said(), now);
        let mode = fs::metadata(journal::beside(path)).expect("the journal").mode() & 0o777;
        assert_eq!(mode, 0o600, "who may not read the file may not read it");
        // The next director goes on.
        let Found { sources, kept } = read(path).expect("it can be read");
        let mut next = sources.clone();
        next.insert("acme".to_owned(), vec![removal(1)]);
        let kept = keep(path, &kept, &sources, &next).expect("it is kept");
        assert_eq!((folder.inode(), folder.said()), (inode, next.clone()));
        // A journal as long as the file is taken in.
        let mut longer = next.clone();
        longer.insert("later".to_owned(), (0..3 * BEFORE).map(removal).collect());
        let kept = keep(path, &kept, &next, &longer).expect("it is kept");
        assert!(folder.inode() != inode && !folder.has_journal());
        assert_eq!(folder.said(), longer);
        keep(path, &kept, &longer, &Overlays::new()).expect("it is kept");
        assert!(!path.exists() && !folder.has_journal(), "nothing changed is no file");
    }

    #[test]
    fn few_changes_are_all_in_the_file() {
        let folder = Folder::new();
        let path = &folder.path;
        let mut now = Overlays::new();
        let mut kept = Kept::default();
        for count in 1..20 {
            let next = removals(count);
            kept = keep(path, &kept, &now, &next).expect("it is kept");
            now = next;
            let text = fs::read(path).expect("the file");
            assert_eq!(serde_json::from_slice::<Overlays>(&text).expect("JSON"), now);
        }
        assert!(!folder.has_journal());
    }

    /// A file of many changes, and a journal with one more.
    fn with_journal() -> (Folder, [Overlays; 2], Kept) {
        let folder = Folder::new();
        let [now, next] = [removals(2_000), removals(2_001)];
        let kept = write(&folder.path, &now).expect("it is written");
        let kept = keep(&folder.path, &kept, &now, &next).expect("it is kept");
        assert!(folder.has_journal());
        (folder, [now, next], kept)
    }

    #[test]
    fn a_torn_journal_is_taken_in_by_the_next_change() {
        let (folder, [now, next], _) = with_journal();
        let path = &folder.path;
        let journal = journal::beside(path);
        let text = fs::read(&journal).expect("the journal");
        fs::write(&journal, &text[..text.len() - 9]).expect("the journal");
        let Found { sources, kept } = read(path).expect("the rest can be read");
        assert_eq!((&sources, kept.state), (&now, State::Torn));
        keep(path, &kept, &sources, &next).expect("it is kept");
        assert!(!folder.has_journal());
        assert_eq!(folder.said(), next);
    }

    #[test]
    fn a_crash_while_the_journal_is_taken_in_loses_nothing() {
        let (folder, [_, next], _) = with_journal();
        let path = &folder.path;
        let content = serde_json::to_vec_pretty(&next).expect("JSON");
        journal::fold(path, &journal::hash(&content)).expect("it is told");
        assert_eq!(folder.said(), next, "before the file is written");
        fs::write(path, &content).expect("the file");
        let Found { sources, kept } = read(path).expect("it can be read");
        assert_eq!((sources, kept.state), (next.clone(), State::Over), "before the journal is removed");
        keep(path, &kept, &next, &next).expect("it is kept");
        assert!(!folder.has_journal());
        assert_eq!(folder.said(), next);
    }

    #[test]
    fn a_file_that_somebody_has_changed_has_no_journal_of_before() {
        let (folder, [_, next], kept) = with_journal();
        let path = &folder.path;
        fs::write(path, serde_json::to_vec(&removals(7)).expect("JSON")).expect("the file");
        assert!(!kept.is_as_left(path));
        let Found { sources, kept } = read(path).expect("it can be read");
        assert_eq!((sources, kept.state), (removals(7), State::Stray));
        // Where the director has decided to write all the same.
        keep(path, &kept, &removals(7), &next).expect("it is kept");
        assert!(!folder.has_journal());
        assert_eq!(folder.said(), next);
    }
}
