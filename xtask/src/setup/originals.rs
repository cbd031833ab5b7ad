//! The file system of the originals that `lb import` is compared with: packages from the machine's
//! apt sources, unpacked apart from the machine, with their documents, in which samples are.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lb_lab::lab::originals;

use super::apt;
use super::servers::{lay_out, lock, unpack};
use crate::workspace::remove;

/// Builds the file system, and replaces an old one only when the new one is complete.
pub(super) fn make() -> Result<()> {
    ensure!(
        apt::available(),
        "ldirectord and keepalived are unpacked from Debian's packages, which needs apt"
    );
    let target = originals::path();
    let workshop = target.with_extension("new");
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let _lock = lock(&target.with_extension("lock"))?;
    if originals::is_complete() {
        return Ok(());
    }
    // An earlier run may have been killed here.
    remove(&workshop)?;
    let made = workshop.join("root");
    let archives = apt::download(&originals::PACKAGES.map(str::to_owned), &workshop.join("apt"))?;
    eprintln!("setup: unpacking {} packages into {}", archives.len(), target.display());
    lay_out(&made)?;
    unpack(&archives, &made, &["i18n", "locale", "man"])?;
    for (path, content) in originals::FILES {
        fs::write(made.join(path), content)?;
    }
    fs::write(made.join(originals::RECIPE), originals::recipe())?;
    remove(&target)?;
    fs::rename(&made, &target).with_context(|| format!("cannot rename {}", made.display()))?;
    remove(&workshop)
}
