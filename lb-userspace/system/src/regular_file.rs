//! Regular files that are read as a whole, up to a size. Whoever names a pipe, a device or a folder
//! in place of one is told so, and nobody waits for the other end of a pipe.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Why a file was not read. The path is not in the words: callers have it.
#[derive(Debug, thiserror::Error)]
pub enum RegularFileError {
    #[error(transparent)]
    Io(io::Error),
    #[error("not a regular file")]
    NotRegular,
    #[error("longer than {most} bytes")]
    TooLong { most: u64 },
}

/// An open regular file that has not been read yet.
#[derive(Debug)]
pub struct RegularFile {
    file: File,
    metadata: Metadata,
}

impl RegularFile {
    pub fn open(path: &Path) -> Result<Self, RegularFileError> {
        // Without O_NONBLOCK a named pipe would keep us waiting.
        let mut options = File::options();
        let opened = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        let file = opened.map_err(|error| match fs::metadata(path) {
            // Sockets cannot be opened.
            Ok(metadata) if !metadata.is_file() => RegularFileError::NotRegular,
            _ => RegularFileError::Io(error),
        })?;
        let metadata = file.metadata().map_err(RegularFileError::Io)?;
        match metadata.is_file() {
            true => Ok(Self { file, metadata }),
            false => Err(RegularFileError::NotRegular),
        }
    }

    /// Of the open file, whatever becomes of its name.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The content, which may have `most` bytes.
    pub fn read(self, most: u64) -> Result<Vec<u8>, RegularFileError> {
        let mut content = Vec::new();
        let length = self.file.take(most + 1).read_to_end(&mut content).map_err(RegularFileError::Io)?;
        match length as u64 > most {
            true => Err(RegularFileError::TooLong { most }),
            false => Ok(content),
        }
    }
}

/// The content of the file at `path`, which may have `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, RegularFileError> {
    RegularFile::open(path)?.read(most)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn a_file_is_read_up_to_a_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("list");
        fs::write(&file, "four").expect("a file");
        assert_eq!(read(&file, 4).expect("the file"), b"four");
        assert!(matches!(read(&file, 3), Err(RegularFileError::TooLong { most: 3 })));
        let missing = read(&folder.path().join("none"), 3).expect_err("there is none");
        assert!(matches!(missing, RegularFileError::Io(error) if error.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn what_is_no_regular_file_is_told_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let [pipe, socket] = ["pipe", "socket"].map(|name| folder.path().join(name));
        mkfifo(&pipe, Mode::S_IRUSR).expect("a pipe");
        let _listener = UnixListener::bind(&socket).expect("a socket");
        for path in [&*pipe, &*socket, folder.path(), Path::new("/dev/null")] {
            assert!(matches!(read(path, 9), Err(RegularFileError::NotRegular)), "{}", path.display());
        }
    }
}
