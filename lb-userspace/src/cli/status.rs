//! `lb status`: the running director's services and servers.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::observe::{listing, socket};

#[derive(Debug, Args)]
pub struct Options {
    /// Everything there is to know, as JSON
    #[arg(long)]
    json: bool,
    /// Control socket of the running lb
    #[arg(long, value_name = "PATH", default_value = socket::DEFAULT_PATH)]
    socket: PathBuf,
}

pub fn run(options: Options) -> anyhow::Result<()> {
    let Options { json, socket } = options;
    let status = socket::request_status(&socket)?;
    let text = if json {
        serde_json::to_string_pretty(&status).context("writing the status as JSON")? + "\n"
    } else {
        listing::render(&status, wants_colour())
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // `lb status | head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("printing the status"),
    }
}

/// Colour is for people at a terminal who did not opt out (<https://no-color.org>).
fn wants_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
