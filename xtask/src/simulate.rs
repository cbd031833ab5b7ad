//! `cargo xtask simulate`: what synchronisation costs with few directors and with many, in
//! simulated time.

use anyhow::Result;
use clap::Args;

use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Arguments for the simulation; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(Options { args }: &Options) -> Result<()> {
    // Processor time is measured, so it is the build that would be in use.
    let mut command = workspace::cargo();
    command.args(["run", "--release", "--package", "lb-simulation", "--bin", "simulate", "--"]).args(args);
    workspace::run("the simulation", &mut command)
}
