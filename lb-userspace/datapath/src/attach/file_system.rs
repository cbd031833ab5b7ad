//! The BPF file system that links are pinned in: found, or mounted where there is none.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where everybody has it; and where `lb` has one of its own if that place is read-only or not
/// there, as in a container whose `/sys` is hidden.
pub const USUAL: &str = "/sys/fs/bpf";
const OWN: &str = "/run/lb/bpf";

/// The inode of the PID namespace that a machine begins with (PROC_PID_INIT_INO in the kernel's
/// linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// A BPF file system that was mounted because there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mounted {
    pub place: &'static Path,
    /// The mount goes with the container that lb runs in, and what is pinned in it too.
    pub in_container: bool,
}

/// What [`prepare`] has mounted, until somebody asks.
static PREPARED: Mutex<Option<Mounted>> = Mutex::new(None);

/// Mounts a BPF file system where there is none, while the process may still do that. Whoever needs
/// it later hears of the mount, or of the error.
pub fn prepare() {
    if let Ok((_, mounted @ Some(_))) = find_or_mount() {
        *PREPARED.lock().unwrap_or_else(PoisonError::into_inner) = mounted;
    }
}

/// A folder for links, in the BPF file system that is there or, if there is none that can be used,
/// in one that is mounted now.
///
/// # Errors
/// There is none, and mounting one is not possible or not allowed.
pub(super) fn folder() -> Result<(PathBuf, Option<Mounted>)> {
    let (folder, mounted) = find_or_mount()?;
    Ok((folder, mounted.or_else(|| PREPARED.lock().unwrap_or_else(PoisonError::into_inner).take())))
}

fn find_or_mount() -> Result<(PathBuf, Option<Mounted>)> {
    let mut errors = Vec::new();
    for place in existing() {
        match folder_in(place) {
            Ok(folder) => return Ok((folder, None)),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    for place in [USUAL, OWN].map(Path::new) {
        match mount_on(place).and_then(|mounted| Ok((folder_in(place)?, mounted))) {
            Ok(found) => return Ok(found),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    Err(missing(&errors))
}

/// The folders for links that there may be: an `lb` that ran before may have found another place.
pub fn folders() -> impl Iterator<Item = PathBuf> {
    existing().map(|place| place.join("lb"))
}

fn missing(errors: &[String]) -> Error {
    anyhow!(
        "no BPF file system can be used; `mount -t bpf bpf {USUAL}` makes one. lb tried: {}",
        errors.join("; ")
    )
}

fn existing() -> impl Iterator<Item = &'static Path> {
    [USUAL, OWN].into_iter().map(Path::new).filter(|place| is_bpf(place))
}

fn is_bpf(place: &Path) -> bool {
    statfs(place).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn folder_in(place: &Path) -> Result<PathBuf> {
    let folder = place.join("lb");
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", folder.display()))
        }
        _ => Ok(folder),
    }
}

fn mount_on(place: &'static Path) -> Result<Option<Mounted>> {
    let shown = place.display();
    if place == Path::new(OWN) {
        fs::create_dir_all(place).with_context(|| format!("cannot make {shown}"))?;
    }
    let folder = File::open(place).with_context(|| format!("cannot open {shown}"))?;
    ensure!(folder.metadata()?.is_dir(), "{shown} is no folder");
    // Of two that start at once the second finds what the first has mounted, instead of hiding it
    // and the links in it.
    let _lock = Flock::lock(folder, FlockArg::LockExclusive)
        .map_err(|(_, error)| io::Error::from(error))
        .with_context(|| format!("cannot lock {shown}"))?;
    if is_bpf(place) {
        return Ok(None);
    }
    // As systemd mounts it.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount(Some("bpf"), place, Some("bpf"), flags, Some("mode=0700"))
        .with_context(|| format!("cannot mount one on {shown}, which takes CAP_SYS_ADMIN"))?;
    Ok(Some(Mounted { place, in_container: is_in_container() }))
}

/// By its PID namespace: a mount of ours ends with the container, and so does what is pinned in it.
fn is_in_container() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != INITIAL_PID_NAMESPACE)
}
