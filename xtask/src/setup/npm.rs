//! What tests have from the npm registry: a script of axe-core, and a language server for YAML.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_lab::lab::browser::{self, AXE_VERSION};
use lb_lab::lab::editor;

use super::install::announce;
use crate::workspace;

/// Fetches the package axe-core and keeps its script.
pub(super) fn axe() -> Result<()> {
    let target = browser::axe();
    let workshop = workshop(&target)?;
    let mut pack = Command::new("npm");
    pack.arg("pack").arg("--silent").arg(format!("axe-core@{AXE_VERSION}"));
    npm(pack, &workshop)?;
    let archive = workshop.join(format!("axe-core-{AXE_VERSION}.tgz"));
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(&workshop);
    workspace::run("tar", tar.arg("package/axe.min.js"))?;
    let script = workshop.join("package/axe.min.js");
    ensure!(script.is_file(), "{} has no axe.min.js", archive.display());
    fs::rename(&script, &target).with_context(|| format!("cannot rename {}", script.display()))?;
    workspace::remove(&workshop)
}

/// Fetches the language server with the packages that it needs; none of their scripts is run.
pub(super) fn language_server() -> Result<()> {
    let target = editor::folder();
    let workshop = workshop(&target)?;
    let mut install = Command::new("npm");
    install.args([
        "install",
        "--silent",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        ".",
    ]);
    install.arg(format!("yaml-language-server@{}", editor::VERSION));
    npm(install, &workshop)?;
    workspace::remove(&target)?;
    fs::rename(&workshop, &target).with_context(|| format!("cannot rename {}", workshop.display()))?;
    let program = editor::language_server();
    ensure!(program.is_file(), "npm has made no {}", program.display());
    Ok(())
}

/// An empty folder beside `target`.
fn workshop(target: &Path) -> Result<PathBuf> {
    let workshop = PathBuf::from(format!("{}.new", target.display()));
    workspace::remove(&workshop)?;
    fs::create_dir_all(&workshop).with_context(|| format!("cannot make {}", workshop.display()))?;
    Ok(workshop)
}

fn npm(mut command: Command, folder: &Path) -> Result<()> {
    command.current_dir(folder).stdout(std::io::stderr());
    announce(&command);
    workspace::run("npm", &mut command)
}
