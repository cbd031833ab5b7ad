//! `cargo xtask build-ebpf`: builds the XDP program as an object file, for inspection. `cargo
//! build` builds and embeds its own object.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use lb_lab::program::{Program, Together};

use crate::ebpf::Object;
use crate::markdown::grouped;
use crate::setup::{self, Scope};
use crate::{built, ebpf, workspace};

/// What the product embeds.
const PROGRAMS: Object = Object { package: "lb-ebpf", name: "lb" };
/// What the benchmark times.
const BENCHMARK: Object = Object { package: "lb-ebpf-bench", name: "bench" };

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Load every program into the running kernel, and print how many steps its verifier takes and
    /// how much stack each function has. Takes root.
    #[arg(long)]
    report: bool,
}

pub(crate) fn run(Options { report }: &Options) -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    ensure!(root || !report, "--report loads the programs into the kernel, which takes root");
    setup::ensure(Scope::Build)?;
    for object in [PROGRAMS, BENCHMARK] {
        let object = ebpf::build(&workspace::root(), object)?;
        let size = fs::metadata(&object).with_context(|| format!("cannot read {}", object.display()))?.len();
        println!("{} ({} KiB)", object.display(), size.div_ceil(1024));
    }
    if *report { print_report() } else { Ok(()) }
}

fn print_report() -> Result<()> {
    let programs = built::programs()?;
    let output = Command::new(&programs).arg("--stack").stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", programs.display()))?;
    let lines = String::from_utf8_lossy(&output.stdout);
    println!("\n{:<20}{:>10}{:>12}   stack of each function, bytes", "program", "steps", "loads in ms");
    let mut together = None;
    for line in lines.lines() {
        if let Ok(all) = serde_json::from_str::<Together>(line) {
            together = Some(all);
            continue;
        }
        let program: Program =
            serde_json::from_str(line).with_context(|| format!("cannot parse the line: {line}"))?;
        print_line(&program);
    }
    ensure!(output.status.success(), "the running kernel does not load every program ({})", output.status);
    println!(
        "\nThe verifier refuses a program that takes 1,000,000 steps, or functions whose stack adds up to 512 bytes."
    );
    let Together { programs, together_ms, processor_ms } =
        together.context("nothing was loaded side by side")?;
    println!(
        "Side by side, as lb loads them: all {programs} programs loaded in {together_ms:.0} ms, {processor_ms:.0} ms of \
         processor time."
    );
    Ok(())
}

fn print_line(Program { name, steps, stack, load_ms, refused, .. }: &Program) {
    let unknown = || "?".to_owned();
    let steps = steps.map_or_else(unknown, |steps| grouped(u64::from(steps)));
    let stack = stack.clone().unwrap_or_else(unknown);
    match refused {
        None => println!("{name:<20}{steps:>10}{load_ms:>12.0}   {stack}"),
        Some(words) => println!("{name:<20}{:>10}\n{words}", "refused"),
    }
}
