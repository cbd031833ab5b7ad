//! `source_nat`: an address of ours stands in the place of the client, in both directions.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::addr::V6;
use lb_common::forward::nat::source::{Client as SourceClient, Endpoint, FIRST_PORT, LAST_PORT, Pool};
use lb_common::reason::Reason;
use lb_datapath::plan::{Service, Settings, Target, nat};
use lb_model::ServiceKey;
use lb_tests::harness::*;

use super::related::{cut, error};
use super::{
    CLIENT_PORT, SEGMENTS, SERVER, SERVER_PORT, SERVER6, Segment, UDP, assert_becomes, assert_passes, only,
    with,
};

/// In the server's own network, as the clients here.
const OURS: Ipv4Addr = Ipv4Addr::new(10, 1, 200, 1);
const OURS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 2, 1);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 1, 99, 99);
const NEIGHBOUR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 9, 9);

fn of(family: u8, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
    if family == 4 { v4.into() } else { v6.into() }
}

fn ours(family: u8) -> IpAddr {
    of(family, OURS, OURS6)
}

fn sourced(address: IpAddr, pool: Option<Pool>) -> Service {
    let service = only(address);
    Service { settings: Settings { source_nat: pool, ..service.settings }, ..service }
}

fn services() -> Vec<(ServiceKey, Service)> {
    let v4 = [WEB, WEB_UDP].map(|key| (key, sourced(SERVER.into(), nat::pool(&[OURS.into()]))));
    let v6 = [WEB6, DNS6].map(|key| (key, sourced(SERVER6.into(), nat::pool(&[OURS6.into()]))));
    v4.into_iter().chain(v6).collect()
}

/// So many ports in all.
fn with_ports(ports: u16) -> Director {
    let pool = Pool { ports, ..nat::pool(&[OURS.into()]).expect("an address") };
    with(vec![(WEB, sourced(SERVER.into(), Some(pool)))])
}

/// A connection for which there is no port.
pub(crate) fn exhausted() -> (Director, Vec<u8>) {
    let director = with_ports(1);
    neighbour((4, TCP)).open(&director);
    (director, Segment { client: [10, 1, 99, 100].into(), ..neighbour((4, TCP)) }.to_vip())
}

fn neighbour(kind: (u8, u8)) -> Segment {
    Segment { client: of(kind.0, NEIGHBOUR, NEIGHBOUR6), ..Segment::new(kind, SYN) }
}

/// The source of a frame without tags and options.
fn source(frame: &[u8]) -> (IpAddr, u16) {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    match frame[12..14] == [8, 0] {
        true => {
            let address: [u8; 4] = frame[26..30].try_into().expect("four bytes");
            (address.into(), port(14 + 4 * usize::from(frame[14] & 15)))
        }
        false => {
            let address: [u8; 16] = frame[22..38].try_into().expect("sixteen bytes");
            (address.into(), port(54))
        }
    }
}

impl Segment {
    /// What becomes of [`Self::to_vip`] behind this address and port.
    fn sourced(&self, source: (IpAddr, u16)) -> Vec<u8> {
        let hop_less = Self { ttl: self.ttl - 1, ..self.clone() };
        hop_less.frame(source, (self.server(), SERVER_PORT), [mac(1), MAC])
    }

    /// What the server sends to this address and port.
    fn replied(&self, to: (IpAddr, u16)) -> Vec<u8> {
        self.frame((self.server(), SERVER_PORT), to, [MAC, mac(1)])
    }

    /// Opens the connection, and returns what stands in the place of its client.
    #[track_caller]
    fn open_sourced(&self, director: &Director) -> (IpAddr, u16) {
        let outcome =
            director.send_bytes(&Self { flags: SYN, tags: vec![], ip_options: 0, ..self.clone() }.to_vip());
        assert_eq!(outcome.verdict, Verdict::Tx);
        director.send_bytes(&Self { flags: ACK, ..self.clone() }.to_vip());
        source(&outcome.frame)
    }
}

#[test]
fn an_address_of_ours_stands_in_the_place_of_the_client() {
    let director = with(services());
    for kind in SEGMENTS {
        let segment = neighbour(kind);
        let ours = segment.open_sourced(&director);
        assert_eq!(ours.0, self::ours(kind.0), "{kind:?}");
        assert!((FIRST_PORT..=LAST_PORT).contains(&ours.1), "{kind:?}: {}", ours.1);
        for tags in [&[][..], &[DOT1Q], &[DOT1AD, DOT1Q]] {
            for ip_options in if kind.0 == 4 { &[0, 1, 10][..] } else { &[0] } {
                for length in [0, 1, 2, 333, 1400] {
                    let data = (0..length).map(|index| index as u8 ^ 0x5a).collect();
                    let description = format!("{kind:?} {} tags {ip_options} {length}", tags.len());
                    let segment = Segment {
                        data,
                        flags: ACK,
                        ip_options: *ip_options,
                        tags: tags.to_vec(),
                        ..segment.clone()
                    };
                    assert_becomes(&director, &description, &segment.to_vip(), &segment.sourced(ours));
                    let last = Segment { ttl: 2, ..segment };
                    assert_becomes(&director, &description, &last.replied(ours), &last.to_client());
                }
            }
        }
    }
    director.assert_counts_are_true();
}

#[test]
fn both_halves_count() {
    let director = with(services());
    for (kind, key) in [((4, TCP), WEB), ((6, TCP), WEB6)] {
        let segment = neighbour(kind);
        let counts = || {
            let id = director.id_of(key, Target::Real(segment.server()));
            let counts = director.data_path.table.counts(id);
            (counts.active(), counts.inactive())
        };
        let ours = segment.open_sourced(&director);
        let reply = |flags| Segment { flags, ..segment.clone() }.replied(ours);
        assert_eq!(director.send_bytes(&reply(SYN | ACK)).verdict, Verdict::Tx);
        assert_eq!(counts(), (1, 0));
        assert_eq!(director.send_bytes(&reply(FIN | ACK)).verdict, Verdict::Tx);
        assert_eq!(counts(), (0, 1), "the server has closed it");
    }
    director.assert_counts_are_true();
}

/// A connection has its port until it is over, and nobody else has it.
#[test]
fn ports_are_used_again_when_their_connections_are_over() {
    let mut director = with_ports(4);
    let clients: Vec<Segment> = (0..5_u8)
        .map(|number| Segment { client: [10, 1, 99, number].into(), ..neighbour((4, TCP)) })
        .collect();
    let ports: BTreeSet<u16> = clients[..4].iter().map(|client| client.open_sourced(&director).1).collect();
    assert_eq!(ports.len(), 4, "each has its own");
    let fifth = clients[4].to_vip();
    let (outcome, reasons) = director.explain(&fifth);
    assert_eq!((outcome.verdict, reasons), (Verdict::Drop, vec![Reason::NoSourcePort]));
    assert_eq!(director.entries(), 4, "a connection that cannot be is forgotten");
    assert_eq!(director.sweep_sources(), (4, 0));
    // The client's end and the time after it.
    let last = Segment { flags: RST, ..clients[2].clone() };
    let (_, freed) = source(&director.send_bytes(&last.to_vip()).frame);
    assert_eq!(director.explain(&fifth).1, [Reason::NoSourcePort], "not over yet");
    director.sweep_after(std::time::Duration::from_secs(20));
    let left = director.entries();
    assert_eq!(left, 3);
    assert_eq!(director.sweep_sources(), (3, 1));
    assert_eq!(clients[4].open_sourced(&director).1, freed, "the only one that is free");
    // Of others nothing has changed.
    for client in &clients[..2] {
        let segment = Segment { flags: ACK, ..client.clone() };
        let (_, port) = source(&director.send_bytes(&segment.to_vip()).frame);
        assert_becomes(&director, "goes on", &segment.replied((OURS.into(), port)), &segment.to_client());
    }
}

/// The connections of one client's port by two services have two ports here, so the server tells
/// them apart.
#[test]
fn services_with_one_server_do_not_clash() {
    let pool = || nat::pool(&[OURS.into()]);
    let other = tcp(OTHER_VIP, PORT);
    let director = with(vec![(WEB, sourced(SERVER.into(), pool())), (other, sourced(SERVER.into(), pool()))]);
    let segments = [VIP, OTHER_VIP].map(|vip| Segment { vip: vip.into(), ..neighbour((4, TCP)) });
    let ours = segments.clone().map(|segment| segment.open_sourced(&director));
    assert_ne!(ours[0], ours[1]);
    for (segment, ours) in segments.iter().zip(ours) {
        let segment = Segment { flags: SYN | ACK, ..segment.clone() };
        assert_becomes(&director, "to its own VIP's client", &segment.replied(ours), &segment.to_client());
    }
}

/// One port of a server behind two services, of which one has addresses of ours.
#[test]
fn services_with_and_without_share_a_server() {
    let other = tcp(OTHER_VIP, PORT);
    let pool = nat::pool(&[OURS.into()]);
    let director = with(vec![(WEB, sourced(SERVER.into(), pool)), (other, only(SERVER.into()))]);
    let near = neighbour((4, TCP));
    let ours = near.open_sourced(&director);
    let plain = Segment { vip: OTHER_VIP.into(), ..Segment::new((4, TCP), SYN) };
    plain.open(&director);
    for flags in [SYN | ACK, ACK] {
        let [near, plain] = [&near, &plain].map(|segment| Segment { flags, ..segment.clone() });
        assert_becomes(&director, "ours", &near.replied(ours), &near.to_client());
        assert_becomes(&director, "the client's own", &plain.by_server(), &plain.to_client());
    }
    let stranger = Segment::new((4, TCP), ACK).replied((OURS.into(), ours.1 ^ 1));
    assert_passes(&director, "a port that nobody has", &stranger);
}

/// The same client and port by both: the server sees an address of ours in one of the connections
/// alone, so they do not clash, and its answers are told apart.
#[test]
fn one_client_by_services_with_and_without() {
    let other = tcp(OTHER_VIP, PORT);
    let pool = nat::pool(&[OURS.into()]);
    let director = with(vec![(WEB, sourced(SERVER.into(), pool)), (other, only(SERVER.into()))]);
    let ours = Segment::new((4, TCP), SYN);
    let plain = Segment { vip: OTHER_VIP.into(), ..ours.clone() };
    let stranger = Segment { flags: ACK, ..ours.clone() };
    let behind = ours.open_sourced(&director);
    assert_passes(&director, "what the server sends of its own to that client", &stranger.by_server());
    plain.open(&director);
    for flags in [SYN | ACK, ACK, FIN | ACK] {
        let [ours, plain] = [&ours, &plain].map(|segment| Segment { flags, ..segment.clone() });
        assert_becomes(&director, "ours", &ours.replied(behind), &ours.to_client());
        assert_becomes(&director, "the client's own", &plain.by_server(), &plain.to_client());
    }
    director.assert_counts_are_true();
}

/// A change of the pool reaches new connections alone.
#[test]
fn connections_outlive_another_pool() {
    let mut director = with(vec![(WEB, sourced(SERVER.into(), nat::pool(&[OURS.into()])))]);
    let first = neighbour((4, TCP));
    let before = first.open_sourced(&director);
    let another: IpAddr = [10, 1, 200, 2].into();
    director.change_service(WEB, |service| service.settings.source_nat = nat::pool(&[another]));
    let second = Segment { client: [10, 1, 99, 3].into(), ..first.clone() };
    let after = second.open_sourced(&director);
    assert_eq!((before.0, after.0), (OURS.into(), another));
    for (segment, ours) in [(first, before), (second, after)] {
        let segment = Segment { flags: ACK, ..segment };
        assert_becomes(&director, "there", &segment.to_vip(), &segment.sourced(ours));
        assert_becomes(&director, "and back", &segment.replied(ours), &segment.to_client());
    }
}

/// As the synchronisation does: another director has had these connections and tells their ports.
#[test]
fn a_port_that_another_director_has_taken_stands_in_the_clients_place() {
    let mut director = with_ports(4);
    let server = director.id_of(WEB, Target::Real(SERVER.into()));
    let mut ports = director.data_path.executor.maps().ports().expect("a hold on the maps");
    let clients =
        [1, 2].map(|last| Segment { client: [10, 1, 99, last].into(), flags: ACK, ..neighbour((4, TCP)) });
    let key =
        |segment: &Segment| SourceClient::new(V6::from(segment.client), CLIENT_PORT.to_be(), server.0, 0);
    let own = [0, 1].map(|client| clients[client].open_sourced(&director));
    let told = (own[0].0, 20_000_u16);
    let endpoint = Endpoint { address: V6::from(told.0), port: told.1.to_be(), reserved: [0; 3] };
    let entered = ports.enter(&key(&clients[0]), &endpoint, |_| panic!("nobody has it"));
    assert_eq!(entered.expect("there is room"), None);
    assert_eq!(ports.of(&key(&clients[0])), Some(endpoint));
    let goes_on = |segment: &Segment, ours| {
        assert_becomes(&director, "there", &segment.to_vip(), &segment.sourced(ours));
        assert_becomes(&director, "and back", &segment.replied(ours), &segment.to_client());
    };
    goes_on(&clients[0], told);
    assert_passes(&director, "the port that it had here", &clients[0].replied(own[0]));
    // Told once more, and of a client that has a port of its own here.
    assert_eq!(ports.enter(&key(&clients[0]), &endpoint, |_| panic!("its own")).expect("as before"), None);
    ports.enter(&key(&clients[1]), &endpoint, |_| false).expect_err("it stays the first one's");
    goes_on(&clients[0], told);
    goes_on(&clients[1], own[1]);
    let ousted = ports.enter(&key(&clients[1]), &endpoint, |holder| *holder == key(&clients[0]));
    assert_eq!(ousted.expect("it gives way"), Some(key(&clients[0])));
    goes_on(&clients[1], told);
    assert_eq!(ports.of(&key(&clients[0])), None);
    assert_eq!(director.sweep_sources(), (1, 0));
    director.sweep_after(std::time::Duration::from_secs(7 * 24 * 3600));
    assert_eq!(director.sweep_sources(), (0, 1), "its connection is over");
    assert_eq!(ports.of(&key(&clients[1])), None);
}

#[test]
fn errors_are_translated_at_both_ends() {
    let director = with(services());
    for kind in SEGMENTS {
        let segment = Segment { data: vec![7; 99], flags: ACK, ..neighbour(kind) };
        let ours = segment.open_sourced(&director);
        let ip = if kind.0 == 4 { 20 } else { 40 };
        let router = of(kind.0, Ipv4Addr::new(10, 9, 9, 9), Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 9));
        let types = if kind.0 == 4 { [[3, 4], [3, 3], [11, 0]] } else { [[2, 0], [1, 4], [3, 0]] };
        for quoted in [8, 18, 20, 60] {
            for code in types {
                let description = format!("{kind:?} {code:?} {quoted}");
                let spent = Segment { ttl: 63, ..segment.clone() };
                // About what the server has sent: the server hears of it from our address.
                let arrived = segment.to_client()[14..][..ip + quoted].to_vec();
                let sent = spent.replied(ours)[14..][..ip + quoted].to_vec();
                let to_vip = error(code, [MAC, ROUTER], [router, segment.vip], &arrived, 64);
                let to_server = error(code, [mac(1), MAC], [ours.0, segment.server()], &sent, 63);
                assert_becomes(&director, &description, &to_vip, &to_server);
                // About what the client has sent: the client hears of it from the VIP.
                let arrived = segment.sourced(ours)[14..][..ip + quoted].to_vec();
                let sent = spent.to_vip()[14..][..ip + quoted].to_vec();
                for by in [segment.server(), router] {
                    let from = error(code, [MAC, mac(1)], [by, ours.0], &arrived, 64);
                    let to_client = error(code, [ROUTER, MAC], [segment.vip, segment.client], &sent, 63);
                    assert_becomes(&director, &description, &from, &to_client);
                }
            }
        }
    }
    director.assert_counts_are_true();
}

#[test]
fn fragments_have_the_same_address() {
    let director = with(services());
    let data: Vec<u8> = (0..1000_u32).map(|index| (index * 7) as u8).collect();
    for kind in [(4, UDP), (6, UDP)] {
        let datagram = Segment { data: data.clone(), ..neighbour(kind) };
        let ours = datagram.open_sourced(&director);
        for (from, to) in
            [(datagram.to_vip(), datagram.sourced(ours)), (datagram.replied(ours), datagram.to_client())]
        {
            for range in [0..40, 80..126, 40..80] {
                let description = format!("{kind:?} {range:?}");
                let [from, to] = [&from, &to].map(|whole| match kind.0 {
                    4 => cut(whole, range.clone()),
                    _ => fragment6(whole, 9, range.clone()),
                });
                assert_becomes(&director, &description, &from, &to);
            }
        }
    }
}

/// Two CPUs never take the same port, also while there are few.
#[test]
fn cpus_take_different_ports() {
    const EACH: u8 = 60;
    let director = with_ports(200);
    let taken = on_cpus(4, |thread| {
        let segments = (0..EACH)
            .map(|number| Segment { client: [10, 1, thread as u8, number].into(), ..neighbour((4, TCP)) });
        let sent = segments.map(|segment| director.send_bytes(&segment.to_vip()));
        let opened = sent.filter(|outcome| outcome.verdict == Verdict::Tx);
        opened.map(|outcome| source(&outcome.frame).1).collect::<Vec<u16>>()
    })
    .concat();
    let distinct: BTreeSet<u16> = taken.iter().copied().collect();
    assert_eq!(distinct.len(), taken.len(), "a port was taken twice");
    // 240 clients want one of 200 ports: some find none, and hardly any port is left over.
    assert!((150..=200).contains(&taken.len()), "{} ports were taken", taken.len());
    assert_eq!(director.entries(), taken.len());
    director.assert_counts_are_true();
}

#[test]
fn the_clients_port_is_free_for_another_server() {
    let director = with(services());
    let v4 = neighbour((4, TCP)).open_sourced(&director);
    let udp = neighbour((4, UDP)).open_sourced(&director);
    // Ports of protocols are apart: their answers do not meet.
    for (kind, ours) in [((4, TCP), v4), ((4, UDP), udp)] {
        let segment = Segment { flags: ACK, ..neighbour(kind) };
        let frame = segment.replied(ours);
        assert_becomes(&director, &format!("{kind:?} {CLIENT_PORT}"), &frame, &segment.to_client());
    }
}

/// The first fragment has no hop left and leaves a trail all the same. So the next one takes a
/// port, and by that the server's answers find the client.
#[test]
fn a_later_fragment_takes_a_port_where_no_packet_has() {
    for (kind, key, server) in
        [((4, UDP), WEB_UDP, IpAddr::from(SERVER)), ((6, UDP), DNS6, IpAddr::from(SERVER6))]
    {
        let ours = ours(kind.0);
        let pool = Pool { ports: 1, ..nat::pool(&[ours]).expect("an address") };
        let director = with(vec![(key, sourced(server, Some(pool)))]);
        let datagram = Segment { data: vec![3; 1000], ..neighbour(kind) };
        let part = |whole: &[u8], range: std::ops::Range<usize>| match kind.0 {
            4 => cut(whole, range),
            _ => fragment6(whole, 9, range),
        };
        let spent = Segment { ttl: 1, ..datagram.clone() };
        let (_, reasons) = director.explain(&part(&spent.to_vip(), 0..40));
        assert!(matches!(reasons[..], [Reason::TtlAnswered | Reason::TtlExpired]), "{kind:?}: {reasons:?}");
        let (outcome, reasons) = director.explain(&part(&datagram.to_vip(), 40..80));
        assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{kind:?}");
        let answer = Segment { data: vec![5; 20], ..datagram };
        assert_becomes(&director, "its answer", &answer.replied((ours, FIRST_PORT)), &answer.to_client());
    }
}
