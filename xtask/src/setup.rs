//! `cargo xtask setup`: installs what this machine lacks, after reporting what and why.
//!
//! Every other command calls [`ensure`] first. If nothing is missing, that costs a few dozen file
//! look-ups.

use anyhow::{Result, ensure};
use clap::Args;

mod apt;
pub(crate) mod cargo_deny;
mod emulator;
mod install;
mod machine;
mod need;
mod npm;
mod originals;
mod servers;

pub(crate) use apt::read_package;
use need::{Missing, missing};
pub(crate) use need::{Scope, on_path};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only report what is missing.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let missing = missing(Scope::Test);
    if options.check {
        let machine = machine::check(Scope::Test);
        if !missing.is_empty() {
            eprintln!(
                "Missing on this machine; `cargo xtask setup`, and every command that needs it, installs it:"
            );
            eprintln!("{}", list(&missing));
        }
        machine?;
        ensure!(missing.is_empty(), "not everything is there");
    } else {
        ensure(Scope::Test)?;
    }
    println!("Everything is there.");
    Ok(())
}

/// Installs the missing requirements of `scope`, after reporting them on standard error.
pub(crate) fn ensure(scope: Scope) -> Result<()> {
    machine::check(scope)?;
    let mut before = Vec::new();
    loop {
        let missing = missing(scope);
        if missing.is_empty() {
            if !before.is_empty() {
                eprintln!("setup: everything is there.");
            }
            return Ok(());
        }
        // Installation may reveal further requirements: the compiler determines bpf-linker's LLVM.
        ensure!(missing != before, "still missing after the installation:\n{}", list(&missing));
        install::install(&missing)?;
        before = missing;
    }
}

fn list(missing: &[Missing]) -> String {
    let lines: Vec<_> = missing
        .iter()
        .map(|missing| format!("  {}, {}: {}", missing.what, missing.why, missing.how))
        .collect();
    lines.join("\n")
}
