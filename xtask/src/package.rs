//! `cargo xtask package`: what is installed, in the forms that distributions and containers take.
//!
//! - `product`: what there is to install, `lb` and `lb-kube`; all below make or try one of the two
//! - `tree`: the files
//! - `debian`: the package for Debian and what comes of it; `try_out`: installs, upgrades and
//!   removes it in a Debian root of its own; `serving`: the same of `lb` while it serves clients
//! - `rpm`: the package for distributions with RPM
//! - `image`: the image for containers
//! - `ansible`: the role of deploy/ansible, which installs `lb`, in Debian roots of its own

mod ansible;
mod debian;
mod image;
mod product;
mod rpm;
mod serving;
mod tree;
mod try_out;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use lb_lab::workspace::target;

use self::product::Product;
use self::try_out::Root;
use crate::setup::{self, Scope};
use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Also check all of them: with lintian, rpmlint and skopeo; install, upgrade, remove and purge
    /// the Debian packages in a Debian root of their own below target/package, that of lb also
    /// while it serves clients, have systemd verify their units, install and remove the RPM
    /// packages in an empty root, run what is in the images, and have the Ansible role make a
    /// director and a real server of two more Debian roots.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(if options.check { Scope::PackageCheck } else { Scope::Package })?;
    let made = product::ALL.into_iter().map(Made::build).collect::<Result<Vec<_>>>()?;
    for Made { debian, rpm, image, .. } in &made {
        for path in [debian, rpm, image] {
            println!("{}", path.display());
        }
    }
    if options.check {
        let root = Root::make("root", &[])?;
        for one in &made {
            one.check(&root)?;
        }
        println!(
            "The packages, the images and the Ansible role are right: the tools find nothing, packages come and go without \
             a trace, an upgrade costs no connection, and the role changes nothing that is as wanted. There was no systemd: \
             a stand-in started and stopped lb for the package's scripts; what the role tells systemd was not tried."
        );
    }
    Ok(())
}

/// What is made of a product.
struct Made {
    product: &'static Product,
    program: PathBuf,
    debian: PathBuf,
    rpm: PathBuf,
    image: PathBuf,
}

impl Made {
    fn build(product: &'static Product) -> Result<Self> {
        let program = workspace::build_release(product.name)?;
        let tree = tree::make(product, &program, VERSION)?;
        let image = image::build(product, &tree, VERSION)?;
        let rpm = rpm::build(product, &tree, VERSION)?;
        let debian = debian::build(product, &tree, VERSION)?;
        Ok(Self { product, program, debian, rpm, image })
    }

    /// `root` is a Debian without any package of ours, and is so again afterwards.
    fn check(&self, root: &Root) -> Result<()> {
        let Self { product, program, debian, rpm, image } = self;
        debian::check(debian)?;
        // The same content as a later version.
        let later = format!("{VERSION}+1");
        let next = debian::build(product, &tree::make(product, program, &later)?, &later)?;
        try_out::run(root, product, debian, &next)?;
        if product.serves {
            serving::run(root.path(), debian, &next)?;
        }
        if product.role {
            ansible::run(debian, &next)?;
        }
        fs::remove_file(next)?;
        rpm::check(product, rpm)?;
        image::check(product, image)
    }
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
