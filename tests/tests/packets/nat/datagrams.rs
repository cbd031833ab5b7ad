//! Services that schedule each datagram by itself (`ops`) on servers behind address translation:
//! nothing is remembered, and what a server sends from a port of its service is an answer.

use std::net::IpAddr;

use lb_common::forward::nat::{ANY_PORT, Translation};
use lb_common::reason::Reason;
use lb_datapath::plan::{Server, Service};
use lb_model::{PortRange, Ports};
use lb_tests::harness::*;

use super::related::{cut, error};
use super::{CLIENT_PORT, SERVER, SERVER6, Segment, UDP, assert_becomes, assert_passes, masq, only, with};

const KINDS: [(u8, u8); 2] = [(4, UDP), (6, UDP)];

fn each_datagram(mut service: Service) -> Service {
    service.settings.each_datagram = true;
    service
}

/// Two servers for each family.
fn director() -> Director {
    let two = |first: IpAddr, second: IpAddr| {
        let second = Server { mac: server(2, 1).mac, ..masq(second) };
        each_datagram(Service { servers: vec![masq(first), second], ..rr([]) })
    };
    let [second, second6] = seconds();
    with(vec![(WEB_UDP, two(SERVER.into(), second)), (DNS6, two(SERVER6.into(), second6))])
}

fn seconds() -> [IpAddr; 2] {
    [[10, 1, 0, 2].into(), "2001:db8:ff::2".parse().expect("an address")]
}

/// From another client.
fn other_client(segment: &Segment) -> Segment {
    let client: IpAddr =
        if segment.family == 4 { [10, 128, 0, 2].into() } else { "2001:db8:9::2".parse().expect("one") };
    Segment { client, ..segment.clone() }
}

#[test]
fn each_goes_to_another_server_and_all_of_them_answer() {
    let director = director();
    for (kind, second) in KINDS.into_iter().zip(seconds()) {
        let segment = Segment::new(kind, 0).with(64, vec![7; 99]);
        let servers = [(segment.server(), mac(1)), (second, mac(2))];
        for (round, (server, station)) in servers.into_iter().cycle().take(6).enumerate() {
            let to_server = segment.clone().at(server).to_server();
            let expected = [&station.octets()[..], &to_server[6..]].concat();
            assert_becomes(&director, &format!("{kind:?} {round}"), &segment.to_vip(), &expected);
        }
        // Long after, in any order, as often as they like.
        for (server, _) in servers.into_iter().rev().cycle().take(6) {
            let answer = segment.clone().at(server);
            assert_becomes(
                &director,
                &format!("{kind:?} by {server}"),
                &answer.by_server(),
                &answer.to_client(),
            );
        }
        let by_itself = segment.frame((segment.server(), 9), (segment.client, CLIENT_PORT), [MAC, mac(1)]);
        assert_passes(&director, "from a port of its own", &by_itself);
    }
    assert_eq!(director.entries(), 0);
    director.assert_counts_are_true();
}

#[test]
fn errors_and_fragments_find_their_way() {
    let director = director();
    for kind in KINDS {
        let segment = Segment::new(kind, 0).with(64, vec![7; 99]);
        let ip = if kind.0 == 4 { 20 } else { 40 };
        let code = if kind.0 == 4 { [3, 4] } else { [2, 0] };
        let spent = segment.clone().with(63, vec![7; 99]);
        let quote = |frame: &[u8]| frame[14..][..ip + 8].to_vec();
        let arrived = quote(&segment.to_server());
        let from = error(code, [MAC, mac(1)], [segment.server(), segment.client], &arrived, 64);
        let sent = quote(&spent.to_vip());
        let to_client = error(code, [ROUTER, MAC], [segment.vip, segment.client], &sent, 63);
        assert_becomes(&director, &format!("{kind:?}: from the server"), &from, &to_client);
        // Nobody knows whose datagram a client's error is about.
        let arrived = quote(&segment.to_client());
        let to_vip = error(code, [MAC, ROUTER], [segment.client, segment.vip], &arrived, 64);
        let (_, reasons) = director.explain(&to_vip);
        assert_eq!(reasons, [Reason::IcmpUnknown], "{kind:?}");
        let datagram = Segment::new(kind, 0).with(64, vec![3; 1000]);
        for range in [0..40, 80..126, 40..80] {
            let part = |whole: &[u8]| match kind.0 {
                4 => cut(whole, range.clone()),
                _ => fragment6(whole, 9, range.clone()),
            };
            let (from, to) = (part(&datagram.by_server()), part(&datagram.to_client()));
            assert_becomes(&director, &format!("{kind:?} {range:?}, back"), &from, &to);
            let (outcome, reasons) = director.explain(&part(&datagram.to_vip()));
            assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{kind:?} {range:?}");
        }
    }
}

/// Packets keep their port, and what comes from no port of the service is no answer.
#[test]
fn several_ports_are_told_from_others() {
    let range = |first, last| PortRange { first, last };
    let ports = Ports::of(&[range(PORT, PORT), range(443, 443), range(5000, 5600)]).expect("not too many");
    let several = |address: IpAddr| {
        let known = masq(address);
        let translation = known.translation.map(|found| Translation { port: ANY_PORT, ..found });
        let mut service = Service { servers: vec![Server { translation, ..known }], ..rr([]) };
        service.settings.ports = Some(ports);
        each_datagram(service)
    };
    let services = [(WEB_UDP, several(SERVER.into())), (DNS6, several(SERVER6.into()))];
    let mut director = Director::with_sizes(SMALL.with_services(1000, 0), services);
    director.data_path.executor.set_routes(&super::routes()).expect("there is room");
    for kind in KINDS {
        let segment = Segment::new(kind, 0).with(64, vec![7; 99]);
        let spent = segment.clone().with(63, vec![7; 99]);
        let client = (segment.client, CLIENT_PORT);
        for port in [PORT, 443, 5000, 5300, 5600] {
            let description = format!("{kind:?} {port}");
            let to_vip = segment.frame(client, (segment.vip, port), [MAC, ROUTER]);
            let to_server = spent.frame(client, (segment.server(), port), [mac(1), MAC]);
            assert_becomes(&director, &description, &to_vip, &to_server);
            let by_server = segment.frame((segment.server(), port), client, [MAC, mac(1)]);
            let to_client = spent.frame((segment.vip, port), client, [ROUTER, MAC]);
            assert_becomes(&director, &description, &by_server, &to_client);
        }
        for port in [53, 4999, 5601] {
            let by_itself = segment.frame((segment.server(), port), client, [MAC, mac(1)]);
            assert_passes(&director, &format!("{kind:?} {port}"), &by_itself);
        }
    }
    assert_eq!(director.entries(), 0);
}

/// With another service on the same port of the machine, connections of that one go first.
#[test]
fn another_service_with_the_servers_port_has_its_own_answers() {
    let beside = lb_model::ServiceKey { vip: OTHER_VIP.into(), ..WEB_UDP };
    let mut director =
        with(vec![(WEB_UDP, each_datagram(only(SERVER.into()))), (beside, only(SERVER.into()))]);
    let datagram = Segment::new((4, UDP), 0).with(64, vec![7; 99]);
    let connected = other_client(&Segment { vip: OTHER_VIP.into(), ..datagram.clone() });
    assert_becomes(&director, "by a connection", &connected.to_vip(), &connected.to_server());
    assert_becomes(&director, "by itself", &datagram.to_vip(), &datagram.to_server());
    for _ in 0..2 {
        assert_becomes(&director, "of the connection", &connected.by_server(), &connected.to_client());
        assert_becomes(&director, "of none", &datagram.by_server(), &datagram.to_client());
    }
    let both = other_client(&datagram);
    assert_eq!(
        director.explain(&both.to_vip()).1,
        [Reason::NatClash],
        "the server could not tell them apart"
    );
    // Switched off, its datagrams are remembered again, and nothing else is an answer.
    director.change_service(WEB_UDP, |service| service.settings.each_datagram = false);
    assert_passes(&director, "nobody has asked", &datagram.by_server());
    assert_becomes(&director, "it is remembered", &datagram.to_vip(), &datagram.to_server());
    assert_becomes(&director, "its answer", &datagram.by_server(), &datagram.to_client());
    director.change_service(WEB_UDP, |service| service.settings.each_datagram = true);
    let third = Segment { client: [10, 128, 0, 3].into(), ..datagram };
    assert_becomes(&director, "switched on", &third.by_server(), &third.to_client());
}
