//! `lb disable` and `lb enable`: a server is kept out for a while.

use anyhow::Result;
use clap::Args;
use lb_api::client;
use lb_api::wire::Request;

use super::output::{Director, print};

#[derive(Debug, Args)]
pub(super) struct DisableOptions {
    /// Name or address of the real server; with `:PORT` only in the services on that port
    #[arg(value_name = "SERVER[:PORT]")]
    server: String,
    /// Why, shown beside the server in `lb status`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Args)]
pub(super) struct EnableOptions {
    /// Name or address of the real server; with `:PORT` only in the services on that port
    #[arg(value_name = "SERVER[:PORT]")]
    server: String,
    #[command(flatten)]
    director: Director,
}

pub(super) fn disable(DisableOptions { server, reason, director }: DisableOptions) -> Result<()> {
    give(&director, &Request::Disable { server, reason })
}

pub(super) fn enable(EnableOptions { server, director }: EnableOptions) -> Result<()> {
    give(&director, &Request::Enable { server })
}

fn give(director: &Director, order: &Request) -> Result<()> {
    print(&(client::request_server_order(&director.socket, order)? + "\n"))
}
