//! The file of what was changed at run time. One that cannot be read is put aside: an operator may
//! mend it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use lb_model::overlay::Overlays;
use lb_system::whole_file;

pub(super) fn read(path: &Path) -> io::Result<Overlays> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Overlays::new()),
        Err(error) => Err(error),
    }
}

/// Nothing changed is no file.
pub(super) fn write(path: &Path, sources: &Overlays) -> io::Result<()> {
    if sources.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
    }
    whole_file::replace(path, &serde_json::to_vec_pretty(sources)?)
}

/// What the name of a file that was put aside has more, but for a number.
const ASIDE: &str = ".unreadable";

/// Renames the file, and says how; what was put aside before stays.
pub(super) fn put_aside(path: &Path) -> io::Result<PathBuf> {
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

/// The files that were put aside and are still there, by name.
pub(super) fn aside(path: &Path) -> Vec<PathBuf> {
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
