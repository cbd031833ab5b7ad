//! Hooks by /bin/sh.

use std::path::PathBuf;

use lb_lab::commands::{LONG, read, shell, wait_for};
use tempfile::TempDir;

use super::*;
use crate::command::environment;

/// A folder, and a hook that runs `first` in it and then appends subject and event to the file
/// `log`.
fn hook(first: &str) -> (TempDir, PathBuf, lb_model::Command) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = format!("cd {}; {first}; echo $LB_SUBJECT $LB_EVENT >> log", folder.path().display());
    (folder, log, shell(&script, LONG))
}

fn job(subject: &str, event: &'static str, command: Option<&lb_model::Command>) -> Job {
    Job {
        event,
        command: command.cloned(),
        environment: environment([("SUBJECT", subject), ("EVENT", event)]),
    }
}

#[tokio::test]
async fn hooks_of_a_subject_run_in_order() {
    let (_folder, log, hook) = hook("true");
    let mut queues = Queues::new(1);
    for (count, event) in ["standby", "active", "fault"].into_iter().enumerate() {
        queues.run("web", job("web", event, Some(&hook)));
        wait_for("the hook", || read(&log).lines().count() == count + 1).await;
    }
    queues.finish(LONG).await;
    assert_eq!(read(&log), "web standby\nweb active\nweb fault\n");
}

#[tokio::test]
async fn while_one_runs_only_the_newest_waits() {
    let (folder, log, hook) = hook("touch begun; sleep 0.3");
    let mut queues = Queues::new(8);
    queues.run("web", job("web", "active", Some(&hook)));
    wait_for("the first hook", || folder.path().join("begun").exists()).await;
    for event in ["standby", "active", "standby"] {
        queues.run("web", job("web", event, Some(&hook)));
    }
    // An event without a hook supersedes the waiting hook of another event.
    queues.run("mail", job("mail", "active", Some(&hook)));
    queues.run("mail", job("mail", "standby", Some(&hook)));
    queues.run("mail", job("mail", "fault", None));
    queues.finish(LONG).await;
    assert_eq!(read(&log), "web active\nweb standby\n");
}

#[tokio::test]
async fn a_stuck_hook_delays_no_other_subject_and_not_the_caller() {
    let (_folder, log, hook) = hook("test $LB_SUBJECT = stuck && exec sleep 60");
    let mut queues = Queues::new(2);
    let begin = Instant::now();
    queues.run("stuck", job("stuck", "active", Some(&hook)));
    queues.run("web", job("web", "active", Some(&hook)));
    assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
    wait_for("the other one's hook", || read(&log) == "web active\n").await;
}

#[tokio::test]
async fn no_more_run_at_once_than_there_is_room_for() {
    let (folder, log, hook) = hook("mkdir alone && sleep 0.05 && rmdir alone");
    let mut queues = Queues::new(1);
    for subject in ["a", "b", "c", "d"] {
        queues.run(subject, job(subject, "down", Some(&hook)));
    }
    queues.finish(LONG).await;
    assert_eq!(read(&log).lines().count(), 4, "{}", read(&log));
    assert!(!folder.path().join("alone").exists());
}

#[tokio::test]
async fn a_queue_without_work_ends_and_a_new_one_takes_its_place() {
    let (_folder, log, hook) = hook("true");
    let mut queues = Queues { idle: Duration::from_millis(20), ..Queues::new(1) };
    queues.run("www1", job("www1", "up", None));
    assert!(queues.queues.is_empty(), "nothing to run");
    queues.run("www1", job("www1", "up", Some(&hook)));
    wait_for("the hook", || read(&log) == "www1 up\n").await;
    wait_for("the end of the queue", || queues.queues["www1"].jobs.is_closed()).await;
    queues.run("www2", job("www2", "up", Some(&hook)));
    assert_eq!(queues.queues.keys().collect::<Vec<_>>(), ["www2"], "the one that has ended is forgotten");
    queues.run("www1", job("www1", "down", Some(&hook)));
    queues.finish(LONG).await;
    assert_eq!(read(&log).lines().count(), 3, "{}", read(&log));
}
