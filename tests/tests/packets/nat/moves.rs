//! Answers of servers while their group moves from one director to the other.

use lb_common::lease::RETURNED_ANSWER_TTL;
use lb_tests::harness::*;

use super::{Segment, director};
use crate::leases::{Pair, Role};

const OLD: usize = 0;
const NEW: usize = 1;

/// The old director's program serves on for the new one. A client's connection of each family is
/// known to those that `know`, from an earlier time when they had the group.
fn moved(know: &[usize]) -> Pair {
    let pair = Pair::of([director(), director()]);
    for &index in know {
        let leases = pair.0[index].data_path.leases();
        leases.renew(GROUP, within(60));
        for family in [4, 6] {
            let segment = |flags| Segment::new((family, TCP), flags);
            let frames = [segment(SYN).to_vip(), segment(SYN | ACK).by_server(), segment(ACK).to_vip()];
            for frame in frames {
                let (outcome, relays) = pair.send_frame(index, &frame);
                assert_eq!((outcome.verdict, relays), (Verdict::Tx, 0));
            }
        }
        leases.next_generation(GROUP);
    }
    pair.set(OLD, Role::ServesOn, false);
    pair.set(NEW, Role::Holder, true);
    pair
}

/// Each director has let the other one decide while it had the group, so neither is sure.
#[test]
fn an_answer_that_comes_back_from_the_other_director_may_still_go_far() {
    let pair = moved(&[OLD, NEW]);
    pair.set(NEW, Role::ServesOn, false);
    pair.set(OLD, Role::Holder, true);
    for family in [4, 6] {
        let (outcome, relays) = pair.send_frame(OLD, &Segment::new((family, TCP), ACK).to_vip());
        assert_eq!((outcome.verdict, relays), (Verdict::Tx, 1), "IPv{family}: the other one decides");
    }
    pair.0[OLD].data_path.leases().next_generation(GROUP);
    pair.0[NEW].data_path.leases().next_generation(GROUP);
    pair.set(OLD, Role::ServesOn, false);
    pair.set(NEW, Role::Holder, true);
    for family in [4, 6] {
        let answer = Segment { data: vec![7; 100], ..Segment::new((family, TCP), ACK) };
        let (outcome, relays) = pair.send_frame(NEW, &answer.by_server());
        assert_eq!((outcome.verdict, relays), (Verdict::Tx, 2), "IPv{family}");
        let sent = Segment { ttl: RETURNED_ANSWER_TTL, ..answer }.to_client();
        assert_eq!(
            outcome.frame[14..],
            sent[14..],
            "IPv{family}: but for its hops as if nobody had been asked"
        );
    }
}

/// A client on the segment is where its packets come from, but for those that another director
/// relays.
#[test]
fn a_relayed_packet_does_not_tell_where_its_client_is() {
    let pair = Pair::of([director(), director()]);
    let near = Segment { client: [10, 130, 9, 9].into(), ..Segment::new((4, TCP), SYN) };
    let leases = pair.0[OLD].data_path.leases();
    leases.renew(GROUP, within(60));
    for frame in [near.to_vip(), Segment { flags: SYN | ACK, ..near.clone() }.by_server()] {
        assert_eq!(pair.send_frame(OLD, &frame).0.verdict, Verdict::Tx);
    }
    leases.next_generation(GROUP);
    pair.set(OLD, Role::ServesOn, false);
    pair.set(NEW, Role::Holder, true);
    let (outcome, relays) = pair.send_frame(NEW, &Segment { flags: ACK, ..near.clone() }.to_vip());
    assert_eq!((outcome.verdict, relays), (Verdict::Tx, 1), "the old director knows it");
    leases.unlimited(GROUP);
    let answer = pair.send_frame(OLD, &Segment { flags: ACK, ..near }.by_server()).0;
    assert_eq!(answer.verdict, Verdict::Tx);
    assert_eq!(answer.frame[..6], ROUTER.octets(), "where its own packets have come from");
}

/// It may be what a check of this host waits for, or of a client that speaks with a server past the
/// VIP.
#[test]
fn an_answer_that_the_holder_does_not_know_is_its_hosts() {
    let pair = moved(&[OLD]);
    for kind in super::SEGMENTS {
        for flags in [SYN, SYN | ACK, ACK] {
            let answer = Segment::new(kind, flags).by_server();
            let (outcome, relays) = pair.send_frame(NEW, &answer);
            assert_eq!((outcome.verdict, relays), (Verdict::Pass, 0), "{kind:?}");
            assert_eq!(outcome.frame[6..], answer[6..]);
        }
    }
}
