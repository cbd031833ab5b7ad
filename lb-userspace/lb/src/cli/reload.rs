//! `lb reload` and `lb diff`: what the configuration file has that the director has not.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use lb_api::difference::Difference;
use lb_api::{client, schema};
use schemars::JsonSchema;
use serde::Serialize;

use super::output::{Director, json_line, print};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print the differences as a JSON object, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

/// What the file changes, or would change.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Found<'a> {
    differences: &'a [Difference],
}

/// A file with a mistake is an error, with its line and column.
pub(super) fn reload(Options { json, director }: &Options) -> Result<()> {
    let differences = client::request_reload(&director.socket)?;
    if *json {
        return print(&json_line(schema::RELOAD, &Found { differences: &differences })?);
    }
    let head = match differences.len() {
        0 => "reloaded: nothing has changed\n",
        _ => "reloaded:\n",
    };
    print(&(head.to_owned() + &lines(&differences)))
}

pub(super) fn diff(Options { json, director }: &Options) -> Result<()> {
    let differences = client::request_diff(&director.socket)?;
    if *json {
        return print(&json_line(schema::DIFF, &Found { differences: &differences })?);
    }
    match differences.len() {
        0 => print("the file is what runs\n"),
        _ => print(&lines(&differences)),
    }
}

fn lines(differences: &[Difference]) -> String {
    differences.iter().fold(String::new(), |mut text, difference| {
        let _ = writeln!(text, "{difference}");
        text
    })
}
