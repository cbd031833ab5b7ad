//! What directors tell each other about connections, as bytes. Integers are in network order.
//!
//! ```text
//! first byte    what follows
//! 0x01 server   the sender's number for it (2), its group's id (4), protocol (1), the service's
//!               port (2), VIP (16), the server's address (16); IPv4 ones as ::ffff:a.b.c.d
//! 0x02 digests  group (4), the first region (2), how many (1), a digest each (8)
//! 0x03 round    its number (4): digests of all groups that the sender balances have been told
//! 0x04 want     group (4), regions (64, a bit each): the receiver of this shall tell them again
//! 0x05 begin    group (4), regions (64): what of them is not told until `end` is not there
//! 0x06 end      group (4)
//! 0x07 in step  a round's number (4): the sender knows all that the receiver of this has told up
//!               to the end of that round
//! 0x08 binding  the client's address under its service's mask (16), the number of the services
//!               that share the binding (8), the server's address (16), milliseconds it holds (4)
//! 0x09 lacks    nothing: the sender does not know all that the receiver of this has told; digests
//!               shall be told soon
//! 0x0a features what the sender understands (4, a bit each). It comes alone in datagrams without a
//!               number, in which earlier versions look for no messages. Bit 0: 0x5s and 0x6s
//! 0x1s, 0x2s    a connection of IPv4 or IPv6 in state s: the server's number (2), the client's
//!               address (4 or 16), its port (2), the service's port (2), ticks until it expires (3)
//! 0x3s, 0x4s    the same by hearsay, in a group that several directors balance: another one than
//!               the sender has said so, or nobody any more; between `begin` and `end`, and in
//!               answer to something older
//! 0x5s, 0x6s    the same as 0x1s and 0x2s, and the own address (4 or 16) and port (2) that stand
//!               in the client's place at the server: only to a director that understands them.
//!               They are a group of their own, with its own id in `server` and in digests
//! ```
//!
//! A server is named before the first connection to it, in each stream.

use std::time::Duration;

use lb_common::addr::{Address, V4, V6};
use lb_common::forward::nat::source::Endpoint;
use lb_common::server::ServerId;
use lb_common::service::Protocol;
use lb_common::service::binding;
use lb_common::table::connection::{Key, KeyV4, KeyV6, State};
use lb_model::ids::GroupId;

use crate::backend::Backend;
use crate::digest::{Digest, Regions};
use crate::mirror::REGIONS;

/// A connection as it stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connection<K> {
    /// The sender's number.
    pub server: ServerId,
    pub key: K,
    pub state: State,
    /// Ticks until it expires.
    pub remaining: u32,
    /// The sender does not speak for it.
    pub hearsay: bool,
    /// What stands in the client's place at the server, if it has a pool and the connection lives.
    pub source: Option<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Server { number: ServerId, group: GroupId, backend: Backend },
    Digests { group: GroupId, first: usize, digests: Vec<Digest> },
    RoundEnds(u32),
    Want { group: GroupId, regions: Regions },
    Begin { group: GroupId, regions: Regions },
    End { group: GroupId },
    InStep(u32),
    Lacks,
    Binding(Binding),
    Features(u32),
    V4(Connection<KeyV4>),
    V6(Connection<KeyV6>),
}

/// A client that is bound to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    pub key: binding::Key,
    pub server: V6,
    /// Whole milliseconds, 49 days at most.
    pub remaining: Duration,
}

/// A feature: connections are told with what stands in the place of their clients.
pub(crate) const SOURCES: u32 = 1;
/// What this director understands.
pub(crate) const FEATURES: u32 = SOURCES;

/// Digests in one message at most: it must fit a datagram.
pub(crate) const DIGESTS: usize = 128;

/// Bytes of the longest message.
pub(crate) const LONGEST: usize = 1 + 4 + 2 + 1 + 8 * DIGESTS;

/// What is signed and yet makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message about connections makes no sense")]
pub(crate) struct Malformed;

/// What is different between the families on the wire.
pub(crate) trait WireKey: Key {
    const FIRST: u8;
    const HEARSAY: u8;
    const SOURCED: u8;

    fn write_address(address: Self::Address, bytes: &mut Vec<u8>);
    fn read_address(bytes: &mut Reader<'_>) -> Result<Self::Address, Malformed>;
}

impl WireKey for KeyV4 {
    const FIRST: u8 = 0x10;
    const HEARSAY: u8 = 0x30;
    const SOURCED: u8 = 0x50;

    fn write_address(address: V4, bytes: &mut Vec<u8>) {
        bytes.extend(address.octets());
    }
    fn read_address(bytes: &mut Reader<'_>) -> Result<V4, Malformed> {
        bytes.take().map(V4::from_octets)
    }
}

impl WireKey for KeyV6 {
    const FIRST: u8 = 0x20;
    const HEARSAY: u8 = 0x40;
    const SOURCED: u8 = 0x60;

    fn write_address(address: V6, bytes: &mut Vec<u8>) {
        bytes.extend(address.octets());
    }
    fn read_address(bytes: &mut Reader<'_>) -> Result<V6, Malformed> {
        bytes.take().map(V6::from_octets)
    }
}

const STATE: u8 = 0x0f;
/// More ticks than this are told as so many.
const MOST_TICKS: u32 = 0x00ff_ffff;

impl<K: WireKey> Connection<K> {
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        let Self { server, key, state, remaining, hearsay, source } = *self;
        let source = source.filter(|_| !hearsay);
        // Of the client's family, as its server is.
        let source = source.and_then(|end| Some((K::Address::of_mapped(end.address)?, end.port)));
        let first = match source {
            Some(_) => K::SOURCED,
            None if hearsay => K::HEARSAY,
            None => K::FIRST,
        };
        bytes.push(first | state as u8);
        bytes.extend(server.0.to_be_bytes());
        K::write_address(key.client(), bytes);
        // As they stand in a packet, so in network order already.
        key.ports().iter().for_each(|port| bytes.extend(port.to_ne_bytes()));
        bytes.extend(&remaining.min(MOST_TICKS).to_be_bytes()[1..]);
        if let Some((address, port)) = source {
            K::write_address(address, bytes);
            bytes.extend(port.to_ne_bytes());
        }
    }

    fn decode(first: u8, bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let state = State::from_bits(first & STATE).ok_or(Malformed)?;
        let server = ServerId(bytes.u16()?);
        let client = K::read_address(bytes)?;
        let [client_port, service_port] = [bytes.take()?, bytes.take()?].map(u16::from_ne_bytes);
        let [high, middle, low] = bytes.take()?;
        let remaining = u32::from_be_bytes([0, high, middle, low]);
        let hearsay = first & !STATE == K::HEARSAY;
        let source = if first & !STATE == K::SOURCED {
            let address = K::read_address(bytes)?.mapped();
            let port = u16::from_ne_bytes(bytes.take()?);
            // What an address of IPv6 says that means one of IPv4 is none of this family.
            K::Address::of_mapped(address).ok_or(Malformed)?;
            Some(Endpoint { address, port, reserved: [0; 3] })
        } else {
            None
        };
        Ok(Self { server, key: client.key(client_port, service_port), state, remaining, hearsay, source })
    }
}

impl Message {
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Server { number, group, backend } => {
                let Backend { vip, port, protocol, server } = backend;
                bytes.push(0x01);
                bytes.extend(number.0.to_be_bytes());
                bytes.extend(group.0.to_be_bytes());
                bytes.push(protocol.number());
                bytes.extend(port.to_be_bytes());
                bytes.extend(vip.octets());
                bytes.extend(server.octets());
            }
            Self::Digests { group, first, digests } => {
                bytes.push(0x02);
                bytes.extend(group.0.to_be_bytes());
                bytes.extend((*first as u16).to_be_bytes());
                bytes.push(digests.len() as u8);
                digests.iter().for_each(|digest| bytes.extend(digest.0.to_be_bytes()));
            }
            Self::RoundEnds(round) => of_round(bytes, 0x03, *round),
            Self::Want { group, regions } => of_regions(bytes, 0x04, *group, regions),
            Self::Begin { group, regions } => of_regions(bytes, 0x05, *group, regions),
            Self::End { group } => {
                bytes.push(0x06);
                bytes.extend(group.0.to_be_bytes());
            }
            Self::InStep(round) => of_round(bytes, 0x07, *round),
            Self::Lacks => bytes.push(0x09),
            Self::Features(features) => of_round(bytes, 0x0a, *features),
            Self::Binding(Binding { key, server, remaining }) => {
                bytes.push(0x08);
                bytes.extend(key.client.octets());
                bytes.extend(key.group.to_be_bytes());
                bytes.extend(server.octets());
                bytes.extend(u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX).to_be_bytes());
            }
            Self::V4(connection) => connection.encode(bytes),
            Self::V6(connection) => connection.encode(bytes),
        }
    }
}

fn of_round(bytes: &mut Vec<u8>, first: u8, round: u32) {
    bytes.push(first);
    bytes.extend(round.to_be_bytes());
}

fn of_regions(bytes: &mut Vec<u8>, first: u8, group: GroupId, regions: &Regions) {
    bytes.push(first);
    bytes.extend(group.0.to_be_bytes());
    bytes.extend(regions.bytes());
}

/// The messages of a datagram that has been verified, one after the other. Ends after one that
/// makes no sense.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    fn group(&mut self) -> Result<GroupId, Malformed> {
        self.u32().map(GroupId)
    }

    fn regions(&mut self) -> Result<Regions, Malformed> {
        self.take().map(|bytes| Regions::from_bytes(&bytes))
    }

    fn message(&mut self) -> Result<Message, Malformed> {
        let [first] = self.take()?;
        Ok(match first {
            0x01 => {
                let (number, group) = (ServerId(self.u16()?), self.group()?);
                let [protocol] = self.take()?;
                let protocol = Protocol::from_number(protocol).ok_or(Malformed)?;
                let port = self.u16()?;
                let [vip, server] = [self.take()?, self.take()?].map(V6::from_octets);
                Message::Server { number, group, backend: Backend { vip, port, protocol, server } }
            }
            0x02 => {
                let (group, first) = (self.group()?, usize::from(self.u16()?));
                let [count] = self.take()?;
                if first + usize::from(count) > REGIONS {
                    return Err(Malformed);
                }
                let digest = |_| self.take().map(|bytes| Digest(u64::from_be_bytes(bytes)));
                Message::Digests { group, first, digests: (0..count).map(digest).collect::<Result<_, _>>()? }
            }
            0x03 => Message::RoundEnds(self.u32()?),
            0x04 => Message::Want { group: self.group()?, regions: self.regions()? },
            0x05 => Message::Begin { group: self.group()?, regions: self.regions()? },
            0x06 => Message::End { group: self.group()? },
            0x07 => Message::InStep(self.u32()?),
            0x08 => {
                let client = self.take().map(V6::from_octets)?;
                let group = self.take().map(u64::from_be_bytes)?;
                let server = self.take().map(V6::from_octets)?;
                let remaining = Duration::from_millis(self.u32()?.into());
                Message::Binding(Binding { key: binding::Key { client, group }, server, remaining })
            }
            0x09 => Message::Lacks,
            0x0a => Message::Features(self.u32()?),
            _ => match first & !STATE {
                KeyV4::FIRST | KeyV4::HEARSAY | KeyV4::SOURCED => {
                    Message::V4(Connection::decode(first, self)?)
                }
                KeyV6::FIRST | KeyV6::HEARSAY | KeyV6::SOURCED => {
                    Message::V6(Connection::decode(first, self)?)
                }
                _ => return Err(Malformed),
            },
        })
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Message, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.message();
        if message.is_err() {
            self.0 = &[];
        }
        Some(message)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::tests::backend;

    fn connections() -> impl Strategy<Value = Message> {
        let state = (1_u8..=15).prop_filter_map("a state", State::from_bits);
        let rest = (any::<u16>(), any::<[u16; 2]>(), state, 0..=MOST_TICKS, any::<bool>());
        let source = proptest::option::of((any::<[u64; 2]>(), any::<u16>()));
        (any::<[u64; 2]>(), any::<bool>(), rest, source).prop_map(
            |(address, v4, (server, ports, state, remaining, hearsay), source)| {
                let (server, [client, service]) = (ServerId(server), ports);
                let source = source.filter(|_| !hearsay).map(|([high, low], port)| {
                    // No address of IPv4 by its first bits.
                    let v6 = V6([high | 1, low]);
                    let address = if v4 { V4(low as u32).mapped() } else { v6 };
                    Endpoint { address, port, reserved: [0; 3] }
                });
                if v4 {
                    let key = KeyV4::new(V4(address[0] as u32), client, service);
                    Message::V4(Connection { server, key, state, remaining, hearsay, source })
                } else {
                    let key = KeyV6::new(V6(address), client, service);
                    Message::V6(Connection { server, key, state, remaining, hearsay, source })
                }
            },
        )
    }

    pub(crate) fn messages() -> impl Strategy<Value = Message> {
        let group = || any::<u32>().prop_map(GroupId);
        let regions = || any::<[u8; Regions::BYTES]>().prop_map(|bytes| Regions::from_bytes(&bytes));
        let digests = proptest::collection::vec(any::<u64>().prop_map(Digest), 0..=DIGESTS);
        prop_oneof![
            4 => connections(),
            1 => (any::<u16>(), group(), any::<u8>()).prop_map(|(number, group, last)| {
                Message::Server { number: ServerId(number), group, backend: backend(last) }
            }),
            1 => (group(), 0..=REGIONS - DIGESTS, digests)
                .prop_map(|(group, first, digests)| Message::Digests { group, first, digests }),
            1 => (group(), regions()).prop_map(|(group, regions)| Message::Want { group, regions }),
            1 => (group(), regions()).prop_map(|(group, regions)| Message::Begin { group, regions }),
            1 => group().prop_map(|group| Message::End { group }),
            1 => (any::<[[u64; 2]; 2]>(), any::<u64>(), any::<u32>()).prop_map(|(addresses, group, remaining)| {
                let [client, server] = addresses.map(V6);
                let remaining = Duration::from_millis(remaining.into());
                Message::Binding(Binding { key: binding::Key { client, group }, server, remaining })
            }),
            1 => any::<u32>().prop_map(Message::RoundEnds),
            1 => any::<u32>().prop_map(Message::InStep),
            1 => Just(Message::Lacks),
            1 => any::<u32>().prop_map(Message::Features),
        ]
    }

    proptest! {
        #[test]
        fn messages_are_the_same_after_their_way(sent in proptest::collection::vec(messages(), 0..20)) {
            let mut bytes = Vec::new();
            sent.iter().for_each(|message| message.encode(&mut bytes));
            let received: Vec<_> = Reader::new(&bytes).collect::<Result<_, _>>().expect("messages");
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn a_message_fits_a_datagram(message in messages()) {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            prop_assert!(bytes.len() <= LONGEST);
        }

        #[test]
        fn whatever_comes_is_read_to_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Reader::new(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn a_connection_takes_few_bytes() {
        let mut bytes = Vec::new();
        let key = KeyV4::new(V4::from_octets([192, 0, 2, 1]), 40_000_u16.to_be(), 80_u16.to_be());
        let state = State::Established;
        let (server, remaining, hearsay) = (ServerId(3), 0x010203, false);
        let connection = Connection { server, key, state, remaining, hearsay, source: None };
        Message::V4(connection).encode(&mut bytes);
        assert_eq!(bytes, [0x12, 0, 3, 192, 0, 2, 1, 0x9c, 0x40, 0, 80, 1, 2, 3]);
        let address = V4::from_octets([192, 0, 2, 20]).mapped();
        let source = Some(Endpoint { address, port: 1025_u16.to_be(), reserved: [0; 3] });
        Message::V4(Connection { source, ..connection }).encode(&mut bytes);
        assert_eq!(bytes[14..], [0x52, 0, 3, 192, 0, 2, 1, 0x9c, 0x40, 0, 80, 1, 2, 3, 192, 0, 2, 20, 4, 1]);
    }
}
