//! What `lb run` may still do after its start: the capabilities of [`capabilities`] and the system
//! calls of [`filter`], it and the commands that it runs (external checks, hooks, the fence).
//!
//! Both are given up before the first thread starts, so every thread has them, and for good: the
//! kernel gives nothing back to a process with `no_new_privs`. What needed more has been done by
//! then: a BPF file system is mounted where there was none.
//!
//! A system call that is refused returns EPERM to its caller and is told: the kernel reports it to
//! the thread of [`supervisor`], which answers, and the controller raises a finding. So neither
//! `lb` nor a command hangs or dies of it, and nobody has to guess.
//!
//! - [`install`]: the two things that the kernel is asked for, the only unsafe code of this crate's
//!   own besides `controller/writers.rs`

mod capabilities;
mod filter;
mod install;
mod supervisor;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use lb_api::findings::{Finding, Findings, Kind};
use lb_datapath::attach::file_system;
use lb_model::Control;

use self::filter::Filter;
use self::supervisor::Refusal;

/// Command-line option that leaves everything as it is.
const OPTION: &str = "--unconfined";

/// What came of [`enter`]: the findings of each life of the director are told by it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Confinement(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Of the director's life that goes on.
    findings: Option<Findings>,
    /// Told before there was one, and again in each life.
    lasting: Vec<Finding>,
}

/// Gives up what the director does not need. Call it while the process has one thread.
///
/// Where the kernel does not do it, `lb` serves all the same, and a finding says so.
pub(crate) fn enter(control: &Control) -> Confinement {
    file_system::prepare();
    let confinement = Confinement::default();
    match capabilities::give_up(control) {
        Ok(kept) => tracing::info!("keeps {kept}"),
        Err(error) => confinement.raise(unconfined("capabilities", &error)),
    }
    match filter_calls() {
        Ok(Calls { refusals: Some(refusals) }) => {
            if let Err(error) = confinement.clone().follow(refusals) {
                confinement.raise(unconfined("system calls", &error));
            }
        }
        Ok(Calls { refusals: None }) => confinement.raise(unheard()),
        Err(error) => confinement.raise(unconfined("system calls", &error)),
    }
    confinement
}

/// The filter is in force.
struct Calls {
    /// `None`: nobody hears of what is refused but the kernel's audit log.
    refusals: Option<Receiver<Refusal>>,
}

fn filter_calls() -> Result<Calls> {
    let told = filter::compile(Filter::Told)?;
    let silent = filter::compile(Filter::Silent)?;
    let outdated = filter::compile(Filter::Clone3)?;
    install::allow_no_new_privileges().context("no_new_privs")?;
    install::install(&outdated).context("seccomp(2)")?;
    let (sender, refusals) = mpsc::channel();
    let supervisor = supervisor::start(silent.clone(), sender).context("its thread")?;
    match install::install_with_listener(&told) {
        Ok(listener) => supervisor.listen(listener)?,
        // A container manager listens already: there can be only one.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            install::install(&silent).context("seccomp(2)")?;
            return Ok(Calls { refusals: None });
        }
        Err(error) => return Err(error).context("seccomp(2)"),
    }
    Ok(Calls { refusals: Some(refusals) })
}

impl Confinement {
    /// From now on refusals are findings of this life.
    pub(crate) fn report_to(&self, findings: &Findings) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.lasting.iter().for_each(|finding| findings.raise(finding.clone()));
        state.findings = Some(findings.clone());
    }

    /// A finding that lasts.
    fn raise(&self, finding: Finding) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lasting.push(finding);
    }

    /// Tells refusals on a thread of its own: the supervisor must not wait for anybody.
    fn follow(self, refusals: Receiver<Refusal>) -> io::Result<()> {
        let tell = move || {
            for refusal in refusals {
                let findings = self.0.lock().unwrap_or_else(PoisonError::into_inner).findings.clone();
                let finding = refusal.finding();
                match findings {
                    Some(findings) => findings.raise_for(finding, supervisor::LASTS),
                    None => tracing::warn!(event = Kind::SystemCallRefused.label(), "{}", finding.text),
                }
            }
        };
        std::thread::Builder::new().name("refusals".to_owned()).spawn(tell).map(drop)
    }
}

fn unconfined(what: &str, error: &dyn std::fmt::Debug) -> Finding {
    Finding {
        kind: Kind::Unconfined,
        subject: what.to_owned(),
        text: format!("lb could not give up {what} that it does not need: {error:?}"),
        mend: format!(
            "allow capset(2), prctl(2) and seccomp(2), or start `lb run {OPTION}` if that is meant"
        ),
    }
}

fn unheard() -> Finding {
    Finding {
        kind: Kind::Unconfined,
        subject: "refused system calls".to_owned(),
        text: "lb does not hear of system calls that its filter refuses, because the container's manager listens \
               for those"
            .to_owned(),
        mend: "look into the kernel's audit log (`dmesg`, type=1326) if a check or a hook fails".to_owned(),
    }
}
