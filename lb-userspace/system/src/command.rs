//! Runs a command of the operator's, in a process group of its own, for a limited time.
//!
//! - `identity`: who it is told that it is
//! - `output`: what it says, line by line
//! - [`queue`]: commands that are run when something has changed

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

/// How long the output of a command that has ended is waited for: what it has left running may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(
        "cannot start {program}: {error}; the configuration must name an executable file by its whole path"
    )]
    Start { program: String, error: io::Error },
    #[error("exit code {0}")]
    Exit(i32),
    #[error("ended by signal {0}")]
    Signal(i32),
    #[error("not done within {0:?} (its time limit); killed, with all it had started")]
    TimeLimit(Duration),
    #[error("cannot be waited for: {0}")]
    Wait(io::Error),
}

/// As commands see it: LB_NAME.
pub fn environment<const N: usize>(variables: [(&str, &str); N]) -> Vec<(String, String)> {
    variables.into_iter().map(|(name, value)| (format!("LB_{name}"), value.to_owned())).collect()
}

/// Runs `command` to its end, or to that of its time limit. `told` gets its output, line by line, for the log. It is
/// killed if the future is dropped.
pub async fn run(
    command: &lb_model::Command,
    environment: &[(String, String)],
    told: impl FnMut(&str),
) -> Result<(), Failure> {
    listen(command, environment, output::for_log(told)).await
}

/// The same, and `told` gets every line, whatever its bytes.
pub async fn listen(
    command: &lb_model::Command,
    environment: &[(String, String)],
    told: impl FnMut(&[u8]),
) -> Result<(), Failure> {
    let start = |error| Failure::Start { program: program(command).to_owned(), error };
    let (mut running, output) = Running::start(command, environment).map_err(start)?;
    let end = pin!(running.end(command.timeout));
    let output = pin!(forward(output, Lines::new(told)));
    match select(end, output).await {
        Either::Left((outcome, output)) => {
            let _ = timeout(LAST_WORDS, output).await;
            outcome
        }
        Either::Right(((), end)) => end.await,
    }
}

/// Runs `command` as [`run`] does, and returns what it says on standard output. One that says more than `most` bytes does
/// not end in time.
pub async fn capture(command: &lb_model::Command, most: usize) -> Result<Vec<u8>, Failure> {
    let start = |error| Failure::Start { program: program(command).to_owned(), error };
    let (mut running, output) = Running::start_with(command, &[], |_| Ok(Stdio::null())).map_err(start)?;
    let mut said = Vec::new();
    let outcome = {
        let end = pin!(running.end(command.timeout));
        let mut output = output.take(most.try_into().unwrap_or(u64::MAX));
        let output = pin!(output.read_to_end(&mut said));
        match select(end, output).await {
            Either::Left((outcome, output)) => {
                let _ = timeout(LAST_WORDS, output).await;
                outcome
            }
            Either::Right((_, end)) => end.await,
        }
    };
    outcome.map(|()| said)
}

fn program(command: &lb_model::Command) -> &str {
    command.words.first().map_or("", String::as_str)
}

/// A command that is under way; dropped before its end it is killed, with all it has started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    /// Returns what the command says on standard output and standard error, too.
    fn start(
        command: &lb_model::Command,
        environment: &[(String, String)],
    ) -> io::Result<(Self, pipe::Receiver)> {
        Self::start_with(command, environment, |output| output.try_clone().map(Stdio::from))
    }

    /// `errors` is where standard error goes, given where standard output does.
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
            // A script without `#!` is one for the shell, as for execvp(3), by which others start theirs.
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

    /// Kills the whole group, unless its leader has ended: what that left behind is meant to stay.
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

/// Until everyone has closed the other end.
async fn forward(mut output: pipe::Receiver, mut lines: Lines<impl FnMut(&[u8])>) {
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = output.read(&mut part).await {
        lines.feed(&part[..length]);
    }
}
