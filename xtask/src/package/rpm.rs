//! The package for distributions with RPM, of the same files as Debian's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::product::Product;
use super::{folder, output, read};
use crate::workspace;

/// Returns the product's package of the files in `tree`.
pub(super) fn build(product: &Product, tree: &Path, version: &str) -> Result<PathBuf> {
    let top = folder().join("rpm");
    workspace::remove(&top)?;
    fs::create_dir_all(&top)?;
    let name = format!("{}.spec", product.name);
    let spec = top.join(&name);
    let text = read(&workspace::root().join("deploy/rpm").join(name))?;
    let text = text.replace("@VERSION@", version).replace("@TREE@", &tree.display().to_string());
    fs::write(&spec, text)?;
    let mut command = Command::new("rpmbuild");
    command.args(["-bb", "--quiet", "--define", &format!("_topdir {}", top.display())]).arg(&spec);
    output(&mut command)?;

    let made = fs::read_dir(top.join("RPMS"))?.flatten().flat_map(|folder| fs::read_dir(folder.path()));
    let made = made.flatten().flatten().next().context("rpmbuild has made no package")?;
    let package = folder().join(made.file_name());
    fs::rename(made.path(), &package).with_context(|| format!("cannot rename {}", package.display()))?;
    workspace::remove(&top)?;
    Ok(package)
}

/// rpmlint finds nothing, and rpm installs and removes the package in a root of its own.
pub(super) fn check(product: &Product, package: &Path) -> Result<()> {
    let accepted = workspace::root().join("deploy/rpm/rpmlintrc");
    workspace::run("rpmlint", Command::new("rpmlint").args(["--strict", "-r"]).arg(accepted).arg(package))?;
    let root = folder().join("rpm-root");
    workspace::remove(&root)?;
    fs::create_dir_all(&root)?;
    let rpm = |words: &[&str]| {
        let mut command = Command::new("rpm");
        command.arg("--root").arg(&root).args(words);
        output(&mut command)
    };
    let file = package.to_str().context("the folder's name is not UTF-8")?;
    // There is no distribution around it: what it needs of one, and its scripts, are left out.
    rpm(&["--install", "--nodeps", "--noscripts", file])?;
    let program = root.join(product.program());
    ensure!(program.exists(), "the package has no program");
    ensure!(root.join(product.settings()).is_dir(), "the package has no folder for the configuration");
    let needs = rpm(&["--query", "--requires", product.name])?;
    ensure!(needs.contains("libc.so.6"), "the package names no C library: {needs}");
    rpm(&["--erase", "--noscripts", product.name])?;
    ensure!(!program.exists(), "the program is still there");
    workspace::remove(&root)
}
