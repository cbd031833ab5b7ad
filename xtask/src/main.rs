//! The project's own commands: `cargo xtask COMMAND`, one file each.

use std::process::ExitCode;

use clap::Parser;

mod bench;
mod build_ebpf;
mod built;
mod demo;
mod ebpf;
mod fuzz;
#[cfg(test)]
mod house;
mod kernels;
mod lab;
mod setup;
mod test;
mod workspace;

/// Everything that is done to this project: from setting up a machine to the demo, the tests and the benchmark.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Installs what is missing on this machine, after saying what and why.
    Setup(setup::Options),
    /// Builds the XDP program.
    BuildEbpf(build_ebpf::Options),
    /// Lays out the talk's cluster in network namespaces and lets you at it.
    Lab(lab::Options),
    /// Plays the talk's scenarios 1 and 2 on the talk's cluster, from nothing to the clean-up.
    Demo(demo::Options),
    /// Formatting, lints, and every test there is.
    Test(test::Options),
    /// Makes up what strangers may send, with new seeds, and says what fails.
    Fuzz(fuzz::Options),
    /// Measures the data path, take-overs and health checks.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Setup(options) => setup::run(&options),
        Command::BuildEbpf(options) => build_ebpf::run(&options),
        Command::Lab(options) => lab::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Bench(options) => bench::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
