//! Commands: hooks, fencing, external checks.

use std::time::Duration;

use lb_model::{Command, Hooks, ServiceHooks};

use super::{Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);
const DEFAULT: Duration = Duration::from_secs(10);

impl Validator {
    pub(super) fn hooks(&mut self, hooks: Option<&yaml::Hooks>, span: SourceSpan<'_>) -> Hooks {
        let Some(yaml::Hooks { active, standby, fault }) = hooks else { return Hooks::default() };
        Hooks {
            active: self.command(active.as_ref(), span.key("active")),
            standby: self.command(standby.as_ref(), span.key("standby")),
            fault: self.command(fault.as_ref(), span.key("fault")),
        }
    }

    pub(super) fn service_hooks(
        &mut self,
        hooks: Option<&yaml::ServiceHooks>,
        span: SourceSpan<'_>,
    ) -> ServiceHooks {
        let Some(yaml::ServiceHooks { server_up, server_down, quorum_up, quorum_down }) = hooks else {
            return ServiceHooks::default();
        };
        ServiceHooks {
            server_up: self.command(server_up.as_ref(), span.key("server_up")),
            server_down: self.command(server_down.as_ref(), span.key("server_down")),
            quorum_up: self.command(quorum_up.as_ref(), span.key("quorum_up")),
            quorum_down: self.command(quorum_down.as_ref(), span.key("quorum_down")),
        }
    }

    pub(super) fn command(
        &mut self,
        command: Option<&yaml::Command>,
        span: SourceSpan<'_>,
    ) -> Option<Command> {
        let (words, list, timeout) = match command? {
            yaml::Command::Words(words) => (words.as_slice(), span, None),
            yaml::Command::Timed(yaml::TimedCommand { command, timeout }) => {
                let timeout = Value::of(timeout, "timeout", span);
                let timeout = self.optional(timeout, |text| values::time(text, SHORTEST..=LONGEST));
                (command.as_deref().unwrap_or_default(), span.key("command"), timeout)
            }
        };
        Some(Command { words: self.words(words, list), timeout: timeout.unwrap_or(DEFAULT) })
    }

    fn words(&mut self, words: &[yaml::Scalar], list: SourceSpan<'_>) -> Vec<String> {
        if words.is_empty() {
            self.mistake(
                list.key_at(),
                "no command, expected a program and its arguments, such as [/bin/true]",
            );
        }
        let mut read = Vec::with_capacity(words.len());
        for (index, word) in words.iter().enumerate() {
            let span = list.item(index);
            let text = word.text(|| span).unwrap_or_default();
            if let Err(wrong) = fit_for_exec(index, text) {
                self.wrong_at(span.at(), "command", word.raw().unwrap_or_default(), &wrong);
            }
            read.push(text.to_owned());
        }
        read
    }
}

/// The program must be an absolute path, for `lb` searches no PATH; execve(2) ends an argument at
/// its first NUL.
fn fit_for_exec(index: usize, word: &str) -> Result<(), String> {
    if index == 0 {
        values::file_path(word, "/usr/local/bin/notify").map(drop)
    } else if word.contains('\0') {
        Err("an argument cannot contain a NUL character".into())
    } else {
        Ok(())
    }
}
