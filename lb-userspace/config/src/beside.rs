//! Files beside those of the configuration: what `${file:PATH}` stands for, and lists of clients.
//!
//! Each is read once, when it is asked for first. So whatever is made of one reading of the
//! configuration agrees, however often it is validated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_system::regular_file::{self, RegularFileError};

/// What a kind of file may hold.
struct Kind {
    /// Bytes.
    most: u64,
    /// The same in words.
    size: &'static str,
    expected: &'static str,
}

const VALUE: Kind = Kind { most: 64 * 1024, size: "64 KiB", expected: "one value" };
/// As many prefixes as all lists together may have, each in a line with a comment of some words.
const LIST: Kind = Kind { most: 16 << 20, size: "16 MiB", expected: "one address or network a line" };

/// The text of a file, or why there is none.
type Text = Result<Arc<str>, String>;

/// What has been read so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside {
    values: BTreeMap<PathBuf, Text>,
    lists: BTreeMap<PathBuf, Text>,
}

impl Beside {
    /// The text that stands for a value.
    pub(crate) fn value(&mut self, path: PathBuf) -> Text {
        self.values.entry(path).or_insert_with_key(|path| read(path, &VALUE)).clone()
    }

    /// The text of a list of clients.
    pub(crate) fn list(&mut self, path: &Path) -> Text {
        self.lists.entry(path.to_owned()).or_insert_with_key(|path| read(path, &LIST)).clone()
    }

    /// The files that were asked for, whether they could be read or not.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.values.keys().chain(self.lists.keys())
    }
}

fn read(path: &Path, kind: &Kind) -> Text {
    let shown = path.display();
    let bytes = regular_file::read(path, kind.most).map_err(|error| match error {
        RegularFileError::Io(cause) => format!("cannot read {shown}: {cause}"),
        RegularFileError::NotRegular => format!("{shown} is no regular file"),
        RegularFileError::TooLong { .. } => {
            format!("{shown} is larger than {}, expected {}", kind.size, kind.expected)
        }
    })?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(format!("{shown} is not UTF-8 text, expected {}", kind.expected)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn a_file_is_read_once_and_what_it_was_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let [there, late] = ["there", "late"].map(|name| folder.path().join(name));
        fs::write(&there, "one").expect("a file");
        let mut beside = Beside::default();
        assert_eq!(beside.value(there.clone()).as_deref(), Ok("one"));
        assert!(beside.list(&late).is_err());
        fs::write(&there, "two").expect("a file");
        fs::write(&late, "192.0.2.1").expect("a file");
        let mut copy = beside.clone();
        assert_eq!(copy.value(there.clone()).as_deref(), Ok("one"));
        assert!(copy.list(&late).is_err(), "it was not there");
        assert_eq!(copy.paths().collect::<Vec<_>>(), [&there, &late]);
        assert_eq!(Beside::default().value(there).as_deref(), Ok("two"));
    }

    #[test]
    fn a_list_that_is_none_is_told_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let [pipe, large, binary] = ["pipe", "large", "binary"].map(|name| folder.path().join(name));
        mkfifo(&pipe, Mode::S_IRUSR).expect("a pipe");
        File::create(&large).and_then(|file| file.set_len(LIST.most + 1)).expect("a large file");
        fs::write(&binary, [0xff]).expect("a file");
        for (path, why) in [
            (&pipe, "is no regular file"),
            (&large, "is larger than 16 MiB, expected one address or network a line"),
            (&binary, "is not UTF-8 text, expected one address or network a line"),
        ] {
            let told = Beside::default().list(path).expect_err(why);
            assert_eq!(told, format!("{} {why}", path.display()));
        }
    }
}
