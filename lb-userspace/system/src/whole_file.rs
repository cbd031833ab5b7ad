//! Files that are replaced as a whole: whoever reads one, also after a crash, finds what was there
//! before or what is there now, never a part.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// What a new file may be for others if the process's umask does not say otherwise.
const NEW: u32 = 0o666;

/// Replaces the file's content, or makes the file and its folder. Behind a symbolic link the file
/// it points to is replaced; a file that was there keeps its owner and mode, and nobody who may not
/// read it can read the new content meanwhile.
///
/// # Errors
/// Where the new content cannot be written the old one stays.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    make_like(path, path, content)
}

/// The same for a file whose owner and mode are those of another one, `model`.
///
/// # Errors
/// As [`replace`].
pub fn make_like(model: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let path = match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
        found => found.map_err(named)?,
    };
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Left by a process that was killed; or by somebody else, who may have it open, or has made
        // it a link to another file.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed?,
        }
        let old = fs::metadata(model).ok();
        let mode = old.as_ref().map_or(NEW, |old| old.mode() & 0o777);
        let new = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
        let filled = fill(new, old.as_ref(), content).and_then(|()| fs::rename(&beside, &path));
        match &filled {
            Ok(()) => keep_name(&path),
            Err(_) => drop(fs::remove_file(&beside)),
        }
        filled
    };
    write().map_err(named)
}

/// The new name outlives a power loss, too, where the file system can see to it.
fn keep_name(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}

/// The content comes last: by then the file is for nobody but those whom the old one was for.
fn fill(mut new: File, old: Option<&fs::Metadata>, content: &[u8]) -> io::Result<()> {
    if let Some(old) = old {
        keep_owner_and_mode(old, &new)?;
    }
    new.write_all(content)?;
    new.sync_all()
}

/// Only what differs is changed: that may need a right which the caller has given up.
fn keep_owner_and_mode(old: &fs::Metadata, new: &File) -> io::Result<()> {
    let made = new.metadata()?;
    // While it is the caller's: the mode of another's file only CAP_FOWNER may change.
    if (made.mode() ^ old.mode()) & 0o7777 != 0 {
        new.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    }
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn a_file_behind_a_link_keeps_its_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link] = ["lb.yaml", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("its mode");
        symlink(&file, &link).expect("a link");
        replace(&link, b"new").expect("it is replaced");
        assert_eq!(fs::read_to_string(&file).expect("the file"), "new");
        assert_eq!(fs::metadata(&file).expect("the file").mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }

    #[test]
    fn a_file_keeps_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lb.yaml");
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("its mode");
        let found = || {
            let found = fs::metadata(&file).expect("the file");
            (found.uid(), found.gid(), found.mode() & 0o7777)
        };
        // Only root may give a file away.
        if found().0 == 0 {
            chown(&file, Some(65_534), Some(65_533)).expect("another owner");
        }
        let before = found();
        replace(&file, b"new").expect("it is replaced");
        assert_eq!(found(), before);
    }

    #[test]
    fn a_file_may_be_made_for_those_whom_another_one_is_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, other] = ["overlay", "overlay.journal"].map(|name| folder.path().join(name));
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("its mode");
        make_like(&file, &other, b"new").expect("it is made");
        assert_eq!(fs::read_to_string(&other).expect("the other file"), "new");
        assert_eq!(fs::metadata(&other).expect("the other file").mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(&file).expect("the file"), "old");
    }

    #[test]
    fn what_was_left_beside_it_gets_no_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, beside, other] = ["lb.yaml", "lb.yaml.new", "other"].map(|name| folder.path().join(name));
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("its mode");
        // Somebody who may not read the file has this one open.
        fs::write(&beside, "").expect("a leftover");
        fs::set_permissions(&beside, Permissions::from_mode(0o666)).expect("its mode");
        let mut open = File::open(&beside).expect("the leftover");
        replace(&file, b"secret").expect("it is replaced");
        let mut seen = String::new();
        open.read_to_string(&mut seen).expect("the leftover is still open");
        assert_eq!(seen, "");
        assert_eq!(fs::metadata(&file).expect("the file").mode() & 0o777, 0o600);

        fs::write(&other, "other").expect("a file");
        symlink(&other, &beside).expect("a leftover that is a link");
        replace(&file, b"newer").expect("it is replaced");
        assert_eq!(fs::read_to_string(&other).expect("the other file"), "other");
        assert_eq!(fs::read_to_string(&file).expect("the file"), "newer");
        assert!(!beside.exists());
    }

    #[test]
    fn an_error_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("orders.json");
        fs::create_dir(&file).expect("a folder in its place");
        replace(&file, b"new").expect_err("a file takes no folder's place");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
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
