//! axe-core, from the npm registry: one script of its package, for tests.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_lab::lab::browser::{self, AXE_VERSION};

use super::install::announce;
use crate::workspace;

/// Fetches the package and keeps the script.
pub(super) fn make() -> Result<()> {
    let target = browser::axe();
    let workshop = target.with_extension("new");
    super::servers::remove(&workshop)?;
    fs::create_dir_all(&workshop).with_context(|| format!("cannot make {}", workshop.display()))?;
    let mut pack = Command::new("npm");
    pack.arg("pack").arg("--silent").arg(format!("axe-core@{AXE_VERSION}")).current_dir(&workshop);
    pack.stdout(std::io::stderr());
    announce(&pack);
    workspace::run("npm pack", &mut pack)?;
    let archive = workshop.join(format!("axe-core-{AXE_VERSION}.tgz"));
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(&workshop);
    workspace::run("tar", tar.arg("package/axe.min.js"))?;
    let script = workshop.join("package/axe.min.js");
    ensure!(script.is_file(), "{} has no axe.min.js", archive.display());
    fs::rename(&script, &target).with_context(|| format!("cannot rename {}", script.display()))?;
    super::servers::remove(&workshop)
}
