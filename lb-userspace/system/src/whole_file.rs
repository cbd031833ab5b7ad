//! Files that are replaced as a whole: whoever reads one, also after a crash, finds what was there
//! before or what is there now, never a part.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

/// Replaces the file's content, or makes the file and its folder. Behind a symbolic link the file
/// it points to is replaced; a file that was there keeps its owner and mode.
///
/// # Errors
/// Where the new content cannot be written the old one stays.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let path = match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
        found => found.map_err(named)?,
    };
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut new = File::create(&beside)?;
        new.write_all(content)?;
        if let Ok(old) = fs::metadata(&path) {
            keep_owner_and_mode(&old, &new)?;
        }
        new.sync_all()?;
        fs::rename(&beside, &path)
    };
    write().map_err(named)
}

/// Only what differs is changed: that may need a right which the caller has given up.
fn keep_owner_and_mode(old: &fs::Metadata, new: &File) -> io::Result<()> {
    let made = new.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    if made.mode() != old.mode() {
        new.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_behind_a_link_keeps_its_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link] = ["lb.yaml", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("its mode");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        replace(&link, b"new").expect("it is replaced");
        assert_eq!(fs::read_to_string(&file).expect("the file"), "new");
        assert_eq!(fs::metadata(&file).expect("the file").mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }

    #[test]
    fn a_file_is_made_with_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state/orders.json");
        replace(&file, b"[]").expect("it is made");
        assert_eq!(fs::read(&file).expect("the file"), b"[]");
    }

    #[test]
    fn an_error_names_the_file_and_leaves_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("orders.json");
        fs::write(&file, "old").expect("a file");
        // Nothing can be written beside it.
        fs::create_dir(folder.path().join("orders.json.new")).expect("a folder is in the way");
        let error = replace(&file, b"new").expect_err("it cannot be written");
        assert!(error.to_string().contains("orders.json: "), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("the file"), "old");
    }
}
