//! Runs commands; errors include their output.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Runs `command` and returns what it wrote to standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", line(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs iproute2's `ip` with `arguments`, words separated by spaces.
pub fn ip(arguments: &str) -> Result<String> {
    run(Command::new("ip").args(arguments.split_whitespace()))
}

/// The command line as text.
pub fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}
