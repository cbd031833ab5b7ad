//! The thread that answers refused system calls and tells of them.
//!
//! Whoever makes such a call waits for the answer, so this thread must wait for nobody: it answers
//! first, takes no lock, and stands under a filter that refuses by itself. When `lb` ends, the
//! kernel answers in its place (ENOSYS), so commands that outlive it do not hang either.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_api::findings::{Finding, Kind};
use nix::errno::Errno;
use seccompiler::BpfProgram;
use syscalls::Sysno;

use super::install::{self, Waiting};
use super::{OPTION, capabilities};

/// For how long after a refusal the listing tells of it.
pub(super) const LASTS: Duration = Duration::from_secs(600);

/// What a debugger, such as strace, writes in the place of a system call that is not to be made.
const TAKEN_AWAY: i32 = -1;

/// A system call that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// `None`: it is newer than this `lb`.
    pub call: Option<Sysno>,
    pub number: i32,
    pub thread: u32,
    /// The thread's name, which is its program's unless the program has named it.
    pub name: String,
}

pub(super) struct Supervisor(Sender<OwnedFd>);

/// Starts the thread; it is under `filter` before this returns.
pub(super) fn start(filter: BpfProgram, refusals: Sender<Refusal>) -> Result<Supervisor> {
    let (sender, listeners) = mpsc::channel::<OwnedFd>();
    let (confined, outcome) = mpsc::channel();
    std::thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
        let result = capabilities::give_up_all().and_then(|()| Ok(install::install(&filter)?));
        let _ = confined.send(result);
        if let Ok(listener) = listeners.recv() {
            answer(&listener, &refusals);
        }
    })?;
    outcome.recv().context("it has ended")??;
    Ok(Supervisor(sender))
}

impl Supervisor {
    pub(super) fn listen(self, listener: OwnedFd) -> Result<()> {
        self.0.send(listener).context("it has ended")
    }
}

/// For as long as there is a process that can ask.
fn answer(listener: &OwnedFd, refusals: &Sender<Refusal>) {
    loop {
        let waiting = match install::receive(listener.as_fd()) {
            Ok(Some(waiting)) => waiting,
            Ok(None) => continue,
            // Closing the descriptor has the kernel answer.
            Err(_) => return,
        };
        let refusal = Refusal::of(waiting);
        if install::refuse(listener.as_fd(), waiting, refusal.error()).is_err() {
            return;
        }
        if waiting.number != TAKEN_AWAY {
            let _ = refusals.send(refusal);
        }
    }
}

impl Refusal {
    fn of(waiting: Waiting) -> Self {
        let Waiting { thread, number, .. } = waiting;
        let call = usize::try_from(number).ok().and_then(Sysno::new);
        Self { call, number, thread, name: name(thread).unwrap_or_default() }
    }

    /// Programs try calls that are newer than the kernel, and go on without.
    const fn error(&self) -> Errno {
        match self.call {
            Some(_) => Errno::EPERM,
            None => Errno::ENOSYS,
        }
    }

    pub(super) fn finding(&self) -> Finding {
        let call = self.call.map_or_else(|| format!("number {}", self.number), |call| call.name().to_owned());
        let Self { name, thread, .. } = self;
        Finding {
            kind: Kind::SystemCallRefused,
            subject: format!("{call} by {name}"),
            text: format!(
                "the system call {call} of {name} (process {thread}) was refused: lb and its commands may not make it"
            ),
            mend: format!(
                "if a check or a hook needs it, have a service of its own do that; `lb run {OPTION}` refuses nothing; if \
                 it is lb's own, report it"
            ),
        }
    }
}

fn name(thread: u32) -> io::Result<String> {
    Ok(fs::read_to_string(format!("/proc/{thread}/comm"))?.trim_end().to_owned())
}
