//! A datagram of one director to another: what keeps the conversation in order, messages, and a
//! tag. Integers are in network order.
//!
//! ```text
//! offset  bytes
//!      0      2  "LS" (load balancer, synchronisation)
//!      2      1  version, 2
//!      3      1  id of the key that signed it
//!      4      4  cluster id, as in heartbeats
//!      8      1  from: the sender's node id
//!      9      1  to
//!     10      8  session: which life of the sender
//!     18      8  challenge: whoever hears it sends it back
//!     26      8  echo: the receiver's challenge, as heard last; 0: none
//!     34      4  stream: which stream of this session
//!     38      4  number of this datagram in the stream, from 1; 0: it carries no messages but what
//!                the sender understands
//!     42      4  the receiver's stream that the next two are about
//!     46      4  all datagrams up to this number have been received
//!     50      8  and of the 64 after the next one those with a bit, from the lowest
//!     58      4  when it was sent, by the sender's clock, in milliseconds; comes back in `heard`
//!     62      4  heard: the time in the receiver's datagram that was heard last
//!     66         messages, see `message`
//!            16  tag: first half of the HMAC-SHA-256 of all before it
//! ```

use lb_cluster::auth::{ClusterId, KeyId, Keys};
use lb_model::ids::NodeId;

const MAGIC: [u8; 2] = *b"LS";
const VERSION: u8 = 2;
const HEADER: usize = 66;
pub(crate) const TAG: usize = 16;
/// Bytes of a datagram at most: with its headers it fits Ethernet's 1,500, in IPv6 too.
pub(crate) const LONGEST: usize = 1400;
/// Bytes of messages in a datagram at most.
pub(crate) const MESSAGES: usize = LONGEST - HEADER - TAG;

const _: () = assert!(MESSAGES >= crate::message::LONGEST);

/// What keeps the conversation in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub from: NodeId,
    pub to: NodeId,
    pub session: u64,
    pub challenge: u64,
    pub echo: u64,
    pub stream: u32,
    pub number: u32,
    pub about: u32,
    pub received: u32,
    pub beyond: u64,
    pub sent_at: u32,
    pub heard: u32,
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not one of these at all, or of another version.
    NotOurs,
    ForeignCluster,
    /// A key that this node does not have, or a tag that is wrong.
    Signature,
}

pub(crate) fn seal(cluster: ClusterId, keys: &Keys, header: &Header, messages: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + messages.len() + TAG);
    bytes.extend(MAGIC);
    bytes.extend([VERSION, keys.sign_with().0]);
    bytes.extend(cluster.0.to_be_bytes());
    bytes.extend([header.from.0, header.to.0]);
    for word in [header.session, header.challenge, header.echo] {
        bytes.extend(word.to_be_bytes());
    }
    for word in [header.stream, header.number, header.about, header.received] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(header.beyond.to_be_bytes());
    bytes.extend(header.sent_at.to_be_bytes());
    bytes.extend(header.heard.to_be_bytes());
    bytes.extend(messages);
    let tag = keys.sign(&bytes);
    bytes.extend(tag);
    bytes
}

/// Header and messages, if the datagram is one of this cluster's nodes.
pub(crate) fn open<'a>(
    cluster: ClusterId,
    keys: &Keys,
    bytes: &'a [u8],
) -> Result<(Header, &'a [u8]), Refused> {
    let (signed, tag) = bytes.split_last_chunk::<TAG>().ok_or(Refused::NotOurs)?;
    let (head, messages) = signed.split_first_chunk::<HEADER>().ok_or(Refused::NotOurs)?;
    if head[..2] != MAGIC || head[2] != VERSION || bytes.len() > LONGEST {
        return Err(Refused::NotOurs);
    }
    let half = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| head[at + byte]));
    let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| head[at + byte]));
    if half(4) != cluster.0 {
        return Err(Refused::ForeignCluster);
    }
    keys.verify(KeyId(head[3]), signed, tag).map_err(|_| Refused::Signature)?;
    let header = Header {
        from: NodeId(head[8]),
        to: NodeId(head[9]),
        session: word(10),
        challenge: word(18),
        echo: word(26),
        stream: half(34),
        number: half(38),
        about: half(42),
        received: half(46),
        beyond: word(50),
        sent_at: half(58),
        heard: half(62),
    };
    Ok((header, messages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::keys;

    const HEADER_SAMPLE: Header = Header {
        from: NodeId(1),
        to: NodeId(2),
        session: 3,
        challenge: 4,
        echo: 5,
        stream: 6,
        number: 7,
        about: 8,
        received: 9,
        beyond: 10,
        sent_at: 11,
        heard: 12,
    };

    #[test]
    fn a_datagram_is_the_same_after_its_way() {
        let (cluster, keys) = (ClusterId::of("lb"), keys());
        let bytes = seal(cluster, &keys, &HEADER_SAMPLE, b"messages");
        assert_eq!(open(cluster, &keys, &bytes), Ok((HEADER_SAMPLE, &b"messages"[..])));
    }

    #[test]
    fn no_bit_can_be_changed() {
        let (cluster, keys) = (ClusterId::of("lb"), keys());
        let bytes = seal(cluster, &keys, &HEADER_SAMPLE, b"messages");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(cluster, &keys, &changed).is_err(), "bit {bit}");
        }
        assert_eq!(open(ClusterId::of("other"), &keys, &bytes), Err(Refused::ForeignCluster));
        let others = Keys::new([(KeyId(1), &[8_u8; 32][..])], KeyId(1)).expect("a key");
        assert_eq!(open(cluster, &others, &bytes), Err(Refused::Signature));
        for length in 0..bytes.len() {
            assert!(open(cluster, &keys, &bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
