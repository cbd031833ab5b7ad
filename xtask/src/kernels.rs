//! `cargo xtask test --kernels`: the XDP programs in other kernels.
//!
//! Debian's kernels boot in software emulation, which needs no virtualisation. Each guest loads
//! every program, and runs the packet tests.
//!
//! | module | what it does |
//! |---|---|
//! | [`release`] | Debian's kernel releases |
//! | [`apt`] | fetches them, apart from the machine's packages |
//! | [`initramfs`] | builds the guests' initramfs |
//! | [`emulator`] | runs qemu |
//! | [`watch`] | runs a guest, with time limits |
//! | [`outcome`] | parses the guest's output |
//! | [`table`] | the README's table |

mod apt;
pub(crate) mod emulator;
mod initramfs;
mod outcome;
mod release;
pub(crate) mod table;
mod watch;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lb_lab::workspace::target;

use self::apt::Apt;
use self::outcome::Outcome;
use self::release::{Release, SERIES};
use crate::setup::{self, Scope};
use crate::{built, workspace};

/// Folder of kernels, emulator and guests.
fn folder() -> PathBuf {
    target().join("kernels")
}

/// A downloaded kernel.
struct Kernel {
    release: Release,
    file: PathBuf,
}

pub(crate) fn run() -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "only x86-64 can be emulated here: the guests run this machine's tests"
    );
    setup::ensure(Scope::Kernels)?;
    let folder = folder();
    let busybox = folder.join("busybox");
    let kernels = fetch(&folder, &busybox)?;

    eprintln!("==> building the packet tests");
    let built = built::build()?;
    let initramfs = initramfs::make(&folder, &busybox, &built)?;

    let mut outcomes = Vec::new();
    for kernel in &kernels {
        outcomes.push(boot(kernel, &folder, &initramfs)?);
    }
    let table = table::render(&outcomes);
    println!("{table}");
    table::write(&workspace::root().join("README.md"), &table)?;
    eprintln!("README.md has the new table.");
    judge(&outcomes)
}

/// Downloads the newest kernel of each series, and busybox.
fn fetch(folder: &Path, busybox: &Path) -> Result<Vec<Kernel>> {
    let apt = Apt::new(folder.join("apt"))?;
    apt.update()?;
    let names = apt.names("linux-")?;
    let names = || names.iter().map(String::as_str);
    let mut kernels: Vec<Kernel> = Vec::new();
    for series in SERIES {
        let release = series.choose(names()).with_context(|| {
            format!(
                "Debian's lists name no package with {series}: are they there (the network, the mirror), and does Debian \
                 still have it?"
            )
        })?;
        let file = folder.join(format!("vmlinuz-{release}"));
        if !file.is_file() {
            apt.file_of(&release.package(names()), "*/vmlinuz*", &file)?;
        }
        kernels.push(Kernel { release, file });
    }
    if !busybox.is_file() {
        apt.file_of("busybox-static", "*bin/busybox", busybox)?;
        fs::set_permissions(busybox, fs::Permissions::from_mode(0o755))?;
    }
    Ok(kernels)
}

fn boot(kernel: &Kernel, folder: &Path, initramfs: &Path) -> Result<Outcome> {
    let Kernel { release, file } = kernel;
    eprintln!("==> Linux {release}");
    let runs = folder.join("guests").join(release.as_str());
    fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
    let files = emulator::Files::in_folder(&runs);
    let begin = Instant::now();
    let mut outcome = watch::guest(file, initramfs, &files)?;
    if outcome.version.is_empty() {
        release.as_str().clone_into(&mut outcome.version);
    }
    let troubles = outcome.troubles();
    if !troubles.is_empty() {
        eprintln!("    Linux {release}: {}", troubles.join("; "));
        let words = outcome.words();
        let words = if words.is_empty() { files.last_words() } else { words };
        eprintln!("The guest's output (complete: {}):\n{words}", files.folder().display());
    }
    for name in &outcome.tests.ignored {
        eprintln!("    skipped by the tests themselves: {name}");
    }
    eprintln!("    Linux {release}: {:.0} s", begin.elapsed().as_secs_f64());
    Ok(outcome)
}

fn judge(outcomes: &[Outcome]) -> Result<()> {
    let failed = outcomes.iter().filter(|outcome| !outcome.troubles().is_empty());
    let failed: Vec<&str> = failed.map(|outcome| outcome.version.as_str()).collect();
    ensure!(failed.is_empty(), "failures on Linux {}; see the guests' output above", failed.join(", "));
    Ok(())
}
