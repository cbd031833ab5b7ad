//! ICMP echo for all ping checks: one raw socket per route, for any number of servers.

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

/// A socket that was idle for this long is closed: no check uses it any more.
const IDLE: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(60) };

/// Room for some 5,000 replies, in case the thread is delayed. The default has room for 300.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pings(Arc<Mutex<Pingers>>);

type Pingers = HashMap<Route, Listener>;

/// The route of a raw socket: address family, source address and interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Route {
    is_ipv6: bool,
    source: Option<IpAddr>,
    interface: Option<String>,
}

/// A socket, and the task that receives from it.
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
    /// Sends an echo request to the attempt's host, and waits for the reply.
    pub(super) async fn ask(&self, attempt: &Attempt<'_>) -> Result<(), Failure> {
        let host = attempt.target().ip();
        let pinger = self.pinger(attempt).map_err(Failure::Local)?;
        let mut question = pinger.question(host)?;
        let exchange = async {
            pinger.echo.request(host, question.sequence).await.map_err(unsent)?;
            (&mut question.reply)
                .await
                .map_err(|_| Failure::Local(io::Error::other("the ICMP socket was closed")))
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

/// Delivers replies until the socket has been idle, or all checks have ended.
async fn listen(pinger: Arc<Pinger>, pingers: Weak<Mutex<Pingers>>, route: Route) {
    loop {
        if let Ok(reply) = timeout(IDLE, pinger.echo.next()).await {
            if let Some(waiting) = lock(&pinger.waiting).replies.remove(&(reply.from, reply.sequence)) {
                // The probe may just have timed out.
                let _ = waiting.send(());
            }
            continue;
        }
        let Some(pingers) = pingers.upgrade() else { return };
        let mut pingers = lock(&pingers);
        // Probes clone the socket under the same lock, so the count cannot change here.
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
    /// The last assigned sequence number.
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

    /// Assigns a sequence number for a request to `host`.
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

/// A request in flight. Dropping it ends the wait for its reply.
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

/// Failure of sendto(2). All errors but these two are local: firewall, addresses, memory.
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
