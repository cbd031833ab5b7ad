//! `lb config`: what the configuration file may have, and what commands print, for programs.

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::output::print;
use super::shapes;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the JSON schema of the configuration file, with the meaning of each key: for editors
    /// (`# yaml-language-server: $schema=FILE` in the file's first line) and programs
    Schema {
        /// In its place that of what a command prints with --json, by the word in its field
        /// `schema`
        #[arg(value_name = "SHAPE", value_parser = PossibleValuesParser::new(shapes::words()))]
        shape: Option<String>,
    },
}

pub(super) fn run(options: &Options) -> Result<()> {
    let Command::Schema { shape } = &options.command;
    match shape {
        None => print(lb_config::SCHEMA),
        Some(shape) => print(&shapes::json_schema(shape)?),
    }
}
