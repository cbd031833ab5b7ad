//! Hooks: commands of the operator's that are run when a group's role here has changed, and the fencing command.
//!
//! Nothing waits for a hook but the next hook of the same group: each group has a task of its own.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::{command, config};

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

/// Runs hooks. Dropping it lets those that run or wait come to their end; with the runtime they are killed.
#[derive(Debug)]
pub struct Hooks {
    config: config::Hooks,
    groups: HashMap<String, Queue>,
}

#[derive(Debug)]
struct Queue {
    jobs: UnboundedSender<Job>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Job {
    event: Event,
    /// Without one this is only the news that waiting hooks have been overtaken.
    command: Option<config::Command>,
    environment: Vec<(String, String)>,
}

impl Hooks {
    pub fn new(config: config::Hooks) -> Self {
        Self { config, groups: HashMap::new() }
    }

    /// Has the event's hook run for `group`, after the one that runs for it now, if any, and in the place of the one that
    /// waits. Returns at once. Needs a tokio runtime around it.
    ///
    /// The hook sees `environment` and PATH, and nothing else of ours.
    pub fn run(&mut self, group: &str, event: Event, environment: Vec<(String, String)>) {
        let command = match event {
            Event::Active => &self.config.active,
            Event::Standby => &self.config.standby,
            Event::Fault => &self.config.fault,
        };
        let job = Job { event, command: command.clone(), environment };
        let queue = self.groups.entry(group.to_owned()).or_insert_with(|| Queue::new(group));
        if queue.jobs.send(job).is_err() {
            tracing::error!(group, "hook {} is not run: its task has failed", event.name());
        }
    }

    /// Waits for the hooks that run and wait, at most for their time limits.
    pub async fn finish(self) {
        for (group, Queue { jobs, task }) in self.groups {
            drop(jobs);
            if let Err(error) = task.await {
                tracing::error!(group, %error, "the task that runs hooks has failed");
            }
        }
    }
}

impl Queue {
    fn new(group: &str) -> Self {
        let (jobs, waiting) = unbounded_channel();
        Self { jobs, task: tokio::spawn(work(group.to_owned(), waiting)) }
    }
}

async fn work(group: String, mut jobs: UnboundedReceiver<Job>) {
    while let Some(mut job) = jobs.recv().await {
        while let Ok(newer) = jobs.try_recv() {
            if job.command.is_some() {
                let (old, new) = (job.event.name(), newer.event.name());
                tracing::info!(group, "hook {old} skipped: the group is {new} by now");
            }
            job = newer;
        }
        if let Some(command) = &job.command {
            run(&group, job.event, command, &job.environment).await;
        }
    }
}

async fn run(group: &str, event: Event, command: &config::Command, environment: &[(String, String)]) {
    let (hook, begin) = (event.name(), Instant::now());
    let told = |line: &str| tracing::info!(group, "hook {hook}: {line}");
    match command::run(command, environment, told).await {
        Ok(()) => tracing::info!(group, took = ?begin.elapsed(), "hook {hook} done"),
        Err(failure) => tracing::warn!(group, took = ?begin.elapsed(), "hook {hook} failed: {failure}"),
    }
}

/// Runs the fencing command to its end.
///
/// # Errors
/// It failed, and so the node that it shall cut off may still be there. The text says how it failed.
pub async fn fence(command: &config::Command, environment: &[(String, String)]) -> Result<(), String> {
    let told = |line: &str| tracing::info!("fence: {line}");
    command::run(command, environment, told).await.map_err(|failure| failure.to_string())
}
