//! Hooks that /bin/sh runs.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::command::shell::{LONG, read, shell, wait_for};

/// A folder, and hooks that do `first` in there and then write their group and role into its file `log`.
fn hooks(first: &str) -> (TempDir, PathBuf, Hooks) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = format!("cd {}; {first}; echo $LB_GROUP $LB_ROLE >> log", folder.path().display());
    let command = || Some(shell(&script, LONG));
    let config = config::Hooks { active: command(), standby: command(), fault: command() };
    (folder, log, Hooks::new(config))
}

fn told(hooks: &mut Hooks, group: &str, event: Event) {
    let environment = [("LB_GROUP", group), ("LB_ROLE", event.name())];
    hooks.run(group, event, environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[tokio::test]
async fn hooks_of_a_group_run_in_order() {
    let (_folder, log, mut hooks) = hooks("true");
    for (count, event) in [Event::Standby, Event::Active, Event::Fault].into_iter().enumerate() {
        told(&mut hooks, "web", event);
        wait_for("the hook", || read(&log).lines().count() == count + 1).await;
    }
    hooks.finish().await;
    assert_eq!(read(&log), "web standby\nweb active\nweb fault\n");
}

#[tokio::test]
async fn while_one_runs_only_the_newest_waits() {
    let (folder, log, mut hooks) = hooks("touch begun; sleep 0.3");
    hooks.config.fault = None;
    told(&mut hooks, "web", Event::Active);
    wait_for("the first hook", || folder.path().join("begun").exists()).await;
    for event in [Event::Standby, Event::Active, Event::Standby] {
        told(&mut hooks, "web", event);
    }
    // Another group's waiting hooks are overtaken by an event that has none.
    for event in [Event::Active, Event::Standby, Event::Fault] {
        told(&mut hooks, "mail", event);
    }
    hooks.finish().await;
    assert_eq!(read(&log), "web active\nweb standby\n");
}

#[tokio::test]
async fn a_stuck_hook_delays_no_other_group_and_not_the_caller() {
    let (_folder, log, mut hooks) = hooks("test $LB_GROUP = stuck && exec sleep 60");
    let begin = Instant::now();
    told(&mut hooks, "stuck", Event::Active);
    told(&mut hooks, "web", Event::Active);
    assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
    wait_for("the other group's hook", || read(&log) == "web active\n").await;
}

#[tokio::test]
async fn fencing_succeeds_only_if_the_command_does() {
    assert_eq!(fence(&shell("true", LONG), &[]).await, Ok(()));
    assert_eq!(fence(&shell("false", LONG), &[]).await, Err("exit code 1".to_owned()));
}
