//! The page: the operator's own, or one that is built in.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use hyper::body::Bytes;

/// Of an operator's page, in bytes: each connection holds one.
pub(super) const LONGEST: u64 = 256 * 1024;

pub(super) const BUILT_IN: &str = include_str!("page.html");

/// Reads the page anew: it may have been changed a moment ago.
///
/// # Errors
/// It cannot be read, or is no page; in words for operators.
pub(super) fn read(path: &Path) -> Result<Bytes, String> {
    let read = || {
        // A pipe would be waited for.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut text = Vec::new();
        File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
        if text.len() as u64 > LONGEST {
            return Err(io::Error::other(format!("it has more than {} KiB", LONGEST / 1024)));
        }
        Ok(Bytes::from(text))
    };
    read().map_err(|error| format!("{}: {error}", path.display()))
}
