//! Real commands, run by /bin/sh.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::command::{Failure, run as run_command};
use super::*;

fn shell(script: &str, timeout: Duration) -> config::Command {
    config::Command { words: ["/bin/sh", "-c", script].map(str::to_owned).into(), timeout }
}

const LONG: Duration = Duration::from_secs(20);

/// Output and outcome.
async fn outcome(command: &config::Command) -> (Vec<String>, Result<(), Failure>) {
    let mut lines = Vec::new();
    let outcome = run_command(command, &[], |line| lines.push(line.to_owned())).await;
    (lines, outcome)
}

async fn failure(command: &config::Command) -> String {
    outcome(command).await.1.expect_err("it fails").to_string()
}

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

fn read(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LONG, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
async fn the_time_limit_ends_all_that_a_command_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = format!("sleep 60 & echo $! > {}; echo waiting; wait", pid.display());
    let limit = Duration::from_millis(300);
    let begin = Instant::now();
    let (lines, outcome) = outcome(&shell(&script, limit)).await;
    assert!(matches!(outcome, Err(Failure::TimeLimit(told)) if told == limit), "{outcome:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(lines, ["waiting"]);
    wait_for("the end of the grandchild", || !runs(read(&pid).trim())).await;
}

/// A zombie runs no more, whoever shall reap it.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let command = shell(&format!("echo $$ > {}; sleep 60", pid.display()), LONG);
    let running = tokio::spawn(async move { fence(&command, &[]).await });
    wait_for("the start", || runs(read(&pid).trim())).await;
    running.abort();
    wait_for("the end", || !runs(read(&pid).trim())).await;
}

#[tokio::test]
async fn what_a_command_leaves_running_delays_nothing_and_stays() {
    let begin = Instant::now();
    let (lines, outcome) = outcome(&shell("sleep 60 & echo $!", LONG)).await;
    assert!(outcome.is_ok() && begin.elapsed() < Duration::from_secs(5), "{outcome:?}");
    assert!(runs(&lines[0]), "{lines:?}");
    let pid = nix::unistd::Pid::from_raw(lines[0].parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn output_is_kept_in_order_from_both_streams() {
    let (lines, outcome) = outcome(&shell("echo one; echo two >&2; printf three", LONG)).await;
    assert!(outcome.is_ok());
    assert_eq!(lines, ["one", "two", "three"]);
}

/// More than a pipe holds: a command must not wait for a reader.
#[tokio::test]
async fn much_output_stops_nobody() {
    let (lines, outcome) = outcome(&shell("yes | head -c 1000000", LONG)).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(lines.len(), 101);
}

#[tokio::test]
async fn a_command_sees_path_and_what_it_is_given() {
    let environment = [("LB_GROUP".to_owned(), "web".to_owned())];
    let mut lines = Vec::new();
    let command = config::Command { words: vec!["/usr/bin/env".into()], timeout: LONG };
    run_command(&command, &environment, |line| lines.push(line.to_owned())).await.unwrap();
    lines.sort();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0] == "LB_GROUP=web" && lines[1].starts_with("PATH="), "{lines:?}");
}

#[tokio::test]
async fn failures_are_told_in_words() {
    assert_eq!(failure(&shell("exit 3", LONG)).await, "exit code 3");
    assert_eq!(failure(&shell("kill -9 $$", LONG)).await, "ended by signal 9");
    let missing = config::Command { words: vec!["/nowhere/fence".into()], timeout: LONG };
    let text = failure(&missing).await;
    assert!(text.contains("/nowhere/fence") && text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn fencing_succeeds_only_if_the_command_does() {
    assert_eq!(fence(&shell("true", LONG), &[]).await, Ok(()));
    assert_eq!(fence(&shell("false", LONG), &[]).await, Err("exit code 1".to_owned()));
}
