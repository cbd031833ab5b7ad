//! Runs a command of the operator in its own process group, with a time limit.
//!
//! - `identity`: the environment variables about the user
//! - `output`: the command's output, line by line
//! - [`queue`]: hooks, commands that run when something has changed

mod identity;
mod output;
pub mod queue;
#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::future::{Either, select};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use self::output::Lines;

/// How long to wait for output after a command has ended: its background processes may keep the
/// pipe open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(
        "cannot start {program}: {error}; the configuration must give the absolute path of an executable file"
    )]
    Start { program: String, error: io::Error },
    #[error("exit code {0}")]
    Exit(i32),
    #[error("ended by signal {0}")]
    Signal(i32),
    #[error("not done within {0:?} (its time limit); killed with all its processes")]
    TimeLimit(Duration),
    #[error("cannot wait for its end: {0}")]
    Wait(io::Error),
}

/// Environment variables LB_NAME for commands.
pub fn environment<const N: usize>(variables: [(&str, &str); N]) -> Vec<(String, String)> {
    variables.into_iter().map(|(name, value)| (format!("LB_{name}"), value.to_owned())).collect()
}

/// Runs `command` to its end or its time limit. `on_line` gets each line of its output, for the
/// log. Dropping the future kills the command.
pub async fn run(
    command: &lb_model::Command,
    environment: &[(String, String)],
    on_line: impl FnMut(&str),
) -> Result<(), Failure> {
    listen(command, environment, output::for_log(on_line)).await
}

/// Like [`run`], but `on_line` gets every line unchanged.
pub async fn listen(
    command: &lb_model::Command,
    environment: &[(String, String)],
    on_line: impl FnMut(&[u8]),
) -> Result<(), Failure> {
    let start = |error| Failure::Start { program: program(command).to_owned(), error };
    let (mut running, output) = Running::start(command, environment).map_err(start)?;
    let end = pin!(running.end(command.timeout));
    let output = pin!(forward(output, Lines::new(on_line)));
    match select(end, output).await {
        Either::Left((outcome, output)) => {
            let _ = timeout(LAST_WORDS, output).await;
            outcome
        }
        Either::Right(((), end)) => end.await,
    }
}

/// Runs `command` as [`run`] does, and returns its standard output. A command with more output than
/// `most` bytes blocks, and reaches its time limit.
pub async fn capture(command: &lb_model::Command, most: usize) -> Result<Vec<u8>, Failure> {
    let start = |error| Failure::Start { program: program(command).to_owned(), error };
    let (mut running, output) = Running::start_with(command, &[], |_| Ok(Stdio::null())).map_err(start)?;
    let mut collected = Vec::new();
    let outcome = {
        let end = pin!(running.end(command.timeout));
        let mut output = output.take(most.try_into().unwrap_or(u64::MAX));
        let output = pin!(output.read_to_end(&mut collected));
        match select(end, output).await {
            Either::Left((outcome, output)) => {
                let _ = timeout(LAST_WORDS, output).await;
                outcome
            }
            Either::Right((_, end)) => end.await,
        }
    };
    outcome.map(|()| collected)
}

fn program(command: &lb_model::Command) -> &str {
    command.words.first().map_or("", String::as_str)
}

/// A running command. Dropping it kills its process group.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    /// Also returns the pipe of standard output and standard error.
    fn start(
        command: &lb_model::Command,
        environment: &[(String, String)],
    ) -> io::Result<(Self, pipe::Receiver)> {
        Self::start_with(command, environment, |output| output.try_clone().map(Stdio::from))
    }

    /// `errors` returns the target of standard error, given the pipe of standard output.
    fn start_with(
        command: &lb_model::Command,
        environment: &[(String, String)],
        errors: impl Fn(&io::PipeWriter) -> io::Result<Stdio>,
    ) -> io::Result<(Self, pipe::Receiver)> {
        let (reader, writer) = io::pipe()?;
        let output = pipe::Receiver::from_owned_fd(reader.into())?;
        let spawn = |program: &str, before: &[&str]| {
            Command::new(program)
                .args(before)
                .args(command.words.iter().skip(1))
                .env_clear()
                .envs(identity::own().map(|(name, value)| (name, value)))
                .envs(environment.iter().map(|(name, value)| (name, value)))
                .process_group(0)
                .stdin(Stdio::null())
                .stderr(errors(&writer)?)
                .stdout(writer.try_clone()?)
                .spawn()
        };
        let program = program(command);
        let child = match spawn(program, &[]) {
            // The shell runs a script without `#!`, as with execvp(3), which other checkers use.
            Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => spawn("/bin/sh", &[program])?,
            result => result?,
        };
        Ok((Self(child), output))
    }

    async fn end(&mut self, limit: Duration) -> Result<(), Failure> {
        match timeout(limit, self.0.wait()).await {
            Ok(Ok(status)) => judge(status),
            Ok(Err(error)) => Err(Failure::Wait(error)),
            Err(_) => {
                self.kill();
                Err(Failure::TimeLimit(limit))
            }
        }
    }

    /// Kills the process group, unless its leader has ended: background processes are intentional.
    fn kill(&self) {
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader
            && let Err(error) = killpg(Pid::from_raw(leader), Signal::SIGKILL)
        {
            tracing::warn!(%error, "cannot kill process group {leader}");
        }
    }
}

fn judge(status: ExitStatus) -> Result<(), Failure> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::Exit(code)),
        (None, signal) => Err(Failure::Signal(signal.unwrap_or_default())),
    }
}

/// Reads until all writers have closed the pipe.
async fn forward(mut output: pipe::Receiver, mut lines: Lines<impl FnMut(&[u8])>) {
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = output.read(&mut part).await {
        lines.feed(&part[..length]);
    }
}
