//! The MACs of servers and of the interface, from the kernel's neighbour table.
//!
//! The kernel resolves addresses by ARP and verifies that they still answer. This task requests the
//! addresses and reports the changes. A server whose entry the kernel has marked as failed has no
//! MAC, so it gets no packets. Addresses of this host, for which ARP gets no answer, have the
//! interface's own MAC.

mod limits;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use lb_common::mac::Mac;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkHeader, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::{mpsc, watch};

/// Interval at which every address is used, so that the kernel probes stale entries.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Interval of retries for an address that does not answer.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Time limit of netlink requests. The kernel answers at once; an answer is lost only if our socket
/// is full.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Maximum number of concurrent requests, so that their answers and the events they cause fit into
/// the socket buffer.
const REQUESTS: usize = 32;

/// The protocol that tells the MAC of this address, for messages.
pub const fn protocol(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour discovery",
    }
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The address has this MAC; `None`: it does not answer (any more).
    Neighbour(IpAddr, Option<Mac>),
    /// The interface's MAC, and whether its link is up.
    Interface { mac: Mac, up: bool },
    /// The interface is gone.
    InterfaceGone,
}

/// Monitors the neighbours on one interface. Dropping it ends the task.
pub struct Neighbours {
    wanted: watch::Sender<BTreeSet<IpAddr>>,
    doubts: mpsc::UnboundedSender<IpAddr>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Neighbours {
    /// Must run within a tokio runtime. `interface` is the interface's index, which events are sent
    /// with.
    pub fn start(interface: u32, events: mpsc::UnboundedSender<(u32, Event)>) -> Result<Self> {
        let (connection, handle, messages) =
            new_multicast_connection(&[MulticastGroup::Neigh, MulticastGroup::Link])
                .context("cannot open a netlink socket for neighbour events")?;
        tokio::spawn(connection);
        let (wanted, receiver) = watch::channel(BTreeSet::new());
        let (doubts, doubted) = mpsc::unbounded_channel();
        let follower = Follower {
            interface,
            handle,
            events,
            known: BTreeMap::new(),
            permanent: BTreeSet::new(),
            own: BTreeSet::new(),
            mac: None,
            wanted: receiver,
        };
        let task = tokio::spawn(follower.run(messages, doubted));
        Ok(Self { wanted, doubts, task })
    }

    /// Makes the kernel verify at once that the address still has its MAC.
    pub fn verify(&self, address: IpAddr) {
        let _ = self.doubts.send(address);
    }

    /// Replaces the set of addresses that are resolved and kept fresh.
    pub fn want(&self, addresses: BTreeSet<IpAddr>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != addresses;
            *wanted = addresses;
            changed
        });
    }
}

type Message = (NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr);

struct Follower {
    interface: u32,
    handle: Handle,
    events: mpsc::UnboundedSender<(u32, Event)>,
    known: BTreeMap<IpAddr, Mac>,
    /// Permanent entries, set by an operator: requesting one would turn it into an entry that the
    /// kernel resolves.
    permanent: BTreeSet<IpAddr>,
    /// Addresses of this host, on all interfaces.
    own: BTreeSet<IpAddr>,
    /// The interface's MAC; `None` until the kernel has reported it.
    mac: Option<Mac>,
    wanted: watch::Receiver<BTreeSet<IpAddr>>,
}

impl Follower {
    async fn run(
        mut self,
        mut messages: impl futures::Stream<Item = Message> + Unpin,
        mut doubted: mpsc::UnboundedReceiver<IpAddr>,
    ) {
        let mut probe = tokio::time::interval(PROBE_EVERY);
        let mut retry = tokio::time::interval(RETRY_EVERY);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some((message, _)) if matches!(message.payload, NetlinkPayload::Overrun(_)) => {
                        self.read_all().await;
                    }
                    Some((message, _)) => self.message(message.payload),
                    None => return,
                },
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let count = self.wanted.borrow().len();
                    limits::warn(&mut self.handle, count).await;
                    self.read_link().await;
                    self.read_own().await;
                    self.read_all().await;
                    self.probe(|_| true).await;
                }
                Some(address) = doubted.recv() => {
                    if self.known.contains_key(&address) {
                        self.ask(address, NeighbourState::Probe, NeighbourFlags::empty()).await;
                    }
                }
                _ = probe.tick() => {
                    self.read_link().await;
                    self.read_own().await;
                    self.read_all().await;
                    self.probe(|_| true).await;
                }
                _ = retry.tick() => self.probe(|address| !self.known.contains_key(address)).await,
            }
        }
    }

    fn message(&mut self, payload: NetlinkPayload<RouteNetlinkMessage>) {
        let NetlinkPayload::InnerMessage(message) = payload else { return };
        match message {
            RouteNetlinkMessage::NewNeighbour(message) => self.neighbour(&message),
            RouteNetlinkMessage::DelNeighbour(message) if self.is_ours(&message) => {
                if let Some(address) = address_of(&message).filter(|address| !self.own.contains(address)) {
                    self.permanent.remove(&address);
                    self.learn(address, None);
                }
            }
            RouteNetlinkMessage::NewLink(message) if message.header.index == self.interface => {
                self.link(&message);
            }
            RouteNetlinkMessage::DelLink(LinkMessage { header, .. })
                if header.index == self.interface && !is_a_bridges(&header) =>
            {
                self.tell(Event::InterfaceGone);
            }
            _ => {}
        }
    }

    fn tell(&self, event: Event) {
        let _ = self.events.send((self.interface, event));
    }

    fn is_ours(&self, message: &NeighbourMessage) -> bool {
        message.header.ifindex == self.interface
    }

    fn link(&mut self, message: &LinkMessage) {
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac::new),
            _ => None,
        });
        if let Some(mac) = mac {
            let up = message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
            self.tell(Event::Interface { mac, up });
            self.mac = Some(mac);
            self.learn_own();
        }
    }

    /// Reports this host's own addresses at the interface's MAC.
    fn learn_own(&mut self) {
        let own: Vec<IpAddr> = self.wanted.borrow().intersection(&self.own).copied().collect();
        for address in own {
            self.learn(address, self.mac);
        }
    }

    fn neighbour(&mut self, message: &NeighbourMessage) {
        if !self.is_ours(message) {
            return;
        }
        // A neighbour entry from the time before the address became our own.
        let Some(address) = address_of(message).filter(|address| !self.own.contains(address)) else { return };
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac::new),
            _ => None,
        });
        match message.header.state {
            NeighbourState::Permanent | NeighbourState::Noarp => self.permanent.insert(address),
            _ => self.permanent.remove(&address),
        };
        match message.header.state {
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp => self.learn(address, mac),
            NeighbourState::Failed => self.learn(address, None),
            _ => {}
        }
    }

    fn learn(&mut self, address: IpAddr, mac: Option<Mac>) {
        let before = match mac {
            Some(mac) => self.known.insert(address, mac),
            None => self.known.remove(&address),
        };
        if before != mac && self.wanted.borrow().contains(&address) {
            self.tell(Event::Neighbour(address, mac));
        }
    }

    /// Reads the interface's state again, in case an event was lost.
    async fn read_link(&mut self) {
        let mut links = self.handle.link().get().match_index(self.interface).execute();
        match links.try_next().await {
            Ok(Some(message)) => self.link(&message),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot read the interface"),
        }
    }

    /// Reads this host's addresses. They change seldom, so they are polled.
    async fn read_own(&mut self) {
        let messages = answered(self.handle.address().get().execute().try_collect::<Vec<_>>()).await;
        let before = match messages {
            Ok(messages) => {
                let own = messages.iter().filter_map(crate::addresses::address_of).collect();
                std::mem::replace(&mut self.own, own)
            }
            Err(error) => return tracing::debug!(%error, "cannot read this host's addresses"),
        };
        let left: Vec<IpAddr> = before.difference(&self.own).copied().collect();
        for address in left {
            self.learn(address, None);
        }
        self.learn_own();
    }

    /// Reads the kernel's whole table, at the start and periodically, in case an event was lost.
    async fn read_all(&mut self) {
        let entries = self.handle.neighbours().get().execute().try_collect::<Vec<_>>();
        let entries = match answered(entries).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, "cannot read the kernel's neighbour table; trying again in 5 s");
                return;
            }
        };
        let mut present = BTreeSet::new();
        for message in entries {
            if self.is_ours(&message) {
                present.extend(address_of(&message));
            }
            self.neighbour(&message);
        }
        present.extend(&self.own);
        let gone: Vec<IpAddr> = self.known.keys().filter(|known| !present.contains(known)).copied().collect();
        for address in gone {
            self.learn(address, None);
        }
        // An address that was known before it was requested has not been reported yet.
        for address in self.wanted.borrow().iter() {
            if let Some(mac) = self.known.get(address) {
                self.tell(Event::Neighbour(*address, Some(*mac)));
            }
        }
    }

    /// Makes the kernel use these addresses: it resolves those without a MAC and verifies stale
    /// entries.
    async fn probe(&self, which: impl Fn(&IpAddr) -> bool) {
        let addresses: Vec<IpAddr> =
            self.wanted.borrow().iter().filter(|address| which(address)).copied().collect();
        let ask = |address| self.ask(address, NeighbourState::None, NeighbourFlags::Use);
        futures::stream::iter(addresses).for_each_concurrent(REQUESTS, ask).await;
    }

    async fn ask(&self, address: IpAddr, state: NeighbourState, flags: NeighbourFlags) {
        if self.permanent.contains(&address) || self.own.contains(&address) {
            return;
        }
        let request =
            self.handle.neighbours().add(self.interface, address).state(state).flags(flags).replace();
        if let Err(error) = answered(request.execute()).await {
            tracing::debug!(%address, %error, "the kernel refuses to resolve this address");
        }
    }
}

/// Awaits the kernel's answer, with a time limit.
async fn answered<T, E: Into<anyhow::Error>>(request: impl Future<Output = Result<T, E>>) -> Result<T> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, request).await;
    answer.context("the kernel's answer was lost")?.map_err(Into::into)
}

/// An interface that leaves a bridge is reported as DelLink with AF_BRIDGE. Ignored: the interface
/// still exists.
fn is_a_bridges(link: &LinkHeader) -> bool {
    link.interface_family == AddressFamily::Bridge
}

fn address_of(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}
