//! Servers behind address translation: what goes to them, and what they send.

use std::collections::HashMap;

use lb_common::addr::V6;
use lb_common::forward::egress::Egress;
use lb_common::forward::nat::Translation;
use lb_common::forward::nat::source::{ATTEMPTS, Client, Pool};
use lb_common::lease::RETURNED_ANSWER_TTL;
use lb_common::mac::Mac;
use lb_common::packet::frame;
use lb_common::packet::vlan::Vlan;
use lb_common::reason::Reason;
use lb_common::table::connection::Generation;
use lb_model::Protocol;

use super::connections::{Connection, Key};
pub(super) use super::rewrite::Quoted;
use super::rewrite::{End, Headers, rewrite};
use super::walk::{Decision, Seen, Way, check};
use super::{Model, bytes, egress};

/// An address and port.
type Place = (V6, u16);

/// Whose a server's packet is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub service: usize,
    pub server: usize,
    client: V6,
    client_port: u16,
    /// Of the VIP.
    port: u16,
    /// It is for an address of ours in the client's place.
    is_sourced: bool,
}

/// What stands in the place of clients. Nothing is given back as long as a test runs.
#[derive(Default)]
pub(super) struct Sources {
    /// By connection and server. No port: only later fragments have gone out with it, and nobody
    /// knows how the program hashes.
    of: HashMap<(Key, usize), (V6, Option<u16>)>,
    /// By server's end and protocol, and our own end.
    taken: HashMap<(Place, Protocol, Place), (Key, usize)>,
}

fn bits(address: V6) -> u128 {
    address.0.iter().fold(0, |bits, word| bits << 64 | u128::from(word.to_be()))
}

fn is_near(translation: &Translation, client: V6) -> bool {
    (bits(client) ^ bits(translation.address)) & bits(translation.subnet) == 0
}

/// What is tried for a client, one after the other.
fn tried(pool: &Pool, (client, port): Place, keys: [u64; 2]) -> impl Iterator<Item = Place> {
    let hash = Client::new(client, port.to_be(), 0, 0).hash(keys);
    let each = (0..ATTEMPTS).filter_map(move |attempt| pool.candidate(hash, attempt));
    each.map(|found| (found.address, u16::from_be(found.port)))
}

/// Of a connection to this port of the VIP.
fn end_of(translation: &Translation, port: u16) -> Place {
    (translation.address, u16::from_be(translation.port_of(port.to_be())))
}

impl Model {
    /// Rewrites what goes to a server.
    pub(super) fn translate(
        &mut self,
        frame: &mut Vec<u8>,
        seen: &Seen,
        decision: &Decision,
    ) -> Result<(), Reason> {
        let Decision { service, server, opens } = *decision;
        let of = &self.setting.services[service];
        let translation = of.servers[server].translation.expect("it is behind address translation");
        let next_hop = of.servers[server].mac.expect("it is reachable");
        let pool = of.settings.source_nat;
        let headers = Headers::of(frame, seen);
        let is_error = matches!(headers, Headers::Error(_));
        let key = Key::of(seen, service);
        if pool.is_none() && !is_error && is_near(&translation, seen.client) {
            return Err(self.unlearnt(&headers, key, server, Reason::ClientNearServer));
        }
        if pool.is_none() && opens && self.clashes(&translation, &key, server) {
            return Err(self.unlearnt(&headers, key, server, Reason::NatClash));
        }
        if seen.hops < 2 {
            return Err(self.expired(frame, seen, service));
        }
        let source = match pool {
            None => None,
            Some(pool) => match self.source(frame, seen, (key, server), &translation, &pool, &headers) {
                None => return Err(self.unlearnt(&headers, key, server, Reason::NoSourcePort)),
                found => found,
            },
        };
        rewrite(frame, seen, &headers, End::Destination, end_of(&translation, seen.port), true);
        if let Some(source) = source {
            rewrite(frame, seen, &headers, End::Source, source, false);
        }
        bytes::set_macs(frame, next_hop, self.setting.mac);
        Ok(())
    }

    /// Nothing can come of the packet's connection.
    fn unlearnt(&mut self, headers: &Headers, key: Key, server: usize, reason: Reason) -> Reason {
        let is_its = |known: Connection| known.server == server;
        if matches!(headers, Headers::Ports { .. }) && self.connections.get(&key).is_some_and(is_its) {
            self.connections.set(key, None);
        }
        reason
    }

    /// What the table knows of a client's connection to this server, which sends from a port.
    fn connection_to(
        &self,
        (service, server): (usize, usize),
        (client, client_port): Place,
        server_port: u16,
    ) -> Option<Connection> {
        let port = self.setting.port_of(service, server_port);
        let known = self.connections.get(&Key { client, client_port, port, service })?;
        (known.server == server).then_some(known)
    }

    fn is_each_datagram(&self, service: usize) -> bool {
        self.setting.services[service].settings.each_datagram
    }

    fn has_pool(&self, service: usize) -> bool {
        self.setting.services[service].settings.source_nat.is_some()
    }

    /// Whether the server would have two connections with one end of the client's.
    fn clashes(&self, translation: &Translation, key: &Key, server: usize) -> bool {
        let protocol = self.setting.services[key.service].key.protocol;
        let (address, port) = end_of(translation, key.port);
        let mut others = self.setting.backends(address, port, protocol).into_iter().flatten();
        others.any(|other| {
            let known = self.connection_to(*other, (key.client, key.client_port), port);
            *other != (key.service, server)
                && !self.has_pool(other.0)
                && known.is_some_and(|known| !known.state.is_over_for_both())
        })
    }

    /// Whose a packet is that comes from the end of a server.
    pub(super) fn answer_of(&self, seen: &Seen) -> Option<Answer> {
        let (from, to) = ((seen.client, seen.client_port), (seen.destination, seen.port));
        if let Some((key, server)) = self.sources.taken.get(&(from, seen.protocol, to)) {
            let Key { client, client_port, service, port } = *key;
            return Some(Answer { service, server: *server, client, client_port, port, is_sourced: true });
        }
        let (client, client_port) = to;
        let answer = |(service, server): (usize, usize)| {
            let port = self.setting.port_of(service, seen.client_port);
            Answer { service, server, client, client_port, port, is_sourced: false }
        };
        // Those of the port itself come before those of any.
        let servers = self.setting.backends(from.0, from.1, seen.protocol);
        let with_own =
            servers.map(|all| all.iter().copied().filter(move |(service, _)| !self.has_pool(*service)));
        let is_over = |server: &(usize, usize)| {
            Some(self.connection_to(*server, to, seen.client_port)?.state.is_over_for_both())
        };
        let lives = |server: &(usize, usize)| is_over(server) == Some(false);
        // One that is not over, or else one that needs none, or else the last one.
        let live = || with_own.clone().into_iter().flatten().find(lives);
        let alone =
            || with_own.clone().into_iter().flatten().find(|server| self.answers_alone(*server, seen));
        let last =
            || with_own.clone().into_iter().find_map(|mut all| all.rfind(|one| is_over(one).is_some()));
        live().or_else(alone).or_else(last).map(answer)
    }

    /// Whether what this server sends is an answer without a connection.
    fn answers_alone(&self, (service, _): (usize, usize), seen: &Seen) -> bool {
        let port = self.setting.port_of(service, seen.client_port);
        let vip = V6::from(self.setting.services[service].key.vip);
        self.is_each_datagram(service) && self.setting.service_at(vip, port, seen.protocol) == Some(service)
    }

    pub(super) fn is_connected(&self, answer: &Answer) -> bool {
        self.is_each_datagram(answer.service) || self.known_to(answer).is_some()
    }

    /// The connection that an answer is of.
    fn known_to(&self, answer: &Answer) -> Option<Connection> {
        let Answer { service, server, client, client_port, port, .. } = *answer;
        let known = self.connections.get(&Key { client, client_port, port, service })?;
        (known.server == server).then_some(known)
    }

    /// What of a server's packet must be right, `seen` as its client sends.
    pub(super) fn check_answer(&self, frame: &[u8], seen: &Seen, answer: &Answer) -> Result<(), Reason> {
        self.check_related(frame, seen)?;
        let Some(egress) = self.egress_of(answer) else { return Ok(()) };
        let vlan = frame::tags(frame).map(|tags| tags.vlan);
        // The model has one interface.
        match vlan.is_some_and(|vlan| egress.admits_answer(vlan, 0)) {
            true => Ok(()),
            false => Err(Reason::ForeignVlan),
        }
    }

    /// What a server has sent goes to its client.
    pub(super) fn send_back(
        &mut self,
        frame: &mut Vec<u8>,
        seen: &Seen,
        answer: &Answer,
        now: u64,
    ) -> Result<Way, Reason> {
        let Answer { service, server, client, client_port, port, .. } = *answer;
        let known = self.known_to(answer);
        if known.is_none() && !self.is_each_datagram(service) {
            return self.host(frame, seen.destination, now);
        }
        let vip = self.setting.services[service].key.vip;
        let turned = Seen { client, client_port, destination: vip.into(), port, ..*seen };
        self.check_answer(frame, &turned, answer)?;
        let flags = check(frame, &turned)?;
        if self.is_each_datagram(service) {
            self.goes_on(service, now)?;
        } else if let Some(way) = self.by_lease(frame, service, &turned, known, RETURNED_ANSWER_TTL, now)? {
            return Ok(way);
        }
        let to = self.way_back(frame, seen, answer)?;
        let generation = Generation::from_number(self.setting.lease(service).generation);
        if let Some(known) = known.filter(|_| !self.is_each_datagram(service)) {
            let after = Connection { state: known.answered(flags), generation, ..known };
            self.connections.set(Key::of(&turned, service), Some(after));
        }
        self.leave_trail_back(frame, seen, &Decision { service, server, opens: false });
        self.rewrite_back(frame, seen, answer, to);
        Ok(Way::Sent)
    }

    /// The MAC of the next hop to the client, if the packet has hops left.
    pub(super) fn way_back(
        &mut self,
        frame: &mut Vec<u8>,
        seen: &Seen,
        answer: &Answer,
    ) -> Result<Mac, Reason> {
        if seen.hops < 2 {
            return Err(self.expired(frame, seen, answer.service));
        }
        let vlan = self.egress_of(answer).map_or(Vlan::UNTAGGED, |egress| egress.from);
        self.setting.way_to(answer.client, vlan).ok_or(Reason::NoWayBack)
    }

    fn egress_of(&self, answer: &Answer) -> Option<Egress> {
        self.setting.services[answer.service].servers[answer.server].egress
    }

    pub(super) fn rewrite_back(&self, frame: &mut Vec<u8>, seen: &Seen, answer: &Answer, to: Mac) {
        let vip = self.setting.services[answer.service].key.vip;
        let headers = Headers::of(frame, seen);
        rewrite(frame, seen, &headers, End::Source, (vip.into(), answer.port), true);
        if answer.is_sourced {
            let client = (answer.client, answer.client_port);
            rewrite(frame, seen, &headers, End::Destination, client, false);
        }
        bytes::set_macs(frame, to, self.setting.mac);
        if let Some(egress) = self.egress_of(answer) {
            egress::come_back(frame, &egress);
        }
    }

    /// Whoever has sent a packet that has no hop left is told in the name of the VIP.
    fn expired(&mut self, frame: &mut Vec<u8>, seen: &Seen, service: usize) -> Reason {
        let vip = self.setting.services[service].key.vip;
        let has_ports = matches!(Headers::of(frame, seen), Headers::Ports { .. });
        let is_told = seen.hops != 0 && has_ports && bytes::time_exceeded(frame, seen, vip, self.setting.mac);
        self.limited |= is_told;
        if is_told { Reason::TtlAnswered } else { Reason::TtlExpired }
    }

    /// What stands in the place of the connection's client, if there is something or can be.
    fn source(
        &mut self,
        frame: &[u8],
        seen: &Seen,
        of: (Key, usize),
        translation: &Translation,
        pool: &Pool,
        headers: &Headers,
    ) -> Option<Place> {
        let told = self.told_source(frame, seen);
        let has_port = matches!(headers, Headers::Ports { .. });
        let known = self.sources.of.get(&of).copied();
        if let Headers::Error(quoted) = headers {
            let (address, port) = known?;
            let told = || Some(bytes::word(self.told.as_deref()?, quoted.transport + 2));
            return Some((address, port.or_else(told).unwrap_or_default()));
        }
        if let Some((address, Some(port))) = known {
            return Some((address, port));
        }
        let addresses = &pool.addresses[..pool.count as usize];
        let ports = pool.first_port..pool.first_port + pool.ports;
        let (end, protocol) = (end_of(translation, of.0.port), seen.protocol);
        let is_free = |source: Place| {
            let is_first = known.is_none_or(|(address, _)| address == source.0);
            is_first
                && addresses.contains(&source.0)
                && ports.contains(&source.1)
                && !self.sources.taken.contains_key(&(end, protocol, source))
        };
        let used = self.sources.of.keys().filter(|(key, server)| {
            let of = &self.setting.services[key.service];
            let translation = of.servers[*server].translation.as_ref();
            of.key.protocol == protocol && translation.map(|known| end_of(known, key.port)) == Some(end)
        });
        let most = addresses.len() * usize::from(pool.ports);
        if known.is_none() && used.count() >= most {
            return None;
        }
        let keys = self.setting.hash_keys;
        if !has_port && keys.is_none() {
            let address = told.map(|(address, _)| address).filter(|address| addresses.contains(address));
            let address = known.map(|(address, _)| address).or(address).unwrap_or(addresses[0]);
            self.sources.of.insert(of, (address, None));
            return Some((address, 0));
        }
        let all = || addresses.iter().flat_map(|address| ports.clone().map(move |port| (*address, port)));
        let source = match keys.filter(|_| !has_port) {
            // Nobody sees the port: it is the first one that the program finds free.
            Some(keys) => tried(pool, (seen.client, seen.client_port), keys).find(|one| is_free(*one))?,
            None => told.filter(|told| is_free(*told)).or_else(|| all().find(|source| is_free(*source)))?,
        };
        self.sources.taken.insert((end, protocol, source), of);
        self.sources.of.insert(of, (source.0, Some(source.1)));
        Some(source)
    }

    /// The source of what went out; of a later fragment the port is none.
    fn told_source(&self, frame: &[u8], seen: &Seen) -> Option<Place> {
        let told = self.told.as_deref().filter(|told| told.len() == frame.len())?;
        let address = bytes::source(told, seen);
        let port = told.get(seen.transport..seen.transport + 2)?;
        Some((address, u16::from_be_bytes([port[0], port[1]])))
    }
}
