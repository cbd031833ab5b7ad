//! ICMP echo for all checks by ping: one raw socket for each way out of this host, however many servers are asked.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lb_net::icmp::Echo;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::probe::{Attempt, Failure};

/// A socket that nobody has used for so long is closed: checks have changed.
const IDLE: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(60) };

/// Some 5,000 replies, should all come while the thread is held up. The default has room for 300.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pings(Arc<Mutex<Pingers>>);

type Pingers = HashMap<Route, Listener>;

/// What needs a socket of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Route {
    is_ipv6: bool,
    source: Option<IpAddr>,
    interface: Option<String>,
}

/// A socket, and the task that hears on it.
#[derive(Debug)]
struct Listener {
    pinger: Arc<Pinger>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pings {
    /// Asks the attempt's host, and waits for its reply.
    pub(super) async fn ask(&self, attempt: &Attempt<'_>) -> Result<(), Failure> {
        let host = attempt.target().ip();
        let pinger = self.pinger(attempt).map_err(Failure::Local)?;
        let mut question = pinger.question(host)?;
        let exchange = async {
            pinger.echo.request(host, question.sequence).await.map_err(unsent)?;
            (&mut question.reply).await.map_err(|_| Failure::Local(io::Error::other("nobody hears replies")))
        };
        attempt.limit.wait(exchange, |within| Failure::Late { expected: "echo reply", within }).await?
    }

    fn pinger(&self, attempt: &Attempt<'_>) -> io::Result<Arc<Pinger>> {
        let host = attempt.target().ip();
        let (source, interface) = (attempt.check.source, attempt.check.interface.clone());
        let route = Route { is_ipv6: host.is_ipv6(), source, interface };
        let mut pingers = lock(&self.0);
        if let Some(open) = pingers.get(&route).filter(|open| !open.task.is_finished()) {
            return Ok(Arc::clone(&open.pinger));
        }
        let pinger = Arc::new(Pinger::open(host, &route)?);
        let task = tokio::spawn(listen(Arc::clone(&pinger), Arc::downgrade(&self.0), route.clone()));
        pingers.insert(route, Listener { pinger: Arc::clone(&pinger), task });
        Ok(pinger)
    }
}

/// Hands out replies until the socket has been idle, or all checks have ended.
async fn listen(pinger: Arc<Pinger>, pingers: Weak<Mutex<Pingers>>, route: Route) {
    loop {
        if let Ok(reply) = timeout(IDLE, pinger.echo.next()).await {
            if let Some(waiting) = lock(&pinger.waiting).replies.remove(&(reply.from, reply.sequence)) {
                // Who has stopped waiting just now has failed already.
                let _ = waiting.send(());
            }
            continue;
        }
        let Some(pingers) = pingers.upgrade() else { return };
        let mut pingers = lock(&pingers);
        // Probes take hold of it under the same lock, so nobody can come in between.
        let nobody_else = Arc::strong_count(&pinger) == 2;
        if nobody_else {
            pingers.remove(&route);
            return;
        }
    }
}

#[derive(Debug)]
struct Pinger {
    echo: Echo,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The sequence number given out last.
    sequence: u16,
    replies: HashMap<(IpAddr, u16), oneshot::Sender<()>>,
}

impl Pinger {
    fn open(host: IpAddr, route: &Route) -> io::Result<Self> {
        let echo = Echo::open(&[host], 0)
            .map_err(|error| io::Error::other(format!("cannot open a raw socket for ICMP: {error}")))?;
        echo.leave_by(route.interface.as_deref(), route.source)?;
        if let Err(error) = echo.set_receive_buffer(RECEIVE_BUFFER) {
            tracing::debug!(%error, "echo replies have a small receive buffer");
        }
        Ok(Self { echo, waiting: Mutex::default() })
    }

    /// A sequence number to ask `host` with.
    fn question(&self, host: IpAddr) -> Result<Question<'_>, Failure> {
        let mut waiting = lock(&self.waiting);
        let next = (1..=u16::MAX).map(|step| waiting.sequence.wrapping_add(step));
        let mut free = next.filter(|sequence| !waiting.replies.contains_key(&(host, *sequence)));
        let Some(sequence) = free.next() else {
            return Err(Failure::Local(io::Error::other("too many echo requests wait for a reply")));
        };
        drop(free);
        let (sender, reply) = oneshot::channel();
        waiting.sequence = sequence;
        waiting.replies.insert((host, sequence), sender);
        Ok(Question { pinger: self, host, sequence, reply })
    }
}

/// A request under way. Dropping it ends the wait for its reply.
struct Question<'a> {
    pinger: &'a Pinger,
    host: IpAddr,
    sequence: u16,
    reply: oneshot::Receiver<()>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        lock(&self.pinger.waiting).replies.remove(&(self.host, self.sequence));
    }
}

/// Any other error than these is about this host: its firewall, its addresses, its memory.
fn unsent(error: io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => Failure::Unreachable,
        _ => Failure::Local(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
