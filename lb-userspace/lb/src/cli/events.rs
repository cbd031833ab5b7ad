//! `lb events`: what happened to the cluster, services and servers.

use anyhow::{Context as _, Result};
use clap::Args;
use lb_api::client;
use lb_api::events::{Level, Record};

use super::output::{Director, print};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print one JSON object a line, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

pub(super) fn run(Options { json, director }: Options) -> Result<()> {
    let events = client::request_events(&director.socket)?;
    let mut text = String::new();
    for event in &events {
        text += &if json {
            serde_json::to_string(event).context("writing an event as JSON")?
        } else {
            line(event)
        };
        text.push('\n');
    }
    print(&text)
}

fn line(event: &Record) -> String {
    let level = match event.level {
        Level::Info => " ",
        Level::Warning => "!",
        Level::Error => "E",
    };
    format!("{} {level} {}", event.time, event.text)
}
