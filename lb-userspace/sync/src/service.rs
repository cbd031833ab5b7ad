//! The thread of the synchronisation, and its sockets. It is no part of the data path: if it is
//! late, others learn later.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_cluster::auth::Keys;
use lb_cluster::transport::unicast;
use lb_model::ids::NodeId;
use lb_system::clock::{now, thread_time};
use lb_system::vital_signs::Pulse;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use crate::allowance::Allowance;
use crate::directory::SharedDirectory;
use crate::engine::{Engine, Me};
use crate::link::Lot;
use crate::status::SharedStatus;
use crate::table::Table;
use crate::wire;

const THREAD: &str = "lb-sync";

/// The table is looked at so often.
pub(crate) const STEP: Duration = Duration::from_millis(5);
/// Whatever comes, the thread rests for so long between two rounds: what has come by then is done
/// at once.
pub(crate) const REST: Duration = Duration::from_millis(1);
/// Datagrams of one path between two looks at the table.
pub(crate) const BATCH: usize = 512;
/// A path over which a node was heard this lately is taken to reach it.
const WORKS: Duration = Duration::from_secs(1);
/// A path that broke is opened again so often.
const REOPEN: Duration = Duration::from_secs(1);
const STATUS: Duration = Duration::from_millis(100);
/// Bytes of datagrams that the kernel keeps until they are read: those of a whole window.
pub(crate) const RECEIVE_BUFFER: usize = 8 << 20;

/// A way to the other directors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Send and receive over this interface alone.
    pub interface: Option<String>,
    pub local: SocketAddr,
    pub peers: Vec<(NodeId, SocketAddr)>,
}

pub struct Settings {
    pub me: Me,
    pub others: Vec<NodeId>,
    /// The first one over which a node is heard is the one it is told by.
    pub paths: Vec<Path>,
    /// Bytes a second to all other directors together.
    pub rate: u64,
}

/// The running thread. Dropped, it ends.
pub struct Synchroniser {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    status: SharedStatus,
    pulse: Pulse,
    keys: Sender<Keys>,
}

impl Synchroniser {
    /// # Errors
    /// There are no random numbers, or the thread cannot be started. A path that cannot be opened
    /// is tried again and told in the log.
    pub fn start<T: Table>(
        settings: Settings,
        table: Arc<T>,
        directory: SharedDirectory,
    ) -> io::Result<Self> {
        drop(lot()?);
        let (stop, status) = (Arc::<AtomicBool>::default(), SharedStatus::default());
        let (keys, new_keys) = channel();
        let pulse = Pulse::default();
        let Settings { me, others, paths, rate } = settings;
        let service = Service {
            paths: paths.into_iter().map(Slot::new).collect(),
            heard: BTreeMap::new(),
            allowance: Allowance::new(rate, now()),
            stop: Arc::clone(&stop),
            status: status.clone(),
            pulse: pulse.clone(),
            new_keys,
        };
        let begin = move || {
            let lots = |_| lot().unwrap_or_else(|_| unreachable!("there were random numbers at the start"));
            service.run(Engine::new(me, others, table, directory, lots));
        };
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(begin)?;
        Ok(Self { stop, thread: Some(thread), status, pulse, keys })
    }

    /// The thread, by its name, gives signs of life.
    pub fn pulse(&self) -> (&'static str, Pulse) {
        (THREAD, self.pulse.clone())
    }

    pub fn status(&self) -> &SharedStatus {
        &self.status
    }

    pub fn set_keys(&self, keys: Keys) {
        // A thread that has ended needs none.
        let _ = self.keys.send(keys);
    }
}

impl Drop for Synchroniser {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its thread; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// Random numbers of the kernel.
fn lot() -> io::Result<Lot> {
    let draw = || {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map(|()| u64::from_ne_bytes(bytes) | 1)
    };
    draw().map_err(io::Error::other)?;
    Ok(Box::new(move || draw().unwrap_or(1)))
}

struct Service {
    paths: Vec<Slot>,
    /// When each node was heard last, by path.
    heard: BTreeMap<(NodeId, usize), Duration>,
    allowance: Allowance,
    stop: Arc<AtomicBool>,
    status: SharedStatus,
    pulse: Pulse,
    new_keys: Receiver<Keys>,
}

impl Service {
    fn run<T: Table>(mut self, mut engine: Engine<T>) {
        let mut told = Duration::ZERO;
        let mut buffer = vec![0; wire::LONGEST + 1];
        while !self.stop.load(Ordering::Relaxed) {
            self.pulse.beat();
            while let Ok(keys) = self.new_keys.try_recv() {
                engine.set_keys(keys);
            }
            let begun = now();
            self.wait(begun);
            self.receive(&mut engine, &mut buffer);
            let now = now();
            engine.work(now);
            self.allowance.refill(now);
            let mut left = self.allowance.left;
            engine.send(now, &mut left, |node, datagram| self.send(node, datagram, now));
            self.allowance.left = left;
            if now >= told + STATUS {
                told = now;
                self.tell(&engine, now);
            }
            std::thread::sleep(REST.saturating_sub(lb_system::clock::now().saturating_sub(now)));
        }
    }

    /// Until something comes, or it is time for a look at the table.
    fn wait(&mut self, now: Duration) {
        self.paths.iter_mut().for_each(|path| path.open(now));
        let sockets = self.paths.iter().filter_map(|path| path.open.as_ref());
        let mut sockets: Vec<_> =
            sockets.map(|open| PollFd::new(open.socket.as_fd(), PollFlags::POLLIN)).collect();
        let step = PollTimeout::try_from(STEP).unwrap_or(PollTimeout::ZERO);
        // A signal, or no memory for a moment: the round goes on.
        let _ = poll(&mut sockets, step);
    }

    fn receive<T: Table>(&mut self, engine: &mut Engine<T>, buffer: &mut [u8]) {
        let now = now();
        for (index, path) in self.paths.iter_mut().enumerate() {
            for _ in 0..BATCH {
                let Some(length) = path.receive(buffer, now) else { break };
                if let Some(node) = engine.receive(&buffer[..length], now) {
                    self.heard.insert((node, index), now);
                }
            }
        }
    }

    /// By the first path that works; by all, if none is known to.
    fn send(&self, node: NodeId, datagram: &[u8], now: Duration) {
        let works = |path: &usize| {
            let heard = self.heard.get(&(node, *path));
            heard.is_some_and(|heard| now.saturating_sub(*heard) < WORKS)
        };
        match (0..self.paths.len()).find(works) {
            Some(path) => self.paths[path].send(node, datagram),
            None => self.paths.iter().for_each(|path| path.send(node, datagram)),
        }
    }

    fn tell<T: Table>(&self, engine: &Engine<T>, now: Duration) {
        let mut status = engine.status(now);
        status.busy = thread_time();
        self.status.set(status);
    }
}

/// A path, open or not.
struct Slot {
    path: Path,
    open: Option<Open>,
    tried: Option<Duration>,
    /// The last error is in the log.
    is_told: bool,
}

struct Open {
    socket: UdpSocket,
    peers: Vec<(NodeId, SocketAddr)>,
}

impl Slot {
    fn new(path: Path) -> Self {
        Self { path, open: None, tried: None, is_told: false }
    }

    fn open(&mut self, now: Duration) {
        if self.open.is_some() || self.tried.is_some_and(|tried| now < tried + REOPEN) {
            return;
        }
        self.tried = Some(now);
        let Path { interface, local, peers } = &self.path;
        let addresses = peers.iter().map(|(_, address)| *address).collect();
        match unicast(interface.clone(), *local, addresses) {
            Ok((socket, addresses)) => {
                prepare(&socket);
                let peers = peers.iter().map(|(node, _)| *node).zip(addresses).collect();
                self.open = Some(Open { socket, peers });
                self.is_told = false;
            }
            Err(error) => self.note(&error),
        }
    }

    fn note(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!("connections cannot be told of from {}: {error}", self.path.local);
        }
    }

    /// The length of a datagram; `None`: there is none.
    fn receive(&mut self, buffer: &mut [u8], now: Duration) -> Option<usize> {
        let Open { socket, .. } = self.open.as_ref()?;
        match socket.recv(buffer) {
            Ok(length) => Some(length),
            // A peer's port is not open yet: what was sent there came back.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused
                ) =>
            {
                None
            }
            Err(error) => {
                self.note(&error);
                self.open = None;
                self.tried = Some(now);
                None
            }
        }
    }

    /// What does not get through is sent again: the other side has not confirmed it.
    fn send(&self, node: NodeId, datagram: &[u8]) {
        if let Some(Open { socket, peers }) = &self.open
            && let Some((_, address)) = peers.iter().find(|(other, _)| *other == node)
        {
            let _ = socket.send_to(datagram, address);
        }
    }
}

/// Much may come at once, and none of it is more urgent than what clients send.
fn prepare(socket: &UdpSocket) {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
    let socket = socket2::SockRef::from(socket);
    // The other family refuses one of them.
    let _ = socket.set_tos_v4(0);
    let _ = socket.set_tclass_v6(0);
}
