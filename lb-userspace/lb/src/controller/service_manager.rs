//! What the service manager (systemd) is told: that the director is ready, reloads or stops, what
//! it does, and that its threads live. A director that nobody manages tells nobody.

use std::env;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lb_api::events::{Level, Record};
use lb_system::vital_signs::Watch;
use sd_notify::NotifyState;

use super::Controller;

/// Housekeepings from one sign of the director's own life to the next: a second.
const SIGN: u32 = 4;
/// A thread that gave no sign of life during so many housekeepings, 10 s, hangs.
const HANGS: u32 = 40;
/// How long a stop may still take, from each time that this is told, in microseconds.
const EXTENSION: u32 = 10_000_000;
/// How long a [`Step`] may take from its begin, or from when it last got on, in microseconds.
const STEP: u32 = 60_000_000;
/// How often it is told that a [`Step`] goes on.
const STEP_TOLD: Duration = Duration::from_secs(1);

/// The start is done, or so much of it as can be done now.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Until [`reloaded`].
pub(super) fn reloading() {
    // `Type=notify-reload` tells this reload from others by the time.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The process lives. If this is told too seldom, the service manager ends it and starts another.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Part of a start, or of the end of a stop, in which nothing else tells that the director lives.
/// The service manager grants it a minute, from its begin and from each time that it gets on, also
/// where `TimeoutStartSec`, `TimeoutStopSec` or `WatchdogSec` are over. The work itself tells, and
/// no thread beside it, so a step that hangs is ended.
#[derive(Debug)]
pub(super) struct Step {
    what: &'static str,
    /// When this was told last.
    told: Mutex<Instant>,
}

impl Step {
    pub(super) fn begin(what: &'static str) -> Self {
        let step = Self { what, told: Mutex::new(Instant::now()) };
        step.tell();
        step
    }

    /// It has got on; any thread may say so, and as often as it likes.
    pub(super) fn goes_on(&self) {
        // If another thread has it, that one tells.
        if let Ok(mut told) = self.told.try_lock()
            && told.elapsed() >= STEP_TOLD
        {
            *told = Instant::now();
            self.tell();
        }
    }

    fn tell(&self) {
        tell(&[NotifyState::Status(self.what), NotifyState::ExtendTimeoutUsec(STEP), NotifyState::Watchdog]);
    }
}

/// Somebody is told.
fn is_there() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

fn tell(states: &[NotifyState<'_>]) {
    if states.is_empty() {
        return;
    }
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

/// What is told each second. One that leaves may wait for its connections as long as the
/// configuration says; while a thread hangs it gets no more time, which would put the watchdog off,
/// too.
const fn signs(hangs: bool, is_leaving: bool) -> &'static [NotifyState<'static>] {
    match (hangs, is_leaving) {
        (true, _) => &[],
        (false, false) => &[NotifyState::Watchdog],
        (false, true) => &[NotifyState::Watchdog, NotifyState::ExtendTimeoutUsec(EXTENSION)],
    }
}

/// What a running director tells regularly.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    watch: Watch,
    /// Threads that hang, as told last.
    hanging: Vec<&'static str>,
    housekeepings: u32,
    status: String,
}

impl ServiceManager {
    pub(super) fn new(watch: Watch) -> Self {
        Self { watch, ..Self::default() }
    }

    /// To be called at each housekeeping. Tells that the director lives, unless one of its threads
    /// hangs; returns the event where that has changed.
    fn check(&mut self, is_leaving: bool) -> Option<Record> {
        let hanging = self.watch.look(HANGS);
        self.housekeepings = self.housekeepings.wrapping_add(1);
        if self.is_time() {
            tell(signs(!hanging.is_empty(), is_leaving));
        }
        if hanging == self.hanging {
            return None;
        }
        self.hanging.clone_from(&hanging);
        Some(match hanging.is_empty() {
            true => {
                Record::new(Level::Info, "thread_answers", "all threads give signs of life again".to_owned())
            }
            false => {
                let text = format!(
                    "no sign of life for 10 s from the thread {}: with WatchdogSec= in its unit the service manager \
                     starts lb anew",
                    hanging.join(", ")
                );
                Record::new(Level::Error, "thread_hangs", text)
            }
        })
    }

    /// Once a second.
    fn is_time(&self) -> bool {
        self.housekeepings.is_multiple_of(SIGN)
    }

    fn set_status(&mut self, status: String) {
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

impl Controller {
    pub(super) fn tell_service_manager(&mut self) {
        if let Some(record) = self.lifecycle.check_threads() {
            self.announcer.record(record);
        }
        if !self.lifecycle.is_leaving() && self.lifecycle.service_manager.is_time() && is_there() {
            let status = self.summary();
            self.lifecycle.service_manager.set_status(status);
        }
    }

    /// `eth0: 2 services, 3 of 4 servers take clients, active for web`
    pub(super) fn summary(&self) -> String {
        let interfaces = self.config.interfaces().collect::<Vec<_>>().join(", ");
        let services = &self.config.services;
        let servers: usize = services.iter().map(|service| service.servers.len()).sum();
        let serving = self.runtime.serving();
        let services = format!("{} service{}", services.len(), if services.len() == 1 { "" } else { "s" });
        let mut text = format!("{interfaces}: {services}, {serving} of {servers} servers take clients");
        match self.membership.active_groups() {
            None => {}
            Some(groups) if groups.is_empty() => text += ", standby",
            Some(groups) => text += &format!(", active for {}", groups.join(", ")),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use lb_system::vital_signs::Pulse;

    use super::*;

    #[test]
    fn a_stop_gets_more_time_unless_a_thread_hangs() {
        let told = |hangs, is_leaving| {
            Vec::from_iter(signs(hangs, is_leaving).iter().map(ToString::to_string)).join(" ")
        };
        assert_eq!(told(false, false), "WATCHDOG=1");
        assert_eq!(told(false, true), "WATCHDOG=1 EXTEND_TIMEOUT_USEC=10000000");
        assert_eq!([told(true, false), told(true, true)], ["", ""]);
    }

    #[test]
    fn a_thread_that_hangs_is_told_once_and_again_when_it_lives() {
        let pulse = Pulse::default();
        let mut watch = Watch::default();
        watch.add("checks", pulse.clone());
        let mut manager = ServiceManager::new(watch);
        let told: Vec<_> = (0..2 * HANGS).filter_map(|_| manager.check(false)).collect();
        assert_eq!(told.iter().map(|record| &*record.event).collect::<Vec<_>>(), ["thread_hangs"]);
        assert!(told[0].text.contains("checks"), "{}", told[0].text);
        pulse.beat();
        assert_eq!(manager.check(false).map(|record| record.event).as_deref(), Some("thread_answers"));
    }
}
