//! Installs the missing requirements that `need` found, after reporting them.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::need::{DEBIAN_BPF_TOOLCHAIN, How, Missing, on_path};
use super::{apt, cargo_deny, emulator, list, npm, originals, servers};
use crate::workspace;

/// The required release of bpf-linker, whose options the build uses.
const BPF_LINKER_VERSION: &str = "0.13.0";

/// Installs everything in `missing`: all packages at once, then the rest in order.
pub(super) fn install(missing: &[Missing]) -> Result<()> {
    eprintln!("setup: this machine lacks some things; they are installed now:\n{}", list(missing));
    let apt = apt::available();
    if apt
        && missing.iter().any(|missing| {
            matches!(
                missing.how,
                How::Apt(_) | How::BpfToolchain | How::Servers | How::Originals | How::Emulator
            )
        })
    {
        apt::update()?;
    }
    let mut packages = Vec::new();
    let mut rest = Vec::new();
    for Missing { what, why: _, how } in missing {
        match how {
            How::Apt(wanted) => {
                for alternatives in wanted {
                    let package = if apt { apt::choose(alternatives)? } else { None };
                    packages.push(package.with_context(|| {
                        format!("apt cannot install {what} here; please install yourself:\n{}", list(missing))
                    })?);
                }
            }
            How::BpfToolchain if apt && apt::choose(DEBIAN_BPF_TOOLCHAIN[2])?.is_some() => {
                packages.extend(DEBIAN_BPF_TOOLCHAIN.map(str::to_owned));
            }
            how => rest.push(how),
        }
    }
    apt::install(&packages)?;
    rest.into_iter().try_for_each(without_apt)
}

fn without_apt(how: &How) -> Result<()> {
    match how {
        How::Apt(_) => unreachable!("packages are installed together"),
        How::BpfToolchain => {
            rustup(&["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"])
        }
        How::Rustup(components) => {
            let mut arguments = vec!["component", "add"];
            arguments.extend(components.iter().map(String::as_str));
            rustup(&arguments)
        }
        How::BpfLinker { llvm, prefix } => bpf_linker(*llvm, prefix),
        How::Servers => servers::make(),
        How::Originals => originals::make(),
        How::Emulator => emulator::make(),
        How::Axe => npm::axe(),
        How::LanguageServer => npm::language_server(),
        How::CargoDeny => cargo_deny::fetch(),
        How::Mount(mount) => mount.make(),
    }
}

/// Builds bpf-linker against the LLVM at `prefix`; takes a minute.
fn bpf_linker(llvm: u32, prefix: &Path) -> Result<()> {
    let features = format!("llvm-{llvm}");
    let mut path = vec![prefix.join("bin")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut command = workspace::cargo();
    command
        .args(["install", "--locked", "bpf-linker", "--version", BPF_LINKER_VERSION])
        .args(["--no-default-features", "--features", &features])
        .env("LLVM_PREFIX", prefix)
        .env("PATH", env::join_paths(path)?)
        .env_remove("CARGO_TARGET_DIR");
    announce(&command);
    workspace::run("installing bpf-linker", &mut command)
}

fn rustup(arguments: &[&str]) -> Result<()> {
    ensure!(
        on_path("rustup"),
        "neither apt nor rustup can install it here; with rustup run: rustup {}",
        arguments.join(" ")
    );
    let mut command = Command::new("rustup");
    command.args(arguments);
    announce(&command);
    workspace::run("rustup", &mut command)
}

/// Prints a command before it runs.
pub(super) fn announce(command: &Command) {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    eprintln!("setup: {}", words.join(" "));
}
