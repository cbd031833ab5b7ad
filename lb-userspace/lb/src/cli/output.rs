//! What the subcommands share: which director they speak to, how they print, and how they end.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use lb_api::client::{NoDirector, NoPermission};
use lb_api::schema;
use lb_api::wire;
use lb_config::ConfigError;
use serde::Serialize;

/// The running director that a command is for.
#[derive(Debug, Args)]
pub(super) struct Director {
    /// Control socket of the director, the key `control` of its configuration
    #[arg(long, global = true, value_name = "PATH", env = SOCKET, default_value = wire::DEFAULT_PATH)]
    pub socket: PathBuf,
}

/// Names the control socket where the command line does not.
const SOCKET: &str = "LB_SOCKET";

impl Director {
    /// The one that is meant where nobody says so.
    pub(super) fn of_environment() -> Self {
        let socket = std::env::var_os(SOCKET).filter(|path| !path.is_empty());
        Self { socket: socket.map_or_else(|| wire::DEFAULT_PATH.into(), PathBuf::from) }
    }
}

/// How a command ends that has not done what it was asked for. The numbers are documented, and
/// scripts go by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Failure {
    /// It was tried, or is refused.
    Failed = 1,
    /// The command line makes no sense, as clap has it.
    Usage = 2,
    /// No director listens (LSB: the program is not running).
    NoDirector = 3,
    /// LSB: the user has insufficient privileges.
    NoPermission = 4,
}

impl Failure {
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let denied = |cause: &(dyn Error + 'static)| {
            let error = match cause.downcast_ref::<ConfigError>() {
                // It has the cause in its words, so it does not name it as its source.
                Some(ConfigError::Unreadable { cause, .. }) => Some(cause),
                _ => cause.downcast_ref::<io::Error>(),
            };
            error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
        };
        if error.is::<Usage>() {
            Self::Usage
        } else if error.is::<NoDirector>() {
            Self::NoDirector
        } else if error.is::<NoPermission>() || error.chain().any(denied) {
            Self::NoPermission
        } else {
            Self::Failed
        }
    }
}

/// Words of the command line that each make sense, and together, or where they were given, do not.
#[derive(Debug)]
pub(super) struct Usage(pub String);

impl Error for Usage {}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// To standard output. `lb status | head` has seen enough at some point, and that is no error.
pub(super) fn print(text: &str) -> Result<()> {
    go_on(text).map(drop)
}

/// The same of one part of many. `false`: nobody reads any more.
pub(super) fn go_on(text: &str) -> Result<bool> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("printing"),
    }
}

/// An object as a line of JSON for programs.
pub(super) fn json_line<T: Serialize>(schema: &'static str, object: &T) -> Result<String> {
    Ok(schema::line(schema, object).context("writing JSON")? + "\n")
}

/// Colour is for people at a terminal who did not opt out (<https://no-color.org>).
pub(super) fn wants_colour() -> bool {
    io::stdout().is_terminal() && !has_opted_out()
}

/// Whether the user wants no colours anywhere.
pub(super) fn has_opted_out() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_exit_code() {
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        let unreadable = |kind: ErrorKind| ConfigError::Unreadable {
            origin: "/etc/lb/lb.yaml".into(),
            cause: io::Error::from(kind),
        };
        for (error, code) in [
            (anyhow::anyhow!("refused"), 1),
            (Usage("neither".into()).into(), 2),
            (anyhow::Error::from(denied).context("reading /etc/lb/lb.yaml"), 4),
            (io::Error::from(ErrorKind::NotFound).into(), 1),
            (unreadable(ErrorKind::PermissionDenied).into(), 4),
            (unreadable(ErrorKind::NotFound).into(), 1),
        ] {
            assert_eq!(Failure::of(&error) as u8, code, "{error:#}");
        }
    }
}
