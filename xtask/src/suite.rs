//! The tests of the workspace, two executables at a time: most tests wait for processes, sockets
//! and the clock, and cargo starts an executable only when the last test of the one before has
//! ended.
//!
//! Executables that took long the last time come first, so that none of them runs alone at the end.
//! Tests whose figures depend on time, and that other work made too slow, run again when nothing
//! else does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lb_lab::busy::GAVE_UP;
use lb_lab::workspace::target;
use serde_json::Value;

use crate::workspace;

/// Executables that run at the same time, each with as many threads as `RUST_TEST_THREADS` says.
const LANES: usize = 2;

/// Those that take longest, the longest first: what a machine begins with that has run none before.
const LONG: [&str; 3] = ["lb-tests command_line", "lb-tests cluster", "lb-tests web"];

/// Executables that are named for the time that they took.
const LONGEST: usize = 8;

/// An executable with tests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Executable {
    /// `lb-tests packets`
    name: String,
    path: PathBuf,
    /// The package's, in which cargo starts its tests.
    folder: PathBuf,
}

/// What came of an executable.
struct Ended {
    executable: Executable,
    seconds: f64,
    /// Of one that failed: what it says of its failures.
    failures: Option<String>,
}

impl Ended {
    fn name(&self) -> &str {
        &self.executable.name
    }
}

/// Builds and runs the tests of the packages that `selection` names in cargo's words. `lb` is the
/// executable under test.
pub(crate) fn run(selection: &str, lb: &Path) -> Result<()> {
    let mut build = workspace::strict_cargo()?;
    build.arg("test").args(selection.split_whitespace()).args(["--no-run", "--message-format"]);
    let output = build.arg("json-render-diagnostics").stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "building the tests failed ({})", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut waiting = executables(&messages);
    ensure!(!waiting.is_empty(), "cargo has built no tests");
    let times = Times::read(&target().join("test-times.json"));
    // The next one is taken from the end.
    waiting.sort_by(|one, other| times.of(one).total_cmp(&times.of(other)));

    let begin = Instant::now();
    let waiting = Mutex::new(waiting);
    let ended = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(|error| error.into_inner()).pop();
                    let Some(next) = next else { break };
                    let this = run_one(next, lb, &[]);
                    ended.lock().unwrap_or_else(|error| error.into_inner()).push(this);
                }
            });
        }
    });
    let mut ended = ended.into_inner().unwrap_or_else(|error| error.into_inner());
    times.with(&ended).write()?;
    for one in &mut ended {
        measure_alone(one, lb);
    }
    tell(&ended, begin.elapsed().as_secs_f64());
    for (name, failures) in ended.iter().filter_map(|one| Some((one.name(), one.failures.as_ref()?))) {
        println!("     Failed in {name}:\n{failures}");
    }
    // Last, so that all ends with the test runner's own lines.
    workspace::run(
        "tests in documents",
        workspace::strict_cargo()?.arg("test").args(selection.split_whitespace()).arg("--doc"),
    )?;
    let failed: Vec<&str> = ended.iter().filter(|one| one.failures.is_some()).map(Ended::name).collect();
    ensure!(failed.is_empty(), "tests failed in {}", failed.join(", "));
    Ok(())
}

/// Runs an executable, or the tests of it that `only` names, and prints what it says in one piece.
fn run_one(executable: Executable, lb: &Path, only: &[&str]) -> Ended {
    let Executable { name, path, folder } = &executable;
    let begin = Instant::now();
    let mut command = Command::new(path);
    if !only.is_empty() {
        command.arg("--exact").args(only);
    }
    command.current_dir(folder).env("CARGO_MANIFEST_DIR", folder).env("LB_BINARY", lb).stdin(Stdio::null());
    let output = command.output();
    let seconds = begin.elapsed().as_secs_f64();
    let (said, failed) = match output {
        Ok(output) => {
            let said =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (said.concat(), !output.status.success())
        }
        Err(error) => (format!("cannot start {}: {error}\n", path.display()), true),
    };
    println!("     Running {name} ({seconds:.1} s)\n{said}");
    let failures = failed.then(|| failures(&said).to_owned());
    Ended { executable, seconds, failures }
}

/// Runs again what failed of an executable, if all of that was measured on a machine that was too
/// busy.
fn measure_alone(ended: &mut Ended, lb: &Path) {
    let Some(failures) = ended.failures.take() else { return };
    match too_busy(&failures) {
        Some(names) => {
            println!("     Measuring again, alone: {} {}", ended.name(), names.join(" "));
            ended.failures = run_one(ended.executable.clone(), lb, &names).failures;
        }
        None => ended.failures = Some(failures),
    }
}

/// The tests that failed, if each has said that the machine was too busy.
fn too_busy(failures: &str) -> Option<Vec<&str>> {
    let (told, names) = failures.rsplit_once("\nfailures:\n")?;
    let names: Vec<&str> = names.lines().map_while(|line| line.strip_prefix("    ")).collect();
    let says_so = |name: &&str| {
        let (_, told) = told.split_once(&format!("---- {name} stdout ----\n"))?;
        let own = told.split_once("\n---- ").map_or(told, |(own, _)| own);
        own.contains(GAVE_UP).then_some(())
    };
    names.iter().all(|name| says_so(name).is_some()).then_some(names).filter(|names| !names.is_empty())
}

/// What the test runner says of failures, or all that an executable said before it broke off.
fn failures(said: &str) -> &str {
    said.find("\nfailures:\n").map_or(said, |begin| &said[begin..]).trim()
}

fn tell(ended: &[Ended], seconds: f64) {
    let mut longest: Vec<&Ended> = ended.iter().collect();
    longest.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    let longest = longest.iter().take(LONGEST).map(|one| format!("{} {:.0} s", one.name(), one.seconds));
    let longest = longest.collect::<Vec<_>>().join(", ");
    println!("{} executables with tests in {seconds:.0} s; the longest: {longest}", ended.len());
}

/// The executables with tests in cargo's JSON messages.
fn executables(messages: &str) -> Vec<Executable> {
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let path = message.get("executable")?.as_str()?;
        let is_test = message.get("profile")?.get("test")?.as_bool()?;
        let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
        let package = package(message.get("package_id")?.as_str()?, folder);
        let target = message.get("target")?.get("name")?.as_str()?;
        let name = format!("{package} {target}");
        is_test.then(|| Executable { name, path: path.into(), folder: folder.to_owned() })
    };
    messages.lines().filter_map(executable).collect()
}

/// `path+file:///w/tests#lb-tests@0.1.0` names lb-tests, `path+file:///w/xtask#0.1.0` the folder.
fn package(id: &str, folder: &Path) -> String {
    let named =
        id.rsplit_once('#').and_then(|(_, name)| name.split_once('@')).map(|(name, _)| name.to_owned());
    named.or_else(|| Some(folder.file_name()?.to_str()?.to_owned())).unwrap_or_default()
}

/// Seconds that executables took the last time, by name.
struct Times {
    file: PathBuf,
    seconds: BTreeMap<String, f64>,
}

impl Times {
    fn read(file: &Path) -> Self {
        let known = fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file: file.to_owned(), seconds: known.unwrap_or_default() }
    }

    /// What nobody knows may be long, and first of all what is known to be on any machine.
    fn of(&self, executable: &Executable) -> f64 {
        const A_DAY: f64 = 86_400.0;
        let name = executable.name.as_str();
        let rank = LONG.iter().rev().position(|long| *long == name).map_or(0, |place| place + 1);
        self.seconds.get(name).copied().unwrap_or(A_DAY + rank as f64)
    }

    fn with(mut self, ended: &[Ended]) -> Self {
        self.seconds.extend(ended.iter().map(|one| (one.name().to_owned(), one.seconds)));
        self
    }

    fn write(&self) -> Result<()> {
        fs::write(&self.file, serde_json::to_vec(&self.seconds)?)
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_with_tests_are_found_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","package_id":"path+file:///w/tests#lb-tests@0.1.0","manifest_path":"/w/tests/Cargo.toml","target":{"name":"packets"},"profile":{"test":true},"executable":"/t/packets-1"}
{"reason":"compiler-artifact","package_id":"path+file:///w/tests#lb-tests@0.1.0","manifest_path":"/w/tests/Cargo.toml","target":{"name":"programs"},"profile":{"test":false},"executable":"/t/programs"}
{"reason":"compiler-artifact","package_id":"path+file:///w/xtask#0.1.0","manifest_path":"/w/xtask/Cargo.toml","target":{"name":"xtask"},"profile":{"test":true},"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///w/xtask#0.1.0","manifest_path":"/w/xtask/Cargo.toml","target":{"name":"xtask"},"profile":{"test":true},"executable":"/t/xtask-1"}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        let found: Vec<_> = found.iter().map(|one| (&*one.name, one.folder.to_str())).collect();
        assert_eq!(found, [("lb-tests packets", Some("/w/tests")), ("xtask xtask", Some("/w/xtask"))]);
    }

    #[test]
    fn failures_are_told_without_what_passed() {
        let said = "running 2 tests\ntest a ... FAILED\ntest b ... ok\n\nfailures:\n\n---- a stdout ----\nwhy\n\n\nfailures:\n    a\n";
        assert_eq!(failures(said), "failures:\n\n---- a stdout ----\nwhy\n\n\nfailures:\n    a");
        assert_eq!(failures("running 2 tests\nKilled\n"), "running 2 tests\nKilled");
    }

    #[test]
    fn only_what_was_measured_on_a_busy_machine_is_measured_again() {
        let section = |name: &str, text: &str| format!("\n---- {name} stdout ----\n{text}\n\n");
        let busy = format!("Error: a figure: {GAVE_UP} after 4 times: ...");
        let of = |sections: &[String], names: &str| {
            format!("failures:\n{}\nfailures:\n{names}\n\ntest result: FAILED.", sections.concat())
        };
        let both = of(&[section("a", &busy), section("b::c", &busy)], "    a\n    b::c");
        assert_eq!(too_busy(&both), Some(vec!["a", "b::c"]));
        let one = of(&[section("a", &busy), section("b::c", "panicked")], "    a\n    b::c");
        assert_eq!(too_busy(&one), None);
        let other = of(&[section("a", "panicked"), section("b::c", &busy)], "    a\n    b::c");
        assert_eq!(too_busy(&other), None);
        assert_eq!(too_busy("running 2 tests\nKilled"), None);
    }

    #[test]
    fn the_longest_come_first_and_before_them_what_nobody_knows() {
        let executable =
            |name: &str| Executable { name: name.into(), path: "/t".into(), folder: "/w".into() };
        let ended = [("short", 1.5), ("long", 60.0)].map(|(name, seconds)| Ended {
            executable: executable(name),
            seconds,
            failures: None,
        });
        let times = Times { file: "/f".into(), seconds: BTreeMap::new() }.with(&ended);
        let mut all = [LONG[1], "long", LONG[0], "new", "short"].map(executable);
        all.sort_by(|one, other| times.of(one).total_cmp(&times.of(other)));
        assert_eq!(all.map(|one| one.name), ["short", "long", "new", LONG[1], LONG[0]]);
    }
}
