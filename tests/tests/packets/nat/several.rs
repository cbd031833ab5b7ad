//! Services with several ports: packets keep theirs on their way to a server behind address
//! translation, and answers find the service among others of the same machine.

use std::net::IpAddr;

use lb_common::forward::nat::ANY_PORT;
use lb_common::reason::Reason;
use lb_datapath::plan::{Server, Service, Target, nat};
use lb_model::{PortRange, Ports, ServiceKey};
use lb_tests::harness::*;

use super::related::{cut, error};
use super::{
    CLIENT_PORT, SEGMENTS, SERVER, SERVER_PORT, SERVER6, Segment, UDP, assert_becomes, assert_passes, masq,
    only, routes,
};

/// As FTP and passive data connections, HTTP and HTTPS, or whatever the server listens on.
fn all_kinds() -> [(Ports, [u16; 2]); 3] {
    let range = |first, last| PortRange { first, last };
    let of = |ranges: &[PortRange]| Ports::of(ranges).expect("not too many");
    [
        (of(&[range(PORT, PORT), range(443, 443)]), [PORT, 443]),
        (of(&[range(21, 21), range(30_000, 31_000)]), [21, 30_500]),
        (Ports::ALL, [22, 65_535]),
    ]
}

fn several(address: IpAddr, ports: &Ports) -> Service {
    let known = masq(address);
    let translation =
        known.translation.map(|found| lb_common::forward::nat::Translation { port: ANY_PORT, ..found });
    let mut service = Service { servers: vec![Server { translation, ..known }], ..rr([]) };
    service.settings.ports = Some(*ports);
    service
}

fn key(kind: (u8, u8), vip: IpAddr, port: u16) -> ServiceKey {
    let protocol = if kind.1 == TCP { lb_model::Protocol::Tcp } else { lb_model::Protocol::Udp };
    ServiceKey { vip, port, protocol }
}

fn director(services: Vec<(ServiceKey, Service)>) -> Director {
    let mut director = Director::with_sizes(SMALL.with_services(1000, 0), services);
    director.data_path.executor.set_routes(&routes()).expect("there is room");
    director
}

fn of_all_protocols(ports: &Ports, change: impl Fn(&mut Service, u8)) -> Director {
    let services = SEGMENTS.map(|kind| {
        let segment = Segment::new(kind, SYN);
        let mut service = several(segment.server(), ports);
        change(&mut service, kind.0);
        (key(kind, segment.vip, ports.key()), service)
    });
    director(services.into())
}

impl Segment {
    fn spent(&self) -> Self {
        Self { ttl: self.ttl - 1, ..self.clone() }
    }

    fn to_vip_at(&self, port: u16) -> Vec<u8> {
        self.frame((self.client, CLIENT_PORT), (self.vip, port), [MAC, ROUTER])
    }

    fn to_server_at(&self, port: u16) -> Vec<u8> {
        self.spent().frame((self.client, CLIENT_PORT), (self.server(), port), [mac(1), MAC])
    }

    fn by_server_at(&self, port: u16) -> Vec<u8> {
        self.frame((self.server(), port), (self.client, CLIENT_PORT), [MAC, mac(1)])
    }

    fn to_client_at(&self, port: u16) -> Vec<u8> {
        self.spent().frame((self.vip, port), (self.client, CLIENT_PORT), [ROUTER, MAC])
    }
}

#[test]
fn packets_keep_their_port_both_ways() {
    for (ports, used) in all_kinds() {
        let director = of_all_protocols(&ports, |_, _| ());
        for kind in SEGMENTS {
            for length in [0, 333] {
                let segment = Segment { data: vec![7; length], ..Segment::new(kind, ACK) };
                // A client may have connections to both from one port.
                for port in used {
                    let description = format!("{kind:?} {port} {length}");
                    for flags in [SYN, ACK, ACK, ACK] {
                        let segment = segment.clone().flagged(flags);
                        let expected = segment.to_server_at(port);
                        assert_becomes(&director, &description, &segment.to_vip_at(port), &expected);
                    }
                }
                for port in used {
                    let description = format!("{kind:?} {port} {length}, back");
                    for flags in [SYN | ACK, ACK, ACK] {
                        let segment = segment.clone().flagged(flags);
                        let expected = segment.to_client_at(port);
                        assert_becomes(&director, &description, &segment.by_server_at(port), &expected);
                    }
                }
            }
            if ports != Ports::ALL {
                let other = Segment::new(kind, SYN).to_vip_at(8081);
                assert_passes(&director, "a port of no service", &other);
            }
            let stranger = Segment::new(kind, ACK).by_server_at(9);
            assert_passes(&director, "a port without a connection", &stranger);
        }
        director.assert_counts_are_true();
    }
}

#[test]
fn errors_and_fragments_follow() {
    let (ports, [_, port]) = all_kinds()[1];
    let director = of_all_protocols(&ports, |_, _| ());
    for kind in SEGMENTS {
        let segment = Segment { data: vec![7; 99], ..Segment::new(kind, ACK) };
        for flags in [SYN, ACK] {
            director.send_bytes(&segment.clone().flagged(flags).to_vip_at(port));
        }
        let ip = if kind.0 == 4 { 20 } else { 40 };
        let code = if kind.0 == 4 { [3, 4] } else { [2, 0] };
        let spent = Segment { ttl: 63, ..segment.clone() };
        for quoted in [8, 20, 60] {
            let description = format!("{kind:?} {quoted}");
            let quote = |frame: &[u8]| frame[14..][..ip + quoted].to_vec();
            let arrived = quote(&segment.to_client_at(port));
            let to_vip = error(code, [MAC, ROUTER], [segment.client, segment.vip], &arrived, 64);
            let sent = quote(&spent.by_server_at(port));
            let to_server = error(code, [mac(1), MAC], [segment.client, segment.server()], &sent, 63);
            assert_becomes(&director, &description, &to_vip, &to_server);
            let arrived = quote(&segment.to_server_at(port));
            let from = error(code, [MAC, mac(1)], [segment.server(), segment.client], &arrived, 64);
            let sent = quote(&spent.to_vip_at(port));
            let to_client = error(code, [ROUTER, MAC], [segment.vip, segment.client], &sent, 63);
            assert_becomes(&director, &description, &from, &to_client);
        }
    }
    for kind in [(4, UDP), (6, UDP)] {
        let datagram = Segment { data: vec![3; 1000], ..Segment::new(kind, 0) };
        let ways = [
            (datagram.to_vip_at(port), datagram.to_server_at(port)),
            (datagram.by_server_at(port), datagram.to_client_at(port)),
        ];
        for (from, to) in ways {
            for range in [0..40, 80..126, 40..80] {
                let part = |whole: &[u8]| match kind.0 {
                    4 => cut(whole, range.clone()),
                    _ => fragment6(whole, 9, range.clone()),
                };
                assert_becomes(&director, &format!("{kind:?} {range:?}"), &part(&from), &part(&to));
            }
        }
    }
}

/// A client's two connections from one port have an own one each.
#[test]
fn addresses_of_ours_stand_in_the_place_of_clients() {
    let ours = |family: u8| -> IpAddr {
        if family == 4 { [10, 1, 200, 1].into() } else { "2001:db8:ff::2:1".parse().expect("an address") }
    };
    let (ports, used) = all_kinds()[0];
    let pool = |service: &mut Service, family| service.settings.source_nat = nat::pool(&[ours(family)]);
    let mut director = of_all_protocols(&ports, pool);
    for kind in SEGMENTS {
        let segment = Segment::new(kind, SYN);
        let at = if kind.0 == 4 { 34 } else { 54 };
        let sources = used.map(|port| {
            let mut sent = [SYN, ACK, ACK].map(|flags| {
                let outcome = director.send_bytes(&segment.clone().flagged(flags).to_vip_at(port));
                assert_eq!(outcome.verdict, Verdict::Tx, "{kind:?} {port}");
                assert_eq!(outcome.frame[at + 2..at + 4], port.to_be_bytes(), "{kind:?}: it keeps its port");
                u16::from_be_bytes([outcome.frame[at], outcome.frame[at + 1]])
            });
            sent.sort_unstable();
            assert_eq!(sent[0], sent[2], "{kind:?}: the connection keeps it");
            sent[0]
        });
        for (port, source) in used.into_iter().zip(sources) {
            for flags in [SYN | ACK, ACK, ACK] {
                let segment = segment.clone().flagged(flags);
                let macs = [MAC, mac(1)];
                let reply = segment.frame((segment.server(), port), (ours(kind.0), source), macs);
                assert_becomes(&director, &format!("{kind:?} {port}"), &reply, &segment.to_client_at(port));
            }
        }
    }
    assert_eq!(director.sweep_sources(), (8, 0), "all of them are in use");
    director.sweep_after(std::time::Duration::from_secs(7 * 86_400));
    assert_eq!(director.sweep_sources(), (0, 8), "their connections are over");
}

/// A service with one port that is translated, and one with all ports of another VIP.
#[test]
fn answers_find_their_service_among_those_of_a_machine() {
    for (protocol, family) in [(TCP, 4), (UDP, 4), (TCP, 6), (UDP, 6)] {
        let kind = (family, protocol);
        let server: IpAddr = if family == 4 { SERVER.into() } else { SERVER6.into() };
        let other_vip: IpAddr =
            if family == 4 { OTHER_VIP.into() } else { "2001:db8::77".parse().expect("an address") };
        let own = Segment::new(kind, SYN);
        let all = Segment { vip: other_vip, ..own.clone() };
        let director = director(vec![
            (key(kind, own.vip, PORT), only(server)),
            (key(kind, other_vip, 0), several(server, &Ports::ALL)),
        ]);
        let description = format!("{kind:?}");
        // One after the other, from two clients.
        assert_becomes(&director, &description, &own.to_vip(), &own.to_server());
        let neighbour = |segment: &Segment| Segment {
            client: if family == 4 { [10, 128, 0, 2].into() } else { "2001:db8:9::2".parse().expect("one") },
            ..segment.clone()
        };
        let far = neighbour(&all);
        assert_becomes(&director, &description, &far.to_vip_at(SERVER_PORT), &far.to_server_at(SERVER_PORT));
        for _ in 0..3 {
            let by_server = own.clone().flagged(SYN | ACK);
            assert_becomes(&director, &description, &by_server.by_server(), &by_server.to_client());
            let by_server = far.clone().flagged(SYN | ACK);
            let frame = by_server.by_server_at(SERVER_PORT);
            assert_becomes(&director, &description, &frame, &by_server.to_client_at(SERVER_PORT));
        }
        // From one port of one client to one port of the machine, by both.
        let (_, reasons) = director.explain(&all.to_vip_at(SERVER_PORT));
        assert_eq!(reasons, [Reason::NatClash], "{description}");
        let (_, reasons) = director.explain(&neighbour(&own).to_vip());
        assert_eq!(reasons, [Reason::NatClash], "{description}");
        assert_becomes(&director, &description, &all.to_vip_at(9090), &all.to_server_at(9090));
        let answer = all.clone().flagged(SYN | ACK);
        assert_becomes(&director, &description, &answer.by_server_at(9090), &answer.to_client_at(9090));
        director.assert_counts_are_true();
    }
}

/// Two services with several ports, as with a VIP for each customer.
#[test]
fn two_services_share_the_ports_of_a_machine() {
    let (ports, [first, second]) = all_kinds()[0];
    let kind = (4, TCP);
    let one = Segment::new(kind, SYN);
    let two = Segment { vip: OTHER_VIP.into(), ..one.clone() };
    let mut director = director(vec![
        (key(kind, one.vip, ports.key()), several(SERVER.into(), &ports)),
        (key(kind, two.vip, ports.key()), several(SERVER.into(), &ports)),
    ]);
    for (segment, port) in [(&one, first), (&two, second)] {
        assert_becomes(&director, "to the server", &segment.to_vip_at(port), &segment.to_server_at(port));
        let answer = segment.clone().flagged(SYN | ACK);
        assert_becomes(&director, "back", &answer.by_server_at(port), &answer.to_client_at(port));
    }
    for (segment, port) in [(&one, second), (&two, first)] {
        assert_eq!(director.explain(&segment.to_vip_at(port)).1, [Reason::NatClash], "{port}");
    }
    // What is alone again is told by nothing else.
    let removed = director.change_service(key(kind, two.vip, ports.key()), |service| service.servers.clear());
    director.purge(&removed);
    assert_becomes(&director, "alone", &one.to_vip_at(second), &one.to_server_at(second));
    let answer = one.clone().flagged(SYN | ACK);
    assert_becomes(&director, "alone", &answer.by_server_at(second), &answer.to_client_at(second));
    let id = director.id_of(key(kind, one.vip, ports.key()), Target::Real(SERVER.into()));
    assert_eq!(director.data_path.table.counts(id).inactive(), 2);
}
