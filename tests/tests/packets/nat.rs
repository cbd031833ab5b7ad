//! Servers that are reached by address translation: packets byte by byte in both directions, the
//! checksums of all of it, states that follow both halves, ICMP errors, fragments, refusals.

mod clients_elsewhere;
mod datagrams;
mod early;
mod elsewhere;
mod hops;
mod moves;
mod related;
mod several;
pub(crate) mod source;
mod together;
mod vlans;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::forward::nat::{Hop, Route, mask};
use lb_common::mac::Mac;
use lb_common::reason::Reason;
use lb_datapath::plan::{Server, Service, Target, nat};
use lb_model::{Protocol, ServiceKey};
use lb_tests::harness::*;

use crate::tunnels::{finished, sum};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1);
const SERVER_PORT: u16 = 8080;
const CLIENT_PORT: u16 = 40_000;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
/// On the segment of the server, and of the clients that are on the director's own.
const NEAR: u8 = 16;
const UDP: u8 = 17;
pub(crate) const SEGMENTS: [(u8, u8); 4] = [(4, TCP), (4, UDP), (6, TCP), (6, UDP)];

pub(crate) fn masq(address: IpAddr) -> Server {
    let subnet = mask(address, if address.is_ipv4() { NEAR } else { 64 });
    Server {
        target: Target::Real(address),
        translation: Some(nat::translation(address, SERVER_PORT, subnet)),
        ..server(1, 1)
    }
}

fn only(address: IpAddr) -> Service {
    Service { servers: vec![masq(address)], ..rr([]) }
}

fn services() -> Vec<(ServiceKey, Service)> {
    let v4 = [WEB, WEB_UDP].map(|key| (key, only(SERVER.into())));
    let v6 = [WEB6, DNS6].map(|key| (key, only(SERVER6.into())));
    v4.into_iter().chain(v6).collect()
}

fn route(prefix: IpAddr, length: u8, hop: Hop) -> Route {
    Route { prefix: prefix.into(), mask: mask(prefix, length), hop, ..Route::UNSET }
}

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(SERVER.into(), NEAR, Hop::ON_LINK),
        route([10, 130, 0, 0].into(), 16, Hop::ON_LINK),
        route(Ipv4Addr::UNSPECIFIED.into(), 0, Hop::by(ROUTER)),
        route(Ipv6Addr::UNSPECIFIED.into(), 0, Hop::by(ROUTER)),
    ]
}

pub(crate) fn with(services: Vec<(ServiceKey, Service)>) -> Director {
    let mut director = Director::new(services);
    director.data_path.executor.set_routes(&routes()).expect("there is room");
    director
}

pub(crate) fn director() -> Director {
    with(services())
}

pub(crate) fn of_near_client(packet: Packet) -> Packet {
    Packet { from: Client::new([10, 1, 99, 99].into(), CLIENT_PORT), ..packet }
}

/// The same server and port behind another VIP, and a connection of the client by that one.
pub(crate) fn clashing() -> (Director, Vec<u8>) {
    let director = with(vec![(WEB, only(SERVER.into())), (tcp(OTHER_VIP, PORT), only(SERVER.into()))]);
    for flags in [SYN, ACK] {
        let frame = Segment { vip: OTHER_VIP.into(), ..Segment::new((4, TCP), flags) }.to_vip();
        assert_eq!(director.send_bytes(&frame).verdict, Verdict::Tx);
    }
    let frame = Segment::new((4, TCP), SYN).to_vip();
    (director, frame)
}

/// The answer to a client for which there is no route.
pub(crate) fn without_way_back() -> (Director, Vec<u8>) {
    let mut director = director();
    let segment = Segment::new((4, TCP), SYN);
    director.send_bytes(&segment.to_vip());
    director.data_path.executor.set_routes(&[]).expect("it can be set");
    (director, Segment { flags: SYN | ACK, ..segment }.by_server())
}

/// A segment between client and VIP, or between server and client, with right checksums.
#[derive(Clone)]
pub(crate) struct Segment {
    family: u8,
    protocol: u8,
    flags: u8,
    client: IpAddr,
    vip: IpAddr,
    server: IpAddr,
    data: Vec<u8>,
    ip_options: usize,
    tags: Vec<u16>,
    ttl: u8,
}

impl Segment {
    pub(crate) fn new((family, protocol): (u8, u8), flags: u8) -> Self {
        let [client, vip, server]: [IpAddr; 3] = match family {
            4 => [CLIENT.into(), VIP.into(), SERVER.into()],
            _ => [CLIENT6.into(), VIP6.into(), SERVER6.into()],
        };
        Self {
            family,
            protocol,
            flags,
            client,
            vip,
            server,
            data: vec![],
            ip_options: 0,
            tags: vec![],
            ttl: 64,
        }
    }

    pub(crate) fn with(self, ttl: u8, data: Vec<u8>) -> Self {
        Self { ttl, data, ..self }
    }

    /// The server is another one.
    pub(crate) fn at(self, server: IpAddr) -> Self {
        Self { server, ..self }
    }

    pub(crate) fn flagged(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    pub(crate) const fn server(&self) -> IpAddr {
        self.server
    }

    fn frame(&self, source: (IpAddr, u16), destination: (IpAddr, u16), [to, from]: [Mac; 2]) -> Vec<u8> {
        let ports = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
        let header = match self.protocol {
            TCP => vec![0, 0, 0, 1, 0, 0, 0, 2, 0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0],
            _ => [&(8 + self.data.len() as u16).to_be_bytes()[..], &[0, 0]].concat(),
        };
        let segment = [ports, header, self.data.clone()].concat();
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let addresses = [octets(source.0), octets(destination.0)].concat();
        let head = match self.family {
            4 => {
                let length = (20 + 4 * self.ip_options + segment.len()) as u16;
                let words =
                    [&[0x45 + self.ip_options as u8, 0][..], &length.to_be_bytes(), &[0x12, 0x34, 0, 0]];
                let head = [&words.concat()[..], &[self.ttl, self.protocol, 0, 0], &addresses].concat();
                [head, vec![1; 4 * self.ip_options]].concat()
            }
            _ => {
                let length = (segment.len() as u16).to_be_bytes();
                [&[0x60, 0, 0, 0][..], &length, &[self.protocol, self.ttl], &addresses].concat()
            }
        };
        let kind = if self.family == 4 { 0x0800_u16 } else { IPV6 };
        let macs = [&to.octets()[..], &from.octets(), &kind.to_be_bytes()].concat();
        tagged(&self.tags, &finished([macs, head, segment].concat(), 14, 0))
    }

    pub(crate) fn to_vip(&self) -> Vec<u8> {
        self.frame((self.client, CLIENT_PORT), (self.vip, PORT), [MAC, ROUTER])
    }

    /// What becomes of [`Self::to_vip`].
    pub(crate) fn to_server(&self) -> Vec<u8> {
        let hop_less = Self { ttl: self.ttl - 1, ..self.clone() };
        hop_less.frame((self.client, CLIENT_PORT), (self.server(), SERVER_PORT), [mac(1), MAC])
    }

    pub(crate) fn by_server(&self) -> Vec<u8> {
        self.frame((self.server(), SERVER_PORT), (self.client, CLIENT_PORT), [MAC, mac(1)])
    }

    /// What becomes of [`Self::by_server`].
    pub(crate) fn to_client(&self) -> Vec<u8> {
        let hop_less = Self { ttl: self.ttl - 1, ..self.clone() };
        hop_less.frame((self.vip, PORT), (self.client, CLIENT_PORT), [ROUTER, MAC])
    }

    /// Opens the connection, and proves it if it carries data.
    pub(crate) fn open(&self, director: &Director) {
        for flags in [SYN, ACK, ACK] {
            let frame = Self { flags, ..self.clone() }.to_vip();
            assert_eq!(director.send_bytes(&frame).verdict, Verdict::Tx);
        }
    }
}

/// A frame, and what becomes of it.
type Way = (Vec<u8>, Vec<u8>);

#[track_caller]
fn assert_becomes(director: &Director, description: &str, frame: &[u8], expected: &[u8]) {
    let (outcome, reasons) = director.explain(frame);
    assert_eq!((outcome.verdict, reasons), (Verdict::Tx, vec![]), "{description}");
    assert_eq!(outcome.frame, expected, "{description}");
}

#[track_caller]
fn assert_passes(director: &Director, description: &str, frame: &[u8]) {
    let (outcome, reasons) = director.explain(frame);
    assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![]), "{description}");
    assert_eq!(outcome.frame, frame, "{description}");
}

#[test]
fn both_ways_change_addresses_ports_and_nothing_else() {
    let director = director();
    for kind in SEGMENTS {
        for tags in [&[][..], &[DOT1Q], &[DOT1AD, DOT1Q]] {
            for ip_options in if kind.0 == 4 { &[0, 1, 10][..] } else { &[0] } {
                for length in [0, 1, 2, 333, 1400] {
                    let data = (0..length).map(|index| index as u8 ^ 0x5a).collect();
                    let segment = Segment {
                        data,
                        ip_options: *ip_options,
                        tags: tags.to_vec(),
                        ..Segment::new(kind, SYN)
                    };
                    let description = format!("{kind:?} {} tags {ip_options} {length}", tags.len());
                    for flags in [SYN, ACK, ACK] {
                        let segment = Segment { flags, ..segment.clone() };
                        assert_becomes(&director, &description, &segment.to_vip(), &segment.to_server());
                    }
                    for flags in [SYN | ACK, ACK, ACK] {
                        let segment = Segment { flags, ttl: 2, ..segment.clone() };
                        assert_becomes(&director, &description, &segment.by_server(), &segment.to_client());
                    }
                }
            }
        }
    }
    director.assert_counts_are_true();
}

/// A datagram whose checksum comes out as 0 says 0xffff, and one without a checksum stays so.
#[test]
fn checksums_of_zero() {
    let director = director();
    for kind in [(4, UDP), (6, UDP), (4, TCP)] {
        let segment = |word: [u8; 2]| Segment { data: word.to_vec(), ..Segment::new(kind, ACK) };
        segment([0, 0]).open(&director);
        let at = |frame: &[u8]| frame.len() - if kind.1 == TCP { 6 } else { 4 };
        for back in [false, true] {
            let way = |segment: &Segment| match back {
                false => (segment.to_vip(), segment.to_server()),
                true => (segment.by_server(), segment.to_client()),
            };
            // The word that makes the changed packet's sum all ones.
            let (_, after) = way(&segment([0, 0]));
            let word = [after[at(&after)], after[at(&after) + 1]];
            let (before, mut after) = way(&segment(word));
            let place = at(&after);
            assert_eq!(after[place..place + 2], [0, 0], "as RFC 1071 has it");
            if kind.1 == UDP {
                after[place..place + 2].fill(0xff);
            }
            assert_becomes(&director, &format!("{kind:?}, back: {back}"), &before, &after);
        }
    }
    let segment = Segment { data: vec![1, 2, 3], ..Segment::new((4, UDP), 0) };
    let without = |mut frame: Vec<u8>| {
        frame[40..42].fill(0);
        frame
    };
    assert_becomes(&director, "none", &without(segment.to_vip()), &without(segment.to_server()));
    assert_becomes(&director, "none", &without(segment.by_server()), &without(segment.to_client()));
}

/// What was left to hardware stays so: the sum of the new pseudo header. A right checksum that is
/// the same number by chance is a right one, however long the segment is.
#[test]
fn checksums_that_were_left_to_hardware() {
    let director = director();
    for kind in SEGMENTS {
        let (ip, checksum) = (if kind.0 == 4 { 20 } else { 40 }, if kind.1 == TCP { 16 } else { 6 });
        let at = 14 + ip + checksum;
        let pseudo = |frame: &[u8]| {
            let addresses = if kind.0 == 4 { &frame[26..34] } else { &frame[22..54] };
            let length = (frame.len() - 14 - ip) as u32;
            sum(&[addresses, &length.to_be_bytes(), &[0, 0, 0, kind.1]].concat()).to_be_bytes()
        };
        for length in [2, 100, 512, 1023, 1400] {
            let segment = Segment { data: vec![0x33; length], ..Segment::new(kind, ACK) };
            segment.open(&director);
            let ways: [fn(&Segment) -> Way; 2] = [
                |segment| (segment.to_vip(), segment.to_server()),
                |segment| (segment.by_server(), segment.to_client()),
            ];
            for way in ways {
                let (mut before, mut after) = way(&segment);
                for frame in [&mut before, &mut after] {
                    let sum = pseudo(frame);
                    frame[at..at + 2].copy_from_slice(&sum);
                }
                assert_becomes(&director, &format!("{kind:?}, {length}: left"), &before, &after);
                // A word that makes the checksum what the pseudo header adds up to.
                let (plain, _) = way(&segment);
                let wanted = u32::from(u16::from_be_bytes(pseudo(&plain)));
                let found = u32::from(u16::from_be_bytes([plain[at], plain[at + 1]]));
                let word = ((0x3333 + found + 0xffff - wanted) % 0xffff) as u16;
                let mut data = segment.data.clone();
                data[..2].copy_from_slice(&word.to_be_bytes());
                let (before, after) = way(&Segment { data, ..segment.clone() });
                assert_eq!(before[at..at + 2], pseudo(&before), "the same number");
                assert_becomes(&director, &format!("{kind:?}, {length}: right"), &before, &after);
            }
        }
    }
}

#[test]
fn both_halves_count() {
    let director = director();
    let step = |from_server: bool, flags: u8| {
        for kind in [(4, TCP), (6, TCP)] {
            let segment = Segment::new(kind, flags);
            let frame = if from_server { segment.by_server() } else { segment.to_vip() };
            assert_eq!(director.send_bytes(&frame).verdict, Verdict::Tx, "{from_server} {flags:#x}");
        }
    };
    let counts = |expected: (u32, u32), what: &str| {
        for (key, server) in [(WEB, IpAddr::from(SERVER)), (WEB6, SERVER6.into())] {
            let counts = director.data_path.table.counts(director.id_of(key, Target::Real(server)));
            assert_eq!((counts.active(), counts.inactive()), expected, "{what}");
        }
        director.assert_counts_are_true();
    };
    let open = || {
        step(false, SYN);
        counts((0, 1), "SYN");
        step(true, SYN | ACK);
        counts((0, 1), "SYN-ACK");
        step(false, ACK);
        counts((1, 0), "ACK");
        step(true, ACK);
        counts((1, 0), "data");
    };
    for (what, closes) in [
        ("the client closes", &[(false, FIN | ACK), (true, ACK), (true, FIN | ACK), (false, ACK)][..]),
        ("the server closes", &[(true, FIN | ACK), (false, ACK), (false, FIN | ACK), (true, ACK)]),
        ("the client resets", &[(false, RST)]),
        ("the server resets", &[(true, RST | ACK)]),
        ("the server alone closes", &[(true, FIN | ACK), (false, ACK)]),
    ] {
        open();
        for (from_server, flags) in closes {
            step(*from_server, *flags);
            counts((0, 1), what);
        }
        // The client uses the port again.
    }
    step(false, SYN);
    step(true, RST | ACK);
    counts((0, 1), "the server refuses");
    director.sweep_after(std::time::Duration::from_secs(20));
    counts((0, 0), "a closed connection is soon forgotten");
}

#[test]
fn what_no_connection_knows_is_the_hosts() {
    let mut director = director();
    for kind in SEGMENTS {
        let segment = Segment::new(kind, ACK);
        assert_passes(&director, "unknown", &segment.by_server());
        segment.open(&director);
        let other = Segment { client: if kind.0 == 4 { VIP.into() } else { VIP6.into() }, ..segment.clone() };
        assert_passes(&director, "to the VIP", &other.by_server());
        let mut flooded = segment.by_server();
        flooded[..6].copy_from_slice(&mac(9).octets());
        let (outcome, reasons) = director.explain(&flooded);
        assert_eq!((outcome.verdict, reasons), (Verdict::Pass, vec![Reason::NotOurMac]));
    }
    let answer = Segment::new((4, TCP), ACK).by_server();
    director.data_path.leases().end(GROUP);
    assert_eq!(director.explain(&answer).1, [Reason::Standby]);
    director.data_path.leases().renew(GROUP, within(60));
    assert_eq!(director.send_bytes(&answer).verdict, Verdict::Tx);
    // Without the service nobody translates, and direct routing neither.
    director.change(|state| state.services.clear());
    let leaving = director.leaving.clone();
    director.purge(&leaving);
    assert_passes(&director, "the service is gone", &answer);
    director.change(|state| {
        state.services.insert(WEB, rr([1]));
    });
    assert_passes(&director, "direct routing", &answer);
}

/// Of clients on the segment the MAC is that from which their packets come.
#[test]
fn clients_on_the_segment_have_their_own_macs() {
    let director = director();
    let segment = Segment { client: [10, 130, 0, 7].into(), ..Segment::new((4, TCP), SYN) };
    for station in [mac(70), mac(71)] {
        let mut frame = segment.to_vip();
        frame[6..12].copy_from_slice(&station.octets());
        assert_eq!(director.send_bytes(&frame).verdict, Verdict::Tx);
        let mut expected = Segment { flags: SYN | ACK, ..segment.clone() }.to_client();
        expected[..6].copy_from_slice(&station.octets());
        let answer = Segment { flags: SYN | ACK, ..segment.clone() }.by_server();
        assert_becomes(&director, "to the client's MAC", &answer, &expected);
    }
}

#[test]
fn refused_connections_leave_nothing() {
    let (director, frame) = (director(), of_near_client(Packet::syn(client(1))).bytes());
    assert_eq!(director.explain(&frame).1, [Reason::ClientNearServer]);
    assert_eq!(director.entries(), 0);
    let (director, frame) = clashing();
    for _ in 0..2 {
        assert_eq!(director.explain(&frame).1, [Reason::NatClash]);
        assert_eq!(director.entries(), 1);
    }
    let of_other = Segment { vip: OTHER_VIP.into(), ..Segment::new((4, TCP), ACK) };
    assert_becomes(&director, "the first one goes on", &of_other.by_server(), &of_other.to_client());
    // Once that is over, the other one may begin.
    for (from_server, flags) in [(false, FIN | ACK), (true, FIN | ACK)] {
        let segment = Segment { flags, ..of_other.clone() };
        director.send_bytes(&if from_server { segment.by_server() } else { segment.to_vip() });
    }
    let segment = Segment::new((4, TCP), SYN);
    assert_becomes(&director, "the second one", &segment.to_vip(), &segment.to_server());
    let answer = Segment { flags: SYN | ACK, ..segment };
    assert_becomes(&director, "and its answer", &answer.by_server(), &answer.to_client());
}

/// Several services use one port of a machine: the connection tells whose an answer is.
#[test]
fn servers_of_several_services() {
    for kind in [(4, TCP), (6, TCP)] {
        let vips: Vec<IpAddr> = match kind.0 {
            4 => (0..20).map(|host| [211, 58, 251, host].into()).collect(),
            _ => (0..20).map(|host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 7, host).into()).collect(),
        };
        let server: IpAddr = if kind.0 == 4 { SERVER.into() } else { SERVER6.into() };
        let key = |vip: &IpAddr| ServiceKey { vip: *vip, port: PORT, protocol: Protocol::Tcp };
        let mut director = with(vips.iter().map(|vip| (key(vip), only(server))).collect());
        let connections: Vec<Segment> = (0..40_usize)
            .map(|number| {
                let client = match kind.0 {
                    4 => [10, 128, 1, number as u8].into(),
                    _ => Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 1, number as u16).into(),
                };
                Segment { client, vip: vips[number % 20], ..Segment::new(kind, ACK) }
            })
            .collect();
        connections.iter().for_each(|segment| segment.open(&director));
        let all_come_back = |director: &Director, from: usize| {
            for segment in connections.iter().filter(|segment| vips[from..].contains(&segment.vip)) {
                assert_becomes(director, "its own VIP", &segment.by_server(), &segment.to_client());
            }
        };
        all_come_back(&director, 0);
        director.change(|state| vips[..7].iter().for_each(|vip| drop(state.services.remove(&key(vip)))));
        let leaving = director.leaving.clone();
        director.purge(&leaving);
        all_come_back(&director, 7);
    }
}
