//! `lb events`: what happened in the cluster.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::observe::events::{Level, Record};
use crate::observe::socket;

#[derive(Debug, Args)]
pub struct Options {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Control socket of the running lb
    #[arg(long, value_name = "PATH", default_value = socket::DEFAULT_PATH)]
    socket: PathBuf,
}

pub fn run(Options { json, socket }: Options) -> Result<()> {
    let events = socket::request_events(&socket)?;
    let mut text = String::new();
    for event in &events {
        text += &if json {
            serde_json::to_string(event).context("writing an event as JSON")?
        } else {
            line(event)
        };
        text.push('\n');
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("printing the events"),
    }
}

fn line(event: &Record) -> String {
    let level = match event.level {
        Level::Info => " ",
        Level::Warning => "!",
        Level::Error => "E",
    };
    format!("{} {level} {}", event.time, event.text)
}
