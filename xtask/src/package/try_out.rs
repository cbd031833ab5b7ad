//! A package in a Debian root: it comes, is upgraded, goes, and leaves no trace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::product::Product;
use super::{folder, output, read};
use crate::workspace;

pub(super) fn run(root: &Root, product: &Product, package: &Path, next: &Path) -> Result<()> {
    let before = root.files()?;
    root.install(package)?;
    for (words, answer) in product.answers {
        root.says(&[&[&*product.command()], *words].concat(), answer)?;
    }
    root.verify_unit(product)?;
    // What the administrator puts into the folder that the package has made,
    let configuration = root.0.join(product.configuration());
    fs::write(&configuration, "# mine\n").context("the package has made no folder for it")?;
    // and what the program has written.
    if let Some(kept) = product.kept {
        let file = root.0.join(kept);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(file, "[]\n")?;
    }
    root.install(next)?;
    ensure!(configuration.exists(), "the upgrade has removed the configuration");
    root.dpkg(&["--remove", product.name])?;
    ensure!(!root.0.join(product.program()).exists(), "the program is still there");
    ensure!(configuration.exists(), "removal has removed the configuration");
    root.dpkg(&["--purge", product.name])?;
    let after = root.files()?;
    let left: Vec<_> = after.iter().filter(|file| !before.contains(file)).collect();
    ensure!(left.is_empty(), "the purge has left {left:?}");
    Ok(())
}

/// Where a root's administrator has commands.
pub(super) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A minimal Debian.
pub(super) struct Root(PathBuf);

impl Root {
    /// In the folder of packages, with these packages beside the essential ones.
    pub(super) fn make(name: &str, packages: &[&str]) -> Result<Self> {
        let root = folder().join(name);
        workspace::remove(&root)?;
        eprintln!("A minimal Debian for the package: downloads about 40 MB to {} …", root.display());
        let mut command = Command::new("mmdebstrap");
        command.args(["--variant=essential", "--mode=root", "--quiet"]);
        if !packages.is_empty() {
            command.arg(format!("--include={}", packages.join(",")));
        }
        // Of this machine's own sources: it is the Debian that the package was built for.
        command.arg("").arg(&root);
        let sources = sources()?;
        command.args(sources);
        output(&mut command)?;
        Ok(Self(root))
    }

    /// Another one with the same files.
    pub(super) fn copy(&self, name: &str) -> Result<Self> {
        let copy = folder().join(name);
        workspace::remove(&copy)?;
        output(Command::new("cp").arg("--archive").arg(&self.0).arg(&copy))?;
        Ok(Self(copy))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn inside(&self, words: &[&str]) -> Result<String> {
        output(Command::new("chroot").arg(&self.0).args(words).env("PATH", PATH))
    }

    pub(super) fn says(&self, words: &[&str], wanted: &str) -> Result<()> {
        let said = self.inside(words)?;
        ensure!(said.contains(wanted), "{words:?} says {said:?}");
        Ok(())
    }

    fn install(&self, package: &Path) -> Result<()> {
        let name = package.file_name().context("a name")?;
        let inside = self.0.join("tmp").join(name);
        fs::copy(package, &inside)?;
        self.dpkg(&["--install", &format!("/tmp/{}", name.to_string_lossy())])?;
        fs::remove_file(inside).context("cannot remove the package")
    }

    fn dpkg(&self, words: &[&str]) -> Result<()> {
        self.inside(&[&["dpkg"], words].concat()).map(drop)
    }

    /// This machine's systemd finds nothing wrong with the unit, whose programs are there.
    fn verify_unit(&self, product: &Product) -> Result<()> {
        let unit = read(&self.0.join(product.unit()))?;
        let program = self.0.join(product.program()).display().to_string();
        let file = folder().join(format!("{}.service", product.name));
        fs::write(&file, unit.replace(&product.command(), &program))?;
        // What it says of units that this one names is not about the package.
        let mut verify = Command::new("systemd-analyze");
        output(verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&file))?;
        fs::remove_file(file).context("cannot remove the unit")
    }

    /// All of it but dpkg's own books and logs.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let path = entry.path();
                let of_dpkg = ["var/lib/dpkg", "var/log", "proc", "sys", "dev"];
                if of_dpkg.iter().any(|own| path == self.0.join(own)) {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    folders.push(path.clone());
                }
                found.push(path);
            }
        }
        Ok(found)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The files of this machine's apt that name where packages come from.
fn sources() -> Result<Vec<String>> {
    let list = PathBuf::from("/etc/apt/sources.list");
    let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let files = more.map(|entry| entry.path()).chain([list]);
    let is_one = |file: &PathBuf| {
        let ends = file.extension().is_some_and(|end| end == "list" || end == "sources");
        ends && fs::metadata(file).is_ok_and(|found| found.len() > 0)
    };
    let files: Vec<String> = files.filter(is_one).map(|file| file.display().to_string()).collect();
    ensure!(!files.is_empty(), "apt has no sources");
    Ok(files)
}
