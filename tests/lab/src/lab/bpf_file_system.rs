//! The BPF file system, in which directors pin their programs. `lb` mounts one if there is none;
//! the commands of this project do so before, and report it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

/// The paths that `lb` tries: the usual one, and one for machines on which that is read-only or
/// missing.
pub const PLACES: [&str; 2] = ["/sys/fs/bpf", "/run/lb/bpf"];

/// Whether a writable BPF file system is mounted.
pub fn is_there() -> bool {
    PLACES.into_iter().any(|place| {
        statfs(place).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
            && access(place, AccessFlags::W_OK).is_ok()
    })
}

/// Where a BPF file system can be mounted: on an existing folder, which nobody can create in sysfs;
/// and not over a read-only BPF file system, which may be intentional.
pub fn place() -> &'static str {
    let [usual, own] = PLACES;
    let free = statfs(usual).is_ok_and(|found| found.filesystem_type() != BPF_FS_MAGIC);
    if free { usual } else { own }
}

/// Mounts a BPF file system, as systemd does.
pub fn mount_at(place: &str) -> Result<()> {
    if !Path::new(place).is_dir() {
        fs::create_dir_all(place).with_context(|| format!("cannot make {place}"))?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount(Some("bpf"), place, Some("bpf"), flags, Some("mode=0700")).with_context(|| {
        format!("cannot mount a BPF file system on {place}, which takes CAP_SYS_ADMIN; in a container: hand in the host's /sys/fs/bpf")
    })
}
