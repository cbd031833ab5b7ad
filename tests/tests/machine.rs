//! What a director finds on its machine: no BPF file system, an interface that comes late or goes,
//! a key file that comes late, the metrics' address in other hands, an old kernel.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lb_api::events::{Level, Record};
use lb_api::status::Status;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::bare_machine::Sys;
use lb_lab::lab::{BareMachine, Director, Node, unique_name};
use lb_lab::scenario::traffic::{Answer, Spread};
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(60);

const NO_LAUNCHER: &[&str] = &[];

/// Both servers, without a cluster.
const CONFIGURATION: &str = "\
interface: eth0
metrics: off
groups: [{ vips: [211.58.250.6/25] }]
services:
  - vip: 211.58.250.6:80
    scheduler: rr
    check: { type: http, via: vip, request: /index.html, receive: Test Page, interval: 1s, timeout: 3s, rise: 1, fall: 1 }
    servers: [{ address: 211.58.250.25, name: www1 }, { address: 211.58.250.27, name: www2 }]
";

const KEY: &str = "1 6f6c64206f6c64206f6c64206f6c64206f6c64206f6c64206f6c64206f6c6420\n";

fn key_file(node: &Node) -> PathBuf {
    node.folder().expect("a folder").join("keys")
}

fn write_keys(node: &Node) {
    fs::write(key_file(node), KEY).expect("a file");
    fs::set_permissions(key_file(node), Permissions::from_mode(0o600)).expect("chmod");
}

/// The same as one of two directors.
fn clustered(node: &Node) -> String {
    format!(
        "{CONFIGURATION}cluster:\n  node: {}\n  key_file: {}\n  state: {}\n  nodes: [{{ name: ha1, address: 211.58.250.5 }}, \
         {{ name: ha2, address: 211.58.250.7 }}]\n  paths: [{{ type: unicast, interface: eth0 }}]\n",
        node.name(),
        key_file(node).display(),
        node.folder().expect("a folder").join("state").display()
    )
}

fn talk(purpose: &str) -> Talk {
    Talk::new(&unique_name(purpose)).expect("the cluster comes up")
}

#[track_caller]
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Until the director, which cannot answer yet, has logged so many events with this id.
#[track_caller]
fn wait_for_logged(director: &Director, id: &str, times: usize) {
    director.wait_for_logged(id, times, PATIENCE).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Until `lb events` has one with this id. More are an error.
#[track_caller]
fn wait_for_event(director: &Director, id: &str) -> Record {
    let found = director.wait_for_events(id, 1, PATIENCE, |_| true);
    found.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Until both servers answer clients by way of the director.
#[track_caller]
fn wait_until_served(talk: &Talk, director: &Director) {
    director.wait_until_ready().expect("lb comes up");
    let both = |status: &Status| status.serves("www1") && status.serves("www2");
    director.wait_until("both servers up", PATIENCE, both).expect("they come up");
    wait_for("a client to be served", || {
        let spread = Spread::of_requests(&talk.client, 4);
        spread.by(Answer::Www1) == 2 && spread.by(Answer::Www2) == 2
    });
}

/// One director of a cluster, which is killed and started again, where no BPF file system is
/// mounted.
fn survives_a_kill_on(purpose: &str, sys: Sys, place: &str) {
    let talk = talk(purpose);
    let machine = BareMachine::of(&talk.ha1, sys).expect("a bare machine");
    write_keys(&talk.ha1);
    let start = || Director::start_behind(&machine.launcher(), &talk.ha1, &clustered(&talk.ha1));
    let director = start().expect("lb starts");
    assert_eq!(wait_for_event(&director, "bpf_fs_mounted").to.as_deref(), Some(place));
    wait_until_served(&talk, &director);
    director.kill().expect("it ends");
    let link = talk.ha1.ip("-details link show dev eth0").expect("ip works");
    assert!(link.contains("prog/xdp"), "the program stays: {link}");

    let director = start().expect("lb starts again");
    wait_for_event(&director, "taken_over");
    let events = director.events().expect("events");
    assert!(!events.iter().any(|event| event.event == "bpf_fs_mounted"), "{events:?}");
    wait_until_served(&talk, &director);
    director.stop().expect("it stops");
}

#[test]
fn a1_lb_mounts_a_bpf_file_system_where_there_is_none() {
    survives_a_kill_on("nobpffs", Sys::Writable, "/sys/fs/bpf");
}

#[test]
fn a1_lb_mounts_a_bpf_file_system_where_sys_is_read_only() {
    survives_a_kill_on("readonly", Sys::ReadOnly, "/sys/fs/bpf");
}

#[test]
fn a1_lb_mounts_a_bpf_file_system_of_its_own_where_sys_has_no_place_for_it() {
    survives_a_kill_on("noplace", Sys::WithoutFolder, "/run/lb/bpf");
}

#[test]
fn a4_an_interface_that_comes_after_the_start_is_waited_for() {
    let talk = talk("late");
    talk.ha1.remove_interface().expect("it was there");
    let director = Director::launch(NO_LAUNCHER, &talk.ha1, CONFIGURATION).expect("lb starts");
    wait_for_logged(&director, "waiting_for_interface", 1);
    assert!(director.process().is_alive());
    talk.ha1.make_interface(&talk.ha1.mac()).expect("an interface");
    wait_until_served(&talk, &director);
    wait_for_event(&director, "waiting_for_interface");
}

#[test]
fn a4_an_interface_that_goes_and_comes_back_is_served_again() {
    let talk = talk("flaps");
    let director = Director::start(&talk.ha1, CONFIGURATION).expect("lb starts");
    wait_until_served(&talk, &director);
    let held = || (director.process().threads(), director.process().open_files().expect("it runs"));
    let mut first = None;
    for round in 1..=4 {
        talk.ha1.remove_interface().expect("it was there");
        wait_for_logged(&director, "waiting_for_interface", round);
        assert!(!director.socket().exists(), "{}", director.log_tail());
        // Whoever makes it anew may give it another MAC.
        talk.ha1.make_interface(&format!("02:00:00:00:aa:0{round}")).expect("an interface");
        wait_until_served(&talk, &director);
        // What an earlier life had is given back, so that it can happen any number of times.
        let first = *first.get_or_insert_with(held);
        wait_for("what the lives before had to be gone", || held() <= first);
    }
    director.wait_for_events("interface_gone", 4, PATIENCE, |_| true).expect("each time is an event");
    director.stop().expect("it stops");
    let events = director.logged_events().expect("a log");
    assert!(!events.iter().any(|event| event.event == "thread_failed"), "{}", director.log_tail());
}

#[test]
fn a4_a_configuration_that_changes_while_an_interface_is_waited_for_is_taken() {
    let talk = talk("renamed");
    let director =
        Director::launch(NO_LAUNCHER, &talk.ha1, &CONFIGURATION.replace("eth0", "bond0")).expect("lb starts");
    wait_for_logged(&director, "waiting_for_interface", 1);
    director.reconfigure("interface: [").expect("a broken file");
    wait_for_logged(&director, "config_refused", 1);
    director.reconfigure(CONFIGURATION).expect("the right file");
    wait_until_served(&talk, &director);
}

#[test]
fn a4_a_director_that_waits_ends_at_once_when_told_to() {
    let talk = talk("waiting");
    talk.ha1.remove_interface().expect("it was there");
    let director = Director::launch(NO_LAUNCHER, &talk.ha1, CONFIGURATION).expect("lb starts");
    wait_for_logged(&director, "waiting_for_interface", 1);
    director.process().signal(Signal::SIGTERM);
    assert!(director.process().ends_within(Duration::from_secs(5)), "{}", director.log_tail());
    let stopping = director.wait_for_logged("stopping", 1, Duration::ZERO).expect("it says so");
    assert_eq!(stopping.cause.as_deref(), Some("SIGTERM"));
    assert_eq!(director.last_words().expect("a log"), "", "it ended in order");
}

#[test]
fn a4_a_key_file_that_comes_late_is_waited_for() {
    let talk = talk("latekeys");
    let folder = talk.ha1.folder().expect("a folder");
    let keys = folder.join("keys");
    let cluster = format!(
        "cluster:\n  node: ha1\n  key_file: {}\n  state: {}\n  nodes: [{{ name: ha1, address: 211.58.250.5 }}, \
         {{ name: ha2, address: 211.58.250.7 }}]\n  paths: [{{ type: unicast, interface: eth0 }}]\n",
        keys.display(),
        folder.join("state").display()
    );
    let director =
        Director::launch(NO_LAUNCHER, &talk.ha1, &format!("{CONFIGURATION}{cluster}")).expect("lb starts");
    wait_for_logged(&director, "waiting_for_keys", 1);
    // As scp makes it: first for all to read, and empty.
    fs::write(&keys, "").expect("a file");
    fs::set_permissions(&keys, Permissions::from_mode(0o644)).expect("chmod");
    wait_for_logged(&director, "waiting_for_right_keys", 1);
    write_keys(&talk.ha1);
    wait_until_served(&talk, &director);
    let answers = talk.client.who_has(VIP).expect("arping works");
    assert_eq!(Vec::from_iter(answers), [talk.ha1.mac()]);
}

/// As Red Hat's kernels are: old by their number, with the newer kernels' BPF.
#[test]
fn a_kernel_with_an_old_number_that_can_do_all_is_warned_of() {
    let talk = talk("oldkernel");
    let launcher = ["setarch", std::env::consts::ARCH, "--uname-2.6"];
    let director = Director::start_behind(&launcher, &talk.ha1, CONFIGURATION).expect("lb starts");
    wait_for_event(&director, "kernel_old");
    wait_until_served(&talk, &director);
}

#[test]
fn a5_metrics_whose_address_another_program_has_come_when_it_is_free() {
    let talk = talk("metrics");
    let other = ["TCP-LISTEN:9105,bind=127.0.0.1,reuseaddr,fork", "PIPE"];
    let other = talk.ha1.start_server("other", "socat", &other, 9105).expect("another program");
    let configuration = CONFIGURATION.replace("metrics: off\n", "");
    let director = Director::start(&talk.ha1, &configuration).expect("lb starts");
    wait_until_served(&talk, &director);
    let status = director.status().expect("lb answers");
    let finding = status.finding("metrics_unavailable").expect("it is told of");
    assert_eq!((finding.subject.as_str(), finding.level), ("127.0.0.1:9105", Level::Warning));
    assert!(finding.text.contains("another program has it"), "{finding:?}");
    assert!(finding.mend.contains("ss -ltnp"), "{finding:?}");
    let begun = |event: &Record| event.finding.as_deref() == Some("metrics_unavailable");
    director.wait_for_events("finding", 1, PATIENCE, begun).expect("it is an event, once");

    other.stop(Duration::from_secs(5)).expect("it ends");
    let metrics = || talk.ha1.get("http://127.0.0.1:9105/metrics").unwrap_or_default();
    wait_for("the metrics", || metrics().contains("lb_server_connections_total"));
    let gone = |status: &Status| status.finding("metrics_unavailable").is_none();
    director.wait_until("the finding to end", PATIENCE, gone).expect("it ends");
}
