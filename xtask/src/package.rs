//! `cargo xtask package`: a Debian package of `lb` in target/package.
//!
//! - `tree`: what the package installs
//! - `try_out`: installs, upgrades and removes it in a Debian root of its own

mod tree;
mod try_out;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use lb_lab::workspace::{root, target};

use crate::setup::{self, Scope};
use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Also check the package with lintian, and install, upgrade, remove and purge it in a Debian
    /// root of its own below target/package.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(if options.check { Scope::PackageCheck } else { Scope::Package })?;
    let lb = workspace::build_lb()?;
    let package = build(&lb, VERSION)?;
    println!("{}", package.display());
    if options.check {
        lintian(&package)?;
        // The same content as a later version.
        let next = build(&lb, &format!("{VERSION}+1"))?;
        try_out::run(&package, &next)?;
        fs::remove_file(next)?;
        println!("The package is right: lintian finds nothing, and it comes and goes without a trace.");
    }
    Ok(())
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

fn folder() -> PathBuf {
    target().join("package")
}

fn build(lb: &Path, version: &str) -> Result<PathBuf> {
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let name = format!("lb_{version}_{}", architecture.trim());
    let tree = folder().join(&name);
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    tree::fill(&tree, lb, version)?;

    let control = tree.join("DEBIAN");
    fs::create_dir_all(&control)?;
    let template = read(&root().join("deploy/debian/control"))?;
    let text = template
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", architecture.trim())
        .replace("@LIBC@", &libc_version(&fs::read(lb)?)?);
    fs::write(control.join("control"), text)?;
    for script in SCRIPTS {
        let to = control.join(script);
        fs::copy(root().join("deploy/debian").join(script), &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }

    let package = folder().join(format!("{name}.deb"));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "--build"]).arg(&tree).arg(&package);
    output(&mut command)?;
    Ok(package)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&[&done.stdout[..], &done.stderr].concat()).into_owned();
    ensure!(done.status.success(), "{command:?} failed:\n{said}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The C library that the executable needs at least: the highest version of its symbols.
fn libc_version(executable: &[u8]) -> Result<String> {
    const MARK: &[u8] = b"GLIBC_2.";
    let starts = executable.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let minors = starts.filter_map(|(at, _)| {
        let digits = executable[at + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        String::from_utf8(digits.copied().collect()).ok()?.parse::<u32>().ok()
    });
    let highest = minors.max().context("lb is linked with no GNU C library")?;
    Ok(format!("2.{highest}"))
}

fn lintian(package: &Path) -> Result<()> {
    let mut command = Command::new("lintian");
    command.args(["--fail-on", "error,warning", "--suppress-tags", &tree::ACCEPTED.join(",")]).arg(package);
    workspace::run("lintian", &mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_the_c_library_counts() {
        let text = b"..GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE";
        assert_eq!(libc_version(text).expect("a version"), "2.34");
        assert!(libc_version(b"nothing").is_err());
    }

    #[test]
    fn the_unit_of_the_package_starts_what_the_package_installs() {
        let unit = tree::unit().expect("the unit");
        assert!(unit.contains("ExecStart=/usr/sbin/lb run"), "{unit}");
        assert!(!unit.contains("/usr/local"), "{unit}");
    }
}
