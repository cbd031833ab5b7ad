//! Probes through the VIP, on the path of clients' packets: AF_XDP sockets send frames to the
//! server's MAC, smoltcp implements TCP and UDP.
//!
//! Such a probe tests all that clients need: that the server has the VIP, that its service listens
//! there, that its MAC is right.
//!
//! - `host`: TCP/IP for one flow; `stack`: all flows; both pure
//! - `neighbours`: the servers' MACs, and the addresses to probe them from
//! - `route`: the way of frames to a server: by a tunnel, into a VLAN
//! - `link`: the AF_XDP sockets, and the tasks that wait for them
//! - `stream`: the connections and UDP sockets that probes use

#[cfg(test)]
pub(crate) mod fuzz;
mod host;
mod link;
mod neighbours;
mod route;
mod stack;
mod stream;
#[cfg(test)]
mod test_server;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lb_model::Protocol;
use lb_net::xsk::Xsk;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use self::link::Link;
pub use self::neighbours::{Neighbour, Neighbours, Station};
use self::route::Route;
use self::stack::{Key, Stack};
pub(super) use self::stream::{VipDatagrams, VipStream};
use crate::probe::{Attempt, Failure};

/// The network of probes through VIPs. Clones share it.
#[derive(Clone)]
pub struct VipNet(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    /// Notified when the stack's next deadline has moved forward.
    sooner: Notify,
    open: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    stack: Stack,
    neighbours: Neighbours,
    /// `None` until the XDP program redirects answers to the sockets.
    link: Option<Link>,
}

impl Inner {
    fn next_timeout(&self) -> Option<Instant> {
        let next_try = self.link.as_ref().and_then(Link::next_try);
        [self.stack.next_timeout(), next_try].into_iter().flatten().min()
    }
}

impl Default for VipNet {
    fn default() -> Self {
        let (open, _) = watch::channel(false);
        Self(Arc::new(Shared { inner: Mutex::default(), sooner: Notify::new(), open }))
    }
}

impl fmt::Debug for VipNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VipNet").field("flows", &self.lock().stack.flows()).finish_non_exhaustive()
    }
}

impl VipNet {
    /// Replaces the L2 neighbours.
    pub fn set_neighbours(&self, neighbours: Neighbours) {
        self.lock().neighbours = neighbours;
    }

    /// Whether the attempt's server is this host itself, to which no frame can be sent.
    pub fn is_here(&self, attempt: &Attempt<'_>) -> bool {
        let neighbours = &self.lock().neighbours;
        let neighbour = neighbours.of(attempt);
        neighbour.tunnel.is_none() && neighbour.mac == Some(neighbours.main().1)
    }

    /// Adds AF_XDP sockets of the interface with this place in [`Neighbours::stations`]. `runtime`
    /// is the checks' runtime.
    pub fn add_sockets(&self, place: usize, sockets: Vec<Xsk>, runtime: &Handle) -> io::Result<()> {
        let _guard = runtime.enter();
        let mut inner = self.lock();
        let link = inner.link.get_or_insert_with(|| Link::new(self, runtime));
        link.add(place, sockets, self)?;
        drop(inner);
        self.0.open.send_replace(true);
        Ok(())
    }

    /// Closes the sockets. Probes in flight receive nothing any more.
    pub fn close(&self) {
        self.0.open.send_replace(false);
        self.lock().link = None;
    }

    /// Number of receive queues of an interface with a socket.
    pub fn queues(&self, place: usize) -> u32 {
        self.lock().link.as_ref().map_or(0, |link| link.queues(place))
    }

    /// Waits until answers can be received: an earlier probe would say nothing about its server.
    pub async fn is_open(&self) {
        // wait_for fails only if the sender is dropped, and self keeps it.
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }

    pub async fn connect(&self, attempt: &Attempt<'_>) -> Result<VipStream, Failure> {
        let stream = VipStream::new(self.open(attempt, Protocol::Tcp)?);
        attempt.limit.wait(stream.connected(), Failure::NoAnswerToSyn).await??;
        attempt.received().note();
        Ok(stream)
    }

    pub fn datagrams(&self, attempt: &Attempt<'_>) -> Result<VipDatagrams, Failure> {
        Ok(VipDatagrams::new(self.open(attempt, Protocol::Udp)?, attempt.received()))
    }

    fn open(&self, attempt: &Attempt<'_>, protocol: Protocol) -> Result<Open, Failure> {
        let remote = attempt.target();
        let seed = getrandom::u64().map_err(|error| here(&format!("cannot get random numbers: {error}")))?;
        let now = Instant::now();
        let key = self.with_stack(|inner| {
            if inner.link.is_none() {
                return Err(here("no AF_XDP socket"));
            }
            let route = inner.neighbours.route(attempt, remote.ip())?;
            let opened = inner.stack.open(remote, protocol, route, seed, now);
            opened.ok_or_else(|| here(&format!("all ports towards {remote} are in use")))
        })?;
        Ok(Open { net: self.clone(), key })
    }

    /// Runs `act` on the stack, transmits the resulting frames and re-arms the timer.
    fn with_stack<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let before = inner.next_timeout();
        let done = act(&mut inner);
        let frames = inner.stack.take_outgoing();
        let Inner { link, neighbours, .. } = &mut *inner;
        if let Some(link) = link {
            link.send(frames, neighbours);
        }
        let after = inner.next_timeout();
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.0.sooner.notify_one();
        }
        done
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.lock().next_timeout()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Neighbours {
    fn of(&self, attempt: &Attempt<'_>) -> Neighbour {
        let key = (attempt.subject.service, attempt.subject.server);
        self.servers.get(&key).copied().unwrap_or_default()
    }

    /// The route of the attempt's frames to `vip`.
    fn route(&self, attempt: &Attempt<'_>, vip: IpAddr) -> Result<Route, Failure> {
        let server = attempt.subject.server;
        let neighbour = self.of(attempt);
        let (interface, main) = self.main();
        let own_mac = neighbour.own_mac(main);
        let Some(station) = self.stations.iter().find(|station| station.mac == own_mac) else {
            return Err(here(&format!(
                "{server} is behind an interface that is none of `interfaces`, and checks with `via: vip` go by those alone: \
                 name it there, or use `via: server`"
            )));
        };
        let interface = if own_mac == main { interface } else { &station.interface };
        let Some(mac) = neighbour.mac else {
            return Err(Failure::NoMac { server, interface: interface.to_owned() });
        };
        let own = attempt.check.source.or(neighbour.own);
        let own = own.filter(|own| own.is_ipv4() == vip.is_ipv4()).ok_or_else(|| {
            let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
            let what = format!("no {family} address for probes of {server} on {interface}");
            here(&format!("{what} (`source` names one)"))
        })?;
        Ok(Route { own, own_mac, mac, tunnel: neighbour.tunnel, vlan: neighbour.vlan() })
    }
}

/// A failure of this host, which says nothing about the server.
fn here(message: &str) -> Failure {
    Failure::Local(io::Error::other(message))
}

/// A flow of the stack; dropping it closes the flow.
struct Open {
    net: VipNet,
    key: Key,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.net.with_stack(|inner| inner.stack.close(self.key, Instant::now()));
    }
}

#[cfg(test)]
mod tests;
