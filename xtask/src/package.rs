//! `cargo xtask package`: what is installed, in the forms that distributions and containers take.
//!
//! - `tree`: the files
//! - `debian`: the package for Debian and what comes of it; `try_out`: installs, upgrades and
//!   removes it in a Debian root of its own
//! - `rpm`: the package for distributions with RPM
//! - `image`: the image for containers
//! - `ansible`: the role of deploy/ansible, which installs the package, in Debian roots of its own

mod ansible;
mod debian;
mod image;
mod rpm;
mod tree;
mod try_out;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use lb_lab::workspace::target;

use crate::setup::{self, Scope};
use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Also check all of them: with lintian, rpmlint and skopeo; install, upgrade, remove and purge
    /// the Debian package in a Debian root of its own below target/package, install and remove the
    /// RPM package in an empty one, run what is in the image, and have the Ansible role make a
    /// director and a real server of two more Debian roots.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(if options.check { Scope::PackageCheck } else { Scope::Package })?;
    let lb = workspace::build_lb()?;
    let tree = tree::make(&lb, VERSION)?;
    let image = image::build(&tree, VERSION)?;
    let rpm = rpm::build(&tree, VERSION)?;
    let debian = debian::build(&tree, VERSION)?;
    for made in [&debian, &rpm, &image] {
        println!("{}", made.display());
    }
    if options.check {
        debian::check(&debian)?;
        // The same content as a later version.
        let later = format!("{VERSION}+1");
        let next = debian::build(&tree::make(&lb, &later)?, &later)?;
        try_out::run(&debian, &next)?;
        ansible::run(&debian, &next)?;
        fs::remove_file(next)?;
        rpm::check(&rpm)?;
        image::check(&image)?;
        println!(
            "The packages, the image and the Ansible role are right: the tools find nothing, packages come and go without \
             a trace, and the role changes nothing that is as wanted. There was no systemd: what the scripts and the role \
             tell it was not tried."
        );
    }
    Ok(())
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn folder() -> PathBuf {
    target().join("package")
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
