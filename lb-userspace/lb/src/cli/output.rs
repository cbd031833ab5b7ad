//! What the subcommands share: which director they speak to, and how they print.

use std::io::{self, ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use lb_api::wire;

/// The running director that a command is for.
#[derive(Debug, Args)]
pub(super) struct Director {
    /// Control socket of the director, the key `control` of its configuration
    #[arg(long, value_name = "PATH", default_value = wire::DEFAULT_PATH)]
    pub socket: PathBuf,
}

/// To standard output. `lb status | head` has seen enough at some point, and that is no error.
pub(super) fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("printing"),
    }
}
