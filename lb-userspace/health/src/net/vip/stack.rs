//! All flows of probes through VIPs: assigns frames to flows and keeps their timers. Pure: frames
//! in, frames out, time as a parameter.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lb_common::addr::Address;
use lb_common::mac::Mac;
use lb_common::packet::frame::{self, Flow as Parts, Parsed};
use lb_common::program::probe::Ports;
use lb_model::Protocol;
use smoltcp::socket::tcp::State;

use super::host::{Ends, Host};
use super::route::Route;

/// How long a closed connection may take for its FIN handshake before it is reset.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Minimum time between two polls of a flow without a frame.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// An Ethernet frame.
pub(super) type Frame = Vec<u8>;

/// Identifies a flow. Flows to different servers of one service have the same remote end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub remote: SocketAddr,
    pub protocol: Protocol,
    /// Local port, host byte order.
    pub port: u16,
}

struct Flow {
    host: Host,
    route: Route,
    /// The flow is closing, and is reset at this time.
    closing: Option<Instant>,
    /// The flow's entry in the timers.
    next: Option<Instant>,
}

impl Flow {
    fn is_over(&mut self) -> bool {
        self.host.tcp().is_none_or(|socket| matches!(socket.state(), State::Closed | State::TimeWait))
    }

    /// Whether the server keeps sending data that no probe reads.
    fn has_unread_data(&mut self) -> bool {
        self.host.tcp().is_some_and(|socket| socket.recv_queue() > 0)
    }
}

#[derive(Default)]
pub(super) struct Stack {
    flows: HashMap<Key, Flow>,
    timers: BTreeSet<(Instant, Key)>,
    /// The last local port used towards a remote end. Ports are used round robin, so that each
    /// rests as long as possible.
    ports: HashMap<(SocketAddr, Protocol), u32>,
    outgoing: Vec<Frame>,
}

impl Stack {
    /// Opens a flow; TCP sends its SYN. `seed` is random. `None`: all ports towards this end are in
    /// use.
    pub(super) fn open(
        &mut self,
        remote: SocketAddr,
        protocol: Protocol,
        route: Route,
        seed: u64,
        now: Instant,
    ) -> Option<Key> {
        let port = self.take_port(remote, protocol, seed)?;
        let (key, ends) =
            (Key { remote, protocol, port }, Ends { own: SocketAddr::new(route.own, port), remote });
        let host = match protocol {
            Protocol::Tcp => Host::connecting(ends, seed, now),
            Protocol::Udp => Host::datagrams(ends, seed, now),
        };
        self.flows.insert(key, Flow { host, route, closing: None, next: None });
        self.poll(key, None, now);
        Some(key)
    }

    fn take_port(&mut self, remote: SocketAddr, protocol: Protocol, seed: u64) -> Option<u16> {
        let Ports { first, count } = Ports::OWN;
        let last = self.ports.entry((remote, protocol)).or_insert((seed % u64::from(count)) as u32);
        for step in 1..=count {
            let offset = (*last + step) % count;
            let port = u16::try_from(first + offset).ok()?;
            if !self.flows.contains_key(&Key { remote, protocol, port }) {
                *last = offset;
                return Some(port);
            }
        }
        None
    }

    /// Runs `act` on a flow, and queues the resulting frames. `None`: there is no such flow.
    pub(super) fn with<T>(&mut self, key: Key, now: Instant, act: impl FnOnce(&mut Host) -> T) -> Option<T> {
        let done = act(&mut self.flows.get_mut(&key)?.host);
        self.poll(key, None, now);
        Some(done)
    }

    /// Closes a flow. A connection ends by a FIN handshake, or by a reset if that takes too long.
    pub(super) fn close(&mut self, key: Key, now: Instant) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.closing = Some(now + LINGER);
        if let Some(socket) = flow.host.tcp() {
            match socket.state() {
                State::SynSent | State::SynReceived => socket.abort(),
                _ => socket.close(),
            }
        }
        self.poll(key, None, now);
    }

    /// Processes a received frame. TCP that belongs to no flow is answered with a reset: a server
    /// may still have a connection of an earlier `lb`.
    pub(super) fn receive(&mut self, frame: &[u8], now: Instant) {
        let Some(Arrival { packet, protocol, own, remote }) = Arrival::of(frame) else { return };
        let key = Key { remote, protocol, port: own.port() };
        if self.flows.contains_key(&key) {
            self.poll(key, Some(packet), now);
        } else if let (Protocol::Tcp, Some(route)) = (key.protocol, back(frame, own.ip())) {
            let mut nobody = Host::without_socket(Ends { own, remote }, 0, now);
            self.outgoing.extend(nobody.poll(Some(packet), now).iter().map(|packet| route.frame(packet)));
        }
    }

    /// Next deadline, at which [`Self::expire`] is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Polls each flow whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) {
        let due: Vec<Key> =
            self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            self.poll(key, None, now);
        }
    }

    /// Takes the frames to send, in order.
    pub(super) fn take_outgoing(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.outgoing)
    }

    /// Number of flows, including closing ones.
    pub(super) fn flows(&self) -> usize {
        self.flows.len()
    }

    fn poll(&mut self, key: Key, incoming: Option<&[u8]>, now: Instant) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let mut packets = flow.host.poll(incoming, now);
        let mut is_over = false;
        if let Some(until) = flow.closing {
            is_over = flow.is_over();
            if !is_over && (until <= now || flow.has_unread_data()) {
                if let Some(socket) = flow.host.tcp() {
                    socket.abort();
                }
                packets.extend(flow.host.poll(None, now));
                is_over = true;
            }
        }
        let route = flow.route;
        self.outgoing.extend(packets.iter().map(|packet| route.frame(packet)));
        self.set_timer(key, is_over, now);
    }

    /// Re-arms the flow's timer, or removes a flow that has ended.
    fn set_timer(&mut self, key: Key, is_over: bool, now: Instant) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let before = flow.next.take();
        if !is_over {
            // A flow that is due at once has just been polled.
            let expected = [flow.host.next_deadline(now), flow.closing].into_iter().flatten().min();
            flow.next = expected.map(|at| at.max(now + LEAST_WAIT));
        }
        let after = flow.next;
        if before != after {
            before.map(|at| self.timers.remove(&(at, key)));
            after.map(|at| self.timers.insert((at, key)));
        }
        if is_over {
            self.flows.remove(&key);
        }
    }
}

/// Returns the packet of a frame if smoltcp may process it. Anybody can send frames, and smoltcp
/// asserts that addresses of hosts are unicast; so packets that cannot belong to one of our flows
/// are dropped here.
struct Arrival<'a> {
    packet: &'a [u8],
    protocol: Protocol,
    own: SocketAddr,
    remote: SocketAddr,
}

impl<'a> Arrival<'a> {
    fn of(frame: &'a [u8]) -> Option<Self> {
        match frame::parse(frame) {
            Parsed::Flow(flow) => Self::with(frame, &flow),
            Parsed::FlowV6(flow) => Self::with(frame, &flow),
            _ => None,
        }
    }

    fn with<A: Address>(frame: &'a [u8], flow: &Parts<A>) -> Option<Self> {
        frame::check(frame, flow).ok()?;
        let packet = frame.get(flow.network..flow.network + flow.total_length)?;
        let end = |address: A, port: u16| {
            let address = IpAddr::from(address.mapped());
            (is_a_hosts(address) && port != 0).then(|| SocketAddr::new(address, u16::from_be(port)))
        };
        let own = end(flow.destination, flow.destination_port)?;
        let remote = end(flow.source, flow.source_port)?;
        Some(Self { packet, protocol: flow.protocol, own, remote })
    }
}

fn is_a_hosts(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || is_broadcast)
}

/// The route back to the sender of `frame`, on the segment.
fn back(frame: &[u8], own: IpAddr) -> Option<Route> {
    let mac = |at: usize| frame.get(at..)?.first_chunk().copied().map(Mac::new);
    Some(Route { own, own_mac: mac(0)?, mac: mac(6)?, tunnel: None, vlan: frame::tags(frame)?.vlan })
}

#[cfg(test)]
pub(super) mod tests;
