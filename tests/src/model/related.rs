//! Packets that belong to another one: ICMP errors, and fragments behind the first one.

use std::collections::HashMap;

use lb_common::addr::{V4, V6};
use lb_common::forward::peer::Sender;
use lb_common::lease::{Decides, RETURNED_TTL};
use lb_common::packet::fragment;
use lb_common::packet::frame::{self, Head, RelatedHeaders};
use lb_common::reason::Reason;
use lb_common::table::connection::Generation;
use lb_model::Protocol;

use super::Model;
use super::connections::{Connection, Key as Whose};
use super::nat::Quoted;
use super::walk::{Decision, HandOver, Seen, Way, mac};

/// What a datagram's fragments have in common.
type Key = (V6, V6, u32, u32);

#[derive(Default)]
pub(super) struct Trails(HashMap<Key, Trail>);

/// Where the first fragment went, and which bytes have come, in units of 8.
struct Trail {
    /// `None`: to the host, because no service is at its port.
    decision: Option<Decision>,
    /// The server has sent it.
    is_answer: bool,
    client_port: u16,
    port: u16,
    protocol: Protocol,
    came: Vec<(usize, usize)>,
}

impl Trail {
    /// Notes another piece, or says why it is dropped. Returns whether the datagram is whole.
    fn note(&mut self, from: usize, to: usize) -> Result<bool, Reason> {
        if self.came.iter().any(|(begin, end)| from < *end && *begin < to) {
            return Err(Reason::FragmentOverlap);
        }
        let mut after = self.came.clone();
        after.push((from, to));
        after.sort_unstable();
        let mut joined: Vec<(usize, usize)> = Vec::new();
        for (begin, end) in after {
            match joined.last_mut() {
                Some((_, last)) if *last == begin => *last = end,
                _ => joined.push((begin, end)),
            }
        }
        if joined.len() > 4 {
            return Err(Reason::FragmentScattered);
        }
        self.came = joined;
        Ok(self.came == [(0, END)])
    }
}

/// Behind the last piece of any datagram.
const END: usize = u16::MAX as usize;

/// What a fragment carries, in units of 8 bytes. Nothing follows the last one.
fn piece<A>(head: &Head<A>) -> Result<(usize, usize), Reason> {
    let end = head.network + head.total_length;
    let (offset, more) = ((head.fragment >> 1) * 8, head.fragment & 1 != 0);
    let Some(length) = end.checked_sub(head.data) else { return Err(Reason::BadLength) };
    if length == 0 || more && length % 8 != 0 || offset + length > 65_535 {
        return Err(Reason::BadLength);
    }
    Ok((offset / 8, if more { (offset + length) / 8 } else { END }))
}

fn key<A: RelatedHeaders>(head: &Head<A>) -> Key {
    let fragment::Key { source, destination, id, protocol } = head.key();
    (source, destination, id, protocol)
}

fn seen<A: RelatedHeaders>(head: &Head<A>, ports: [u16; 2], protocol: Protocol) -> Seen {
    Seen {
        is_ipv4: head.destination.mapped().is_mapped(),
        client: head.source.mapped(),
        destination: head.destination.mapped(),
        client_port: ports[0],
        port: ports[1],
        protocol,
        hops: head.ttl,
        network: head.network,
        transport: head.upper,
        length: head.total_length,
    }
}

impl Model {
    pub(super) fn related(&mut self, frame: &mut Vec<u8>, now: u64) -> Result<Way, Reason> {
        let link = frame::link(&frame[..]).expect("it was parsed");
        match link.is_ipv6() {
            true => match V6::head(&frame[..], link.network()) {
                Some(head) => self.related_to(frame, &head, now),
                None => Ok(Way::Passed),
            },
            false => match V4::head(&frame[..], link.network()) {
                Some(head) => self.related_to(frame, &head, now),
                None => Ok(Way::Passed),
            },
        }
    }

    fn related_to<A: RelatedHeaders>(
        &mut self,
        frame: &mut Vec<u8>,
        head: &Head<A>,
        now: u64,
    ) -> Result<Way, Reason> {
        let destination = head.destination.mapped();
        // What is for none of our services may be about a packet of a server behind address
        // translation.
        let to_vip = self.setting.may_be_vip(destination);
        if head.is_later_fragment() {
            if self.trails.0.get(&key(head)).is_some_and(|trail| trail.decision.is_none()) {
                // The datagram is the host's, and so is what of it overlaps.
                if let Ok((from, to)) = piece(head) {
                    let _ = self.note(head, from, to);
                }
                return self.host(frame, destination, now);
            }
            if to_vip { self.later_fragment(frame, head, now) } else { self.later_answer(frame, head, now) }
        } else if head.is_error(&frame[..]) {
            if to_vip { self.error(frame, head, now) } else { self.error_back(frame, head, now) }
        } else {
            self.host(frame, destination, now)
        }
    }

    /// A later fragment that a server has sent, or perhaps somebody else.
    fn later_answer<A: RelatedHeaders>(
        &mut self,
        frame: &mut Vec<u8>,
        head: &Head<A>,
        now: u64,
    ) -> Result<Way, Reason> {
        let destination = head.destination.mapped();
        let trail = self.trails.0.get(&key(head));
        if trail.is_none() && self.setting.may_be_translated(head.source.mapped()) {
            // Its first one may still come, of a protocol that is translated.
            let way = self.host(frame, destination, now)?;
            let is_awaited = Protocol::from_number(head.protocol).is_some();
            return if is_awaited { Err(Reason::FragmentUnknown) } else { Ok(way) };
        }
        let found = trail.filter(|trail| trail.is_answer).and_then(|trail| {
            let seen = seen(head, [trail.client_port, trail.port], trail.protocol);
            let answer = self.answer_of(&seen)?;
            let decision = trail.decision?;
            let is_its = (answer.service, answer.server) == (decision.service, decision.server);
            is_its.then_some((seen, answer))
        });
        let Some((seen, answer)) = found else { return self.host(frame, destination, now) };
        self.check_answer(frame, &seen, &answer)?;
        self.goes_on(answer.service, now)?;
        let (from, to) = piece(head)?;
        self.note(head, from, to)?;
        let to = self.way_back(frame, &seen, &answer)?;
        self.rewrite_back(frame, &seen, &answer, to);
        Ok(Way::Sent)
    }

    /// An ICMP error about a packet of a client to a server behind address translation.
    fn error_back<A: RelatedHeaders>(
        &mut self,
        frame: &mut Vec<u8>,
        head: &Head<A>,
        now: u64,
    ) -> Result<Way, Reason> {
        let destination = head.destination.mapped();
        let Some(quoted) = Quoted::of(frame, head).filter(|quoted| quoted.source == destination) else {
            return self.host(frame, destination, now);
        };
        // As if the server had sent what it is about.
        let seen = Seen { client: quoted.destination, ..seen(head, quoted.back(), quoted.protocol) };
        let Some(answer) = self.answer_of(&seen).filter(|answer| self.is_connected(answer)) else {
            return self.host(frame, destination, now);
        };
        self.check_answer(frame, &seen, &answer)?;
        self.goes_on(answer.service, now)?;
        let to = self.way_back(frame, &seen, &answer)?;
        self.rewrite_back(frame, &seen, &answer, to);
        Ok(Way::Sent)
    }

    /// Of a first fragment that others may follow, to a server or to the host.
    pub(super) fn leave_trail(&mut self, frame: &[u8], seen: &Seen, decision: Option<&Decision>) {
        self.leave(frame, seen, decision, false);
    }

    /// The same of one that a server has sent to its client.
    pub(super) fn leave_trail_back(&mut self, frame: &[u8], seen: &Seen, decision: &Decision) {
        self.leave(frame, seen, Some(decision), true);
    }

    fn leave(&mut self, frame: &[u8], seen: &Seen, decision: Option<&Decision>, is_answer: bool) {
        let left = match seen.is_ipv4 {
            true => V4::head(frame, seen.network).and_then(|head| Some((key(&head), first_piece(&head)?))),
            false => V6::head(frame, seen.network).and_then(|head| Some((key(&head), first_piece(&head)?))),
        };
        if let Some((key, piece)) = left {
            let trail = Trail {
                decision: decision.map(|decision| Decision { opens: false, ..*decision }),
                is_answer,
                client_port: seen.client_port,
                port: seen.port,
                protocol: seen.protocol,
                came: vec![piece],
            };
            self.trails.0.insert(key, trail);
        }
    }

    fn later_fragment<A: RelatedHeaders>(
        &mut self,
        frame: &mut Vec<u8>,
        head: &Head<A>,
        now: u64,
    ) -> Result<Way, Reason> {
        let trail = self.trails.0.get(&key(head)).filter(|trail| !trail.is_answer);
        let found = trail.and_then(|trail| {
            Some((seen(head, [trail.client_port, trail.port], trail.protocol), trail.decision?))
        });
        let Some((seen, decision)) = found else {
            return self.neighbour(frame, head.destination.mapped(), now).and(Err(Reason::FragmentUnknown));
        };
        self.check_related(frame, &seen)?;
        self.goes_on(decision.service, now)?;
        let (from, to) = piece(head)?;
        self.note(head, from, to)?;
        self.send(frame, &seen, &decision)
    }

    /// What belongs to a connection goes on under the lease, and while that is lapsing.
    pub(super) fn goes_on(&self, service: usize, now: u64) -> Result<(), Reason> {
        let lease = self.setting.lease(service);
        let refusal = lease.refusal(now);
        let lapses = refusal == Reason::LeaseLapsed && !self.setting.services[service].shared;
        if now < lease.balance_until || lapses { Ok(()) } else { Err(refusal) }
    }

    /// Notes a piece of a datagram that has a trail, which ends when it is whole.
    fn note<A: RelatedHeaders>(&mut self, head: &Head<A>, from: usize, to: usize) -> Result<(), Reason> {
        if self.trails.0.get_mut(&key(head)).expect("it is there").note(from, to)? {
            self.trails.0.remove(&key(head));
        }
        Ok(())
    }

    pub(super) fn check_related(&self, frame: &[u8], seen: &Seen) -> Result<(), Reason> {
        match () {
            () if mac(frame, 0) != self.setting.mac => Err(Reason::NotOurMac),
            () if seen.hops == 0 => Err(Reason::TtlExpired),
            () if seen.end() > frame.len() => Err(Reason::BadLength),
            () => Ok(()),
        }
    }

    fn error<A: RelatedHeaders>(
        &mut self,
        frame: &mut Vec<u8>,
        head: &Head<A>,
        now: u64,
    ) -> Result<Way, Reason> {
        let destination = head.destination.mapped();
        let about = A::head(&frame[..], head.quote()).and_then(|quote| head.about(&frame[..], &quote));
        let Some(flow) = about else { return self.error_back(frame, head, now) };
        let seen = Seen::of(&flow);
        let Some(service) = self.setting.service_at(destination, seen.port, seen.protocol) else {
            return self.error_back(frame, head, now);
        };
        self.check_related(frame, &seen)?;
        let known = self.connections.get(&Whose::of(&seen, service));
        if let Some(way) = self.by_lease(frame, service, &seen, known, RETURNED_TTL, now)? {
            return Ok(way);
        }
        let server = known.ok_or(Reason::IcmpUnknown)?.server;
        self.send(frame, &seen, &Decision { service, server, opens: false })
    }

    /// The rules for what belongs to a connection: `None`, it goes where that goes.
    pub(super) fn by_lease(
        &mut self,
        frame: &mut [u8],
        service: usize,
        seen: &Seen,
        known: Option<Connection>,
        hops: u8,
        now: u64,
    ) -> Result<Option<Way>, Reason> {
        let shared = self.setting.services[service].shared;
        if shared && self.sender(frame, service, seen, false, now) == Sender::Balancer {
            return Ok(Some(Way::Delivered(Reason::PeerBalanced)));
        }
        let lease = self.setting.lease(service);
        let over = now >= lease.balance_until;
        let outlived = over && !shared && known.is_some_and(|known| lease.is_outlived_by(known.entry(), now));
        let relayed = !shared && lease.serves_on(now) && self.setting.directors.contains(&mac(frame, 6));
        if over && !outlived && !relayed {
            return Err(lease.refusal(now));
        }
        let generation = Generation::from_number(lease.generation);
        let doubtful =
            seen.protocol == Protocol::Tcp && known.is_none_or(|known| known.generation != generation);
        let with = HandOver { marks: false, hops };
        let other =
            doubtful && !shared && self.hand_over(frame, service, seen, known, with, now)? != Decides::This;
        Ok(other.then_some(Way::Sent))
    }
}

fn first_piece<A>(head: &Head<A>) -> Option<(usize, usize)> {
    if head.fragment == 1 { piece(head).ok() } else { None }
}
