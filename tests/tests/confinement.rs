//! What a running director may still do, that refusals are told, and that no secret is logged.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lb_api::events::Record;
use lb_api::status::Status;
use lb_lab::cluster::Talk;
use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::lab::director::{self, wait_for};
use lb_lab::lab::{Director, Node, Process, unique_name};

const PATIENCE: Duration = Duration::from_secs(60);

/// CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_SYS_NICE, CAP_PERFMON,
/// CAP_BPF.
const KEPT: u64 = 1 << 10 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 23 | 1 << 38 | 1 << 39;
const CAP_CHOWN: u64 = 1;

fn talk(purpose: &str) -> Talk {
    Talk::new(&unique_name(purpose)).expect("the cluster comes up")
}

/// What the kernel says of each thread.
fn threads(process: Process) -> Vec<String> {
    let folder = format!("/proc/{}/task", process.pid());
    let threads = fs::read_dir(folder).expect("threads").flatten();
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

fn set(status: &str, name: &str) -> u64 {
    u64::from_str_radix(field(status, name), 16).expect("a number")
}

#[track_caller]
fn assert_confined(process: Process, kept: u64) {
    let threads = threads(process);
    assert!(threads.len() > 5, "{threads:?}");
    for status in &threads {
        let name = field(status, "Name");
        assert_eq!((field(status, "NoNewPrivs"), field(status, "Seccomp")), ("1", "2"), "{name}");
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(set(status, name) & !kept, 0, "{name} of {status}");
        }
    }
    assert_eq!(set(&threads[0], "CapEff"), kept, "what it needs");
}

#[test]
fn every_thread_has_given_up_what_lb_does_not_need() {
    let talk = talk("confined");
    let mut director = talk.start_serving().expect("lb starts");
    assert_confined(director.process(), KEPT);
    director.stop().expect("it stops");
    director.restart_with(&["--unconfined"]).expect("lb starts");
    let threads = threads(director.process());
    assert!(threads.iter().all(|status| field(status, "Seccomp") == "0"), "{threads:?}");
    assert!(threads.iter().all(|status| set(status, "CapEff") & !KEPT != 0), "{threads:?}");
}

#[test]
fn the_control_socket_is_given_to_whom_the_configuration_names() {
    use std::os::unix::fs::MetadataExt as _;

    let talk = talk("socketowner");
    let folder = talk.ha1.folder().expect("a folder");
    let (file, socket) = (folder.join("owned.yaml"), folder.join("owned.sock"));
    let control =
        format!("control: {{ owner: 65534, group: 65533, mode: 0600, socket: {} }}\n", socket.display());
    fs::write(&file, external(&talk.ha1, "true") + &control).expect("a file");
    let binary = director::binary().expect("lb");
    let words = ["run", "--config", file.to_str().expect("a path")];
    let process = talk.ha1.start("owned", binary.to_str().expect("a path"), &words).expect("lb starts");
    let deadline = Instant::now() + PATIENCE;
    let owned = loop {
        let found = fs::metadata(&socket).map(|found| (found.uid(), found.gid(), found.mode() & 0o7777));
        if let Ok(found @ (65_534, _, 0o600)) = found {
            break found;
        }
        assert!(Instant::now() < deadline, "{found:?}\n{}", talk.lab.state().log_tail("ha1-owned"));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(owned, (65_534, 65_533, 0o600));
    assert_confined(process, KEPT | CAP_CHOWN);
}

/// A director whose servers are checked by a command.
fn external(node: &Node, command: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;

    let script = node.folder().expect("a folder").join("check");
    fs::write(&script, format!("#!/bin/sh\n{command}\n")).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
    format!(
        "\
interface: eth0
metrics: off
groups: [{{ vips: [211.58.250.6/25] }}]
services:
  - vip: 211.58.250.6:80
    check: {{ type: external, command: [{}], interval: 1s, timeout: 5s }}
    servers: [{{ address: 211.58.250.25, name: www1 }}]
",
        script.display()
    )
}

#[test]
fn a_refused_system_call_of_a_command_fails_it_and_is_told() {
    let talk = talk("refused");
    let command = "unshare --net true || test $? -ne 0";
    let director = Director::start(&talk.ha1, &external(&talk.ha1, command)).expect("lb starts");
    let status = wait_for(&director, "the refusal is told", |status: &Status| {
        status.finding("system_call_refused").is_some()
    });
    let told = status.finding("system_call_refused").expect("it is there");
    assert_eq!(told.subject, "unshare by unshare");
    wait_for(&director, "the command goes on after it", |status| status.serves("www1"));
    let is_it = |event: &Record| event.finding.as_deref() == Some("system_call_refused");
    director.wait_for_event("finding", PATIENCE, is_it).expect("an event");
}

/// What nobody may read in a log, however much is logged.
#[test]
fn no_log_has_a_secret() {
    const QUIC: &str = "8f95f09245765f80256934e50c66207f";
    let talk = talk("secrets");
    let configuration = format!(
        "\
interface: eth0
metrics: off
groups: [{{ name: web, vips: [211.58.250.6/25] }}]
services:
  - vip: 211.58.250.6:80
    check: {{ type: http, request: /index.html, receive: Test Page, interval: 1s, timeout: 3s }}
    servers: [{{ address: 211.58.250.25, name: www1 }}, {{ address: 211.58.250.27, name: www2 }}]
  - vip: 211.58.250.6:443
    protocol: udp
    check: {{ type: off }}
    quic_lb: [{{ server_id_length: 2, nonce_length: 14, key: {QUIC} }}]
    servers: [{{ address: 211.58.250.25, quic_server_ids: {{ 0: 0a01 }} }}]
"
    );
    let everything = ["env", "RUST_LOG=trace"];
    let pair = Pair::start_behind(&everything, &talk, Settings::DEFAULT, &configuration, "")
        .unwrap_or_else(|error| panic!("{error:#}"));
    let is_ready =
        |status: &Status| status.cluster.as_ref().is_some_and(|cluster| cluster.groups[0].has_successor);
    wait_for(&pair.ha1, "another one is ready", is_ready);
    pair.ha1.failover().expect("it moves");
    pair.wait_until_held_by("ha2").unwrap_or_else(|error| panic!("{error:#}"));
    let logs = [&pair.ha1, &pair.ha2].map(|director| {
        let path: PathBuf = director.node().state().log(&format!("{}-lb", director.node().name()));
        fs::read_to_string(path).expect("a log")
    });
    let keys = fs::read_to_string(talk.lab.state().folder().join("keys")).expect("keys");
    let key = keys.split_whitespace().nth(1).expect("a key");
    let bytes = |hex: &str| -> Vec<u8> {
        let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("text"));
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
    };
    let hidden = [key, QUIC].into_iter().flat_map(|secret| {
        let bytes = bytes(secret);
        let part = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
        [secret.to_owned(), String::from_utf8_lossy(&bytes).into_owned(), part(&bytes[..8])]
    });
    let hidden: Vec<String> = hidden.collect();
    for log in logs {
        assert!(log.contains("\"level\":\"DEBUG\""), "all is logged");
        for secret in &hidden {
            let line = log.lines().find(|line| line.contains(&**secret));
            assert_eq!(line, None, "{secret} is in the log");
        }
    }
}
