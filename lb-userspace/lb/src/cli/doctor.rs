//! `lb doctor`: what is right and wrong on this machine.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use lb_api::schema;
use schemars::JsonSchema;
use serde::Serialize;

use super::output;
use crate::doctor::{self, Level, Line, Places};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Do what is safe about what is wrong
    #[arg(long)]
    fix: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The director's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/lb/lb.yaml")]
    config: PathBuf,
    /// The file that remembers what `lb realserver setup` has done
    #[arg(long, value_name = "FILE", default_value = "/var/lib/lb/realserver.json")]
    record: PathBuf,
    #[command(flatten)]
    director: output::Director,
}

/// What `lb doctor` has looked at on this machine, and how it is.
#[derive(Serialize, JsonSchema)]
pub(super) struct Seen<'a> {
    doctor: &'a [Line],
}

pub(super) fn run(options: Options) -> Result<()> {
    let Options { fix, json, config, record, director } = options;
    let places = Places { config, record, socket: director.socket };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut lines = runtime.block_on(doctor::look(&places));
    if fix && self::fix(&mut lines) {
        lines = runtime.block_on(doctor::look(&places));
    }
    if json {
        output::print(&(schema::pretty(schema::DOCTOR, &Seen { doctor: &lines })? + "\n"))?;
    } else {
        output::print(&text(&lines))?;
    }
    match lines.iter().filter(|line| line.level == Level::Wrong).count() {
        0 => Ok(()),
        1 => bail!("one thing is wrong"),
        wrong => bail!("{wrong} things are wrong"),
    }
}

/// Returns whether something was done.
fn fix(lines: &mut [Line]) -> bool {
    let mut done = false;
    for line in lines {
        let Some(fix) = line.fix.take() else { continue };
        done = true;
        match fix() {
            Ok(()) => eprintln!("done: {}", line.mend),
            Err(error) => eprintln!("could not do: {}: {error:#}", line.mend),
        }
    }
    done
}

fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line { level, text: found, mend, .. } in lines {
        let word = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Wrong => "wrong",
        };
        let _ = writeln!(text, "{word:<9}{found}");
        if !mend.is_empty() {
            let _ = writeln!(text, "{:<9}→ {mend}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mend_stands_below_what_it_is_for() {
        let line = |level, mend: &str| Line { level, text: "clock: x".into(), mend: mend.into(), fix: None };
        let lines = [line(Level::Ok, ""), line(Level::Warning, "run chrony")];
        assert_eq!(text(&lines), "ok       clock: x\nwarning  clock: x\n         → run chrony\n");
    }
}
