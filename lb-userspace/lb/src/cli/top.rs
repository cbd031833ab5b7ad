//! `lb top`: the running director, live.

use std::io::{self, IsTerminal as _};

use anyhow::{Result, ensure};
use clap::Args;

use super::output::Director;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    director: Director,
}

pub(super) fn run(Options { director }: Options) -> Result<()> {
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    ensure!(is_terminal, "lb top needs a terminal; for programs there is `lb status --json`");
    lb_top::run(&director.socket)
}
