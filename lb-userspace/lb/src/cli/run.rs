//! `lb run`: the director, in the foreground.

use std::fmt::{self, Debug};
use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::prelude::*;

use super::output::has_opted_out;
use crate::controller;
use crate::journal::Journal;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/lb/lb.yaml")]
    config: PathBuf,
    /// The form of the log on standard error, where as text it goes into systemd's journal with
    /// fields; RUST_LOG=debug shows more of it
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Begin with an empty connection table, whatever an lb before has left: its connections end
    #[arg(long)]
    fresh: bool,
    /// Keep all capabilities and filter no system calls: for external checks and hooks that need
    /// more than lb does
    #[arg(long)]
    unconfined: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(super) fn run(options: Options) -> Result<()> {
    start_log(options.log_format);
    controller::run(options.config, options.fresh, options.unconfined)
}

/// Fields of the event log that its text has already; in JSON they stand beside it. The event's id
/// is not among them: it is what programs look for.
const TOLD_IN_TEXT: [&str; 8] = ["group", "node", "vip", "from", "to", "cause", "cause_id", "took_ms"];

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        name if TOLD_IN_TEXT.contains(&name) => Ok(()),
        name => write!(writer, " {name}={value:?}"),
    }
}

/// To standard error, or where that is the journal's, to the journal. `RUST_LOG` chooses what is
/// logged; the default is `info`.
fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    if matches!(format, LogFormat::Text)
        && let Some(journal) = Journal::behind_standard_error()
    {
        return tracing_subscriber::registry().with(filter).with(journal).init();
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && !has_opted_out());
    match format {
        LogFormat::Text => log.fmt_fields(debug_fn(write_field)).init(),
        LogFormat::Json => log.json().init(),
    }
}
