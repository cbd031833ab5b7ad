//! qemu, unpacked apart from the machine's packages: packages of another qemu release may be
//! installed, and they conflict.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::apt;
use super::servers::{LEFT_OUT, lay_out, unpack};
use crate::kernels::emulator::{PACKAGE, unpacked};
use crate::workspace::remove;

/// Unpacks qemu, and renames it when it is complete.
pub(super) fn make() -> Result<()> {
    ensure!(
        apt::available(),
        "qemu is unpacked from Debian's packages, which needs apt; or install it yourself"
    );
    let target = unpacked();
    let workshop = target.with_extension("new");
    remove(&workshop)?;
    fs::create_dir_all(&workshop).with_context(|| format!("cannot make {}", workshop.display()))?;
    let made = workshop.join("root");
    let archives = apt::download(&[PACKAGE.to_owned()], &workshop.join("apt"))?;
    eprintln!("setup: unpacking {} packages into {}", archives.len(), target.display());
    lay_out(&made)?;
    unpack(&archives, &made, &LEFT_OUT)?;
    remove(&target)?;
    fs::rename(&made, &target).with_context(|| format!("cannot rename {}", made.display()))?;
    remove(&workshop)
}
