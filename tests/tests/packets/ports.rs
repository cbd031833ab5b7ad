//! Services with several ports: lists, ranges, all.

use lb_datapath::plan::Service;
use lb_model::{PortRange, Ports, ServiceKey};
use lb_tests::harness::*;

fn key(port: u16) -> ServiceKey {
    tcp(VIP, port)
}

/// A service whose only server has this number.
fn of(ports: &Ports, server: u16) -> Service {
    let mut service = rr([server]);
    service.settings.ports = Some(*ports);
    service
}

fn range(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

fn ports(ranges: &[PortRange]) -> Ports {
    Ports::of(ranges).expect("not too many")
}

/// The server that a SYN and an ACK to this port go to; `None`: the host.
fn server_at(director: &Director, number: u32, port: u16) -> Option<u16> {
    let outcome = director.send(&Packet::syn(client(number)).to(VIP, port));
    if outcome.verdict == Verdict::Pass {
        return None;
    }
    let server = outcome.server();
    for round in 0..3 {
        let packet = Packet::ack(client(number)).to(VIP, port);
        assert_goes_to(director, &format!("port {port}, round {round}"), &packet.bytes(), server);
    }
    Some(server)
}

#[test]
fn the_port_itself_wins_over_a_range_and_a_range_over_all() {
    let list = ports(&[range(80, 80), range(443, 443), range(8190, 8200)]);
    let wide = ports(&[range(8000, 8999)]);
    let services = [(key(80), of(&list, 1)), (key(7), rr([5])), (key(8500), rr([4]))];
    let mut director = Director::with_sizes(SMALL.with_services(1000, 0), services);
    let expect = |director: &Director, first: u32, expected: &[(u16, Option<u16>)]| {
        for (number, (port, server)) in (first..).zip(expected) {
            assert_eq!(server_at(director, number, *port), *server, "port {port}");
        }
        director.assert_counts_are_true();
    };
    let table = [
        (80, Some(1)),
        (443, Some(1)),
        (8190, Some(1)),
        (8200, Some(1)),
        (8201, None),
        (8189, None),
        (22, None),
    ];
    expect(&director, 0, &table);
    director.change(|state| drop(state.services.insert(key(8000), of(&wide, 2))));
    // The range overlaps the list's, which the configuration would refuse; without that:
    director.change_service(key(80), |service| {
        service.settings.ports = Some(ports(&[range(80, 80), range(443, 443), range(8300, 8300)]));
    });
    let table = [
        (8000, Some(2)),
        (8191, Some(2)),
        (8192, Some(2)),
        (8300, Some(1)),
        (8500, Some(4)),
        (8959, Some(2)),
        (8999, Some(2)),
        (9000, None),
        (7999, None),
        (443, Some(1)),
    ];
    expect(&director, 100, &table);
    director.change(|state| drop(state.services.insert(key(0), of(&Ports::ALL, 3))));
    let table =
        [(9000, Some(3)), (22, Some(3)), (8999, Some(2)), (8500, Some(4)), (80, Some(1)), (7, Some(5))];
    expect(&director, 200, &table);
    let gone = director.change(|state| {
        state.services.remove(&key(0));
        state.services.remove(&key(8000));
    });
    director.purge(&gone);
    expect(&director, 300, &[(9000, None), (8999, None), (8500, Some(4)), (80, Some(1))]);
}

/// One client and one of its ports, to two ports of a service: two connections.
#[test]
fn ports_of_a_service_are_connections_of_their_own() {
    let mut service = rr([1, 2]);
    service.settings.ports = Some(ports(&[range(80, 80), range(443, 443)]));
    let mut director = Director::new([(key(80), service)]);
    let to = |packet: Packet, port| director.send(&packet.to(VIP, port)).server();
    assert_eq!([to(Packet::syn(client(1)), 80), to(Packet::syn(client(1)), 443)], [1, 2]);
    for _ in 0..2 {
        assert_eq!([to(Packet::ack(client(1)), 80), to(Packet::ack(client(1)), 443)], [1, 2]);
    }
    assert_eq!((director.counts(key(80), 1), director.counts(key(80), 2)), ((1, 0), (1, 0)));
    assert_eq!(to(Packet::fin(client(1)), 443), 2);
    assert_eq!((director.counts(key(80), 1), director.counts(key(80), 2)), ((1, 0), (0, 1)));
    let stats = director.stats(key(80), 1);
    assert_eq!((stats.connections, stats.packets), (1, 3));
    // UDP to the same ports is nobody's.
    assert_eq!(director.send(&Packet::udp(client(1)).to(VIP, 443)).verdict, Verdict::Pass);
    // A port that leaves the list keeps its connections, and takes no new ones.
    director.change_service(key(80), |service| service.settings.ports = None);
    assert_eq!(director.send(&Packet::ack(client(1)).to(VIP, 443)).sent_to(), None, "no other port any more");
    assert_eq!(director.send(&Packet::ack(client(1)).to(VIP, 80)).server(), 1);
}

#[test]
fn ranges_of_ipv6_and_of_udp_are_found_too() {
    let range = ports(&[range(PORT - 50, PORT + 1000)]);
    let [first6, first4] = [WEB6, WEB_UDP].map(|key| ServiceKey { port: PORT - 50, ..key });
    let director = Director::with_sizes(
        SMALL.with_services(1000, 0),
        [(first6, of(&range, 1)), (first4, of(&range, 2))],
    );
    let to = |mut frame: Vec<u8>, port: u16| {
        frame[SEGMENT + 2..SEGMENT + 4].copy_from_slice(&port.to_be_bytes());
        director.send_bytes(&frame)
    };
    for port in [PORT - 50, PORT + 700, PORT + 1000] {
        for flags in [SYN, ACK, ACK, FIN | ACK] {
            assert_eq!(to(tcp6(1, flags), port).server(), 1, "port {port}");
        }
        for _ in 0..3 {
            assert_eq!(director.send(&Packet::udp(client(1)).to(VIP, port)).server(), 2);
        }
    }
    assert_eq!(to(tcp6(2, SYN), PORT + 1001).verdict, Verdict::Pass);
    assert_eq!(director.send(&Packet::udp(client(1)).to(VIP, PORT + 1001)).verdict, Verdict::Pass);
    director.assert_counts_are_true();
}
