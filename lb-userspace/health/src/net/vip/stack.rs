//! All flows of probes through VIPs: which there are, whose a frame is, when each wants its turn. Pure: frames in, frames
//! out, time handed in.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use lb_common::frame::{self, Parsed};
use lb_common::probe::Ports;
use lb_model::Protocol;
use smoltcp::socket::tcp::State;

use super::host::{Ends, Host};

/// How long a connection that nobody wants any more has for an orderly end; then it is reset.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// From one turn of a flow to the next, where no frame comes.
const LEAST_WAIT: Duration = Duration::from_millis(1);

pub(super) type Mac = [u8; 6];

/// An Ethernet frame.
pub(super) type Frame = Vec<u8>;

/// What frames of a flow begin with, and where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// The director's own address and MAC.
    pub own: Ipv4Addr,
    pub own_mac: Mac,
    /// The server's.
    pub mac: Mac,
}

impl Route {
    fn frame(&self, packet: &[u8]) -> Frame {
        [&self.mac[..], &self.own_mac, &[0x08, 0x00], packet].concat()
    }
}

/// What tells one flow from all others. Servers of one service have the remote end in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub remote: SocketAddrV4,
    pub protocol: Protocol,
    /// Ours, host byte order.
    pub port: u16,
}

struct Flow {
    host: Host,
    route: Route,
    /// Nobody wants it any more, and it is reset at this time.
    closing: Option<Instant>,
    /// Its entry in the timers.
    next: Option<Instant>,
}

impl Flow {
    fn is_over(&mut self) -> bool {
        self.host.tcp().is_none_or(|socket| matches!(socket.state(), State::Closed | State::TimeWait))
    }

    /// Whether it goes on saying what nobody will read.
    fn is_unheard(&mut self) -> bool {
        self.host.tcp().is_some_and(|socket| socket.recv_queue() > 0)
    }
}

#[derive(Default)]
pub(super) struct Stack {
    flows: HashMap<Key, Flow>,
    timers: BTreeSet<(Instant, Key)>,
    /// The last port that was used towards a remote end. They are used in turn, so that one rests as long as possible.
    ports: HashMap<(SocketAddrV4, Protocol), u32>,
    outgoing: Vec<Frame>,
}

impl Stack {
    /// A new flow; a TCP one sends its SYN. `seed` is random. `None`: all ports towards this end are in use.
    pub(super) fn open(
        &mut self,
        remote: SocketAddrV4,
        protocol: Protocol,
        route: Route,
        seed: u64,
        now: Instant,
    ) -> Option<Key> {
        let port = self.take_port(remote, protocol, seed)?;
        let (key, ends) =
            (Key { remote, protocol, port }, Ends { own: SocketAddrV4::new(route.own, port), remote });
        let host = match protocol {
            Protocol::Tcp => Host::connecting(ends, seed, now),
            Protocol::Udp => Host::datagrams(ends, seed, now),
        };
        self.flows.insert(key, Flow { host, route, closing: None, next: None });
        self.poll(key, None, now);
        Some(key)
    }

    fn take_port(&mut self, remote: SocketAddrV4, protocol: Protocol, seed: u64) -> Option<u16> {
        let Ports { first, count } = Ports::OWN;
        let last = self.ports.entry((remote, protocol)).or_insert((seed % u64::from(count)) as u32);
        for step in 1..=count {
            let place = (*last + step) % count;
            let port = u16::try_from(first + place).ok()?;
            if !self.flows.contains_key(&Key { remote, protocol, port }) {
                *last = place;
                return Some(port);
            }
        }
        None
    }

    /// Does something with a flow, and sends what comes of it. `None`: there is no such flow.
    pub(super) fn with<T>(&mut self, key: Key, now: Instant, act: impl FnOnce(&mut Host) -> T) -> Option<T> {
        let done = act(&mut self.flows.get_mut(&key)?.host);
        self.poll(key, None, now);
        Some(done)
    }

    /// Nobody wants the flow any more. A connection is ended as servers like it, and reset if that takes too long.
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

    /// A frame has come. One that belongs to no flow is answered with a reset, if it is TCP: a server may still speak to
    /// an earlier `lb`.
    pub(super) fn receive(&mut self, frame: &[u8], now: Instant) {
        let Some(Arrival { packet, protocol, own, remote }) = Arrival::of(frame) else { return };
        let key = Key { remote, protocol, port: own.port() };
        if self.flows.contains_key(&key) {
            self.poll(key, Some(packet), now);
        } else if let (Protocol::Tcp, Some(route)) = (key.protocol, back(frame, *own.ip())) {
            let mut nobody = Host::without_socket(Ends { own, remote }, 0, now);
            self.outgoing.extend(nobody.poll(Some(packet), now).iter().map(|packet| route.frame(packet)));
        }
    }

    /// When [`Self::expire`] is expected.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Gives each flow whose time has come its turn.
    pub(super) fn expire(&mut self, now: Instant) {
        let due: Vec<Key> =
            self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            self.poll(key, None, now);
        }
    }

    /// The frames to be sent, in order.
    pub(super) fn take_outgoing(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.outgoing)
    }

    /// Flows, those included that are about to end.
    pub(super) fn flows(&self) -> usize {
        self.flows.len()
    }

    fn poll(&mut self, key: Key, incoming: Option<&[u8]>, now: Instant) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let mut packets = flow.host.poll(incoming, now);
        let mut is_over = false;
        if let Some(until) = flow.closing {
            is_over = flow.is_over();
            if !is_over && (until <= now || flow.is_unheard()) {
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

    /// Sets the flow's timer anew, or forgets the flow.
    fn set_timer(&mut self, key: Key, is_over: bool, now: Instant) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let before = flow.next.take();
        if !is_over {
            // One that wants its turn at once has just had it.
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

/// A packet that smoltcp may see. Strangers send it, and smoltcp asserts that addresses of hosts are unicast: whatever
/// could not have been meant for a flow of ours ends here.
struct Arrival<'a> {
    packet: &'a [u8],
    protocol: Protocol,
    own: SocketAddrV4,
    remote: SocketAddrV4,
}

impl<'a> Arrival<'a> {
    fn of(frame: &'a [u8]) -> Option<Self> {
        let Parsed::Flow(flow) = frame::parse(frame) else { return None };
        frame::check(frame, &flow).ok()?;
        let packet = frame.get(flow.network..flow.network + flow.total_length)?;
        let end = |address: u32, port: u16| {
            let address = Ipv4Addr::from(address.to_ne_bytes());
            let is_a_host = !(address.is_unspecified() || address.is_multicast() || address.is_broadcast());
            (is_a_host && port != 0).then(|| SocketAddrV4::new(address, u16::from_be(port)))
        };
        let own = end(flow.destination, flow.destination_port)?;
        let remote = end(flow.source, flow.source_port)?;
        Some(Self { packet, protocol: flow.protocol, own, remote })
    }
}

/// The way back to whoever has sent `frame`.
fn back(frame: &[u8], own: Ipv4Addr) -> Option<Route> {
    let mac = |at: usize| frame.get(at..at + 6)?.try_into().ok();
    Some(Route { own, own_mac: mac(0)?, mac: mac(6)? })
}

#[cfg(test)]
pub(super) mod tests;
