//! A real server that is also the gateway of clients: packets go back to where they came from.

use lb_common::forward::hairpin;
use lb_common::reason::Reason;
use lb_tests::harness::*;

/// What a machine that routes makes of a frame that came to it: a hop less, and off to the
/// director.
fn forwarded(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (to, from) = frame.split_at_mut(6);
    from[..6].swap_with_slice(to);
    let network = frame.len() - frame_length_of_ip(&frame);
    frame[network + 8] -= 1;
    frame
}

/// Of a frame that carries nothing behind its IP packet.
fn frame_length_of_ip(frame: &[u8]) -> usize {
    let tags = usize::from(frame[12] == 0x81);
    let at = 14 + 4 * tags + 2;
    usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]))
}

fn packets() -> [Packet; 5] {
    let from_server_1 = |packet: Packet| Packet { source: mac(1), ..packet };
    [
        from_server_1(Packet::syn(client(1))),
        from_server_1(Packet::ack(client(1))),
        from_server_1(Packet { tags: vec![DOT1Q], ..Packet::ack(client(1)) }),
        from_server_1(Packet { ip_options: 2, ..Packet::fin(client(1)) }),
        from_server_1(Packet::udp(client(1))),
    ]
}

#[test]
fn b7_a_packet_goes_back_to_the_server_that_it_came_from() {
    let director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    for packet in packets() {
        let frame = packet.bytes();
        let (outcome, reasons) = director.explain(&frame);
        assert_eq!((outcome.server(), reasons), (1, vec![]), "{packet:?}");
        assert_eq!(outcome.frame[6..12], MAC.octets());
        let network = frame.len() - frame_length_of_ip(&frame);
        assert_eq!(outcome.frame[network + 8], hairpin::TTL);
        assert_eq!(ip_sum(&outcome.frame[network..]), ip_sum(&frame[network..]), "its checksum fits");
        for at in (12..frame.len()).filter(|at| ![8, 10, 11].map(|word| network + word).contains(at)) {
            assert_eq!(outcome.frame[at], frame[at], "byte {at} of {packet:?}");
        }
    }
    assert_eq!((director.counts(WEB, 1), director.counts(WEB_UDP, 1)), ((0, 1), (0, 1)), "FIN and datagram");
}

#[test]
fn b7_a_packet_that_its_server_sends_on_comes_back_once() {
    let director = Director::new([(WEB, rr([1])), (WEB_UDP, rr([1]))]);
    for packet in packets() {
        let outcome = director.send(&packet);
        assert_eq!(outcome.server(), 1, "{packet:?}");
        let again = forwarded(&outcome.frame);
        let (outcome, reasons) = director.explain(&again);
        assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::Loop]), "{packet:?}");
        assert_eq!(outcome.frame, again);
    }
}

/// One that lacks the VIP and is not the clients' gateway: its packets are from other stations at
/// first.
#[test]
fn b7_a_loop_that_begins_elsewhere_ends_too() {
    let director = Director::new([(WEB, rr([1]))]);
    let mut frame = Packet::syn(client(1)).bytes();
    let rounds = (1..10).find(|_| {
        let (outcome, reasons) = director.explain(&frame);
        frame = forwarded(&outcome.frame);
        reasons == [Reason::Loop]
    });
    assert_eq!(rounds, Some(3), "to the server, back to it once, and no more");
}

/// The server sends it on to a router, and that one to the director: nothing marks it, but each of
/// the two machines takes a hop.
#[test]
fn a_circle_through_a_router_ends_with_its_hops() {
    let director = Director::new([(WEB, rr([1])), (WEB6, rr([1]))]);
    for (frame, hops) in [(Packet::syn(client(1)).bytes(), 14 + 8), (tcp6(1, SYN), IP + 7)] {
        let mut frame = frame;
        frame[hops] = 64;
        for round in 0..32 {
            let outcome = director.send_bytes(&frame);
            assert_eq!((outcome.server(), outcome.frame[hops]), (1, frame[hops]), "round {round}");
            frame[hops] -= 2;
        }
        assert_eq!(director.explain(&frame).1, [Reason::TtlExpired]);
    }
}

#[test]
fn b7_other_servers_get_a_gateways_packets_as_they_are() {
    let director = Director::new([(WEB, rr([2]))]);
    let packet = Packet { source: mac(1), ..Packet::syn(client(1)) };
    let outcome = director.send(&packet);
    assert_eq!(outcome.server(), 2);
    assert_eq!(outcome.frame[12..], packet.bytes()[12..], "only the MACs change");
}
