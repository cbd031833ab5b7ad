//! What a service manager is told by a real `lb`: by datagrams on the socket that NOTIFY_SOCKET
//! names, as sd_notify(3) has it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Director, unique_name};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// A sign of life comes each second.
const NO_SIGN: Duration = Duration::from_secs(5);

/// What systemd would be told.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(talk: &Talk) -> (Self, PathBuf) {
        let path = talk.ha1.folder().expect("a folder").join("notify");
        (Self(UnixDatagram::bind(&path).expect("a socket")), path)
    }

    /// The next message; `None`: none came in that time.
    fn next(&self, within: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(within)).expect("a time-out");
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
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

fn start(purpose: &str) -> (Talk, Director, Manager) {
    let talk = Talk::new(&unique_name(purpose)).expect("the cluster comes up");
    let (manager, socket) = Manager::listen(&talk);
    let launcher = ["env".to_owned(), format!("NOTIFY_SOCKET={}", socket.display())];
    let director = Director::start_behind(&launcher, &talk.ha1, &configuration()).expect("lb starts on ha1");
    (talk, director, manager)
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
