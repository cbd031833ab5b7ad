//! The real servers' file system: Debian's packages, unpacked in the target folder, apart from the
//! machine's own. `cargo xtask setup` creates it.

use std::fs;
use std::path::{Path, PathBuf};

use super::catalog;
use crate::workspace;

/// Programs for the start scripts.
const BASE: [&str; 2] = ["dash", "coreutils"];

/// Uid and gid of the unprivileged user `lab`.
pub const LAB_USER: u32 = 64_000;

/// The users of the file system: the packages' scripts, which would create them, never run. Exim,
/// dovecot, vsftpd and FRR require these names.
pub const USERS: &str = "\
root:x:0:0::/:/bin/sh
nobody:x:65534:65534::/:/bin/sh
lab:x:64000:64000::/srv:/bin/sh
Debian-exim:x:64000:64000::/srv:/bin/sh
dovecot:x:64000:64000::/srv:/bin/sh
dovenull:x:64001:64001::/srv:/bin/sh
ftp:x:64000:64000::/srv:/bin/sh
frr:x:64002:64002::/srv:/bin/sh
";

const GROUPS: &str = "\
root:x:0:
nogroup:x:65534:
lab:x:64000:
Debian-exim:x:64000:
dovecot:x:64000:
dovenull:x:64001:
frr:x:64002:
frrvty:x:64003:frr
";

const HOSTS: &str = "127.0.0.1 localhost\n";

/// Files that no package contains.
pub const FILES: [(&str, &str); 3] = [("etc/passwd", USERS), ("etc/group", GROUPS), ("etc/hosts", HOSTS)];

/// Mount points of [`super::RealServer`].
pub const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "srv", "tmp"];

/// The file that records the packages; written last.
pub const RECIPE: &str = "recipe";

/// Path of the file system.
pub fn path() -> PathBuf {
    workspace::target().join("lab/servers")
}

/// All packages; in `a|b` one of them.
pub fn packages() -> impl Iterator<Item = &'static str> {
    BASE.into_iter().chain(programs().flat_map(|program| program.packages.iter().copied()))
}

fn programs() -> impl Iterator<Item = &'static catalog::Program> {
    catalog::ALL.into_iter().chain(catalog::ROUTING)
}

/// The expected content of [`RECIPE`]; another content means that the project has changed since.
pub fn recipe() -> String {
    let mut text: String = packages().map(|package| format!("{package}\n")).collect();
    text.extend(FILES.iter().map(|(path, content)| format!("{path}\n{content}")));
    text
}

/// Whether the file system is complete and up to date.
pub fn is_complete() -> bool {
    holds_all(&path())
}

fn holds_all(root: &Path) -> bool {
    fs::read_to_string(root.join(RECIPE)).is_ok_and(|text| text == recipe())
        && programs().all(|program| root.join(program.path).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_anew_when_a_server_or_the_recipe_is_missing_or_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        assert!(!holds_all(root));
        for program in programs() {
            fs::create_dir_all(root.join(program.path)).expect("a folder in it");
        }
        assert!(!holds_all(root), "the recipe is written last");
        fs::write(root.join(RECIPE), recipe()).expect("a file in it");
        assert!(holds_all(root));

        fs::write(root.join(RECIPE), recipe() + "another-server\n").expect("a file in it");
        assert!(!holds_all(root));
        fs::write(root.join(RECIPE), recipe()).expect("a file in it");
        fs::remove_dir(root.join(catalog::NSD.path)).expect("it was there");
        assert!(!holds_all(root));
    }
}
