//! `lb config`: the configuration file's own description.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::output::print;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the JSON schema of the configuration file, with the meaning of each key: for editors
    /// (`# yaml-language-server: $schema=FILE` in the file's first line) and programs
    Schema,
}

pub(super) fn run(options: &Options) -> Result<()> {
    match options.command {
        Command::Schema => print(lb_config::SCHEMA),
    }
}
