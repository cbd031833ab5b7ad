//! Hooks: commands of the operator's that are run when a group's role here has changed, and the
//! fencing command.

use std::time::Duration;

use lb_system::command;
use lb_system::command::queue::{Job, Queues};

/// Hooks that run at once: more than there can be groups.
const TOGETHER: usize = 64;

/// What became of a group here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Active,
    Standby,
    Fault,
}

impl Event {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Fault => "fault",
        }
    }
}

/// Runs hooks, each group's one after the other.
#[derive(Debug)]
pub struct Hooks {
    config: lb_model::Hooks,
    queues: Queues,
}

impl Hooks {
    pub fn new(config: lb_model::Hooks) -> Self {
        Self { config, queues: Queues::new(TOGETHER) }
    }

    /// Has the event's hook run for `group`. Returns at once. Needs a tokio runtime around it.
    pub fn run(&mut self, group: &str, event: Event, environment: Vec<(String, String)>) {
        let command = match event {
            Event::Active => &self.config.active,
            Event::Standby => &self.config.standby,
            Event::Fault => &self.config.fault,
        };
        let job = Job { event: event.name(), command: command.clone(), environment };
        self.queues.run(&format!("group {group}"), job);
    }

    /// Waits for the hooks that run and wait, at most for `patience`.
    pub async fn finish(self, patience: Duration) {
        self.queues.finish(patience).await;
    }
}

/// Runs the fencing command to its end.
///
/// # Errors
/// The command failed, and so the node that it shall cut off may still be there. The text says how
/// it failed.
pub async fn fence(command: &lb_model::Command, environment: &[(String, String)]) -> Result<(), String> {
    let told = |line: &str| tracing::info!("fence: {line}");
    command::run(command, environment, told).await.map_err(|failure| failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_lab::commands::{LONG, read, shell};

    #[tokio::test]
    async fn each_event_has_its_hook() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let hook = |word: &str| Some(shell(&format!("echo {word} $LB_GROUP >> {}", log.display()), LONG));
        let config = lb_model::Hooks { active: hook("a"), standby: hook("s"), fault: hook("f") };
        for (event, wanted) in
            [(Event::Active, "a web\n"), (Event::Standby, "s web\n"), (Event::Fault, "f web\n")]
        {
            let mut hooks = Hooks::new(config.clone());
            hooks.run("web", event, command::environment([("GROUP", "web")]));
            hooks.finish(LONG).await;
            assert_eq!(read(&log), wanted);
            std::fs::remove_file(&log).unwrap();
        }
    }

    #[tokio::test]
    async fn fencing_succeeds_only_if_the_command_does() {
        assert_eq!(fence(&shell("true", LONG), &[]).await, Ok(()));
        assert_eq!(fence(&shell("false", LONG), &[]).await, Err("exit code 1".to_owned()));
    }
}
