//! Hooks: commands of the operator's that are run when something has changed.
//!
//! Nothing waits for a hook but the next one of the same subject, a VIP group or a server: each has a queue of its own.

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

/// A queue that has had nothing to do for so long ends; thousands of servers have theirs.
const IDLE: Duration = Duration::from_secs(60);

/// Runs hooks. Dropping it lets those that run or wait come to their end; with the runtime they are killed.
#[derive(Debug)]
pub struct Queues {
    queues: HashMap<String, Queue>,
    /// How many more may run at once: a rack that goes down shall not start a thousand processes.
    room: Arc<Semaphore>,
    /// [`IDLE`], but in tests.
    idle: Duration,
}

#[derive(Debug)]
struct Queue {
    jobs: UnboundedSender<Job>,
    task: JoinHandle<()>,
}

/// A hook and what it is run for.
#[derive(Debug, Clone)]
pub struct Job {
    /// In the configuration's word.
    pub event: &'static str,
    /// Without one this is only the news that waiting hooks have been overtaken.
    pub command: Option<lb_model::Command>,
    /// Besides PATH it sees this and nothing else of ours.
    pub environment: Vec<(String, String)>,
}

impl Queues {
    /// At most `together` hooks run at once.
    pub fn new(together: usize) -> Self {
        Self { queues: HashMap::new(), room: Arc::new(Semaphore::new(together)), idle: IDLE }
    }

    /// Has the hook run after the one that runs for `subject` now, if any, and in the place of the one that waits. Returns
    /// at once. Needs a tokio runtime around it.
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
        // Those that have ended since are not needed any more.
        self.queues.retain(|_, queue| !queue.jobs.is_closed());
        let queue = self.open(subject);
        // Its task has not even begun.
        let _ = queue.jobs.send(unsent);
        self.queues.insert(subject.to_owned(), queue);
    }

    fn open(&self, subject: &str) -> Queue {
        let (jobs, waiting) = unbounded_channel();
        let task = work(subject.to_owned(), waiting, Arc::clone(&self.room), self.idle);
        Queue { jobs, task: tokio::spawn(task) }
    }

    /// Waits for the hooks that run and wait, at most for `patience`.
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
            tracing::warn!("hooks still run after {} s; stopping all the same", patience.as_secs());
        }
    }
}

async fn work(subject: String, mut jobs: UnboundedReceiver<Job>, room: Arc<Semaphore>, idle: Duration) {
    loop {
        let next = match timeout(idle, jobs.recv()).await {
            Ok(next) => next,
            Err(_) => {
                // What was sent in this very moment is still done.
                jobs.close();
                jobs.recv().await
            }
        };
        let Some(mut job) = next else { return };
        let Ok(_room) = room.acquire().await else { return };
        while let Ok(newer) = jobs.try_recv() {
            if job.command.is_some() {
                tracing::info!("hook {} of {subject} skipped: overtaken by {}", job.event, newer.event);
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
    let told = |line: &str| tracing::info!("hook {event} of {subject}: {line}");
    let outcome = super::run(command, environment, told).await;
    let took = begin.elapsed();
    match outcome {
        Ok(()) => tracing::info!(?took, "hook {event} of {subject} done"),
        Err(failure) => tracing::warn!(?took, "hook {event} of {subject} failed: {failure}"),
    }
}
