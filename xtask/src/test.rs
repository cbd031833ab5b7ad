//! `cargo xtask test`: all checks that a change must pass.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use lb_lab::workspace::target;

use crate::setup::{self, Scope};
use crate::workspace::SELECTION;
use crate::{dependencies, ebpf, kernels, suite, workspace};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Skip the crate `lb-tests`: scenarios, packets through the kernel, benchmarks.
    #[arg(long)]
    quick: bool,
    /// Instead boot Debian's Linux 6.1, 6.12 and newest in software emulation, load every program,
    /// run the packet tests and those of bonds and VLANs, and update the table in docs/limits.md.
    /// Takes a quarter of an hour. `--kernels=6.1` boots one of them.
    #[arg(
        long,
        conflicts_with = "quick",
        value_name = "SERIES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = kernels::ALL
    )]
    kernels: Option<String>,
    /// Arguments for `cargo test`, or for the tests in other kernels: a filter on test names, or
    /// `-- --nocapture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(series) = &options.kernels {
        return kernels::run(series, &options.args);
    }
    setup::ensure(if options.quick { Scope::QuickTest } else { Scope::Test })?;
    step("formatting", |_| cargo("fmt --all --check"))?;
    step("dependencies", |_| dependencies::check())?;
    step("clippy of the programs' library", |what| workspace::run(what, &mut clippy_of_programs()))?;
    // The demo, the benchmarks and packages have the release build, which takes longest of all.
    let lb = match options.quick {
        true => step("lb builds", |_| workspace::build_lb_for_debugging())?,
        false => step("lb and the tests build, and clippy looks at them", |_| workspace::build_all())?,
    };

    // The last step, so that the output ends with the test results.
    step("tests", |what| {
        if options.args.is_empty() && !options.quick {
            return suite::run(SELECTION, &lb);
        }
        let mut command = workspace::strict_cargo()?;
        command.arg("test").args(SELECTION.split_whitespace()).arg("--no-fail-fast");
        if options.quick {
            command.args(["--exclude", "lb-tests"]);
        }
        workspace::run(what, command.args(&options.args).env("LB_BINARY", &lb))
    })
}

/// The library of `lb-ebpf` as if it were for the host: what has no BPF compiler of clippy's own is
/// looked over by this machine's. The programs around it, a call each, do not build for the host.
/// Unstable features change what build scripts of dependencies say, so these are built apart.
fn clippy_of_programs() -> Command {
    const OTHERWISE_HERE: [&str; 3] = [
        // A key of a map is passed as a reference because the stack has no room for another one.
        "clippy::needless_borrows_for_generic_args",
        // The verifier looks at each access to a packet.
        "clippy::not_unsafe_ptr_arg_deref",
        // A condition that reads as its rule is told.
        "clippy::nonminimal_bool",
    ];
    let mut command = words("clippy --package lb-ebpf --lib");
    command.arg("--target-dir").arg(target().join("programs-clippy")).args(["--", "-D", "warnings"]);
    command.args(OTHERWISE_HERE.iter().flat_map(|lint| ["-A", lint]));
    command.env("RUSTC_BOOTSTRAP", ebpf::UNSTABLE_CRATES);
    command
}

fn cargo(arguments: &str) -> Result<()> {
    workspace::run(&format!("cargo {arguments}"), &mut words(arguments))
}

fn words(arguments: &str) -> Command {
    let mut command = workspace::cargo();
    command.args(arguments.split_whitespace());
    command
}

/// Announces a step, runs it and prints its duration, except for the tests themselves, whose
/// results come last.
fn step<T>(what: &str, take: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    eprintln!("==> {what}");
    let start = Instant::now();
    let result = take(what)?;
    if what != "tests" {
        eprintln!("    {what}: {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(result)
}
