//! There and back, every limit, and whatever else may arrive.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::standing::tests::any_order;
use crate::standing::{BY, Order, REASON, SERVER, SERVICE, Subject, Version, Wish};

pub(crate) fn any_heartbeat() -> impl Strategy<Value = Heartbeat> {
    let readiness = (any::<(bool, bool, bool)>(), any::<u16>(), any::<u8>()).prop_map(
        |((data_path, link, maintenance), servers, references)| Readiness {
            data_path,
            link,
            maintenance,
            servers,
            references,
        },
    );
    let role = prop::sample::select(vec![
        Role::Fault,
        Role::Standby,
        Role::Acquiring,
        Role::Active,
        Role::Releasing,
    ]);
    let status = (role, any::<u64>(), prop::option::of(any_node()), any::<bool>());
    let groups = btree_map(any::<u32>().prop_map(GroupId), status, 0..=MAX_GROUPS).prop_map(|groups| {
        let status = |(group, (role, term, offered_to, yielded))| GroupStatus {
            group,
            role,
            term,
            offered_to,
            yielded,
        };
        groups.into_iter().map(status).collect::<Vec<_>>()
    });
    let note = prop::option::of(any_note());
    (any_node(), any::<(u64, u64, u64, u16)>(), readiness, groups, note).prop_map(
        |(from, (session, sequence, config_digest, hears), readiness, groups, standing)| Heartbeat {
            from,
            session,
            sequence,
            readiness,
            hears,
            config_digest,
            groups,
            standing,
        },
    )
}

fn any_note() -> impl Strategy<Value = Note> {
    (any::<u32>(), vec(any_order(), 0..4)).prop_map(|(digest, mut orders): (u32, Vec<Order>)| {
        let length = |orders: &[Order]| {
            let mut bytes = Vec::new();
            orders.iter().for_each(|order| standing::put(&mut bytes, order));
            bytes.len()
        };
        while length(&orders) > ROOM {
            orders.pop();
        }
        Note { digest, orders }
    })
}

fn any_node() -> impl Strategy<Value = NodeId> {
    (0..MAX_NODES as u8).prop_map(NodeId)
}

fn any_envelope() -> impl Strategy<Value = Envelope> {
    let echo = (any_node(), any::<u64>()).prop_map(|(node, challenge)| Echo { node, challenge });
    (any_heartbeat(), any::<u64>(), vec(echo, 0..=MAX_ECHOES))
        .prop_map(|(heartbeat, challenge, echoes)| Envelope { heartbeat, challenge, echoes })
}

const HEADER: Header = Header { key: 7, cluster: 0xdead_beef };

fn bytes(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = encode(HEADER, envelope).expect("within the limits");
    bytes.extend([0xaa; TAG_LENGTH]);
    bytes
}

fn whole(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    split(bytes).and_then(decode)
}

fn envelope(groups: usize, echoes: usize) -> Envelope {
    let status = |number: u32| GroupStatus {
        group: GroupId(0x0607_0800 + number),
        role: Role::Active,
        term: 9,
        offered_to: Some(NodeId(15)),
        yielded: true,
    };
    let readiness =
        Readiness { data_path: true, link: false, maintenance: true, servers: 0x0102, references: 3 };
    let heartbeat = Heartbeat {
        from: NodeId(1),
        session: 2,
        sequence: 3,
        readiness,
        hears: 0x0405,
        config_digest: 4,
        groups: (0..).map(status).take(groups).collect(),
        standing: None,
    };
    Envelope { heartbeat, challenge: 5, echoes: vec![Echo { node: NodeId(0), challenge: 6 }; echoes] }
}

#[test]
fn the_layout_is_as_documented() {
    #[rustfmt::skip]
    let expected = [
        b'L', b'H', 2, 7, 0xde, 0xad, 0xbe, 0xef,
        1,
        0, 0, 0, 0, 0, 0, 0, 2,
        0, 0, 0, 0, 0, 0, 0, 3,
        0, 0, 0, 0, 0, 0, 0, 4,
        0b101, 1, 2, 3,
        4, 5,
        1, 6, 7, 8, 0, 0xfb, 1, 0, 0, 0, 0, 0, 0, 0, 9,
        0, 0, 0, 0, 0, 0, 0, 5,
        1, 0, 0, 0, 0, 0, 0, 0, 0, 6,
    ];
    assert_eq!(encode(HEADER, &envelope(1, 1)).unwrap(), expected);
    assert_eq!(bytes(&envelope(1, 1)).len(), 88);
    assert_eq!(bytes(&envelope(MAX_GROUPS, MAX_ECHOES)).len(), MAX_LENGTH - NOTE_LENGTH);
    assert_eq!(MAX_LENGTH, 1076);
    let mut with_orders = envelope(0, 0);
    with_orders.heartbeat.standing = Some(Note { digest: 7, orders: vec![longest_order()] });
    let longest = bytes(&with_orders);
    assert_eq!((longest[2], longest.len()), (3, MIN_LENGTH + NOTE_LENGTH));
    assert_eq!(bytes(&envelope(0, 0)).len(), MIN_LENGTH);
}

fn longest_order() -> Order {
    let text = |length| "x".repeat(length);
    Order {
        version: Version { time_ms: u64::MAX, node: 15 },
        subject: Subject { server: text(SERVER), service: Some(text(SERVICE)) },
        wish: Wish::Weight(u16::MAX),
        by: text(BY),
        reason: text(REASON),
    }
}

#[test]
fn what_does_not_fit_is_not_encoded() {
    let refused = |envelope: &Envelope| encode(HEADER, envelope).unwrap_err();
    let groups = |value| EncodeError::TooMuch { field: "the number of groups", value, most: MAX_GROUPS };
    assert_eq!(refused(&envelope(MAX_GROUPS + 1, 0)), groups(MAX_GROUPS + 1));
    assert_eq!(refused(&envelope(300, 0)), groups(300));
    let echoes = MAX_ECHOES + 1;
    let too_many = EncodeError::TooMuch { field: "the number of echoes", value: echoes, most: MAX_ECHOES };
    assert_eq!(refused(&envelope(0, echoes)), too_many);
    let mut long = envelope(0, 0);
    long.heartbeat.standing = Some(Note { digest: 7, orders: vec![longest_order(); 2] });
    let too_long = EncodeError::TooMuch { field: "the length of its orders", value: 576, most: 288 };
    assert_eq!(refused(&long), too_long);
    let mut foreign = envelope(0, 0);
    foreign.heartbeat.from = NodeId(16);
    let sender = EncodeError::TooMuch { field: "the sender's id", value: 16, most: 15 };
    assert_eq!(refused(&foreign), sender);
    let mut twice = envelope(2, 0);
    twice.heartbeat.groups[1].group = twice.heartbeat.groups[0].group;
    assert_eq!(refused(&twice), EncodeError::GroupsUnordered);
}

#[test]
fn each_error_says_what_is_wrong() {
    let good = bytes(&envelope(1, 1));
    let with = |offset: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[offset] = value;
        whole(&bytes).unwrap_err()
    };
    assert_eq!(with(0, b'X'), DecodeError::NotHeartbeat);
    assert_eq!(with(2, 1), DecodeError::BadVersion(1));
    assert_eq!(with(8, 16), DecodeError::OutOfRange { field: "the sender's id", value: 16, most: 15 });
    assert_eq!(with(33, 0b1001), DecodeError::ReservedBits { field: "the readiness", value: 0b1001 });
    assert_eq!(with(39, 33), DecodeError::OutOfRange { field: "the number of groups", value: 33, most: 32 });
    assert_eq!(with(39, 32), DecodeError::Truncated);
    assert_eq!(with(44, 0x05), DecodeError::OutOfRange { field: "a group's role", value: 5, most: 4 });
    assert_eq!(with(44, 0x13), DecodeError::ReservedBits { field: "a group's offer", value: 0x13 });
    assert_eq!(with(45, 2), DecodeError::ReservedBits { field: "a group's flags", value: 2 });
    assert_eq!(with(62, 0), DecodeError::Trailing(9));
    let mut two = bytes(&envelope(2, 0));
    two[43] = 1;
    assert_eq!(whole(&two).unwrap_err(), DecodeError::GroupsUnordered);
    assert_eq!(whole(&good[..MIN_LENGTH - 1]).unwrap_err(), DecodeError::Truncated);
    assert_eq!(whole(&vec![0; MAX_LENGTH + 1]).unwrap_err(), DecodeError::TooLong);
}

proptest! {
    #[test]
    fn there_and_back(envelope in any_envelope()) {
        let bytes = bytes(&envelope);
        prop_assert!(bytes.len() <= MAX_LENGTH);
        prop_assert_eq!(split(&bytes).unwrap().header, HEADER);
        prop_assert_eq!(whole(&bytes).unwrap(), envelope);
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(mut bytes in vec(any::<u8>(), 0..MAX_LENGTH + 10), header in any::<bool>()) {
        if header && bytes.len() > 3 {
            bytes[..2].copy_from_slice(b"LH");
            bytes[2] = VERSION + bytes[2] % 2;
        }
        if let Ok(parts) = split(&bytes)
            && let Ok(envelope) = decode(parts)
        {
            prop_assert_eq!(encode(parts.header, &envelope).unwrap(), parts.signed, "one form of each message");
        }
    }

    #[test]
    fn every_shortened_message_is_refused(envelope in any_envelope(), cut in any::<prop::sample::Index>()) {
        let bytes = bytes(&envelope);
        prop_assert!(whole(&bytes[..cut.index(bytes.len())]).is_err());
    }
}
