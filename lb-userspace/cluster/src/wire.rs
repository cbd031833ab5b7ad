//! A heartbeat as bytes: one datagram, or one frame on a serial line.
//!
//! All integers are in network order. The header says whose message it is, so that foreign ones are
//! told apart before any cryptography; the tag at the end covers every byte before it
//! ([`auth`](super::auth)).
//!
//! ```text
//! offset  bytes
//!      0      2  "LH" (load balancer, heartbeat)
//!      2      1  version, 2; 3 with standing orders
//!      3      1  id of the key that signed it
//!      4      4  cluster id: first bytes of the SHA-256 of the cluster's name
//!      8      1  from: sender's node id
//!      9      8  session
//!     17      8  sequence
//!     25      8  configuration digest
//!     33      1  readiness: bit 0 data path, bit 1 link, bit 2 maintenance, others 0
//!     34      2  healthy servers
//!     36      1  references reached
//!     37      2  nodes that the sender hears, bit n for node n
//!     39      1  number of groups g, at most 32
//!     40   14 g  groups, by rising id: the id, first bytes of the SHA-256 of the group's name (4), one byte (bits 0-2 role,
//!                bit 3 offered, bits 4-7 to whom), one byte (bit 0 yielded, others 0), the term (8)
//!             8  challenge, see `replay`
//!             1  number of echoes e, at most 30
//!           9 e  echoes: node id (1), the challenge heard from it (8)
//!             4  version 3: digest of the sender's standing orders
//!             1  version 3: number of orders, as in `standing::wire`, of 288 bytes together at most
//!            16  tag: first half of the HMAC-SHA-256
//! ```
//!
//! Two nodes with one group: 88 bytes, which take 46 ms on a line of 19,200 baud. The largest:
//! 1,076 bytes. A byte that could have been written otherwise makes a message malformed: there is
//! one form of each. An `lb` that knows of no standing orders drops version 3 and hears the
//! heartbeats between, which are at least every second one.

use lb_model::ids::{GroupId, MAX_GROUPS, MAX_NODES, NodeId};

use super::message::{GroupStatus, Heartbeat, Readiness, Role};
use super::standing::exchange::{Note, ROOM};
use super::standing::wire as standing;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) const VERSION: u8 = 2;
/// Of a heartbeat that carries standing orders.
pub(crate) const WITH_ORDERS: u8 = 3;
pub(crate) const TAG_LENGTH: usize = 16;
pub(crate) const HEADER_LENGTH: usize = 8;
/// Two per other node: the challenge of the session that is trusted and of one that wants to be.
pub(crate) const MAX_ECHOES: usize = 2 * (MAX_NODES - 1);
/// No heartbeat is longer. It fits a datagram that no path with an MTU of 1,280 (IPv6's least)
/// fragments.
pub(crate) const MAX_LENGTH: usize = HEADER_LENGTH
    + FIXED_LENGTH
    + MAX_GROUPS * GROUP_LENGTH
    + MAX_ECHOES * ECHO_LENGTH
    + NOTE_LENGTH
    + TAG_LENGTH;
/// No heartbeat is shorter: no group, no echo.
pub(crate) const MIN_LENGTH: usize = HEADER_LENGTH + FIXED_LENGTH + TAG_LENGTH;

const _: () = assert!(MAX_LENGTH <= 1_200);
const _: () = assert!(MAX_NODES <= 16, "a node id must fit half a byte");

const MAGIC: [u8; 2] = *b"LH";
/// From `from` to the number of groups, the challenge and the number of echoes.
const FIXED_LENGTH: usize = 32 + 8 + 1;
const GROUP_LENGTH: usize = 14;
const ECHO_LENGTH: usize = 9;
/// Digest, number of orders, orders.
const NOTE_LENGTH: usize = 4 + 1 + ROOM;

/// A heartbeat with what [`replay`](super::replay) adds to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub heartbeat: Heartbeat,
    /// Whoever hears this sends it back, and so proves to be alive now.
    pub challenge: u64,
    pub echoes: Vec<Echo>,
}

/// "I have heard `challenge` from `node`."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo {
    pub node: NodeId,
    pub challenge: u64,
}

/// What is before the signed content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub key: u8,
    pub cluster: u32,
}

/// What is wrong with bytes that should be a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it ends before its content does")]
    Truncated,
    #[error("it is longer than any heartbeat")]
    TooLong,
    #[error("it does not begin like a heartbeat")]
    NotHeartbeat,
    #[error("it is of version {0} of the wire format, this program speaks {VERSION}")]
    BadVersion(u8),
    #[error("{0} bytes are left after its end")]
    Trailing(usize),
    #[error("{field} is {value}, at most {most} is possible")]
    OutOfRange { field: &'static str, value: u8, most: usize },
    #[error("bits are set in {field} that mean nothing (0x{value:02x})")]
    ReservedBits { field: &'static str, value: u8 },
    #[error("its groups are not in the order of their ids")]
    GroupsUnordered,
    #[error("one of its standing orders is none")]
    BadOrder,
}

/// A message that may not be sent: it holds what the format does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("{field} is {value}, the wire format holds at most {most}")]
    TooMuch { field: &'static str, value: usize, most: usize },
    #[error("the groups are not in the order of their ids")]
    GroupsUnordered,
}

/// All but the tag.
pub(crate) fn encode(header: Header, envelope: &Envelope) -> Result<Vec<u8>, EncodeError> {
    let Envelope { heartbeat, challenge, echoes } = envelope;
    let Heartbeat { from, session, sequence, readiness, hears, config_digest, groups, standing } = heartbeat;
    let mut bytes = Vec::with_capacity(MAX_LENGTH);
    bytes.extend(MAGIC);
    bytes.extend([if standing.is_some() { WITH_ORDERS } else { VERSION }, header.key]);
    bytes.extend(header.cluster.to_be_bytes());
    bytes.push(half_byte("the sender's id", *from)?);
    bytes.extend(session.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(config_digest.to_be_bytes());
    encode_readiness(&mut bytes, *readiness);
    bytes.extend(hears.to_be_bytes());
    bytes.push(count("the number of groups", groups.len(), MAX_GROUPS)?);
    if !is_ordered(groups) {
        return Err(EncodeError::GroupsUnordered);
    }
    for group in groups {
        encode_group(&mut bytes, group)?;
    }
    bytes.extend(challenge.to_be_bytes());
    bytes.push(count("the number of echoes", echoes.len(), MAX_ECHOES)?);
    for echo in echoes {
        bytes.push(half_byte("an echo's node", echo.node)?);
        bytes.extend(echo.challenge.to_be_bytes());
    }
    if let Some(note) = standing {
        encode_note(&mut bytes, note)?;
    }
    Ok(bytes)
}

fn encode_note(bytes: &mut Vec<u8>, Note { digest, orders }: &Note) -> Result<(), EncodeError> {
    bytes.extend(digest.to_be_bytes());
    bytes.push(count("the number of orders", orders.len(), ROOM)?);
    let begin = bytes.len();
    orders.iter().for_each(|order| standing::put(bytes, order));
    match bytes.len() - begin {
        0..=ROOM => Ok(()),
        value => Err(EncodeError::TooMuch { field: "the length of its orders", value, most: ROOM }),
    }
}

fn encode_readiness(bytes: &mut Vec<u8>, readiness: Readiness) {
    let Readiness { data_path, link, maintenance, servers, references } = readiness;
    bytes.push(u8::from(data_path) | u8::from(link) << 1 | u8::from(maintenance) << 2);
    bytes.extend(servers.to_be_bytes());
    bytes.push(references);
}

/// Rising, so none is there twice.
fn is_ordered(groups: &[GroupStatus]) -> bool {
    groups.is_sorted_by(|one, next| one.group < next.group)
}

fn encode_group(bytes: &mut Vec<u8>, status: &GroupStatus) -> Result<(), EncodeError> {
    let GroupStatus { group, role, term, offered_to, yielded } = status;
    let offered = match offered_to {
        Some(node) => 1 << 3 | half_byte("the node a group is offered to", *node)? << 4,
        None => 0,
    };
    bytes.extend(group.0.to_be_bytes());
    bytes.extend([role_number(*role) | offered, u8::from(*yielded)]);
    bytes.extend(term.to_be_bytes());
    Ok(())
}

fn half_byte(field: &'static str, node: NodeId) -> Result<u8, EncodeError> {
    match usize::from(node.0) < MAX_NODES {
        true => Ok(node.0),
        false => Err(EncodeError::TooMuch { field, value: node.0.into(), most: MAX_NODES - 1 }),
    }
}

fn count(field: &'static str, value: usize, most: usize) -> Result<u8, EncodeError> {
    match u8::try_from(value) {
        Ok(byte) if value <= most => Ok(byte),
        _ => Err(EncodeError::TooMuch { field, value, most }),
    }
}

const fn role_number(role: Role) -> u8 {
    match role {
        Role::Fault => 0,
        Role::Standby => 1,
        Role::Acquiring => 2,
        Role::Active => 3,
        Role::Releasing => 4,
    }
}

/// A message in its parts; nothing in them is to be believed before the tag has been verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub header: Header,
    /// What the tag covers: all bytes before it.
    pub signed: &'a [u8],
    pub tag: &'a [u8; TAG_LENGTH],
}

/// The sender that a message names, which nobody has verified.
pub(crate) fn claimed_sender(parts: &Parts<'_>) -> Option<NodeId> {
    let sender = *parts.signed.get(HEADER_LENGTH)?;
    (usize::from(sender) < MAX_NODES).then_some(NodeId(sender))
}

/// Whether a message of ours carries standing orders, or their digest.
pub(crate) fn has_orders(message: &[u8]) -> bool {
    message.get(2) == Some(&WITH_ORDERS)
}

/// Takes a message apart as far as is possible without believing it.
pub(crate) fn split(bytes: &[u8]) -> Result<Parts<'_>, DecodeError> {
    if bytes.len() < MIN_LENGTH {
        return Err(DecodeError::Truncated);
    }
    if bytes.len() > MAX_LENGTH {
        return Err(DecodeError::TooLong);
    }
    let (signed, tag) = bytes.split_last_chunk().ok_or(DecodeError::Truncated)?;
    let mut reader = Reader(signed);
    if reader.take()? != MAGIC {
        return Err(DecodeError::NotHeartbeat);
    }
    match reader.byte()? {
        VERSION | WITH_ORDERS => {}
        other => return Err(DecodeError::BadVersion(other)),
    }
    let header = Header { key: reader.byte()?, cluster: u32::from_be_bytes(reader.take()?) };
    Ok(Parts { header, signed, tag })
}

/// The content of a message whose tag has been verified.
pub(crate) fn decode(parts: Parts<'_>) -> Result<Envelope, DecodeError> {
    let mut reader = Reader(parts.signed.get(HEADER_LENGTH..).unwrap_or_default());
    let with_orders = has_orders(parts.signed);
    let mut heartbeat = Heartbeat {
        from: reader.node("the sender's id")?,
        session: reader.u64()?,
        sequence: reader.u64()?,
        config_digest: reader.u64()?,
        readiness: reader.readiness()?,
        hears: u16::from_be_bytes(reader.take()?),
        groups: reader.list("the number of groups", MAX_GROUPS, Reader::group)?,
        standing: None,
    };
    if !is_ordered(&heartbeat.groups) {
        return Err(DecodeError::GroupsUnordered);
    }
    let challenge = reader.u64()?;
    let echoes = reader.list("the number of echoes", MAX_ECHOES, Reader::echo)?;
    if with_orders {
        heartbeat.standing = Some(reader.note()?);
    }
    match reader.0.len() {
        0 => Ok(Envelope { heartbeat, challenge, echoes }),
        left => Err(DecodeError::Trailing(left)),
    }
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_be_bytes)
    }

    fn node(&mut self, field: &'static str) -> Result<NodeId, DecodeError> {
        match self.byte()? {
            value if usize::from(value) < MAX_NODES => Ok(NodeId(value)),
            value => Err(DecodeError::OutOfRange { field, value, most: MAX_NODES - 1 }),
        }
    }

    fn readiness(&mut self) -> Result<Readiness, DecodeError> {
        let flags = self.byte()?;
        if flags & !0b111 != 0 {
            return Err(DecodeError::ReservedBits { field: "the readiness", value: flags });
        }
        Ok(Readiness {
            data_path: flags & 1 != 0,
            link: flags & 2 != 0,
            maintenance: flags & 4 != 0,
            servers: u16::from_be_bytes(self.take()?),
            references: self.byte()?,
        })
    }

    fn group(&mut self) -> Result<GroupStatus, DecodeError> {
        let group = GroupId(u32::from_be_bytes(self.take()?));
        let first = self.byte()?;
        let role = match first & 0b111 {
            0 => Role::Fault,
            1 => Role::Standby,
            2 => Role::Acquiring,
            3 => Role::Active,
            4 => Role::Releasing,
            value => return Err(DecodeError::OutOfRange { field: "a group's role", value, most: 4 }),
        };
        let offered_to = match (first & 1 << 3 != 0, first >> 4) {
            (true, node) => Some(NodeId(node)),
            (false, 0) => None,
            (false, _) => return Err(DecodeError::ReservedBits { field: "a group's offer", value: first }),
        };
        let yielded = match self.byte()? {
            0 => false,
            1 => true,
            value => return Err(DecodeError::ReservedBits { field: "a group's flags", value }),
        };
        Ok(GroupStatus { group, role, term: self.u64()?, offered_to, yielded })
    }

    fn echo(&mut self) -> Result<Echo, DecodeError> {
        Ok(Echo { node: self.node("an echo's node")?, challenge: self.u64()? })
    }

    fn note(&mut self) -> Result<Note, DecodeError> {
        let digest = u32::from_be_bytes(self.take()?);
        let begin = self.0.len();
        let orders = self.list("the number of orders", ROOM, |reader| {
            standing::take(&mut reader.0).ok_or(DecodeError::BadOrder)
        })?;
        // With the byte of their number.
        if begin - self.0.len() > ROOM + 1 {
            return Err(DecodeError::TooLong);
        }
        Ok(Note { digest, orders })
    }

    fn list<T>(
        &mut self,
        field: &'static str,
        most: usize,
        element: fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        match self.byte()? {
            number if usize::from(number) <= most => (0..number).map(|_| element(self)).collect(),
            value => Err(DecodeError::OutOfRange { field, value, most }),
        }
    }
}
