//! qemu, unpacked apart from the machine's packages: packages of another qemu release may be
//! installed, and they conflict.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::apt;
use super::servers::{lay_out, remove, unpack};
use crate::kernels::emulator::{PACKAGE, unpacked};

/// Unpacks qemu, and moves it to its place when it is complete.
pub(super) fn make() -> Result<()> {
    ensure!(
        apt::available(),
        "qemu is unpacked from Debian's packages, which needs apt; or install it yourself"
    );
    let place = unpacked();
    let workshop = place.with_extension("new");
    remove(&workshop)?;
    fs::create_dir_all(&workshop).with_context(|| format!("cannot make {}", workshop.display()))?;
    let made = workshop.join("root");
    let archives = apt::download(&[PACKAGE.to_owned()], &workshop.join("apt"))?;
    eprintln!("setup: unpacking {} packages into {}", archives.len(), place.display());
    lay_out(&made)?;
    unpack(&archives, &made)?;
    remove(&place)?;
    fs::rename(&made, &place).with_context(|| format!("cannot rename {}", made.display()))?;
    remove(&workshop)
}
