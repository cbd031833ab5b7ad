//! Answers of servers while their group moves from one director to the other.

use lb_common::lease::RETURNED_ANSWER_TTL;
use lb_tests::harness::*;

use super::{Segment, director};
use crate::leases::{Pair, Role};

const OLD: usize = 0;
const NEW: usize = 1;

/// The old director knows the client's connection, and its program serves on for the new one.
fn moved(families: [u8; 2]) -> Pair {
    let pair = Pair::of([director(), director()]);
    pair.0[OLD].data_path.leases().unlimited(GROUP);
    for family in families {
        let segment = |flags| Segment::new((family, TCP), flags);
        for frame in [segment(SYN).to_vip(), segment(SYN | ACK).by_server(), segment(ACK).to_vip()] {
            assert_eq!(pair.0[OLD].send_bytes(&frame).verdict, Verdict::Tx);
        }
    }
    pair.set(OLD, Role::ServesOn, false);
    pair.set(NEW, Role::Holder, true);
    pair
}

#[test]
fn an_answer_finds_the_director_that_knows_its_connection() {
    let pair = moved([4, 6]);
    for family in [4, 6] {
        let answer = Segment { data: vec![7; 100], ..Segment::new((family, TCP), ACK) };
        let (outcome, relays) = pair.send_frame(NEW, &answer.by_server());
        assert_eq!((outcome.verdict, relays), (Verdict::Tx, 1), "IPv{family}");
        assert_eq!(outcome.frame, answer.to_client(), "IPv{family}: as if it had come there");
    }
}

/// A client may speak with a server past the VIP, by the holder as its router.
#[test]
fn what_neither_knows_is_the_holders_hosts_and_may_still_go_far() {
    let pair = moved([4, 6]);
    let host = "192.0.2.99".parse().expect("an address");
    let host6 = "2001:db8:77::1".parse().expect("an address");
    for (family, client, place) in [(4, host, 14 + 8), (6, host6, 14 + 7)] {
        let answer = Segment { client, ..Segment::new((family, TCP), ACK) };
        let (outcome, relays) = pair.send_frame(NEW, &answer.by_server());
        assert_eq!((outcome.verdict, relays), (Verdict::Pass, 2), "IPv{family}");
        assert_eq!(outcome.frame[place], RETURNED_ANSWER_TTL);
        let sent = Segment { ttl: RETURNED_ANSWER_TTL, ..answer }.by_server();
        assert_eq!(outcome.frame[14..], sent[14..], "IPv{family}: but for that as it was sent");
    }
}

#[test]
fn what_begins_a_connection_and_datagrams_are_asked_of_nobody() {
    let pair = moved([4, 6]);
    let client = "192.0.2.99".parse().expect("an address");
    for (protocol, flags) in [(TCP, SYN), (17, 0)] {
        let sent = Segment { client, ..Segment::new((4, protocol), flags) };
        let (outcome, relays) = pair.send_frame(NEW, &sent.by_server());
        assert_eq!((outcome.verdict, relays), (Verdict::Pass, 0), "protocol {protocol}");
    }
    // Nor does one without a lease ask anybody.
    pair.set(NEW, Role::ServesOn, true);
    let answer = Segment { client, ..Segment::new((4, TCP), ACK) };
    assert_eq!(pair.send_frame(NEW, &answer.by_server()).1, 0);
}
