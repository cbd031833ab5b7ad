//! Files with secrets: keys, tokens. Whoever could read or change one may do what it allows, so it
//! must belong to root or to the user `lb` runs as, and be accessible to nobody else.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::regular_file::{RegularFile, RegularFileError};

/// Why a file with a secret was refused, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error(
        "{0}: its mode is {mode:04o}, so others than its owner may use it: chmod 600 {0}",
        path.display()
    )]
    Mode { path: PathBuf, mode: u32 },
    #[error(
        "{0}: it belongs to user {owner}, who could change it: chown root {0}",
        path.display()
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error("{}: longer than {most} bytes, this is no such file", path.display())]
    TooLong { path: PathBuf, most: u64 },
}

/// Checks and reads a file of at most `most` bytes. What is checked is what is read: both go by the
/// open file, not by its name.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, PrivateFileError> {
    let named = |error| match error {
        RegularFileError::Io(source) => PrivateFileError::Io { path: path.to_owned(), source },
        RegularFileError::NotRegular => PrivateFileError::NotAFile { path: path.to_owned() },
        RegularFileError::TooLong { most } => PrivateFileError::TooLong { path: path.to_owned(), most },
    };
    let file = RegularFile::open(path).map_err(named)?;
    let mode = file.metadata().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Mode { path: path.to_owned(), mode });
    }
    let owner = file.metadata().uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(PrivateFileError::Owner { path: path.to_owned(), owner });
    }
    file.read(most).map_err(named)
}
