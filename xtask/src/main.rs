//! The project's commands: `cargo xtask COMMAND`, one file each.

use std::process::ExitCode;

use clap::Parser;

mod bench;
mod build_ebpf;
mod built;
mod chaos;
mod demo;
mod dependencies;
mod ebpf;
mod fuzz;
#[cfg(test)]
mod house;
mod kernels;
mod lab;
mod markdown;
mod package;
mod setup;
mod simulate;
mod suite;
mod test;
mod workspace;

/// The project's tasks, from setting up a machine to the demo, the tests and the benchmarks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Install what is missing on this machine, after reporting what and why.
    Setup(setup::Options),
    /// Build the XDP program.
    BuildEbpf(build_ebpf::Options),
    /// Create the talk's cluster in network namespaces, for manual experiments.
    Lab(lab::Options),
    /// Run the talk's scenarios 1 and 2 on the talk's cluster, from set-up to clean-up.
    Demo(demo::Options),
    /// Check formatting and lints, and run all tests.
    Test(test::Options),
    /// Run the fuzz targets with new seeds, and report failures.
    Fuzz(fuzz::Options),
    /// Inject faults of every kind, drawn from a seed, while clients check every byte.
    Chaos(chaos::Options),
    /// Simulate the synchronisation of few directors and of many: traffic, processor time, memory,
    /// convergence. `simulate --help` lists its options.
    #[command(disable_help_flag = true)]
    Simulate(simulate::Options),
    /// Build packages for Debian and RPM, and images for containers, of lb and lb-kube.
    Package(package::Options),
    /// Measure the data path, take-overs, health checks and restarts.
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
        Command::Chaos(options) => chaos::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Package(options) => package::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
