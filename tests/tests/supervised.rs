//! What a service manager is told by a real `lb`: by datagrams on the socket that NOTIFY_SOCKET
//! names, as sd_notify(3) has it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use lb_api::status::Status;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Director, Node, unique_name};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The key of a cluster.
const KEY: &str = "1 6f6c64206f6c64206f6c64206f6c64206f6c64206f6c64206f6c64206f6c6420\n";
/// A sign of life comes each second.
const NO_SIGN: Duration = Duration::from_secs(5);

/// What systemd would be told.
struct Manager(Receiver<String>);

impl Manager {
    /// A thread takes messages in at once, as systemd does: the kernel queues only a few, and
    /// whoever sends more waits.
    fn listen(talk: &Talk) -> (Self, PathBuf) {
        let path = talk.ha1.folder().expect("a folder").join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let (sender, messages) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                if sender.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        (Self(messages), path)
    }

    /// The next message; `None`: none came in that time.
    fn next(&self, within: Duration) -> Option<String> {
        self.0.recv_timeout(within).ok()
    }

    /// Waits for a message with these words.
    fn wait_for(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut told = Vec::new();
        while Instant::now() < deadline {
            let Some(message) = self.next(Duration::from_secs(1)) else { continue };
            if message.contains(words) {
                return;
            }
            told.push(message);
        }
        panic!("{words} was not told, but {told:?}");
    }

    /// Waits until no sign of life comes any more.
    fn wait_for_silence(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut last_sign = Instant::now();
        while last_sign.elapsed() < NO_SIGN {
            assert!(Instant::now() < deadline, "signs of life go on");
            if self.next(Duration::from_millis(500)).is_some_and(|message| message.contains("WATCHDOG=1")) {
                last_sign = Instant::now();
            }
        }
    }
}

fn configuration() -> String {
    format!(
        "\
interface: eth0
metrics: off
groups: [{{ vips: [{VIP}/25] }}]
services:
  - name: web
    vip: {VIP}:80
    check: {{ type: http, interval: 200ms, timeout: 1s }}
    servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 211.58.250.27 }}]
"
    )
}

/// What starts a program that tells the service manager at this socket.
fn launcher(socket: &Path) -> [String; 2] {
    ["env".to_owned(), format!("NOTIFY_SOCKET={}", socket.display())]
}

fn start(purpose: &str) -> (Talk, Director, Manager) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let (manager, socket) = Manager::listen(&talk);
    let director =
        Director::start_behind(&launcher(&socket), &talk.ha1, &configuration()).expect("lb starts on ha1");
    (talk, director, manager)
}

/// The message of a step that has this status: a minute more, and a sign of life.
fn step(status: &str) -> String {
    format!("STATUS={status}\nEXTEND_TIMEOUT_USEC=60000000\nWATCHDOG=1\n")
}

/// A restart with another number of connections copies the table, which takes long if it is large.
#[test]
fn a_start_is_granted_time_step_by_step_and_so_is_the_end_of_a_stop() {
    let talk = Talk::new(&unique_name("steps")).expect("the cluster comes up");
    let (manager, socket) = Manager::listen(&talk);
    let launcher = launcher(&socket);
    let mut director =
        Director::start_behind(&launcher, &talk.ha1, &configuration()).expect("lb starts on ha1");
    // In this order, and before the start is done.
    manager.wait_for(&step("starting: making the maps"));
    manager.wait_for(&step("starting: the kernel verifies the programs"));
    manager.wait_for(&step("starting: attaching the program"));
    manager.wait_for("READY=1");

    director.stop().expect("lb stops");
    manager.wait_for("STOPPING=1");
    manager.wait_for(&step("ending: giving up what is not left behind"));
    let file = director.configuration().expect("the configuration's path");
    fs::write(&file, format!("connections: 100000\n{}", fs::read_to_string(&file).expect("the file")))
        .expect("another number of connections");
    director.restart_behind(&launcher).expect("lb starts again");
    manager.wait_for(&step("starting: copying connections into a table of another size"));
    manager.wait_for("READY=1");
}

/// `linger` is longer than any time-out of the unit.
#[test]
fn a_stop_that_waits_for_connections_is_granted_time_again_and_again() {
    let talk = Talk::new(&unique_name("lingers")).expect("the cluster comes up");
    let (manager, socket) = Manager::listen(&talk);
    let ha1 = Director::start_behind(&launcher(&socket), &talk.ha1, &in_cluster(&talk.ha1))
        .expect("lb starts on ha1");
    let _ha2 = Director::start(&talk.ha2, &in_cluster(&talk.ha2)).expect("lb starts on ha2");
    let ready = |status: &Status| status.held_by("ha1") && status.serves("www1") && status.can_leave();
    ha1.wait_until("ha1 active, and ha2 ready to be", PATIENCE, ready).expect("they hear each other");
    let connected = talk.client.run(|| TcpStream::connect((VIP, 80))).expect("the client runs");
    let mut connection = connected.expect("the VIP serves");
    connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    connection.write_all(b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n").expect("it can be sent");
    lb_lab::uninterrupted(|| connection.read(&mut [0; 2048])).expect("an answer");

    thread::scope(|scope| {
        let stop = scope.spawn(|| ha1.order(&["stop", "--release"]));
        manager.wait_for("STOPPING=1");
        for _ in 0..3 {
            manager.wait_for("EXTEND_TIMEOUT_USEC=10000000");
        }
        assert!(ha1.process().is_alive() && !stop.is_finished(), "it waits for the connection");
        ha1.process().signal(Signal::SIGTERM);
        manager.wait_for(&step("ending: giving up what is not left behind"));
        stop.join().expect("no panic").expect("lb stop says that it has ended");
    });
}

/// Of both nodes, with as much time for connections as a test may take.
fn in_cluster(node: &Node) -> String {
    let folder = node.folder().expect("a folder");
    let keys = folder.join("keys");
    let file = fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(&keys);
    file.expect("a key file").write_all(KEY.as_bytes()).expect("it can be written");
    format!(
        "{}\
cluster:
  node: {}
  key_file: {}
  state: {}
  linger: 1h
  dead: 1s
  nodes: [{{ name: ha1, address: 211.58.250.5 }}, {{ name: ha2, address: 211.58.250.7 }}]
  paths: [{{ type: unicast, interface: eth0 }}]
",
        configuration().replace("groups: [{ vips", "groups: [{ name: web, vips"),
        node.name(),
        keys.display(),
        folder.join("state").display(),
    )
}

#[test]
fn the_service_manager_hears_what_the_director_does() {
    let (talk, director, manager) = start("manager");
    manager.wait_for("READY=1");
    manager.wait_for("STATUS=eth0: 1 service, 2 of 2 servers take clients");
    manager.wait_for("WATCHDOG=1");
    talk.www1.stop().expect("nginx stops");
    manager.wait_for("STATUS=eth0: 1 service, 1 of 2 servers take clients");

    director.reconfigure(&configuration().replace("200ms", "300ms")).expect("another configuration");
    // The time tells systemd which reload this is.
    manager.wait_for("RELOADING=1\nMONOTONIC_USEC=");
    manager.wait_for("READY=1");
    director.stop().expect("lb stops");
    manager.wait_for("STOPPING=1");
}

/// One thread is held up by a debugger, as it would be by a deadlock; the others go on.
#[test]
fn a_director_whose_thread_hangs_gives_no_sign_of_life() {
    let (_talk, director, manager) = start("hangs");
    wait_for(&director, "both servers up", |status| status.serves("www1") && status.serves("www2"));
    manager.wait_for("WATCHDOG=1");

    let thread = thread_of(&director, "checks");
    ptrace::seize(thread, ptrace::Options::empty()).expect("the thread can be traced");
    ptrace::interrupt(thread).expect("the thread stops");
    waitpid(thread, Some(WaitPidFlag::__WALL)).expect("the thread has stopped");
    manager.wait_for_silence();
    let told = director.wait_for_event("thread_hangs", PATIENCE, |_| true).expect("it is told");
    assert!(told.text.contains("checks"), "{}", told.text);

    ptrace::detach(thread, None).expect("the thread goes on");
    manager.wait_for("WATCHDOG=1");
    director.wait_for_event("thread_answers", PATIENCE, |_| true).expect("it is told");
}

fn thread_of(director: &Director, name: &str) -> Pid {
    let threads = fs::read_dir(format!("/proc/{}/task", director.process().pid())).expect("its threads");
    let named = threads.filter_map(|thread| {
        let folder = thread.ok()?.path();
        let is_it = fs::read_to_string(folder.join("comm")).ok()?.trim() == name;
        is_it.then(|| folder.file_name()?.to_str()?.parse().ok()).flatten()
    });
    Pid::from_raw(named.last().expect("a thread of that name"))
}
