//! Notices that the configuration file changed.
//!
//! By asking for its metadata: that sees an editor's rename, a symlink that is switched (Kubernetes) and a file system
//! that sends no events, and costs one stat(2) each time.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What tells one version of a file from another: device, inode, size, and when its content or its mode last changed.
type Version = (u64, u64, u64, i64, i64);

/// A file and the version that was read last.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    read: Option<Version>,
    /// A version seen once: a file is taken when it stays the same from one look to the next, not half-written.
    settling: Option<Version>,
}

impl Watched {
    pub fn new(path: PathBuf) -> Self {
        let read = version(&path);
        Self { path, read, settling: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file is being read now, as it is.
    pub fn seen(&mut self) {
        self.read = version(&self.path);
    }

    /// Whether there is a new version that has settled. A file that is gone is no new version.
    pub fn changed(&mut self) -> bool {
        let now = version(&self.path);
        if now.is_none() || now == self.read {
            self.settling = None;
            return false;
        }
        std::mem::replace(&mut self.settling, now) == now
    }
}

fn version(path: &Path) -> Option<Version> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_version_is_noticed_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb.yaml");
        fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(path.clone());
        assert!(!watched.changed());
        fs::write(&path, "three").unwrap();
        assert!(!watched.changed(), "it may still be written to");
        assert!(watched.changed());
        watched.seen();
        assert!(!watched.changed());
        fs::remove_file(&path).unwrap();
        assert!(!watched.changed() && !watched.changed());
    }
}
