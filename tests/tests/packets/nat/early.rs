//! Fragments that overtake the first one of their datagram, with the thread that holds them: what
//! servers answer, and what goes to servers behind another interface.

use std::io::{ErrorKind, Read as _};
use std::thread;
use std::time::{Duration, Instant};

use lb_common::reason::Reason;
use lb_datapath::fragments::FragmentThread;
use lb_model::ServiceKey;
use lb_tests::harness::*;
use socket2::{Domain, Protocol, Socket, Type};

use super::elsewhere::{LOOPBACK, OTHER, THERE, here, leaving, with_ingress};
use super::related::cut;
use super::{Segment, UDP, assert_becomes, assert_passes, director, routes, services};

const KINDS: [(u8, u8); 2] = [(4, UDP), (6, UDP)];
/// Longer than the thread needs on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Frames that leave by any interface.
struct Wire(Socket);

impl Wire {
    fn new() -> Self {
        let all = i32::from(3_u16.to_be());
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(all))).expect("a raw socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        Self(socket)
    }

    #[track_caller]
    fn assert_carries(&mut self, description: &str, frame: &[u8]) {
        let begin = Instant::now();
        let mut found = vec![0; 65_536];
        while begin.elapsed() < PATIENCE {
            match self.0.read(&mut found) {
                Ok(length) if found[..length] == *frame => return,
                Ok(_) => {}
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
                Err(error) => panic!("{description}: {error}"),
            }
        }
        panic!("{description}: it has not left");
    }
}

/// With a thread that holds fragments, as of a director whose main interface is the loopback.
fn holding(services: Vec<(ServiceKey, lb_datapath::plan::Service)>) -> (Director, FragmentThread) {
    let mut director = Director::started(services);
    director.data_path.executor.set_routes(&routes()).expect("there is room");
    let holder = director.data_path.hold_fragments(LOOPBACK).expect("a thread").expect("the first one");
    (director, holder)
}

/// The thread counts what it has sent a moment after others see it.
fn assert_counts(holder: &FragmentThread, wanted: [u64; 3]) {
    let end = Instant::now() + PATIENCE;
    while holder.counts().read() != wanted && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(holder.counts().read(), wanted);
}

/// The thread takes it, once it has begun.
#[track_caller]
fn assert_held(director: &Director, description: &str, frame: &[u8]) {
    let begin = Instant::now();
    while director.explain(frame).1 != [Reason::FragmentHeld] {
        assert!(begin.elapsed() < PATIENCE, "{description}: it is not held");
    }
}

/// The part of a datagram, in units of 8 bytes.
fn part(kind: (u8, u8), whole: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    if kind.0 == 4 { cut(whole, range) } else { fragment6(whole, 9, range) }
}

fn datagram(kind: (u8, u8)) -> Segment {
    Segment { data: (0..1000_u32).map(|index| (index * 7) as u8).collect(), ..Segment::new(kind, 0) }
}

#[test]
fn what_servers_answer_arrives_in_any_order() {
    let (director, holder) = holding(services());
    let mut wire = Wire::new();
    for kind in KINDS {
        let datagram = datagram(kind);
        let whole = datagram.to_vip();
        for range in [0..40, 40..126] {
            director.send_bytes(&part(kind, &whole, range));
        }
        let (from, to) = (datagram.by_server(), datagram.to_client());
        let description = format!("{kind:?}");
        for range in [80..126, 40..80] {
            assert_held(&director, &description, &part(kind, &from, range));
        }
        assert_becomes(&director, &description, &part(kind, &from, 0..40), &part(kind, &to, 0..40));
        for range in [40..80, 80..126] {
            wire.assert_carries(&description, &part(kind, &to, range));
        }
    }
    assert_counts(&holder, [4, 0, 0]);
    director.assert_counts_are_true();
}

#[test]
fn what_goes_to_a_server_behind_another_interface_arrives_in_any_order() {
    let services = services().into_iter().map(|(key, service)| (key, leaving(service, THERE)));
    let (director, holder) = holding(services.collect());
    let mut wire = Wire::new();
    for kind in KINDS {
        let (from, to) = (datagram(kind).to_vip(), datagram(kind).to_server());
        let to = [&to[..6], &OTHER.octets(), &to[12..]].concat();
        let description = format!("{kind:?}");
        for range in [80..126, 40..80] {
            assert_held(&director, &description, &part(kind, &from, range));
        }
        assert_eq!(director.send_bytes(&part(kind, &from, 0..40)).verdict, Verdict::Redirect);
        for range in [40..80, 80..126] {
            wire.assert_carries(&description, &part(kind, &to, range));
        }
    }
    assert_counts(&holder, [4, 0, 0]);
}

/// The director is a router of its servers, too: what is no answer goes on at once.
#[test]
fn only_what_may_be_an_answer_is_held() {
    let mut director = director();
    director.held_fragments().take_for(PATIENCE);
    for kind in KINDS {
        let whole = datagram(kind).by_server();
        let (outcome, reasons) = director.explain(&part(kind, &whole, 40..80));
        assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::FragmentHeld]), "{kind:?}");
        // Of a connection that nobody has opened, and of a port that is none of ours.
        let mut other = whole.clone();
        let port = if kind.0 == 4 { 34 } else { 54 };
        for change in [0, 1] {
            other[port + 1] ^= change;
            for range in [0..40, 40..80, 80..126] {
                assert_passes(&director, &format!("{kind:?} {change}"), &part(kind, &other, range));
            }
        }
        let mut ping = part(kind, &whole, 40..80);
        ping[if kind.0 == 4 { 23 } else { 54 }] = if kind.0 == 4 { 1 } else { ICMPV6 };
        assert_passes(&director, &format!("{kind:?}, ICMP"), &ping);

        director.send_bytes(&Segment::new(kind, 0).to_vip());
        let to = datagram(kind).to_client();
        for range in [0..10, 20..30, 40..50, 60..70] {
            let description = format!("{kind:?}, {range:?}");
            let [from, to] = [&whole, &to].map(|whole| part(kind, whole, range.clone()));
            assert_becomes(&director, &description, &from, &to);
        }
        let (_, reasons) = director.explain(&part(kind, &whole, 80..90));
        assert_eq!(reasons, [Reason::FragmentHeld], "{kind:?}: too many holes, for now");
    }
}

/// What is held is looked at again as a packet of the main interface, whose VLANs are others.
#[test]
fn what_has_tags_of_another_interface_is_not_held() {
    let mut director = with_ingress(director());
    director.held_fragments().take_for(PATIENCE);
    for kind in KINDS {
        let early = part(kind, &datagram(kind).by_server(), 40..80);
        for (tags, reason) in [(vec![], Reason::FragmentHeld), (vec![DOT1Q], Reason::FragmentUnknown)] {
            let (_, reasons) = director.explain_ingress(&here(&tagged(&tags, &early)));
            assert_eq!(reasons, [reason], "{kind:?} {tags:?}");
        }
    }
}
