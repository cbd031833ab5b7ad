//! What is told of single packets while somebody traces, and that nothing is otherwise.

use std::net::IpAddr;
use std::time::Duration;

use lb_common::addr::V6;
use lb_common::program::stage::Stage;
use lb_common::program::trace::{Event, Outcome as Became, Settings, Way};
use lb_common::reason::{Fate, Reason};
use lb_common::shared::Shared;
use lb_model::Stray;
use lb_tests::harness::*;

use crate::{ipv6_services, nat, reasons, tunnels};

fn director() -> Director {
    let mut director = Director::new([(WEB, rr([1, 2])), (WEB_UDP, rr([3]))]);
    director.trace(Settings::OFF);
    director
}

/// Server, way and outcome of what is told of a frame.
fn decided(director: &mut Director, packet: &Packet) -> (u16, Option<Way>, Option<Became>) {
    let event = director.told_of(&packet.bytes());
    (event.server, event.way(), event.outcome())
}

#[test]
fn a_packets_headers_are_told_as_they_stand_in_it() {
    let mut director = director();
    let cases = [
        ("SYN", Packet::syn(client(1)), 6, SYN, 40),
        ("data", Packet { payload: 100, ..Packet::ack(client(1)) }, 6, ACK, 140),
        ("FIN", Packet::fin(client(1)), 6, FIN | ACK, 40),
        ("tagged", Packet { tags: vec![DOT1Q], ..Packet::ack(client(1)) }, 6, ACK, 40),
        ("a datagram", Packet::udp(client(2)), 17, 0, 60),
    ];
    for (description, packet, protocol, flags, length) in cases {
        let event = director.told_of(&packet.bytes());
        assert_eq!(event.client, V6::from(IpAddr::from(*packet.from.ip())), "{description}");
        assert_eq!(event.destination, V6::from(IpAddr::from(VIP)), "{description}");
        let ports = (u16::from_be(event.client_port), u16::from_be(event.port));
        assert_eq!(ports, (packet.from.port(), PORT), "{description}");
        assert_eq!((event.protocol, event.tcp_flags), (protocol, flags), "{description}");
        assert_eq!(event.length, length, "{description}");
        assert!(event.time_ns > 0 && event.time_ns <= lb_system::clock::now_ns(), "{description}");
    }
}

#[test]
fn the_way_to_the_server_is_told() {
    let mut director = director();
    let (one, two) = (director.id(WEB, 1).0, director.id(WEB, 2).0);
    let three = director.id(WEB_UDP, 3).0;
    let forwarded = Some(Became::Forwarded);
    let syn = Packet::syn(client(1));
    assert_eq!(decided(&mut director, &syn), (one, Some(Way::New), forwarded));
    assert_eq!(decided(&mut director, &Packet::ack(client(1))), (one, Some(Way::Known), forwarded));
    assert_eq!(decided(&mut director, &Packet::ack(client(1))), (one, Some(Way::Known), forwarded));
    assert_eq!(decided(&mut director, &Packet::syn(client(2))), (two, Some(Way::New), forwarded));
    assert_eq!(decided(&mut director, &Packet::rst(client(2))), (two, Some(Way::Known), forwarded));
    assert_eq!(decided(&mut director, &Packet::udp(client(1))), (three, Some(Way::New), forwarded));
    assert_eq!(decided(&mut director, &Packet::udp(client(1))), (three, Some(Way::Known), forwarded));
}

#[test]
fn a_stray_by_hash_is_none_that_the_table_knows() {
    let mut director = director();
    director.change_service(WEB, |service| service.settings.stray = Stray::Hash);
    for _ in 0..2 {
        let (server, way, became) = decided(&mut director, &Packet::ack(client(9)));
        assert!(server != 0);
        assert_eq!((way, became), (Some(Way::Stray), Some(Became::Forwarded)));
    }
}

#[test]
fn packets_of_ipv6_are_told_too() {
    let mut director = ipv6_services::director();
    director.trace(Settings::OFF);
    let event = director.told_of(&tcp6(1, SYN));
    assert_eq!(event.destination, V6::from(IpAddr::from(VIP6)));
    assert_eq!((event.protocol, event.tcp_flags, u16::from_be(event.port)), (6, SYN, PORT));
    assert_eq!((event.way(), event.outcome()), (Some(Way::New), Some(Became::Forwarded)));
    assert!(event.server != 0);
}

#[test]
fn errors_and_fragments_are_told_with_the_server_that_they_follow() {
    let mut director = director();
    let (one, three) = (director.id(WEB, 1).0, director.id(WEB_UDP, 3).0);
    director.told_of(&Packet::syn(client(1)).bytes());
    let sent = sent_to(client(1), Transport::Tcp { flags: ACK, options: 0 }, 0);
    let datagram = Packet { payload: 1000, ..Packet::udp(client(2)) };
    let cases = [
        ("an ICMP error", icmp_error(&Packet::udp(client(1)), [3, 4], &sent), one, Way::Known, 1),
        ("a first fragment", fragment(&datagram, 7, 0..64), three, Way::New, 17),
        ("a later fragment", fragment(&datagram, 7, 64..126), three, Way::Known, 17),
    ];
    for (description, frame, server, way, protocol) in cases {
        let event = director.told_of(&frame);
        assert_eq!(
            (event.server, event.way(), event.protocol),
            (server, Some(way), protocol),
            "{description}"
        );
        assert_eq!(event.outcome(), Some(Became::Forwarded), "{description}");
    }
}

#[test]
fn packets_into_a_tunnel_are_told_too() {
    let mut director = tunnels::director();
    director.trace(Settings::OFF);
    let (server, way, became) = decided(&mut director, &Packet::syn(client(1)));
    assert!(server != 0);
    assert_eq!((way, became), (Some(Way::New), Some(Became::Forwarded)));
    let known = decided(&mut director, &Packet::ack(client(1)));
    assert_eq!(known, (server, Some(Way::Known), Some(Became::Forwarded)));
}

#[test]
fn both_ways_of_a_translated_connection_are_told() {
    for segment in nat::SEGMENTS {
        let mut director = nat::director();
        director.trace(Settings::OFF);
        let flags = |flags| nat::Segment::new(segment, flags);
        let opened = director.told_of(&flags(SYN).to_vip());
        let answer = director.told_of(&flags(SYN | ACK).by_server());
        let known = director.told_of(&flags(ACK).to_vip());
        let ways = [(&opened, Way::New), (&answer, Way::Answer), (&known, Way::Known)];
        for (event, way) in ways {
            assert_eq!(event.way(), Some(way), "{segment:?}");
            assert_eq!(event.outcome(), Some(Became::Forwarded), "{segment:?} {way:?}");
            assert_eq!(event.server, opened.server, "{segment:?} {way:?}");
        }
        assert!(opened.server != 0);
        let vip = |event: &Event| (event.destination, u16::from_be(event.port));
        assert_eq!(vip(&opened), vip(&known), "a client speaks of the VIP");
    }
}

/// The same packets as in `reasons`, which sees to it that each reason has one.
#[test]
fn every_reason_is_told_and_counted_as_ever() {
    for reason in Reason::ALL {
        let (mut director, frame) = reasons::scene(*reason);
        director.trace(Settings::OFF);
        let before = director.reason(*reason);
        let outcome = director.send_traced(&frame);
        assert_eq!(outcome.verdict, Verdict::of(*reason), "{reason:?}");
        assert_eq!(director.reason(*reason), before + 1, "{reason:?}");
        let told = director.told();
        let [event] = told.as_slice() else { panic!("{reason:?}: {told:#?}") };
        assert_eq!(event.reason(), Some(*reason));
        let delivered = matches!(reason, Reason::LocalFallback | Reason::LocalServer | Reason::PeerBalanced);
        let became = if delivered { Became::Delivered } else { Became::Refused };
        assert_eq!(event.outcome(), Some(became), "{reason:?}");
    }
}

#[test]
fn what_is_for_no_service_is_told_of_vips_alone() {
    let mut director = director();
    let other_port = Packet { to: std::net::SocketAddrV4::new(VIP, 443), ..Packet::syn(client(1)) };
    let (server, way, became) = decided(&mut director, &other_port);
    assert_eq!((server, way, became), (0, None, Some(Became::Passed)));
    let host = std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(192, 0, 2, 77), PORT);
    let to_the_host = Packet { to: host, ..Packet::syn(client(1)) };
    assert_eq!(director.send_traced(&to_the_host.bytes()).verdict, Verdict::Pass);
    let fragment = Packet { fragment: 185, ..to_the_host };
    assert_eq!(director.send_traced(&fragment.bytes()).verdict, Verdict::Pass);
    assert_eq!(director.told(), []);
}

#[test]
fn a_filter_leaves_the_others_out_and_a_sample_most() {
    let mut director = director();
    let www2 = director.id(WEB, 2).0;
    let mut settings = Settings::OFF;
    settings.set_servers([www2]);
    director.trace(settings);
    for number in 1..=6 {
        director.send_traced(&Packet::syn(client(number)).bytes());
    }
    let told = director.told();
    assert_eq!(told.iter().map(|event| event.server).collect::<Vec<u16>>(), [www2; 3]);

    let dropped = Settings::bits(Reason::ALL.iter().copied().filter(|reason| reason.fate() == Fate::Drop));
    director.trace(Settings { reasons: Shared::new(dropped), ..Settings::OFF });
    director.send_traced(&Packet::syn(client(7)).bytes());
    director.send_traced(&Packet::tcp(client(7), SYN | FIN).bytes());
    let reasons: Vec<Option<Reason>> = director.told().iter().map(Event::reason).collect();
    assert_eq!(reasons, [Some(Reason::BadTcpFlags)]);

    director.trace(Settings { sample: Shared::new(4), ..Settings::OFF });
    let matched = director.data_path.executor.trace().counted().unwrap().matched;
    (0..40).for_each(|_| drop(director.send_traced(&Packet::ack(client(7)).bytes())));
    assert_eq!(director.told().len(), 10);
    assert_eq!(director.data_path.executor.trace().counted().unwrap().matched, matched + 40);
}

/// Nobody reads: packets go on as ever, and those that find no room are counted.
#[test]
fn a_full_buffer_loses_events_and_no_packet() {
    let mut director = director();
    director.open(client(1));
    let frame = Packet::ack(client(1)).bytes();
    let before = director.data_path.executor.trace().counted().unwrap();
    const SENT: u64 = 10_000;
    (0..SENT).for_each(|_| assert_eq!(director.send_traced(&frame).verdict, Verdict::Tx));
    let after = director.data_path.executor.trace().counted().unwrap();
    let (matched, lost) = (after.matched - before.matched, after.lost - before.lost);
    assert_eq!(matched, SENT);
    assert!(lost > 0 && lost < SENT, "{lost} lost");
    // Those of `open`, which came before by the ordinary entry.
    let opened = director.told().len() as u64 + lost - SENT;
    assert!(opened <= 2, "{opened}");
    director.told_of(&frame);
}

#[test]
fn nothing_is_told_without_a_trace_nor_after_it() {
    let mut director = director();
    director.data_path.executor.trace().end();
    let counted = director.data_path.executor.trace().counted().unwrap();
    director.open(client(1));
    director.send_traced(&Packet::ack(client(1)).bytes());
    // As after the controller was killed: nobody has ended it, and its time has come.
    director.trace_for(Settings::OFF, Duration::ZERO);
    // The program's clock is a tick behind.
    std::thread::sleep(Duration::from_millis(30));
    director.send_traced(&Packet::syn(client(2)).bytes());
    director.send_traced(&Packet::ack(client(2)).bytes());
    assert_eq!(director.told(), []);
    assert_eq!(director.data_path.executor.trace().counted().unwrap(), counted);
}

/// The slow way is made impassable: what still gets through has taken the fast one.
#[test]
fn the_fast_way_is_left_alone_unless_somebody_traces() {
    let mut director = director();
    director.establish(client(1));
    // The entry is settled by the third one.
    (0..3).for_each(|_| drop(director.send(&Packet::udp(client(2)))));
    let frames = [Packet::ack(client(1)).bytes(), Packet::udp(client(2)).bytes()];
    director.without_stage(Stage::Slow, |director| {
        for frame in &frames {
            assert_eq!(director.send_bytes(frame).verdict, Verdict::Tx, "by the entry");
            assert_ne!(director.send_traced(frame).verdict, Verdict::Tx, "traced");
        }
        director.data_path.executor.trace().end();
        for frame in &frames {
            assert_eq!(director.send_traced(frame).verdict, Verdict::Tx, "after the trace");
        }
    });
}
