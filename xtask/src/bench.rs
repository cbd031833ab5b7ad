//! `cargo xtask bench`: what a packet costs.

use anyhow::Result;
use clap::Args;

use crate::setup::{self, Scope};
use crate::workspace;

#[derive(Debug, Args)]
pub struct Options {
    /// Print JSON, and nothing but JSON, on standard output.
    #[arg(long)]
    json: bool,
    /// Handed on to the benchmark.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    setup::ensure(Scope::Lab)?;
    // Cargo and we ourselves talk on standard error, so standard output is the benchmark's alone.
    let lb = workspace::build_lb()?;
    let mut command = workspace::cargo();
    command.env("LB_BINARY", lb).args(["bench", "--package", "lb-tests", "--bench", "packets", "--"]);
    if options.json {
        command.arg("--json");
    }
    workspace::run("the benchmark", command.args(&options.args))
}
