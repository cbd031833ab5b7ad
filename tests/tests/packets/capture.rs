//! Frames told as they came in and as they went out, while somebody captures.

use lb_common::program::capture::{Direction, MOST};
use lb_common::program::trace::{Outcome as Became, Settings};
use lb_common::reason::Reason;
use lb_common::shared::Shared;
use lb_datapath::trace::Captured;
use lb_tests::harness::*;

use crate::{ipv6_services, refusals, tunnels};

fn frames(snaplen: usize) -> Settings {
    Settings { snaplen: Shared::new(snaplen as u64), ..Settings::OFF }
}

/// What is captured of a frame: its ways and its bytes.
fn captured(director: &mut Director, frame: &[u8]) -> (Outcome, Vec<Captured>) {
    let outcome = director.send_traced(frame);
    (outcome, director.captured())
}

/// It came in like this, and it went out as the program has sent it.
#[track_caller]
fn assert_in_and_out(director: &mut Director, what: &str, frame: &[u8]) {
    let (outcome, told) = captured(director, frame);
    assert_eq!(outcome.verdict, Verdict::Tx, "{what}");
    let [came, went] = &told[..] else { panic!("{what}: {} frames", told.len()) };
    let directions = [came, went].map(|frame| frame.head.direction());
    assert_eq!(directions, [Some(Direction::In), Some(Direction::Out)], "{what}");
    assert_eq!((&came.bytes, came.head.length as usize), (&frame.to_vec(), frame.len()), "{what}: in");
    assert_eq!(
        (&went.bytes, went.head.length as usize),
        (&outcome.frame, outcome.frame.len()),
        "{what}: out"
    );
    assert_eq!(came.head.event, went.head.event, "{what}: decided once");
    let times = [came.head.event.time_ns, came.head.time_ns, went.head.time_ns];
    assert!(
        came.head.time_ns <= went.head.time_ns && times.iter().all(|time| *time > 0),
        "{what}: {times:?}"
    );
}

#[test]
fn what_is_sent_is_told_as_it_came_and_as_it_went() {
    let mut director = Director::new([(WEB, rr([1, 2])), (WEB_UDP, rr([3]))]);
    director.trace(frames(MOST));
    let datagram = Packet { payload: 1000, ..Packet::udp(client(3)) };
    for (what, frame) in [
        ("SYN", Packet::syn(client(1)).bytes()),
        ("ACK", Packet::ack(client(1)).bytes()),
        ("tagged", Packet { tags: vec![DOT1AD, DOT1Q], payload: 7, ..Packet::ack(client(1)) }.bytes()),
        (
            "an ICMP error",
            icmp_error(
                &Packet::udp(client(1)),
                [3, 4],
                &sent_to(client(1), Packet::ack(client(1)).transport, 0),
            ),
        ),
        ("a first fragment", fragment(&datagram, 7, 0..64)),
        ("a later fragment", fragment(&datagram, 7, 64..126)),
        ("a jumbo frame", Packet { payload: 8900, ..Packet::udp(client(1)) }.bytes()),
    ] {
        assert_in_and_out(&mut director, what, &frame);
    }
    drop(director);
    let mut director = ipv6_services::director();
    director.trace(frames(MOST));
    assert_in_and_out(&mut director, "IPv6", &tcp6(1, SYN));
    drop(director);
    let mut director = tunnels::director();
    director.trace(frames(MOST));
    assert_in_and_out(&mut director, "a tunnel", &Packet::syn(client(1)).bytes());
    assert_in_and_out(&mut director, "what fits", &tunnels::too_big(Packet::ack(client(1))).bytes());
    drop(director);
    let mut director = refusals::director();
    director.trace(frames(MOST));
    assert_in_and_out(&mut director, "a reset", &Packet::syn(client(1)).bytes());
    assert_in_and_out(&mut director, "port unreachable", &Packet::udp(client(1)).bytes());
    assert!(director.told().is_empty(), "frames are told once, not as packets besides");
}

#[test]
fn what_goes_nowhere_is_told_as_it_came() {
    let mut director = Director::new([(WEB, rr([])), (WEB_UDP, rr([1]))]);
    director.trace(frames(MOST));
    for (frame, verdict, reason) in [
        (Packet::syn(client(1)).bytes(), Verdict::Drop, Reason::NoServer),
        (Packet::ack(client(1)).bytes(), Verdict::Pass, Reason::Stray),
        (Packet { ttl: 0, ..Packet::udp(client(1)) }.bytes(), Verdict::Drop, Reason::TtlExpired),
    ] {
        let (outcome, told) = captured(&mut director, &frame);
        let [came] = &told[..] else { panic!("{} frames", told.len()) };
        assert_eq!((outcome.verdict, &came.bytes), (verdict, &frame));
        assert_eq!(came.head.direction(), Some(Direction::In));
        assert_eq!(
            (came.head.event.outcome(), came.head.event.reason()),
            (Some(Became::Refused), Some(reason))
        );
    }
}

#[test]
fn a_capture_is_bounded_and_filtered_as_a_trace_is() {
    let mut director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    let long = Packet { payload: 1200, ..Packet::udp(client(1)) }.bytes();
    for snaplen in [14, 64, 1000] {
        director.trace(frames(snaplen));
        let (outcome, told) = captured(&mut director, &long);
        let bytes: Vec<&[u8]> = told.iter().map(|frame| &frame.bytes[..]).collect();
        assert_eq!(bytes, [&long[..snaplen], &outcome.frame[..snaplen]], "{snaplen} bytes");
        assert!(told.iter().all(|frame| frame.head.length as usize == long.len()));
    }
    director.trace(Settings { protocol: Shared::new(6), ..frames(MOST) });
    assert_eq!(captured(&mut director, &long).1, [], "not asked for");
    assert_eq!(captured(&mut director, &Packet::syn(client(1)).bytes()).1.len(), 2);
    assert_eq!(captured(&mut director, &arp_request(VIP)).1, [], "the host's");

    // Without frames nothing but the packet is told.
    director.trace(Settings::OFF);
    assert_eq!(captured(&mut director, &long).1, []);
    assert_eq!(director.told().len(), 1);

    // A buffer that is full loses frames, which are counted, and no packet.
    director.trace(frames(MOST));
    let before = director.data_path.executor.trace().counted().unwrap();
    let outcomes =
        (0..2000).map(|_| director.send_traced(&long)).filter(|outcome| outcome.verdict == Verdict::Tx);
    assert_eq!(outcomes.count(), 2000);
    let told = director.captured().len() as u64;
    let counted = director.data_path.executor.trace().counted().unwrap();
    assert!(told > 500, "{told} frames");
    assert!(
        counted.lost - before.lost >= (4000 - told) / 2,
        "{told} told, {} lost",
        counted.lost - before.lost
    );
    director.data_path.executor.trace().end();
    assert_eq!(captured(&mut director, &long).1, [], "nobody asks any more");
}
