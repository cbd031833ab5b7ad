//! The whole way of a message between two nodes, and of what others might send.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::message::Readiness;

const NOW: Duration = Duration::ZERO;
const KEY: &[u8] = b"a key for tests, nothing more";

pub(crate) fn heartbeat(from: u8, sequence: u64) -> Heartbeat {
    let readiness = Readiness { data_path: true, link: true, maintenance: false, servers: 2, references: 1 };
    Heartbeat {
        from: NodeId(from),
        session: 7,
        sequence,
        readiness,
        hears: 0,
        config_digest: 1,
        groups: Vec::new(),
        standing: None,
    }
}

/// The end of node `node` (session 7) of two.
pub(crate) fn channel(node: u8) -> Channel {
    channel_of_session(node, 7)
}

pub(crate) fn channel_of_session(node: u8, session: u64) -> Channel {
    let keys = Keys::new([(KeyId(1), KEY)], KeyId(1)).expect("a key");
    let me = Identity { node: NodeId(node), session };
    Channel::new(ClusterId::of("test"), me, [NodeId(0), NodeId(1)], keys, [node ^ session as u8; 32])
}

/// What there is of a message, signed with the cluster's key.
pub(crate) fn resigned(message: &[u8]) -> Vec<u8> {
    let signed = &message[..message.len().saturating_sub(wire::TAG_LENGTH)];
    [signed, &channel(0).keys.sign(signed)[..]].concat()
}

fn with_keys(node: u8, keys: Keys) -> Channel {
    let me = Identity { node: NodeId(node), session: 7 };
    Channel::new(ClusterId::of("test"), me, [NodeId(0), NodeId(1)], keys, [node; 32])
}

/// Two that trust each other; sequence numbers up to 9 are used up.
fn acquainted() -> (Channel, Channel) {
    let (mut a, mut b) = (channel(0), channel(1));
    for sequence in 8..10 {
        let bytes = a.seal(heartbeat(0, sequence), NOW).unwrap();
        let _ = b.open(&bytes, NOW);
        let bytes = b.seal(heartbeat(1, sequence), NOW).unwrap();
        let _ = a.open(&bytes, NOW);
    }
    (a, b)
}

fn reason(channel: &mut Channel, bytes: &[u8]) -> Option<DropReason> {
    channel.open(bytes, NOW).err().map(|dropped| dropped.reason)
}

#[test]
fn a_message_arrives_as_it_was_sent() {
    let (mut a, mut b) = acquainted();
    let bytes = a.seal(heartbeat(0, 10), NOW).unwrap();
    assert_eq!(b.open(&bytes, NOW), Ok(heartbeat(0, 10)));
    let duplicate = b.open(&bytes, NOW).unwrap_err();
    assert_eq!(
        duplicate,
        Dropped { reason: DropReason::Duplicate, signed_by: Some(NodeId(0)), claims_to_be: None }
    );
    assert_eq!(duplicate.heard_from(), Some(NodeId(0)));
}

#[test]
fn each_reason_has_its_message() {
    let (mut a, mut b) = acquainted();
    let good = a.seal(heartbeat(0, 10), NOW).unwrap();
    let with = |offset: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[offset] = value;
        bytes
    };
    assert_eq!(reason(&mut b, &good[..40]), Some(DropReason::Truncated));
    assert_eq!(reason(&mut b, &[0; 2_000]), Some(DropReason::TooLong));
    assert_eq!(reason(&mut b, &with(0, 0)), Some(DropReason::NotHeartbeat));
    assert_eq!(reason(&mut b, &with(2, 9)), Some(DropReason::BadVersion));
    assert_eq!(reason(&mut b, &with(3, 2)), Some(DropReason::UnknownKey));
    assert_eq!(reason(&mut b, &with(4, !good[4])), Some(DropReason::ForeignCluster));
    assert_eq!(reason(&mut b, &with(9, 1)), Some(DropReason::BadMac));
    assert_eq!(reason(&mut a, &good), Some(DropReason::FromMyself));
    assert_eq!(reason(&mut b, &good), None);
}

#[test]
fn a_signed_message_outside_the_format_is_malformed() {
    let (mut a, mut b) = acquainted();
    let mut bytes = a.seal(heartbeat(0, 10), NOW).unwrap();
    bytes.truncate(bytes.len() - wire::TAG_LENGTH);
    bytes.push(0);
    let tag = a.keys.sign(&bytes);
    bytes.extend(tag);
    assert_eq!(reason(&mut b, &bytes), Some(DropReason::Malformed));
}

#[test]
fn keys_change_without_a_lost_message() {
    let (mut a, mut b) = acquainted();
    let keys = |ids: &[u8], sign: u8| {
        let keys =
            ids.iter().map(|&id| (KeyId(id), if id == 1 { KEY } else { b"the next key of them".as_slice() }));
        Keys::new(keys, KeyId(sign)).unwrap()
    };
    let mut sequence = 10;
    let mut both_ways = |a: &mut Channel, b: &mut Channel| {
        sequence += 1;
        let (to_b, to_a) = (a.seal(heartbeat(0, sequence), NOW), b.seal(heartbeat(1, sequence), NOW));
        assert_eq!(b.open(&to_b.unwrap(), NOW), Ok(heartbeat(0, sequence)));
        assert_eq!(a.open(&to_a.unwrap(), NOW), Ok(heartbeat(1, sequence)));
    };
    for (ids, sign) in [([1, 2].as_slice(), 1), (&[1, 2], 2), (&[2], 2)] {
        a.set_keys(keys(ids, sign));
        both_ways(&mut a, &mut b);
        b.set_keys(keys(ids, sign));
        both_ways(&mut a, &mut b);
    }
}

#[test]
fn a_node_without_the_key_gets_nowhere() {
    let (_, mut b) = acquainted();
    let wrong = Keys::new([(KeyId(1), b"some other key".as_slice())], KeyId(1)).unwrap();
    let bytes = with_keys(0, wrong).seal(heartbeat(0, 10), NOW).unwrap();
    assert_eq!(reason(&mut b, &bytes), Some(DropReason::BadMac));
}

proptest! {
    #[test]
    fn arbitrary_bytes_change_nothing(messages in vec(vec(any::<u8>(), 0..700), 1..20), header in any::<bool>()) {
        let (mut a, mut b) = acquainted();
        let before = format!("{:?}", b.guard);
        for mut bytes in messages {
            if header && bytes.len() > 8 {
                bytes[..4].copy_from_slice(b"LH\x02\x01");
                bytes[4..8].copy_from_slice(&b.cluster.0.to_be_bytes());
            }
            prop_assert!(b.open(&bytes, NOW).is_err());
        }
        prop_assert_eq!(format!("{:?}", b.guard), before);
        let bytes = a.seal(heartbeat(0, 10), NOW).unwrap();
        prop_assert!(b.open(&bytes, NOW).is_ok());
    }

    #[test]
    fn every_flipped_bit_is_noticed(message in wire::tests::any_heartbeat(), bit in any::<prop::sample::Index>()) {
        let (mut a, mut b) = acquainted();
        let message = Heartbeat { from: NodeId(0), session: 7, ..message };
        let mut bytes = a.seal(message, NOW).unwrap();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let dropped = b.open(&bytes, NOW).unwrap_err();
        prop_assert_eq!(dropped.signed_by, None, "not even its sender is believed");
    }
}
