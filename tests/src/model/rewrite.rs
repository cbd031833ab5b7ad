//! One end of a packet becomes another one.

use std::net::IpAddr;

use lb_common::addr::{V4, V6};
use lb_common::packet::frame::{Head, RelatedHeaders};
use lb_model::Protocol;

use super::bytes::{has_sum_of_pseudo_header, put, sum, word};
use super::walk::Seen;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl End {
    const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }

    const fn port(self) -> usize {
        if matches!(self, Self::Source) { 0 } else { 2 }
    }

    /// Where its address stands behind the beginning of an IP header.
    const fn address(self, is_ipv4: bool) -> usize {
        match (self, is_ipv4) {
            (Self::Source, true) => 12,
            (Self::Destination, true) => 16,
            (Self::Source, false) => 8,
            (Self::Destination, false) => 24,
        }
    }
}

/// The packet that an ICMP error is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted {
    pub source: V6,
    pub destination: V6,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: Protocol,
    network: usize,
    pub transport: usize,
}

impl Quoted {
    /// `None`: its ports are not there.
    pub(super) fn of<A: RelatedHeaders>(frame: &[u8], head: &Head<A>) -> Option<Self> {
        let flow = A::head(frame, head.quote())?.own_flow(frame)?;
        let quoted = Self {
            source: flow.source.mapped(),
            destination: flow.destination.mapped(),
            source_port: u16::from_be(flow.source_port),
            destination_port: u16::from_be(flow.destination_port),
            protocol: flow.protocol,
            network: flow.network,
            transport: flow.transport,
        };
        (quoted.transport + 4 <= head.network + head.total_length).then_some(quoted)
    }

    /// The ports as whoever got the quoted packet would send them back.
    pub(super) const fn back(&self) -> [u16; 2] {
        [self.destination_port, self.source_port]
    }
}

/// What of a packet matters here.
pub(super) enum Headers {
    /// It has ports of its own.
    Ports {
        is_whole: bool,
    },
    Later,
    Error(Quoted),
}

impl Headers {
    pub(super) fn of(frame: &[u8], seen: &Seen) -> Self {
        match seen.is_ipv4 {
            true => Self::behind(frame, &V4::head(frame, seen.network).expect("it was parsed")),
            false => Self::behind(frame, &V6::head(frame, seen.network).expect("it was parsed")),
        }
    }

    fn behind<A: RelatedHeaders>(frame: &[u8], head: &Head<A>) -> Self {
        match () {
            () if head.is_later_fragment() => Self::Later,
            () if head.is_error(frame) => Self::Error(Quoted::of(frame, head).expect("it has ports")),
            () => Self::Ports { is_whole: head.fragment == 0 },
        }
    }
}

/// Words that a checksum covers, as they were and as they are.
type Changes = Vec<(u16, u16)>;

/// RFC 1624, equation 3.
fn mended(checksum: u16, changes: &[(u16, u16)]) -> u16 {
    let words = changes.iter().flat_map(|(old, new)| [!old, *new]);
    !total([!checksum].into_iter().chain(words))
}

fn total(words: impl Iterator<Item = u16>) -> u16 {
    sum(&[&words.flat_map(u16::to_be_bytes).collect::<Vec<u8>>()])
}

/// Of a datagram or segment: a datagram without a checksum stays so.
fn mended_behind(protocol: Protocol, checksum: u16, changes: &[(u16, u16)]) -> u16 {
    match (protocol, mended(checksum, changes)) {
        (Protocol::Udp, _) if checksum == 0 => 0,
        (Protocol::Udp, 0) => 0xffff,
        (_, mended) => mended,
    }
}

fn mend(frame: &mut [u8], at: usize, changes: &[(u16, u16)]) {
    let checksum = mended(word(frame, at), changes);
    put(frame, at, checksum);
}

const fn checksum_at(protocol: Protocol) -> usize {
    if matches!(protocol, Protocol::Tcp) { 16 } else { 6 }
}

/// Writes an address into the IP header at `network`, whose own checksum is not mended yet.
fn write_address(frame: &mut [u8], network: usize, end: End, is_ipv4: bool, new: V6) -> Changes {
    let new = match IpAddr::from(new) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let at = network + end.address(is_ipv4);
    let words = (0..new.len()).step_by(2);
    let changes = words.map(|word_at| (word(frame, at + word_at), word(&new, word_at))).collect();
    frame[at..at + new.len()].copy_from_slice(&new);
    changes
}

/// Gives one end of the packet another address and port; the first one that is changed takes a hop.
pub(super) fn rewrite(
    frame: &mut [u8],
    seen: &Seen,
    headers: &Headers,
    end: End,
    (address, port): (V6, u16),
    hop: bool,
) {
    let is_partial =
        matches!(headers, Headers::Ports { is_whole: true }) && has_sum_of_pseudo_header(frame, seen);
    let addresses = write_address(frame, seen.network, end, seen.is_ipv4, address);
    let mut covered = addresses.clone();
    if hop && seen.is_ipv4 {
        let at = seen.network + 8;
        covered.push((word(frame, at), word(frame, at) - 0x100));
        frame[at] -= 1;
    } else if hop {
        frame[seen.network + 7] -= 1;
    }
    if seen.is_ipv4 {
        mend(frame, seen.network + 10, &covered);
    }
    match headers {
        Headers::Later => {}
        Headers::Error(quoted) => {
            rewrite_quoted(frame, seen, quoted, end.other(), (address, port), addresses);
        }
        Headers::Ports { .. } => {
            let at = seen.transport + end.port();
            let mut changes = addresses;
            let checksum_at = seen.transport + checksum_at(seen.protocol);
            let checksum = word(frame, checksum_at);
            if is_partial {
                // Hardware adds the rest to it.
                let words = changes.iter().flat_map(|(old, new)| [!old, *new]);
                let left = total([checksum].into_iter().chain(words));
                put(frame, checksum_at, left);
            } else {
                changes.push((word(frame, at), port));
                put(frame, checksum_at, mended_behind(seen.protocol, checksum, &changes));
            }
            put(frame, at, port);
        }
    }
}

/// The same of the packet that an error is about, which went the other way. `outer`: what has
/// changed in the addresses of the error itself.
fn rewrite_quoted(
    frame: &mut [u8],
    seen: &Seen,
    quoted: &Quoted,
    end: End,
    (address, port): (V6, u16),
    outer: Changes,
) {
    let mut inner = write_address(frame, quoted.network, end, seen.is_ipv4, address);
    let at = quoted.transport + end.port();
    let of_port = (word(frame, at), port);
    put(frame, at, port);
    // What the address of a quoted IPv4 header gains its checksum loses. The message's checksum
    // covers the outer addresses of IPv6 alone.
    let mut message = vec![of_port];
    if seen.is_ipv4 {
        mend(frame, quoted.network + 10, &inner);
    } else {
        message.extend(outer);
        message.extend(&inner);
    }
    inner.push(of_port);
    let at = quoted.transport + checksum_at(quoted.protocol);
    if at + 2 <= seen.end().min(frame.len()) {
        let (old, new) = (word(frame, at), mended_behind(quoted.protocol, word(frame, at), &inner));
        put(frame, at, new);
        message.push((old, new));
    }
    mend(frame, seen.transport + 2, &message);
}
