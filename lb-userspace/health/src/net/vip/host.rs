//! A smoltcp host with one socket, for one probe. Pure: packets in, packets out, time as a
//! parameter.
//!
//! Each flow has a host of its own, because smoltcp searches all sockets of an interface for every
//! packet, and because one VIP is at many MACs.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use lb_common::program::probe::TTL;
use lb_system::clock::now_ns;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{AnySocket, Socket, tcp, udp};
use smoltcp::wire::{HardwareAddress, IpCidr};

/// Bytes of an IP packet: Ethernet's MTU, less a TCP timestamp option, which smoltcp does not
/// count.
const MTU: usize = 1500 - 12;

/// Receive window: two segments, so that a frame which the kernel has merged from several (GRO in
/// generic mode) still fits.
const RECEIVE: usize = 2 * (MTU - 40);
const SEND: usize = 2048;

/// Buffers for datagrams in each direction: several full Ethernet frames.
const DATAGRAMS: usize = 8;
const DATAGRAM_BYTES: usize = 4 * MTU;

/// The addresses of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub own: SocketAddr,
    pub remote: SocketAddr,
}

/// Outgoing packets of a host, beginning with the IP header.
pub(super) type Packets = Vec<Vec<u8>>;

pub(super) struct Host {
    interface: Interface,
    /// One or none.
    sockets: SocketSet<'static>,
    /// The origin of smoltcp's time.
    begin: Instant,
}

impl Host {
    /// A host that connects; [`Self::poll`] sends the SYN.
    pub(super) fn connecting(ends: Ends, seed: u64, now: Instant) -> Self {
        let buffer = |size| tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(RECEIVE), buffer(SEND));
        socket.set_hop_limit(Some(TTL));
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        // By timestamps a server that has the port's last connection in TIME-WAIT accepts a new one
        // (RFC 6191).
        socket.set_tsval_generator(Some(|| (now_ns() / 1_000_000) as u32));
        let mut host = Self::without_socket(ends, seed, now);
        let begun = socket.connect(host.interface.context(), ends.remote, ends.own);
        debug_assert!(begun.is_ok(), "{begun:?}: a new socket, and addresses that were validated");
        host.sockets.add(socket);
        host
    }

    /// A host with a UDP socket.
    pub(super) fn datagrams(ends: Ends, seed: u64, now: Instant) -> Self {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; DATAGRAMS], vec![0; DATAGRAM_BYTES]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.set_hop_limit(Some(TTL));
        let bound = socket.bind(ends.own);
        debug_assert!(bound.is_ok(), "{bound:?}: a new socket, and a port that is not 0");
        let mut host = Self::without_socket(ends, seed, now);
        host.sockets.add(socket);
        host
    }

    /// A host without a listener: it answers TCP with a reset.
    pub(super) fn without_socket(ends: Ends, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface =
            Interface::new(config, &mut Wire { incoming: None, outgoing: &mut Vec::new() }, at(now, now));
        interface.update_ip_addrs(|addresses| {
            let pushed = addresses.push(only(ends.own.ip()));
            debug_assert!(pushed.is_ok(), "there is room for one address");
        });
        Self { interface, sockets: SocketSet::new(Vec::with_capacity(1)), begin: now }
    }

    /// A host that accepts one connection: a server.
    #[cfg(test)]
    pub(super) fn listening(own: SocketAddr, now: Instant) -> Self {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_535]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(own).expect("a new socket");
        let mut host = Self::without_socket(Ends { own, remote: own }, 1, now);
        host.sockets.add(socket);
        host
    }

    /// Processes a packet, if any, and expired timers. Returns the packets to send.
    ///
    /// If smoltcp panics, only this flow is lost, and not the task that serves all flows.
    pub(super) fn poll(&mut self, incoming: Option<&[u8]>, now: Instant) -> Packets {
        let polled = catch_unwind(AssertUnwindSafe(|| self.poll_unguarded(incoming, now)));
        polled.unwrap_or_else(|_| {
            self.sockets = SocketSet::new(Vec::new());
            Packets::new()
        })
    }

    fn poll_unguarded(&mut self, incoming: Option<&[u8]>, now: Instant) -> Packets {
        let now = at(self.begin, now);
        let mut packets = Vec::new();
        let mut wire = Wire { incoming, outgoing: &mut packets };
        self.interface.poll(now, &mut wire, &mut self.sockets);
        // smoltcp sends one packet per socket and call.
        loop {
            let mut more = Vec::new();
            let mut wire = Wire { incoming: None, outgoing: &mut more };
            self.interface.poll(now, &mut wire, &mut self.sockets);
            if more.is_empty() {
                return packets;
            }
            packets.append(&mut more);
        }
    }

    /// When [`Self::poll`] must run next, even without a packet.
    pub(super) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let next = self.interface.poll_at(at(self.begin, now), &self.sockets)?;
        let micros = u64::try_from(next.total_micros()).unwrap_or(0);
        Some((self.begin + Duration::from_micros(micros)).max(now))
    }

    pub(super) fn tcp(&mut self) -> Option<&mut tcp::Socket<'static>> {
        self.get()
    }

    pub(super) fn udp(&mut self) -> Option<&mut udp::Socket<'static>> {
        self.get()
    }

    fn get<T: AnySocket<'static>>(&mut self) -> Option<&mut T> {
        let only: &mut Socket<'static> = self.sockets.iter_mut().next()?.1;
        T::downcast_mut(only)
    }
}

/// The address as a network of its own.
fn only(address: IpAddr) -> IpCidr {
    IpCidr::new(address.into(), if address.is_ipv4() { 32 } else { 128 })
}

fn at(begin: Instant, now: Instant) -> smoltcp::time::Instant {
    let micros = now.saturating_duration_since(begin).as_micros();
    smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// smoltcp's device for one poll.
struct Wire<'a> {
    incoming: Option<&'a [u8]>,
    outgoing: &'a mut Packets,
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t>
    where
        Self: 't;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        Some((Incoming(self.incoming.take()?), Outgoing(self.outgoing)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        // On virtual interfaces a packet may have no checksum: it never left the machine.
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities.checksum.udp = Checksum::Tx;
        capabilities
    }
}

struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

struct Outgoing<'a>(&'a mut Packets);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}
