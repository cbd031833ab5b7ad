//! `cargo xtask fuzz`: runs the fuzz targets with new seeds until the time is over.
//!
//! The targets of a crate are in its `src/fuzz.rs`; the normal suite runs each with a fixed seed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::setup::{self, Scope};
use crate::workspace;

/// The pseudo-target for all property tests of all crates.
const PROPERTIES: &str = "properties";
/// The one that compares the programs in the kernel with the model on the host.
const PACKETS: &str = "packets";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this target, see --list; `properties` for the property tests of all crates, `packets`
    /// for packets through the real programs. Default: all others in turn.
    target: Option<String>,
    /// List the targets.
    #[arg(long)]
    list: bool,
    /// Time for all targets together.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Run once with this seed, in place of new ones, to reproduce a failure.
    #[arg(long)]
    seed: Option<u64>,
    /// Number of cases with that seed, in place of the target's own number.
    #[arg(long, requires = "seed")]
    cases: Option<u32>,
    /// Number of packets of the target `packets`.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(Scope::Build)?;
    if options.list {
        print!("{}", targets()?.into_iter().map(|target| target.line + "\n").collect::<String>());
        println!("{PROPERTIES:12} the property tests of all crates");
        println!(
            "{PACKETS:12} packets through the real programs, compared with the model (--count; needs root)"
        );
        return Ok(());
    }
    let time = Duration::try_from_secs_f64(options.minutes * 60.0).context("--minutes")?;
    if options.target.as_deref() == Some(PROPERTIES) {
        return properties(options, time);
    }
    if options.target.as_deref() == Some(PACKETS) {
        return packets(options);
    }
    let mut targets = targets()?;
    if let Some(name) = &options.target {
        targets.retain(|target| target.name() == name);
        ensure!(!targets.is_empty(), "unknown target '{name}'; `cargo xtask fuzz --list` lists the targets");
    }
    let share = time / u32::try_from(targets.len()).context("the targets")?;
    targets.iter().try_for_each(|target| fuzz(target, options, share))
}

/// A fuzz target of a crate.
struct Target {
    package: &'static str,
    /// Its name and its kind of input.
    line: String,
}

impl Target {
    fn name(&self) -> &str {
        self.line.split_whitespace().next().unwrap_or_default()
    }
}

/// The crates with fuzz targets.
const PACKAGES: [&str; 7] = ["lb-net", "lb-cluster", "lb-sync", "lb-config", "lb-import", "lb-health", "lb"];

/// Lists the targets of all crates, in the order of the crates.
fn targets() -> Result<Vec<Target>> {
    let mut all = Vec::new();
    for package in PACKAGES {
        let output = session(package).env("LB_FUZZ_LIST", "1").output().context("cannot start cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot list the targets of {package} ({}):\n{said}", output.status);
        let lines = said.lines().filter_map(|line| line.strip_prefix("target: "));
        all.extend(lines.map(|line| Target { package, line: line.to_owned() }));
    }
    Ok(all)
}

fn fuzz(target: &Target, options: &Options, time: Duration) -> Result<()> {
    let mut command = session(target.package);
    command.env("LB_FUZZ_TARGET", target.name()).env("LB_FUZZ_SECONDS", time.as_secs().to_string());
    let settings = [
        ("LB_FUZZ_SEED", options.seed.map(|seed| seed.to_string())),
        ("LB_FUZZ_CASES", options.cases.map(|cases| cases.to_string())),
    ];
    command.envs(settings.into_iter().filter_map(|(name, value)| Some((name, value?))));
    workspace::run("fuzzing", &mut command)
}

/// Runs the test `session` of a crate, which knows its targets. It writes to standard error, the
/// test harness does not.
fn session(package: &str) -> Command {
    let mut command = workspace::cargo();
    // `lb` is a binary crate, the others are libraries.
    let kind = if package == "lb" { ["--bin", "lb"].as_slice() } else { &["--lib"] };
    command.args(["test", "--quiet", "--package", package]).args(kind);
    command.args(["--", "--exact", "--ignored", "--nocapture", "fuzz::suite::session"]).stdout(Stdio::null());
    command
}

fn packets(options: &Options) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["test", "--quiet", "--package", "lb-tests", "--test", "packets"]);
    command.args(["--", "--exact", "--ignored", "--nocapture", "differential::session"]);
    command.stdout(Stdio::null()).env("LB_FUZZ_COUNT", options.count.to_string());
    command.envs(options.seed.map(|seed| ("LB_FUZZ_SEED", seed.to_string())));
    workspace::run("fuzzing", &mut command)
}

/// Runs whole test suites, each time with a new seed for all property tests.
fn properties(options: &Options, time: Duration) -> Result<()> {
    let first = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?.as_secs(),
    };
    let begin = Instant::now();
    for seed in first.. {
        let mut command = workspace::cargo();
        command.args(["test", "--quiet", "--workspace", "--exclude", "lb-ebpf*", "--exclude", "lb-tests"]);
        command.env("PROPTEST_RNG_SEED", seed.to_string());
        if let Some(cases) = options.cases {
            command.env("PROPTEST_CASES", cases.to_string());
        }
        let status = command.status().context("cannot start cargo")?;
        ensure!(
            status.success(),
            "failed with seed {seed}; it comes again with:\n    cargo xtask fuzz {PROPERTIES} --seed {seed}\n\
             Mend it, and add the input above as a test beside the code that was mended."
        );
        println!("{PROPERTIES}: seed {seed} holds");
        if options.seed.is_some() || begin.elapsed() >= time {
            return Ok(());
        }
    }
    Ok(())
}
