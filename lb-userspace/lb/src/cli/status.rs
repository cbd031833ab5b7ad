//! `lb status`: the running director's services and servers.

use std::io::{self, IsTerminal};

use anyhow::Context;
use clap::Args;
use lb_api::client;

use super::output::{Director, print};
use crate::observe::listing;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print all of it as JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

pub(super) fn run(options: Options) -> anyhow::Result<()> {
    let Options { json, director } = options;
    let status = client::request_status(&director.socket)?;
    let text = if json {
        serde_json::to_string_pretty(&status).context("writing the status as JSON")? + "\n"
    } else {
        listing::render(&status, wants_colour())
    };
    print(&text)
}

/// Colour is for people at a terminal who did not opt out (<https://no-color.org>).
fn wants_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
