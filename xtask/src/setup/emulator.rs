//! qemu, unpacked beside the machine's own packages: those of another of its releases may be installed here, and they exclude
//! each other.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::apt;
use super::servers::{lay_out, remove, unpack};
use crate::kernels::emulator::{PACKAGE, unpacked};

/// Makes it, and puts it in its place when it is whole.
pub(super) fn make() -> Result<()> {
    ensure!(
        apt::available(),
        "qemu is unpacked from Debian's packages, which takes apt; or install it yourself"
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
    fs::rename(&made, &place).with_context(|| format!("cannot put {} in its place", made.display()))?;
    remove(&workshop)
}
