//! External checks by /bin/sh.

use std::net::SocketAddr;
use std::time::Duration;

use lb_lab::commands::{LONG, read, runs, shell, wait_for};
use lb_model::Probe;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::probe::test_servers::Asked;

fn server() -> SocketAddr {
    "192.0.2.21:8080".parse().expect("an address")
}

fn external(script: &str, limit: Duration) -> Asked {
    Asked::of(Probe::External(ExternalProbe { command: shell(script, LONG), dynamic: false }), limit)
}

fn dynamic(script: &str) -> Asked {
    Asked::of(Probe::External(ExternalProbe { command: shell(script, LONG), dynamic: true }), LONG)
}

async fn failure(script: &str) -> String {
    external(script, LONG).at(server()).await.expect_err("it fails")
}

#[tokio::test]
async fn exit_code_0_is_good() {
    assert_eq!(external("echo fine", LONG).at(server()).await, Ok(Answer::default()));
    assert_eq!(dynamic("exit 0").at(server()).await, Ok(Answer::default()));
}

#[tokio::test]
async fn the_last_line_is_the_reason() {
    assert_eq!(failure("exit 1").await, "exit code 1");
    assert_eq!(failure("echo looking; echo 'disk full  '; echo; exit 1").await, "exit code 1: disk full");
    assert_eq!(failure("printf 'one\\ntwo' >&2; kill -9 $$").await, "ended by signal 9: two");
    assert_eq!(failure("printf '\\033[2Jx\\377\\n'; exit 2").await, "exit code 2: \\u{1b}[2Jx�");
    assert_eq!(failure("yes | head -n 100000; echo the end; exit 1").await, "exit code 1: the end");
}

/// Programs that ldirectord and keepalived take for good ones: only their exit code counts.
#[tokio::test]
async fn odd_programs_that_succeed_are_up() {
    for (name, script) in [
        ("says nothing", ":"),
        ("looks at no argument", "shift $#"),
        ("complains about its success", "echo CRITICAL: disk full"),
        ("says nothing but blanks", "printf ' \\n\\t\\n'"),
        ("says what is no UTF-8", "printf '\\377\\376\\n'"),
        ("ends no line", "printf ready"),
        ("writes much to standard error", "yes error | head -n 100000 >&2"),
        ("writes a line of a million bytes", "head -c 1000000 /dev/zero"),
        ("closes its output", "exec >&- 2>&-"),
        ("reads what nobody writes", "cat"),
        ("goes on as another program", "exec true"),
        ("ignores signals", "trap '' TERM HUP PIPE"),
        ("changes its folder and its environment", "cd / && unset LB_VIP PATH"),
        ("leaves its process group", "(setsid true) >/dev/null 2>&1; :"),
        ("takes a while", "sleep 0.3"),
        ("fails in the middle", "false; true"),
    ] {
        assert_eq!(external(script, LONG).at(server()).await, Ok(Answer::default()), "{name}");
        assert_eq!(dynamic(script).at(server()).await, Ok(Answer::default()), "{name}");
    }
}

/// It has the pipe of the program's output as long as it runs.
#[tokio::test]
async fn a_child_in_the_background_delays_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let cases: [(&str, Result<Answer, String>); 2] =
        [("exit 0", Ok(Answer::default())), ("exit 1", Err("exit code 1: bad".into()))];
    for (end, found) in cases {
        let begin = std::time::Instant::now();
        let script = format!("sleep 60 & echo $! > {}; echo bad; {end}", pid.display());
        assert_eq!(external(&script, LONG).at(server()).await, found, "{end}");
        assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
        let child = read(&pid).trim().parse().expect("a process");
        kill(Pid::from_raw(child), Signal::SIGKILL).expect("it still runs");
    }
}

/// Files that execvp(3) runs.
#[tokio::test]
async fn odd_files_that_succeed_are_up() {
    let folder = tempfile::tempdir().unwrap();
    let [source, script, link] = ["source", "check", "a link"].map(|name| folder.path().join(name));
    std::os::unix::fs::symlink(&script, &link).unwrap();
    for (name, text) in [
        ("no line's end at its end", "#!/bin/sh\nexit 0"),
        ("no interpreter, and no line's end", "exit 0"),
        ("an argument for its interpreter", "#!/bin/sh -e\ntrue\n"),
        ("a blank before its interpreter", "#! /bin/sh\ntrue\n"),
        ("an interpreter that is found by its name", "#!/usr/bin/env sh\ntrue\n"),
        ("empty lines and a comment", "\n\n# a check\ntrue\n"),
        ("letters that are no ASCII", "#!/bin/sh\n# gr\u{fc}\u{df}\ntrue\n"),
        ("whatever follows the end", "#!/bin/sh\nexit 0\n)("),
    ] {
        std::fs::write(&source, text).unwrap();
        // Children of other tests may hold a copy of what this process writes to, and nobody can
        // run a file that is open for writing. So another process writes it.
        let mut install = std::process::Command::new("install");
        let status = install.args(["-m", "755"]).args([&source, &script]).status();
        assert!(status.expect("coreutils").success(), "{name}");
        for file in [&script, &link] {
            let words = vec![file.to_str().expect("a path").to_owned()];
            let command = Command { words, timeout: LONG };
            let asked = Asked::of(Probe::External(ExternalProbe { command, dynamic: false }), LONG);
            assert_eq!(asked.at(server()).await, Ok(Answer::default()), "{name}: {}", file.display());
        }
    }
}

#[tokio::test]
async fn exit_codes_can_be_weights() {
    for (code, weight) in [(2, 0), (3, 1), (255, 253)] {
        let found = dynamic(&format!("exit {code}")).at(server()).await;
        assert_eq!(found, Ok(Answer { advice: Some(Advice::Weight(weight)), ..Answer::default() }), "{code}");
    }
    assert_eq!(dynamic("echo no; exit 1").at(server()).await, Err("exit code 1: no".into()));
}

#[tokio::test]
async fn it_is_told_whom_to_judge() {
    // The shell takes the first argument after the script for its own name.
    let script = "echo $0 $1 $2 $3, $LB_VIP $LB_PORT $LB_PROTOCOL $LB_SERVER_ADDRESS $LB_SERVER_PORT; exit 1";
    let expected = "exit code 1: 211.58.250.6 80 192.0.2.21 8080, 211.58.250.6 80 tcp 192.0.2.21 8080";
    assert_eq!(failure(script).await, expected);
    let other_port = external("echo $3; exit 1", LONG).with(|check| check.port = Some(9090));
    assert_eq!(other_port.at(server()).await, Err("exit code 1: 9090".into()));
}

/// The environment is that of other checkers: user, home directory, locale.
#[tokio::test]
async fn c9_programs_know_who_they_are() {
    let all =
        "for name in HOME LANG USER LOGNAME PATH; do eval \"[ -n \\\"\\$$name\\\" ]\" || echo $name; done";
    assert_eq!(
        failure(&format!("missing=$({all}); echo \"missing:$missing\"; exit 1")).await,
        "exit code 1: missing:"
    );
    assert_eq!(failure("cd && pwd >/dev/null || echo no home; echo done; exit 1").await, "exit code 1: done");
}

/// As execvp(3), with which ldirectord starts its checks.
#[tokio::test]
async fn c9_a_script_without_an_interpreter_is_the_shells() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("check");
    std::fs::write(&script, "echo $1 $2 $3 $4 $5\nexit 1\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let words = vec![script.to_str().expect("a path").to_owned(), "own".into()];
    let command = Command { words, timeout: LONG };
    let asked = Asked::of(Probe::External(ExternalProbe { command, dynamic: false }), LONG);
    let expected = "exit code 1: own 211.58.250.6 80 192.0.2.21 8080";
    assert_eq!(asked.at(server()).await, Err(expected.into()));
}

#[tokio::test]
async fn the_checks_time_limit_counts_too() {
    // Long enough for a shell to begin on a busy machine.
    let limit = Duration::from_secs(2);
    let words = "not done within 2s (its time limit); killed with all its processes: waiting";
    assert_eq!(external("echo waiting; sleep 60", limit).at(server()).await, Err(words.into()));
    let limit = Duration::from_millis(300);
    let probe = ExternalProbe { command: shell("sleep 60", limit), dynamic: false };
    let words = "not done within 300ms (its time limit); killed with all its processes";
    assert_eq!(Asked::of(Probe::External(probe), LONG).at(server()).await, Err(words.into()));
}

#[tokio::test]
async fn endless_words_end_with_the_time() {
    let words = "not done within 2s (its time limit); killed with all its processes: y";
    assert_eq!(external("yes", Duration::from_secs(2)).at(server()).await, Err(words.into()));
    let words =
        external("cat /dev/zero", Duration::from_millis(300)).at(server()).await.expect_err("it fails");
    assert!(words.len() < 300, "{words}");
}

#[tokio::test]
async fn a_dropped_check_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let parent = folder.path().join("parent");
    let script = format!("echo $$ > {}; sleep 60 & echo $! > {}; wait", parent.display(), pid.display());
    let asked = external(&script, LONG);
    let running = tokio::spawn(async move { asked.at(server()).await });
    wait_for("the start", || runs(read(&pid).trim())).await;
    running.abort();
    wait_for("the end", || !runs(read(&pid).trim())).await;
    // Not even a zombie.
    let parent = std::path::Path::new("/proc").join(read(&parent).trim());
    wait_for("the end of the shell", || !parent.exists()).await;
}

/// Otherwise an upgrade of the program's package would take the servers out.
#[tokio::test]
async fn a_missing_program_says_nothing_of_the_server() {
    let command = Command { words: vec!["/nowhere/check".into()], timeout: LONG };
    let asked = Asked::of(Probe::External(ExternalProbe { command, dynamic: false }), LONG);
    let failure = asked.report(server()).await.result.expect_err("it fails");
    assert!(failure.is_local());
    let words = "cannot start /nowhere/check: No such file or directory (os error 2) on this host";
    assert_eq!(failure.to_string(), words);
}
