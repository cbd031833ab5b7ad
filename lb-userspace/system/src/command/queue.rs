//! Hooks: commands of the operator that run when something has changed.
//!
//! Only the next hook of the same subject (a VIP group or a server) waits for a hook: each subject
//! has its own queue.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A queue that was idle for this long ends; thousands of servers have one each.
const IDLE: Duration = Duration::from_secs(60);

/// Runs hooks. After dropping it, running and waiting hooks still complete; the end of the runtime
/// kills them.
#[derive(Debug)]
pub struct Queues {
    queues: HashMap<String, Queue>,
    /// Permits for concurrent hooks: an outage of a rack must not start a thousand processes.
    room: Arc<Semaphore>,
    /// [`IDLE`], except in tests.
    idle: Duration,
}

#[derive(Debug)]
struct Queue {
    jobs: UnboundedSender<Job>,
    task: JoinHandle<()>,
}

/// A hook and its event.
#[derive(Debug, Clone)]
pub struct Job {
    /// The event, as the configuration names it.
    pub event: &'static str,
    /// `None`: the event has no hook, but supersedes waiting hooks.
    pub command: Option<lb_model::Command>,
    /// The hook's environment, in addition to PATH and the user's variables.
    pub environment: Vec<(String, String)>,
}

impl Queues {
    /// Runs at most `together` hooks at once.
    pub fn new(together: usize) -> Self {
        Self { queues: HashMap::new(), room: Arc::new(Semaphore::new(together)), idle: IDLE }
    }

    /// Queues the hook behind the one that runs for `subject`; it replaces a waiting one. Returns
    /// at once. Must run within a tokio runtime.
    pub fn run(&mut self, subject: &str, job: Job) {
        let unsent = match self.queues.get(subject) {
            None => job,
            Some(queue) => match queue.jobs.send(job) {
                Ok(()) => return,
                Err(SendError(job)) => job,
            },
        };
        if unsent.command.is_none() {
            return;
        }
        // Remove queues that have ended.
        self.queues.retain(|_, queue| !queue.jobs.is_closed());
        let queue = self.open(subject);
        // The queue's task has not begun yet.
        let _ = queue.jobs.send(unsent);
        self.queues.insert(subject.to_owned(), queue);
    }

    fn open(&self, subject: &str) -> Queue {
        let (jobs, waiting) = unbounded_channel();
        let task = work(subject.to_owned(), waiting, Arc::clone(&self.room), self.idle);
        Queue { jobs, task: tokio::spawn(task) }
    }

    /// Waits for running and waiting hooks, at most for `patience`.
    pub async fn finish(self, patience: Duration) {
        let all = async {
            for (subject, Queue { jobs, task }) in self.queues {
                drop(jobs);
                if let Err(error) = task.await {
                    tracing::error!(%error, "the task that runs the hooks of {subject} has failed");
                }
            }
        };
        if timeout(patience, all).await.is_err() {
            tracing::warn!("hooks are still running after {} s; stopping without them", patience.as_secs());
        }
    }
}

async fn work(subject: String, mut jobs: UnboundedReceiver<Job>, room: Arc<Semaphore>, idle: Duration) {
    loop {
        let next = match timeout(idle, jobs.recv()).await {
            Ok(next) => next,
            Err(_) => {
                // Jobs sent at this moment still run.
                jobs.close();
                jobs.recv().await
            }
        };
        let Some(mut job) = next else { return };
        let Ok(_room) = room.acquire().await else { return };
        while let Ok(newer) = jobs.try_recv() {
            if job.command.is_some() {
                tracing::info!("hook {} of {subject} skipped: superseded by {}", job.event, newer.event);
            }
            job = newer;
        }
        if let Some(command) = &job.command {
            run(&subject, job.event, command, &job.environment).await;
        }
    }
}

async fn run(subject: &str, event: &str, command: &lb_model::Command, environment: &[(String, String)]) {
    let begin = Instant::now();
    let log = |line: &str| tracing::info!("hook {event} of {subject}: {line}");
    let outcome = super::run(command, environment, log).await;
    let took = begin.elapsed();
    match outcome {
        Ok(()) => tracing::info!(?took, "hook {event} of {subject} done"),
        Err(failure) => tracing::warn!(?took, "hook {event} of {subject} failed: {failure}"),
    }
}
