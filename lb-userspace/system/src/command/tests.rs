//! Real commands by /bin/sh.

use std::time::{Duration, Instant};

use lb_lab::commands::{LONG, read, runs, shell, wait_for};

use super::*;

/// The command's output and result.
async fn outcome(command: &lb_model::Command) -> (Vec<String>, Result<(), Failure>) {
    let mut lines = Vec::new();
    let outcome = run(command, &[], |line| lines.push(line.to_owned())).await;
    (lines, outcome)
}

async fn failure(command: &lb_model::Command) -> String {
    outcome(command).await.1.expect_err("it fails").to_string()
}

#[tokio::test]
async fn the_time_limit_ends_all_that_a_command_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = format!("sleep 60 & echo $! > {}; echo waiting; wait", pid.display());
    // Long enough for a shell to begin on a busy machine.
    let limit = Duration::from_secs(2);
    let begin = Instant::now();
    let (lines, outcome) = outcome(&shell(&script, limit)).await;
    assert!(matches!(outcome, Err(Failure::TimeLimit(told)) if told == limit), "{outcome:?}");
    assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
    assert_eq!(lines, ["waiting"]);
    wait_for("the end of the grandchild", || !runs(read(&pid).trim())).await;
}

#[tokio::test]
async fn what_a_command_leaves_running_delays_nothing_and_stays() {
    let begin = Instant::now();
    let (lines, outcome) = outcome(&shell("sleep 60 & echo $!", LONG)).await;
    assert!(outcome.is_ok() && begin.elapsed() < LONG, "{outcome:?}");
    assert!(runs(&lines[0]), "{lines:?}");
    nix::sys::signal::kill(Pid::from_raw(lines[0].parse().unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn output_is_kept_in_order_from_both_streams() {
    let (lines, outcome) = outcome(&shell("echo one; echo two >&2; printf three", LONG)).await;
    assert!(outcome.is_ok());
    assert_eq!(lines, ["one", "two", "three"]);
}

/// More output than fits into a pipe: the command must not block.
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
    let command = lb_model::Command { words: vec!["/usr/bin/env".into()], timeout: LONG };
    run(&command, &environment, |line| lines.push(line.to_owned())).await.unwrap();
    lines.sort();
    assert!(lines.contains(&"LB_GROUP=web".into()), "{lines:?}");
    let names: Vec<_> = lines.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(names, ["HOME", "LANG", "LB_GROUP", "LOGNAME", "PATH", "USER"], "nothing else of our own");
}

#[tokio::test]
async fn failures_are_told_in_words() {
    assert_eq!(failure(&shell("exit 3", LONG)).await, "exit code 3");
    assert_eq!(failure(&shell("kill -9 $$", LONG)).await, "ended by signal 9");
    let missing = lb_model::Command { words: vec!["/nowhere/fence".into()], timeout: LONG };
    let text = failure(&missing).await;
    assert!(text.contains("/nowhere/fence") && text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let command = shell(&format!("echo $$ > {}; sleep 60", pid.display()), LONG);
    let running = tokio::spawn(async move { run(&command, &[], |_| {}).await });
    wait_for("the start", || runs(read(&pid).trim())).await;
    running.abort();
    wait_for("the end", || !runs(read(&pid).trim())).await;
}

#[tokio::test]
async fn what_is_captured_is_standard_output_alone_and_no_more_than_wanted() {
    let said = capture(&shell("echo out; echo error >&2; echo more", LONG), 100).await;
    assert_eq!(said.expect("it ends well"), b"out\nmore\n");
    let failed = capture(&shell("echo out; exit 3", LONG), 100).await.expect_err("it fails");
    assert!(matches!(failed, Failure::Exit(3)), "{failed}");
    let endless = capture(&shell("while :; do echo more; done", Duration::from_millis(300)), 100).await;
    assert!(
        matches!(endless, Err(Failure::TimeLimit(_) | Failure::Signal(_) | Failure::Exit(_))),
        "{endless:?}"
    );
}
