//! The way of a packet.

use std::ops::ControlFlow;

use lb_common::addr::{Address, V6};
use lb_common::forward::peer::{self, Facts, Sender};
use lb_common::lease::{Decides, RETURNED_TTL, returned};
use lb_common::mac::Mac;
use lb_common::packet::frame::{self, Flow, Parsed};
use lb_common::reason::{Reason, TableEvent};
use lb_common::server::GivesUp;
use lb_common::table::connection::tcp_flags::DATA;
use lb_common::table::connection::{Generation, State};
use lb_datapath::plan::Target;
use lb_model::{Forwarding, Protocol, Stray};

use super::connections::{Connection, Key, first, in_midst};
use super::{Model, bytes, egress};
use crate::harness::{FIN, RST, SYN};

/// What becomes of a packet that is not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Sent,
    Passed,
    /// To the host, which is the server.
    Delivered(Reason),
}

/// A packet with ports, of either family; ports in host byte order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub is_ipv4: bool,
    pub client: V6,
    pub destination: V6,
    pub client_port: u16,
    pub port: u16,
    pub protocol: Protocol,
    pub hops: u8,
    pub network: usize,
    pub transport: usize,
    pub length: usize,
}

impl Seen {
    pub(super) fn of<A: Address>(flow: &Flow<A>) -> Self {
        Self {
            is_ipv4: flow.destination.mapped().is_mapped(),
            client: flow.source.mapped(),
            destination: flow.destination.mapped(),
            client_port: u16::from_be(flow.source_port),
            port: u16::from_be(flow.destination_port),
            protocol: flow.protocol,
            hops: flow.ttl,
            network: flow.network,
            transport: flow.transport,
            length: flow.total_length,
        }
    }

    pub(super) const fn end(&self) -> usize {
        self.network + self.length
    }
}

/// Where a packet of a service goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decision {
    pub service: usize,
    pub server: usize,
    pub opens: bool,
}

/// How a packet goes to another director.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandOver {
    /// It bears a mark then.
    pub marks: bool,
    /// What goes back to where it came from has so many hops left at most.
    pub hops: u8,
}

pub(super) fn mac(frame: &[u8], at: usize) -> Mac {
    Mac::new(frame[at..at + 6].try_into().expect("a frame has two MACs"))
}

impl Model {
    pub(super) fn walk(&mut self, frame: &mut Vec<u8>, now: u64) -> Result<Way, Reason> {
        match frame::parse(&frame[..]) {
            Parsed::NotOurs => Ok(Way::Passed),
            Parsed::Malformed(reason) => Err(reason),
            Parsed::WhoHas(address) => match self.setting.vips.get(&address) {
                Some(group) if !self.setting.leases[usize::from(*group)].answers(now) => {
                    Err(Reason::ArpSilenced)
                }
                _ => Ok(Way::Passed),
            },
            Parsed::Ipv6(address) => self.host(frame, address, now),
            Parsed::Related => self.related(frame, now),
            Parsed::Flow(flow) => self.balance(frame, &Seen::of(&flow), now),
            Parsed::FlowV6(flow) => self.balance(frame, &Seen::of(&flow), now),
        }
    }

    /// What is for no service is the host's. Of IPv6, unless another director may have the VIP.
    pub(super) fn host(&self, frame: &[u8], address: V6, now: u64) -> Result<Way, Reason> {
        if address.is_mapped() { Ok(Way::Passed) } else { self.neighbour(frame, address, now) }
    }

    /// The same of either family.
    pub(super) fn neighbour(&self, frame: &[u8], address: V6, now: u64) -> Result<Way, Reason> {
        let Some(group) = self.setting.vips.get(&address) else { return Ok(Way::Passed) };
        let lease = self.setting.leases[usize::from(*group)];
        match () {
            () if mac(frame, 0) != self.setting.mac => Err(Reason::NotOurMac),
            () if now < lease.balance_until => Ok(Way::Passed),
            () => Err(lease.refusal(now)),
        }
    }

    fn balance(&mut self, frame: &mut Vec<u8>, seen: &Seen, now: u64) -> Result<Way, Reason> {
        if !self.setting.may_be_vip(seen.destination) {
            return self.unserved(frame, seen, now);
        }
        let service = self.setting.service_at(seen.destination, seen.port, seen.protocol);
        if let Some(service) = service {
            self.admit(frame, service, seen, now)?;
        }
        if bytes::has_partial_checksum(frame, seen) {
            let key = service.map(|service| Key::of(seen, service));
            let known = key.and_then(|key| self.connections.get(&key));
            match (seen.protocol, known) {
                (Protocol::Udp, Some(_)) => self.unnoticed += 1,
                _ => self.event(TableEvent::PartialChecksum),
            }
        }
        let Some(service) = service else {
            let passed = self.unserved(frame, seen, now)?;
            if !self.setting.may_be_translated(seen.client) {
                self.leave_trail(frame, seen, None);
            }
            return Ok(passed);
        };
        let decided = self.decide(frame, service, seen, now);
        let decision = match decided {
            Ok(ControlFlow::Continue(decision)) => decision,
            Ok(ControlFlow::Break(way)) => return Ok(way),
            Err(reason @ (Reason::NoServer | Reason::Stray | Reason::ServerDead)) => {
                return Err(self.refuse(frame, service, seen, reason));
            }
            Err(reason) => return Err(reason),
        };
        self.leave_trail(frame, seen, Some(&decision));
        self.send(frame, seen, &decision)
    }

    /// What is for no service is the host's, unless a server has sent it to its client.
    fn unserved(&mut self, frame: &mut Vec<u8>, seen: &Seen, now: u64) -> Result<Way, Reason> {
        match self.answer_of(seen).filter(|answer| self.is_connected(answer)) {
            Some(answer) => self.send_back(frame, seen, &answer, now),
            None => {
                if self.setting.may_be_translated(seen.client) {
                    self.leave_trail(frame, seen, None);
                }
                self.host(frame, seen.destination, now)
            }
        }
    }

    /// All that is looked at before a packet of a service goes on.
    fn decide(
        &mut self,
        frame: &mut [u8],
        service: usize,
        seen: &Seen,
        now: u64,
    ) -> Result<ControlFlow<Way, Decision>, Reason> {
        if mac(frame, 0) != self.setting.mac {
            return Err(Reason::NotOurMac);
        }
        let key = Key::of(seen, service);
        let known = self.connections.get(&key);
        let shared = self.setting.services[service].shared;
        let sender = if shared { self.sender(frame, service, seen, true, now) } else { Sender::Client };
        if sender == Sender::Balancer {
            self.connections.set(key, None);
            return Ok(ControlFlow::Break(Way::Delivered(Reason::PeerBalanced)));
        }
        let lease = self.setting.lease(service);
        let over = now >= lease.balance_until;
        let outlived = over && !shared && known.is_some_and(|known| lease.is_outlived_by(known.entry(), now));
        let relayed = match shared {
            true => sender == Sender::Relay,
            false => lease.serves_on(now) && self.setting.directors.contains(&mac(frame, 6)),
        };
        if over && !outlived && !relayed {
            return Err(lease.refusal(now));
        }
        let flags = check(frame, seen)?;
        let opens = first(seen.protocol, flags).is_some();
        if over && opens && !(outlived && seen.protocol == Protocol::Udp) {
            return Err(lease.refusal(now));
        }
        let generation = Generation::from_number(lease.generation);
        if !opens && known.is_none_or(|known| known.generation != generation) {
            let with = HandOver { marks: shared, hops: RETURNED_TTL };
            match self.hand_over(frame, service, seen, known, with, now)? {
                Decides::This => {}
                Decides::Other => {
                    let dispute = |known| Connection { generation: generation.disputed(), ..known };
                    self.connections.set(key, known.map(dispute));
                    return Ok(ControlFlow::Break(Way::Sent));
                }
                Decides::Sender => return Ok(ControlFlow::Break(Way::Sent)),
            }
        }
        self.connection(frame, key, seen, flags, generation).map(ControlFlow::Continue)
    }

    /// Who has sent a packet of a service that directors serve. A mark is gone then.
    pub(super) fn sender(
        &self,
        frame: &mut [u8],
        service: usize,
        seen: &Seen,
        marks: bool,
        now: u64,
    ) -> Sender {
        let source = mac(frame, 6);
        let lease = self.setting.lease(service);
        let from_partner = lease.relay(now) == Some(source);
        // What is too short to tell is no packet of a connection.
        let marked = if marks { bytes::is_marked(frame, seen) } else { Some(false) };
        let Some(marked) = marked else { return Sender::Client };
        let sender = peer::sender(Facts {
            from_partner,
            from_director: from_partner || self.setting.directors.contains(&source),
            balances: now < lease.balance_until,
            serves_on: lease.serves_on(now),
            ungrouped: self.setting.services[service].settings.group.is_none(),
            probe: false,
            marked,
            host_serves: self.setting.services[service].served_here,
        });
        if marked && sender != Sender::Client {
            bytes::set_mark(frame, seen, false);
        }
        sender
    }

    /// A packet in mid-connection of which another director may know better.
    pub(super) fn hand_over(
        &mut self,
        frame: &mut [u8],
        service: usize,
        seen: &Seen,
        known: Option<Connection>,
        with: HandOver,
        now: u64,
    ) -> Result<Decides, Reason> {
        let lease = self.setting.lease(service);
        let source = mac(frame, 6);
        let over = now >= lease.balance_until;
        let Some(other) = (if over { Some(source) } else { lease.relay(now) }) else {
            return Ok(Decides::This);
        };
        let decides = lease.decides(known.map(|known| known.entry()), source == other, now);
        if decides == Decides::This {
            return Ok(decides);
        }
        if decides == Decides::Sender {
            bytes::set_hops(frame, seen, returned(seen.hops, with.hops).ok_or(Reason::TtlExpired)?);
        }
        bytes::set_macs(frame, other, self.setting.mac);
        if with.marks {
            bytes::set_mark(frame, seen, true);
        }
        self.event(TableEvent::Relayed);
        Ok(decides)
    }

    /// The server of the packet's connection, which takes a step.
    fn connection(
        &mut self,
        frame: &[u8],
        key: Key,
        seen: &Seen,
        flags: u8,
        generation: Generation,
    ) -> Result<Decision, Reason> {
        let service = key.service;
        let begins = first(seen.protocol, flags);
        let decision = |server, opens| Decision { service, server, opens };
        let known = self.connections.get(&key);
        let named = self.named(frame, service, seen, known.map(|known| known.server));
        if self.setting.services[service].settings.each_datagram {
            return Ok(decision(self.taken(named, &key)?, true));
        }
        if let (Some(server), Some(known)) = (named, known)
            && server != known.server
        {
            self.connections.set(key, Some(Connection { server, state: State::Udp, generation }));
            return Ok(decision(server, true));
        }
        if let Some(known) = known {
            let of = &self.setting.services[service].servers[known.server];
            let (usable, gives_up) = (of.usable, of.gives_up);
            // What a datagram names is enough; other datagrams want a server that takes new ones.
            let goes_on = begins.is_none() || named.is_some();
            let stays = usable || goes_on && gives_up.is_none();
            match known.after(flags) {
                Some(state) if stays => {
                    self.connections.set(key, Some(Connection { state, generation, ..known }));
                    let written = (state, generation) != (known.state, known.generation);
                    if written && usable && matches!(state, State::Established | State::Udp) {
                        self.prolong(service, key.client, known.server);
                    }
                    return Ok(decision(known.server, false));
                }
                _ if begins.is_some() => {}
                _ => match gives_up {
                    None => return Ok(decision(known.server, false)),
                    Some(GivesUp::Moves) => {
                        let server = self.pick(&key)?;
                        let state = in_midst(flags);
                        self.connections.set(key, Some(Connection { server, state, generation }));
                        return Ok(decision(server, true));
                    }
                    Some(GivesUp::Resets) => {
                        if known.state != State::Closed {
                            let closed = Connection { state: State::Closed, generation, ..known };
                            self.connections.set(key, Some(closed));
                        }
                        return Err(Reason::ServerDead);
                    }
                },
            }
        }
        let Some(state) = begins else { return self.stray(key, flags, generation) };
        let server = self.taken(named, &key)?;
        self.connections.set(key, Some(Connection { server, state, generation }));
        Ok(decision(server, true))
    }

    /// The server that a packet names, or else the scheduler's pick.
    fn taken(&mut self, named: Option<usize>, key: &Key) -> Result<usize, Reason> {
        named.map_or_else(|| self.pick(key), Ok)
    }

    /// A TCP packet in mid-connection of which nobody knows.
    fn stray(&mut self, key: Key, flags: u8, generation: Generation) -> Result<Decision, Reason> {
        let of = &self.setting.services[key.service];
        if of.settings.stray != Stray::Hash {
            return Err(Reason::Stray);
        }
        let server = self.by_hash(&key)?;
        if self.setting.services[key.service].servers[server].translation.is_some() {
            // Without it nobody could tell whose its answers are.
            let state = in_midst(flags);
            self.connections.set(key, Some(Connection { server, state, generation }));
        }
        Ok(Decision { service: key.service, server, opens: false })
    }

    pub(super) fn send(
        &mut self,
        frame: &mut Vec<u8>,
        seen: &Seen,
        decision: &Decision,
    ) -> Result<Way, Reason> {
        let Decision { service, server, opens } = *decision;
        let to = &self.setting.services[service].servers[server];
        if !to.is_reachable() {
            return Err(Reason::NoMac);
        }
        let (own, next_hop) = (self.setting.mac, to.mac);
        let count = |counted: &mut super::Counted| {
            let totals = &mut counted.servers[service][server];
            let [connections, packets, bytes] = *totals;
            *totals = [connections + u64::from(opens), packets + 1, bytes + seen.end() as u64];
        };
        match (to.forwarding, to.tunnel) {
            (Forwarding::Masq, _) => {
                let egress = to.egress;
                self.translate(frame, seen, decision)?;
                if let (Some(egress), Some(next_hop)) = (egress, next_hop) {
                    egress::leave(frame, seen, &egress, next_hop, own)?;
                }
                count(&mut self.counted);
                Ok(Way::Sent)
            }
            (Forwarding::Local, _) => {
                let reason =
                    if to.target == Target::Local { Reason::LocalFallback } else { Reason::LocalServer };
                count(&mut self.counted);
                Ok(Way::Delivered(reason))
            }
            (_, Some(tunnel)) => {
                let next_hop = next_hop.expect("it is reachable");
                if let Err((reason, limited)) = bytes::into_tunnel(frame, seen, &tunnel, next_hop, own) {
                    self.limited = limited;
                    return Err(reason);
                }
                count(&mut self.counted);
                Ok(Way::Sent)
            }
            _ if to.egress.is_some() => {
                let egress = to.egress.expect("just looked at");
                egress::leave(frame, seen, &egress, next_hop.expect("it is reachable"), own)?;
                count(&mut self.counted);
                Ok(Way::Sent)
            }
            _ => {
                count(&mut self.counted);
                let next_hop = next_hop.expect("it is reachable");
                if mac(frame, 6) == next_hop {
                    // A packet goes back once.
                    if bytes::hops(frame, seen) < 8 {
                        return Err(Reason::Loop);
                    }
                    bytes::set_hops(frame, seen, 8);
                }
                bytes::set_macs(frame, next_hop, own);
                Ok(Way::Sent)
            }
        }
    }

    /// Of a service that refuses, and of a connection whose server is dead, the client hears of it;
    /// the reason that counts.
    fn refuse(&mut self, frame: &mut Vec<u8>, service: usize, seen: &Seen, reason: Reason) -> Reason {
        let of = &self.setting.services[service];
        let unserved = reason == Reason::NoServer || !of.has_members();
        let dead = reason == Reason::ServerDead;
        if !dead && (!of.settings.refuses || !unserved) {
            return reason;
        }
        match bytes::refusal(frame, seen, self.setting.mac) {
            Some(limited) => {
                self.limited = limited;
                if dead { reason } else { Reason::Refused }
            }
            None => Reason::RefusedSilently,
        }
    }
}

/// The TCP flags of a packet whose headers are possible, with the mark of data; of UDP 0.
pub(super) fn check(frame: &[u8], seen: &Seen) -> Result<u8, Reason> {
    if seen.client == seen.destination {
        return Err(Reason::SourceIsVip);
    }
    if seen.hops == 0 {
        return Err(Reason::TtlExpired);
    }
    let (start, end) = (seen.transport, seen.end());
    let least = if seen.protocol == Protocol::Tcp { 20 } else { 8 };
    if end > frame.len() || start + least > end {
        return Err(Reason::BadLength);
    }
    if seen.protocol == Protocol::Udp {
        let length = u16::from_be_bytes([frame[start + 4], frame[start + 5]]);
        return if length < 8 { Err(Reason::BadLength) } else { Ok(0) };
    }
    let header = usize::from(frame[start + 12] >> 4) * 4;
    if header < 20 || start + header > end {
        return Err(Reason::BadLength);
    }
    let flags = frame[start + 13];
    match flags & SYN != 0 && flags & (FIN | RST) != 0 {
        true => Err(Reason::BadTcpFlags),
        false => Ok(flags & !DATA | if start + header < end { DATA } else { 0 }),
    }
}
