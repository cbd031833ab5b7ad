//! Packets that belong to another one: ICMP errors, and fragments behind the first one.

use std::collections::HashMap;

use lb_common::addr::{V4, V6};
use lb_common::connection::Generation;
use lb_common::fragment;
use lb_common::frame::{self, Head, RelatedHeaders};
use lb_common::lease::Decides;
use lb_common::peer::Sender;
use lb_common::reason::Reason;
use lb_model::Protocol;

use super::Model;
use super::walk::{Decision, Seen, Way, mac};

/// What a datagram's fragments have in common.
type Key = (V6, V6, u32, u32);

#[derive(Default)]
pub(super) struct Trails(HashMap<Key, Trail>);

/// Where the first fragment went, and which bytes have come, in units of 8.
struct Trail {
    /// `None`: to the host, because no service is at its port.
    decision: Option<Decision>,
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
        if !self.setting.may_be_vip(destination) {
            return self.host(frame, destination, now);
        }
        if head.is_later_fragment() {
            self.later_fragment(frame, head, now)
        } else if head.is_error(&frame[..]) {
            self.error(frame, head, now)
        } else {
            self.host(frame, destination, now)
        }
    }

    /// Of a first fragment that others may follow, to a server or to the host.
    pub(super) fn leave_trail(&mut self, frame: &[u8], seen: &Seen, decision: Option<&Decision>) {
        let left = match seen.is_ipv4 {
            true => V4::head(frame, seen.network).and_then(|head| Some((key(&head), first_piece(&head)?))),
            false => V6::head(frame, seen.network).and_then(|head| Some((key(&head), first_piece(&head)?))),
        };
        if let Some((key, piece)) = left {
            let trail = Trail {
                decision: decision.map(|decision| Decision { opens: false, ..*decision }),
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
        let Some(trail) = self.trails.0.get(&key(head)) else {
            return self.neighbour(frame, head.destination.mapped(), now).and(Err(Reason::FragmentUnknown));
        };
        let seen = seen(head, [trail.client_port, trail.port], trail.protocol);
        let Some(decision) = trail.decision else {
            if let Ok((from, to)) = piece(head) {
                let _ = self.note(head, from, to);
            }
            return self.host(frame, head.destination.mapped(), now);
        };
        self.check_related(frame, &seen)?;
        let lease = self.setting.lease(decision.service);
        if now >= lease.balance_until {
            let refusal = lease.refusal(now);
            if refusal != Reason::LeaseLapsed || self.setting.services[decision.service].shared {
                return Err(refusal);
            }
        }
        let (from, to) = piece(head)?;
        self.note(head, from, to)?;
        self.send(frame, &seen, &decision)
    }

    /// Notes a piece of a datagram that has a trail, which ends when it is whole.
    fn note<A: RelatedHeaders>(&mut self, head: &Head<A>, from: usize, to: usize) -> Result<(), Reason> {
        if self.trails.0.get_mut(&key(head)).expect("it is there").note(from, to)? {
            self.trails.0.remove(&key(head));
        }
        Ok(())
    }

    fn check_related(&self, frame: &[u8], seen: &Seen) -> Result<(), Reason> {
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
        let Some(flow) = about else { return self.host(frame, destination, now) };
        let seen = Seen::of(&flow);
        let Some(service) = self.setting.service_at(destination, seen.port, seen.protocol) else {
            return self.host(frame, destination, now);
        };
        self.check_related(frame, &seen)?;
        let known = self.connections.get(&(seen.client, seen.client_port, service));
        let shared = self.setting.services[service].shared;
        if shared && self.sender(frame, service, &seen, false, now) == Sender::Balancer {
            return Ok(Way::Delivered(Reason::PeerBalanced));
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
        if doubtful && !shared && self.hand_over(frame, service, &seen, known, false, now)? != Decides::This {
            return Ok(Way::Sent);
        }
        let server = known.ok_or(Reason::IcmpUnknown)?.server;
        self.send(frame, &seen, &Decision { service, server, opens: false })
    }
}

fn first_piece<A>(head: &Head<A>) -> Option<(usize, usize)> {
    if head.fragment == 1 { piece(head).ok() } else { None }
}
