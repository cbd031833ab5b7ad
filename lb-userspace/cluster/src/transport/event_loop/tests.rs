//! Whole loops on real paths, each with a driver that only takes notes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use lb_model::ids::NodeId;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};

use super::*;
use crate::auth::{ClusterId, KeyId};
use crate::channel::tests::{channel_of_session, heartbeat};
use crate::replay::Identity;
use crate::transport::serial::Serial;
use crate::transport::udp::{To, Udp};

const INTERVAL: Duration = Duration::from_millis(10);

/// Speaks every interval and notes what it hears.
struct Notes {
    me: u8,
    session: u64,
    sequence: u64,
    next: Duration,
    heard: Arc<Mutex<Vec<(Heartbeat, PathId)>>>,
    outgoing: VecDeque<Heartbeat>,
}

impl Notes {
    fn speak(&mut self) {
        let message = heartbeat(self.me, self.sequence);
        self.outgoing.push_back(Heartbeat { session: self.session, ..message });
    }
}

impl Driver for Notes {
    type Command = &'static str;

    fn heartbeat(&mut self, heartbeat: Heartbeat, path: PathId, times: Times) {
        assert!(times.arrived <= times.now && times.now <= now());
        self.heard.lock().unwrap().push((heartbeat, path));
    }

    fn command(&mut self, command: &'static str, _now: Duration) {
        assert_eq!(command, "farewell");
        self.sequence = u64::MAX;
        self.speak();
    }

    fn timer(&mut self, now: Duration) {
        if now >= self.next {
            self.next = now + INTERVAL;
            self.sequence = self.sequence.saturating_add(1);
            self.speak();
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        Some(self.next)
    }

    fn outgoing(&mut self) -> Vec<Heartbeat> {
        self.outgoing.drain(..).collect()
    }
}

struct Node {
    handle: Handle<&'static str>,
    heard: Arc<Mutex<Vec<(Heartbeat, PathId)>>>,
    statistics: Vec<Arc<Statistics>>,
    reports: Arc<Mutex<Vec<Report>>>,
    thread: JoinHandle<io::Result<Notes>>,
}

impl Node {
    fn start(me: u8, paths: Vec<Box<dyn Open>>) -> Self {
        Self::start_session(me, 7, paths)
    }

    fn start_session(me: u8, session: u64, paths: Vec<Box<dyn Open>>) -> Self {
        let channel = channel_of_session(me, session);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let (next, outgoing) = (Duration::ZERO, VecDeque::new());
        let driver = Notes { me, session, sequence: 0, next, heard: Arc::clone(&heard), outgoing };
        let reporter = Arc::clone(&reports);
        let report = Box::new(move |report| reporter.lock().unwrap().push(report));
        let paths = paths.into_iter().map(|path| ("path".to_owned(), path)).collect();
        let (looped, handle) = Loop::new(channel, paths, driver, report).unwrap();
        let statistics = looped.statistics();
        Self { handle, heard, statistics, reports, thread: std::thread::spawn(|| looped.run()) }
    }

    fn heard(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    fn reported(&self, wanted: impl Fn(&Report) -> bool) -> bool {
        self.reports.lock().unwrap().iter().any(wanted)
    }

    fn stop(self) {
        self.handle.stop();
        self.thread.join().unwrap().unwrap();
    }
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = now();
    while !condition() {
        assert!(now() - start < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ports that nobody uses, for a moment at least.
fn free_ports<const N: usize>(loopback: &str) -> [SocketAddr; N] {
    let sockets: [_; N] = std::array::from_fn(|_| std::net::UdpSocket::bind((loopback, 0)).unwrap());
    sockets.map(|socket| socket.local_addr().unwrap())
}

fn udp(local: SocketAddr, peer: SocketAddr) -> Box<dyn Open> {
    Box::new(Udp { to: To::Unicast { local, peers: vec![peer] }, interface: None })
}

#[test]
fn two_nodes_on_two_paths_hear_each_message_once() {
    let [a4, b4] = free_ports("127.0.0.1");
    let [a6, b6] = free_ports("::1");
    let a = Node::start(0, vec![udp(a4, b4), udp(a6, b6)]);
    let b = Node::start(1, vec![udp(b4, a4), udp(b6, a6)]);
    wait_for("twenty heartbeats", || a.heard() > 20 && b.heard() > 20);
    for node in [&a, &b] {
        let heard = node.heard.lock().unwrap();
        assert!(heard.windows(2).all(|pair| pair[0].0.sequence < pair[1].0.sequence));
        let [one, two] = [&node.statistics[0], &node.statistics[1]];
        let copies =
            |path: &Statistics| path.dropped(DropReason::Duplicate) + path.dropped(DropReason::Overtaken);
        assert!(copies(one) + copies(two) > 10, "the copies are counted");
        for path in [one, two] {
            let other = NodeId(u8::from(std::ptr::eq(node, &raw const a)));
            assert!(path.last_heard(other).is_some_and(|heard| heard <= now()));
            assert!(path.sent.load(Ordering::Relaxed) > 20 && path.open.load(Ordering::Relaxed));
        }
    }
    a.handle.command("farewell");
    wait_for("the farewell", || b.heard.lock().unwrap().last().unwrap().0.sequence == u64::MAX);
    a.stop();
    b.stop();
}

#[test]
fn a_path_that_does_not_open_stops_no_other_and_is_tried_again() {
    let [a4, b4, late] = free_ports("127.0.0.1");
    let occupied = std::net::UdpSocket::bind(late).unwrap();
    let a = Node::start(0, vec![udp(late, b4), udp(a4, b4)]);
    let b = Node::start(1, vec![udp(b4, a4)]);
    wait_for("heartbeats", || b.heard() > 3);
    let closed =
        |report: &Report| matches!(report, Report::Path { path: PathId(0), change: Change::Closed(_) });
    assert!(a.reported(closed));
    drop(occupied);
    let opened = Report::Path { path: PathId(0), change: Change::Opened };
    wait_for("the path opens", || a.reported(|report| *report == opened));
    a.stop();
    b.stop();
}

#[test]
fn strangers_are_counted_and_change_nothing() {
    let [a4, b4, stranger] = free_ports("127.0.0.1");
    let b = Node::start(1, vec![udp(b4, a4)]);
    wait_for("the path opens", || b.statistics[0].open.load(Ordering::Relaxed));
    let socket = std::net::UdpSocket::bind(stranger).unwrap();
    for bytes in [b"noise".to_vec(), vec![0; 100], vec![0; 1_500]] {
        socket.send_to(&bytes, b4).unwrap();
    }
    let other_keys = Keys::new([(KeyId(1), b"not the key".as_slice())], KeyId(1)).unwrap();
    let me = Identity { node: NodeId(0), session: 7 };
    let mut forger = Channel::new(ClusterId::of("test"), me, [NodeId(1)], other_keys, [0; 32]);
    socket.send_to(&forger.seal(heartbeat(0, 1), now()).unwrap(), b4).unwrap();
    let reasons = [DropReason::Truncated, DropReason::NotHeartbeat, DropReason::TooLong, DropReason::BadMac];
    wait_for("all are counted", || reasons.iter().all(|&reason| b.statistics[0].dropped(reason) == 1));
    assert!(
        b.reported(|report| matches!(report, Report::Dropped { reason: DropReason::BadMac, count: 1, .. }))
    );
    assert_eq!(b.heard(), 0);
    b.stop();
}

#[test]
fn a_restarted_node_is_heard_again_and_new_keys_are_taken() {
    let [a4, b4] = free_ports("127.0.0.1");
    let keys = |secret: &'static [u8]| Keys::new([(KeyId(1), secret)], KeyId(1)).unwrap();
    let a = Node::start(0, vec![udp(a4, b4)]);
    let b = Node::start(1, vec![udp(b4, a4)]);
    wait_for("heartbeats", || a.heard() > 3 && b.heard() > 3);
    b.stop();
    let before = a.heard();
    // Its clock jumped back meanwhile.
    let b = Node::start_session(1, 6, vec![udp(b4, a4)]);
    wait_for("b hears", || b.heard() > 3);
    wait_for("a hears", || a.heard() > before + 3);
    b.handle.set_keys(keys(b"another key"));
    wait_for("the keys differ", || b.statistics[0].dropped(DropReason::BadMac) > 0);
    a.handle.set_keys(keys(b"another key"));
    let before = b.heard();
    wait_for("both have the new key", || b.heard() > before + 3);
    a.stop();
    b.stop();
}

/// Counts commands, and how many came without a chance to send.
#[derive(Default)]
struct Rounds {
    commands: usize,
    unsent: usize,
    most: usize,
}

impl Driver for Rounds {
    type Command = ();

    fn heartbeat(&mut self, _: Heartbeat, _: PathId, _: Times) {}

    fn command(&mut self, (): (), _: Duration) {
        self.commands += 1;
        self.unsent += 1;
        self.most = self.most.max(self.unsent);
    }

    fn timer(&mut self, _: Duration) {}

    fn next_timeout(&self) -> Option<Duration> {
        None
    }

    fn outgoing(&mut self) -> Vec<Heartbeat> {
        self.unsent = 0;
        Vec::new()
    }
}

/// Whoever renews leases by commands without end and sends nothing is taken for dead.
#[test]
fn a_flood_of_commands_does_not_keep_heartbeats_from_being_sent() {
    const FLOOD: usize = 10 * BATCH + 1;
    let channel = channel_of_session(0, 7);
    let (looped, handle) = Loop::new(channel, Vec::new(), Rounds::default(), Box::new(|_| {})).unwrap();
    (0..FLOOD).for_each(|_| handle.command(()));
    handle.stop();
    let rounds = looped.run().unwrap();
    assert_eq!((rounds.commands, rounds.most), (FLOOD, BATCH));
}

#[test]
fn the_loop_ends_with_its_last_handle() {
    let node = Node::start(0, Vec::new());
    let copy = node.handle.clone();
    drop(copy);
    std::thread::sleep(Duration::from_millis(30));
    assert!(!node.thread.is_finished());
    drop(node.handle);
    node.thread.join().unwrap().unwrap();
}

#[test]
fn powers_of_ten() {
    let powers: Vec<_> = (0..2_000).filter(|&count| is_power_of_ten(count)).collect();
    assert_eq!(powers, [1, 10, 100, 1_000]);
}

/// Two nodes on a null-modem cable of two pseudo-terminals, with noise on it, besides a network
/// that is cut.
#[test]
fn a_serial_line_carries_on_when_the_network_does_not() {
    let [a4, b4, nobody] = free_ports("127.0.0.1");
    let cable = Cable::new();
    let [line_a, line_b] = cable.devices.clone().map(serial);
    let a = Node::start(0, vec![udp(a4, nobody), line_a]);
    let b = Node::start(1, vec![udp(b4, nobody), line_b]);
    wait_for("heartbeats", || a.heard() > 20 && b.heard() > 20);
    assert!(b.heard.lock().unwrap().iter().all(|(_, path)| *path == PathId(1)));
    cable.noise.store(true, Ordering::Relaxed);
    wait_for("noise is counted", || b.statistics[1].dropped(DropReason::BadFrame) > 3);
    let before = b.heard();
    wait_for("heartbeats among the noise", || b.heard() > before + 5);
    a.stop();
    b.stop();
}

fn serial(device: PathBuf) -> Box<dyn Open> {
    Box::new(Serial { device, baud: 115_200 })
}

/// Passes on what either end sends.
struct Cable {
    devices: [PathBuf; 2],
    noise: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Cable {
    fn new() -> Self {
        let ends = [openpty(None, None).unwrap(), openpty(None, None).unwrap()];
        let device =
            |end: &OpenptyResult| std::fs::read_link(format!("/proc/self/fd/{}", end.slave.as_raw_fd()));
        let devices = [device(&ends[0]).unwrap(), device(&ends[1]).unwrap()];
        let cable = Self { devices, noise: Arc::default(), stop: Arc::default() };
        let (noise, stop) = (Arc::clone(&cable.noise), Arc::clone(&cable.stop));
        std::thread::spawn(move || carry(&ends, &noise, &stop));
        cable
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// With noise, every other piece loses a byte and gains some.
fn carry(ends: &[OpenptyResult; 2], noise: &AtomicBool, stop: &AtomicBool) {
    let mut files = ends.each_ref().map(|end| {
        fcntl(&end.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        File::from(end.master.try_clone().unwrap())
    });
    let mut pieces = 0;
    while !stop.load(Ordering::Relaxed) {
        for (from, to) in [(0, 1), (1, 0)] {
            let mut bytes = vec![0; 4096];
            let length = files[from].read(&mut bytes).unwrap_or(0);
            bytes.truncate(length);
            pieces += usize::from(!bytes.is_empty());
            if noise.load(Ordering::Relaxed) && pieces % 4 < 2 && bytes.len() > 20 {
                bytes.remove(20);
                bytes.insert(3, 0);
            }
            let _ = files[to].write_all(&bytes);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
