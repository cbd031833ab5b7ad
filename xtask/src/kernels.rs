//! `cargo xtask test --kernels`: the XDP programs in other kernels.
//!
//! Debian's kernels boot in software emulation, which needs no virtualisation, side by side. Each
//! guest loads every program, and runs the packet tests and those of real devices: bonds, VLANs.
//!
//! | module | what it does |
//! |---|---|
//! | [`release`] | Debian's kernel releases |
//! | [`apt`] | fetches them, apart from the machine's packages |
//! | [`initramfs`] | builds the guests' initramfs |
//! | [`modules`] | adds a kernel's modules to it |
//! | [`emulator`] | runs qemu |
//! | [`watch`] | runs a guest, with time limits |
//! | [`outcome`] | parses the guest's output |
//! | [`table`] | the tables in docs/limits.md and README.md |

mod apt;
pub(crate) mod emulator;
mod initramfs;
mod modules;
mod outcome;
mod release;
mod table;
mod watch;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use lb_lab::workspace::target;

use self::apt::Apt;
use self::outcome::Outcome;
use self::release::{Release, SERIES, Series};
use crate::setup::{self, Scope};
use crate::{built, workspace};

/// Folder of kernels, emulator and guests.
fn folder() -> PathBuf {
    target().join("kernels")
}

/// The kernels of all series, for `--kernels` without one.
pub(crate) const ALL: &str = "all";

/// A downloaded kernel.
struct Kernel {
    release: Release,
    file: PathBuf,
    /// A part of an initramfs: its modules.
    modules: PathBuf,
}

/// Boots the kernels of `series`. With `arguments` for the tests, or one series alone, the tables
/// in the documents stay as they are.
pub(crate) fn run(series: &str, arguments: &[String]) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "only x86-64 can be emulated here: the guests run this machine's tests"
    );
    setup::ensure(Scope::Kernels)?;
    let chosen: Vec<Series> = SERIES.into_iter().filter(|one| [ALL, &one.word()].contains(&series)).collect();
    ensure!(!chosen.is_empty(), "no kernels {series}: {} or {ALL}", SERIES.map(Series::word).join(", "));
    let folder = folder();
    let busybox = folder.join("busybox");
    let kernels = fetch(&chosen, &folder, &busybox)?;

    eprintln!("==> building the tests");
    let built = built::build()?;
    let initramfs = initramfs::make(&folder, &busybox, &built, arguments)?;

    let begin = Instant::now();
    let outcomes: Vec<Result<Outcome>> = thread::scope(|scope| {
        let (folder, initramfs) = (&folder, &initramfs);
        let boot = |kernel| scope.spawn(move || boot(kernel, folder, initramfs));
        let guests: Vec<_> = kernels.iter().map(boot).collect();
        let panicked = |_| Err(anyhow!("the thread of a guest panicked"));
        guests.into_iter().map(|guest| guest.join().unwrap_or_else(panicked)).collect()
    });
    let outcomes = outcomes.into_iter().collect::<Result<Vec<Outcome>>>()?;
    let table = table::render(&outcomes);
    println!("{table}");
    eprintln!("All guests: {:.0} s.", begin.elapsed().as_secs_f64());
    if series == ALL && arguments.is_empty() {
        table::write(&outcomes)?;
        eprintln!("docs/limits.md and README.md have the new table.");
    }
    judge(&outcomes)
}

/// Downloads the newest kernel of each series, and busybox.
fn fetch(chosen: &[Series], folder: &Path, busybox: &Path) -> Result<Vec<Kernel>> {
    let apt = Apt::new(folder.join("apt"))?;
    apt.update()?;
    let names = apt.names("linux-")?;
    let names = || names.iter().map(String::as_str);
    if !busybox.is_file() {
        apt.file_of("busybox-static", "*bin/busybox", busybox)?;
        fs::set_permissions(busybox, fs::Permissions::from_mode(0o755))?;
    }
    let mut kernels: Vec<Kernel> = Vec::new();
    for series in chosen {
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
        let modules = folder.join(format!("modules-{release}"));
        if !modules.is_file() {
            let unpacked = modules.with_extension("unpacked");
            apt.files_of(&release.modules_package(names()), "*/kernel/*net/*", &unpacked)?;
            modules::make(&unpacked, busybox, &modules)?;
            workspace::remove(&unpacked)?;
        }
        kernels.push(Kernel { release, file, modules });
    }
    Ok(kernels)
}

fn boot(kernel: &Kernel, folder: &Path, initramfs: &Path) -> Result<Outcome> {
    let Kernel { release, file, modules } = kernel;
    eprintln!("==> Linux {release}");
    let runs = folder.join("guests").join(release.as_str());
    fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
    let whole = runs.join("initramfs");
    initramfs::join(&[initramfs, modules], &whole)?;
    let files = emulator::Files::in_folder(&runs);
    let mut outcome = watch::guest(release.as_str(), file, &whole, &files)?;
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
        eprintln!("    Linux {release}: skipped by the tests themselves: {name}");
    }
    Ok(outcome)
}

fn judge(outcomes: &[Outcome]) -> Result<()> {
    let failed = outcomes.iter().filter(|outcome| !outcome.troubles().is_empty());
    let failed: Vec<&str> = failed.map(|outcome| outcome.version.as_str()).collect();
    ensure!(failed.is_empty(), "failures on Linux {}; see the guests' output above", failed.join(", "));
    Ok(())
}
