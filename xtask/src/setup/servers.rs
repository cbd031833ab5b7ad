//! The file system of the real servers for tests of checks: packages from the machine's apt
//! sources, unpacked apart from the machine. It runs none of their scripts, installs nothing, and
//! starts no service.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::num::NonZero;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use lb_lab::lab::servers::root;
use nix::fcntl::{Flock, FlockArg};

use super::apt;
use crate::workspace::remove;

/// Builds the file system, and replaces an old one only when the new one is complete.
pub(super) fn make() -> Result<()> {
    ensure!(apt::available(), "the servers are unpacked from Debian's packages, which needs apt");
    let target = root::path();
    let workshop = target.with_extension("new");
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let _lock = lock(&target.with_extension("lock"))?;
    if root::is_complete() {
        return Ok(());
    }
    // An earlier run may have been killed here.
    remove(&workshop)?;

    let made = workshop.join("root");
    let archives = download(&workshop.join("apt"))?;
    eprintln!("setup: unpacking {} packages into {}", archives.len(), target.display());
    lay_out(&made)?;
    unpack(&archives, &made, &LEFT_OUT)?;
    for (path, content) in root::FILES {
        fs::write(made.join(path), content)?;
    }
    fs::write(made.join(root::RECIPE), root::recipe())?;

    match fs::rename(&target, workshop.join("old")) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::rename(&made, &target).with_context(|| format!("cannot rename {}", made.display()))?;
    remove(&workshop)
}

/// A lock: one `cargo xtask` at a time.
pub(super) fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// Downloads the packages with all dependencies, including the C library.
fn download(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for alternatives in root::packages() {
        let package = apt::choose(alternatives)?;
        packages.push(package.with_context(|| format!("apt has no package {alternatives} here"))?);
    }
    apt::download(&packages, folder)
}

/// Creates the folders that packages expect.
pub(super) fn lay_out(root: &Path) -> Result<()> {
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        symlink(Path::new("usr").join(folder), root.join(folder))?;
    }
    for folder in root::MOUNT_POINTS {
        fs::create_dir(root.join(folder))?;
    }
    Ok(())
}

/// Unpacks all archives on all processors, because most of the time is decompression, without these
/// folders of `/usr/share`.
pub(super) fn unpack(archives: &[PathBuf], root: &Path, left_out: &[&str]) -> Result<()> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let left = Mutex::new(archives.iter());
    let next = || left.lock().expect("no thread panics with it").next();
    let work = || -> Result<()> {
        while let Some(archive) = next() {
            unpack_one(archive, root, left_out)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("unpacking does not panic"))
    })
}

/// Folders of `/usr/share` that are not extracted.
pub(super) const LEFT_OUT: [&str; 4] = ["doc", "i18n", "locale", "man"];

fn unpack_one(archive: &Path, root: &Path, left_out: &[&str]) -> Result<()> {
    // All files belong to root and are readable for everybody; none is setuid.
    let mut tar = Command::new("sh");
    tar.args(["-c", "umask 022; exec tar \"$@\"", "tar"])
        .args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--no-same-permissions"])
        .args(left_out.iter().map(|folder| format!("--exclude=./usr/share/{folder}")))
        .arg("--directory")
        .arg(root);
    ensure!(apt::read_package(archive, &mut tar)?, "cannot unpack {}", archive.display());
    Ok(())
}
