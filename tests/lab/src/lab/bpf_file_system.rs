//! The BPF file system that directors pin their programs in. `lb` mounts one itself where there is none; the commands of
//! this project do it before, and say so.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

/// Where `lb` looks for it: the usual place, and one for machines where that is read-only or not there.
pub const PLACES: [&str; 2] = ["/sys/fs/bpf", "/run/lb/bpf"];

/// Whether there is one that can be written to.
pub fn is_there() -> bool {
    PLACES.into_iter().any(|place| {
        statfs(place).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
            && access(place, AccessFlags::W_OK).is_ok()
    })
}

/// Where one can be mounted: on a folder that is there, which in sysfs cannot be made; and not on top of one that is there
/// already and cannot be written to, because that may have a reason.
pub fn place() -> &'static str {
    let [usual, own] = PLACES;
    let free = statfs(usual).is_ok_and(|found| found.filesystem_type() != BPF_FS_MAGIC);
    if free { usual } else { own }
}

/// Mounts one, as systemd does.
pub fn mount_at(place: &str) -> Result<()> {
    if !Path::new(place).is_dir() {
        fs::create_dir_all(place).with_context(|| format!("cannot make {place}"))?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount(Some("bpf"), place, Some("bpf"), flags, Some("mode=0700")).with_context(|| {
        format!("cannot mount a BPF file system on {place}, which takes CAP_SYS_ADMIN; in a container: hand in the host's /sys/fs/bpf")
    })
}
