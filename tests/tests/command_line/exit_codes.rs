//! How commands end: 0 done, 1 failed or refused, 2 wrong use, 3 no director runs, 4 no permission.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lb_lab::lab::director::binary;
use tempfile::TempDir;

use super::{ended, start, text};

/// Every command that asks a director, but `health` and `top`, with words that make sense. None of
/// them must reach one here.
const ASKING: [&[&str]; 28] = [
    &["add", "server", "web", "192.0.2.21"],
    &["add", "service", "192.0.2.10:80", "192.0.2.21"],
    &["alerts", "test"],
    &["capture", "-w", "/dev/null"],
    &["connections"],
    &["diff"],
    &["disable", "www1"],
    &["drain", "www1", "--wait"],
    &["enable", "www1"],
    &["events"],
    &["events", "--follow"],
    &["failback"],
    &["failover"],
    &["ipvsadm", "-L", "-n"],
    &["ipvsadm", "-D", "-t", "192.0.2.10:80"],
    &["maintenance", "off"],
    &["overlay", "clear"],
    &["overlay", "show"],
    &["probe", "web"],
    &["reload"],
    &["remove", "server", "web", "www1"],
    &["resume"],
    &["save"],
    &["standby"],
    &["status"],
    &["top-clients"],
    &["trace"],
    &["weight", "www1", "configured"],
];

/// A folder that everybody may look into, with a control socket's place.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("its mode");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("lb.sock")
    }

    /// A file that root alone may read.
    fn secret(&self, name: &str) -> String {
        let path = self.path(name);
        fs::write(&path, "interface: eth0\nservices: []\n").expect("writing");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).env("LB_SOCKET", self.socket()).stdin(Stdio::null());
        command
    }
}

/// Exit code and standard error.
fn end(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("lb runs");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn commands_end_with_documented_exit_codes() {
    let (talk, director) = start("exits");
    let code = |words: &[&str]| ended(&director, words).0;
    for words in
        [&["status"] as &[&str], &["connections"], &["events"], &["diff"], &["health"], &["ipvsadm", "-Ln"]]
    {
        assert_eq!(code(words), Some(0), "{words:?}");
    }
    for words in [
        &["disable", "www9"] as &[&str],
        &["status", "mail"],
        &["connections", "--server", "www9"],
        &["connections", "--client", "everybody"],
        &["probe", "mail"],
        &["failover"],
    ] {
        let (code, _, said) = ended(&director, words);
        assert_eq!(code, Some(1), "{words:?}: {said}");
        assert!(said.starts_with("lb: "), "{said}");
    }
    for words in [
        &["status", "--colour"] as &[&str],
        &["status", "--watch", "never"],
        &["connections", "--state", "sleeping"],
        &["events", "--since", "yesterday"],
        &["ipvsadm", "-L", "-c", "--stats"],
        &["ipvsadm", "-A", "-f", "1"],
        &["ipvsadm", "--set", "1", "2", "3"],
    ] {
        let (code, out, said) = ended(&director, words);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{words:?}");
        assert!(!said.is_empty(), "{words:?}");
    }
    assert_eq!(code(&["health", "--colour"]), Some(3), "UNKNOWN of monitoring plugins");
    assert_eq!(code(&["health", "mail"]), Some(3));

    director.stop().expect("lb stops");
    for words in [
        &["status"] as &[&str],
        &["connections"],
        &["reload"],
        &["diff"],
        &["events", "--follow"],
        &["ipvsadm"],
    ] {
        let (code, _, said) = ended(&director, words);
        assert_eq!(code, Some(3), "{words:?}: {said}");
    }
    let (code, out, _) = ended(&director, &["health"]);
    assert_eq!(code, Some(2), "{out}");
    assert!(out.starts_with("LB CRITICAL: no lb is listening"), "{out}");
    drop(talk);
}

#[test]
fn whoever_asks_a_director_that_does_not_run_ends_with_3() {
    let (place, lb) = (Place::new(), binary().expect("lb"));
    for is_left in [false, true] {
        if is_left {
            // As of a director that was killed.
            drop(UnixListener::bind(place.socket()).expect("a socket"));
        }
        for words in ASKING.into_iter().chain([&["stop"] as &[&str]]) {
            let (code, said) = end(place.command(&lb, words));
            assert_eq!(code, Some(3), "{words:?}: {said}");
            assert!(said.starts_with("lb: no lb is listening on "), "{words:?}: {said}");
        }
        assert_eq!(end(place.command(&lb, &["health"])).0, Some(2), "CRITICAL of monitoring plugins");
    }
}

#[test]
fn whoever_lacks_the_permission_ends_with_4() {
    let place = Place::new();
    // Everybody may run it, whatever the folder of the build is.
    let lb = place.path("lb");
    fs::copy(binary().expect("lb"), &lb).expect("a copy");
    let as_nobody = |words: &[&str]| {
        let mut command = place.command(&lb, words);
        command.uid(65_534).gid(65_534);
        end(command)
    };
    // No director runs, and what files it has cannot be read.
    let secret = place.secret("lb.yaml");
    let (code, said) = as_nobody(&["stop", "--release", "--config", &secret]);
    assert_eq!(code, Some(4), "{said}");

    let _listener = UnixListener::bind(place.socket()).expect("a socket");
    fs::set_permissions(place.socket(), Permissions::from_mode(0o600)).expect("its mode");
    for words in ASKING.into_iter().chain([&["stop"] as &[&str]]) {
        let (code, said) = as_nobody(words);
        assert_eq!(code, Some(4), "{words:?}: {said}");
        assert!(said.starts_with("lb: no permission to use "), "{words:?}: {said}");
    }
    assert_eq!(as_nobody(&["health"]).0, Some(3), "UNKNOWN of monitoring plugins");

    let (pages, record) = (place.path("pages"), place.path("realserver.json"));
    let [pages, record] = [&pages, &record].map(|path| path.to_str().expect("UTF-8"));
    for words in [
        &["check", &secret] as &[&str],
        &["check", "--json", &secret],
        &["import", "ldirectord", &secret],
        &["man", "--out", pages],
        &["realserver", "setup", "--vip", "192.0.2.10", "--no-unit", "--record", record],
    ] {
        let (code, said) = as_nobody(words);
        assert_eq!(code, Some(4), "{words:?}: {said}");
    }
}

#[test]
fn what_needs_no_director_ends_by_what_came_of_it() {
    let (place, lb) = (Place::new(), binary().expect("lb"));
    let path = |name: &str, text: &str| {
        fs::write(place.path(name), text).expect("writing");
        place.path(name).to_str().expect("UTF-8").to_owned()
    };
    let right =
        path("right.yaml", "interface: eth0\nservices: [{ vip: '192.0.2.10:80', fallback: local }]\n");
    let wrong = path("wrong.yaml", "interface: eth0\nservcies: []\n");
    let lossy = path("lossy.cf", "virtual = 192.0.2.10:80\n\treal = 192.0.2.21:80 gate\nnonsense\n");
    let record = place.path("realserver.json");
    let record = record.to_str().expect("UTF-8");
    for (words, wanted) in [
        (&["check", &right] as &[&str], 0),
        (&["check", &wrong], 1),
        (&["check", "--json", &wrong], 1),
        (&["check", "/nowhere/lb.yaml"], 1),
        (&["import", "ldirectord", "/nowhere/ldirectord.cf"], 1),
        (&["import", "ldirectord", &lossy], 0),
        (&["import", "--strict", "ldirectord", &lossy], 1),
        (&["config", "schema"], 0),
        (&["config", "schema", "lb/status/1"], 0),
        (&["completions", "bash"], 0),
        (&["man"], 0),
        (&["--version"], 0),
        (&["help", "status"], 0),
        // No terminal is there.
        (&["top"], 1),
        (&[], 2),
        (&["sing"], 2),
        (&["check"], 2),
        (&["import", "pound", &right], 2),
        (&["config", "schema", "lb/song/1"], 2),
        (&["completions", "cmd"], 2),
        (&["drain", "www1", "--timeout", "10s"], 2),
        (&["weight", "www1", "65536"], 2),
        (&["maintenance", "perhaps"], 2),
        (&["realserver", "setup", "--no-unit", "--record", record], 2),
        (&["run", "--fresh", "now"], 2),
    ] {
        let (code, said) = end(place.command(&lb, words));
        assert_eq!(code, Some(wanted), "{words:?}: {said}");
    }
}

/// Commands that need no director, or have exit codes of their own.
const OTHERS: [&str; 11] = [
    "check",
    "completions",
    "config",
    "doctor",
    "health",
    "import",
    "man",
    "realserver",
    "run",
    "stop",
    "top",
];

#[test]
fn every_command_was_looked_at() {
    let (place, lb) = (Place::new(), binary().expect("lb"));
    let pages = place.path("pages");
    let words = ["man", "--out", pages.to_str().expect("UTF-8")];
    assert_eq!(end(place.command(&lb, &words)).0, Some(0));
    let mut commands = BTreeSet::new();
    for page in fs::read_dir(&pages).expect("pages") {
        let name = page.expect("a page").file_name().to_string_lossy().into_owned();
        if let Some(command) = name.strip_prefix("lb-").and_then(|name| name.strip_suffix(".8")) {
            commands.insert(command.to_owned());
        }
    }
    // `disable` is another name of `drain`.
    let asking = ASKING.into_iter().map(|words| words[0]).filter(|word| *word != "disable");
    let looked_at: BTreeSet<String> = asking.chain(OTHERS).map(str::to_owned).collect();
    assert_eq!(commands, looked_at);
}
