//! Known connections of servers with tunnels and address translation: their packets take the fast
//! way alone. What becomes of them byte by byte is the affair of [`crate::tunnels`] and
//! [`crate::nat`]; here all other ways are made impassable.

use lb_common::program::stage::Stage;
use lb_model::{Tunnel, TunnelKind};
use lb_tests::harness::*;

use crate::nat::{self, SEGMENTS, Segment};
use crate::tunnels::{self, finished, v4, v6};

/// Whatever is not of the fast way.
const OTHERS: [Stage; 7] = [
    Stage::Slow,
    Stage::SlowIpv6,
    Stage::Encapsulate,
    Stage::Translate,
    Stage::TranslateIpv6,
    Stage::TranslateBack,
    Stage::TranslateBackIpv6,
];

/// While `work` runs there is none of these stages.
fn without(director: &mut Director, stages: &[Stage], work: &mut dyn FnMut(&Director)) {
    match stages {
        [] => work(director),
        [stage, rest @ ..] => director.without_stage(*stage, |director| without(director, rest, work)),
    }
}

#[test]
fn packets_into_tunnels_take_the_fast_way() {
    for kind in TunnelKind::ALL {
        for outer_ipv4 in [true, false] {
            let mut director = tunnels::with(&Tunnel::new(kind), outer_ipv4);
            let frames = |length| {
                [v4, v6].into_iter().flat_map(move |build| {
                    [Some(ACK), None].map(|flags| finished(build(flags, length), 14, 0))
                })
            };
            for build in [v4, v6] {
                for flags in [Some(SYN), Some(ACK), Some(ACK), None, None, None] {
                    director.send_bytes(&finished(build(flags, 100), 14, 0));
                }
            }
            without(&mut director, &OTHERS, &mut |director| {
                for frame in frames(100) {
                    assert_eq!(director.send_bytes(&frame).verdict, Verdict::Tx, "{kind:?} {outer_ipv4}");
                }
                for frame in frames(1480) {
                    assert_ne!(director.send_bytes(&frame).verdict, Verdict::Tx, "it does not fit");
                }
            });
        }
    }
}

#[test]
fn both_ways_of_address_translation_take_the_fast_way() {
    let mut director = nat::director();
    for kind in SEGMENTS {
        // As long as Ethernet makes it.
        let segment = Segment::new(kind, ACK).with(64, vec![1; 20]);
        segment.open(&director);
        assert_eq!(director.send_bytes(&segment.by_server()).verdict, Verdict::Tx, "whose it is, is learnt");
        without(&mut director, &OTHERS, &mut |director| {
            for frame in [segment.to_vip(), segment.by_server()] {
                assert_eq!(director.send_bytes(&frame).verdict, Verdict::Tx, "{kind:?}");
            }
            let last_hop = segment.clone().with(1, vec![1; 20]);
            for frame in [last_hop.to_vip(), last_hop.by_server()] {
                assert_ne!(director.send_bytes(&frame).verdict, Verdict::Tx, "no hop is left");
            }
        });
    }
}

/// Where two services use one port of a machine the table tells whose an answer is, not the last
/// one that came from there.
#[test]
fn an_answer_of_a_shared_backend_is_never_guessed() {
    let (mut director, _) = nat::clashing();
    let segment = Segment::new(SEGMENTS[0], ACK).with(64, vec![1; 20]);
    assert_eq!(director.send_bytes(&segment.by_server()).verdict, Verdict::Tx, "of the other VIP");
    without(&mut director, &OTHERS, &mut |director| {
        assert_ne!(director.send_bytes(&segment.by_server()).verdict, Verdict::Tx);
    });
}

/// Servers of both protocols at one address and port are one guess; one that is gone is none.
#[test]
fn a_guess_is_borne_out_before_it_is_believed() {
    let mut director = nat::director();
    let [tcp, udp] = [SEGMENTS[0], SEGMENTS[1]].map(|kind| Segment::new(kind, ACK).with(64, vec![1; 20]));
    for segment in [&tcp, &udp] {
        segment.open(&director);
    }
    for segment in [&udp, &tcp, &udp, &tcp, &tcp] {
        let outcome = director.send_bytes(&segment.by_server());
        assert_eq!((outcome.verdict, outcome.frame), (Verdict::Tx, segment.to_client()));
    }
    let removed = director.change(|state| drop(state.services.remove(&WEB)));
    director.purge(&removed);
    assert_eq!(director.send_bytes(&tcp.by_server()).verdict, Verdict::Pass, "the host's");
    assert_eq!(director.send_bytes(&udp.by_server()).verdict, Verdict::Tx);
}
