//! Packets of every kind, and what is changed in them.

use std::net::IpAddr;

use fastrand::Rng;
use lb_common::addr::{V4, V6};
use lb_common::forward::nat::source::FIRST_PORT;
use lb_common::packet::frame::{self, Parsed, RelatedHeaders as _};
use lb_tests::fixtures::case::{File, Step};
use lb_tests::fixtures::layers::build;
use lb_tests::harness::*;
use lb_tests::model::sum;

use super::bed::more::{self, LISTED, MANY, QUIC, TRANSLATED};
use super::bed::{DIRECTOR_2, PORTS, SOME_PORTS, VIPS, vip, vip6};

/// Frames, and those of the fixtures as they are.
pub(super) struct Samples {
    kinds: Vec<Vec<Sample>>,
    questions: [Vec<u8>; 2],
    recorded: Vec<Vec<u8>>,
}

struct Sample {
    frame: Vec<u8>,
    network: usize,
    is_ipv4: bool,
    /// Offset of the ports; 0: there are none.
    ports: usize,
    is_tcp: bool,
    /// Of an ICMP error: offset of the IP header that it quotes.
    quote: usize,
    /// Offset of an IPv6 fragment header.
    fragment: usize,
}

const TAGS: [&str; 4] = ["", "", " / vlan 10", " / svlan 100 / vlan 10"];

/// Behind the IP header: what comes most often, and the rest.
const FLOWS: [&str; 9] = [
    "tcp 40001 > 80 A",
    "tcp 40001 > 80 A",
    "tcp 40001 > 80 A / data 10",
    "tcp 40001 > 80 S options 5",
    "tcp 40001 > 80 A / data 1450",
    "udp 40001 > 80 / data 32",
    "udp 40001 > 80 / data 9",
    "udp 40001 > 80",
    "udp 40001 > 80 / data 1470",
];
const HEADERS: [(&str, &str); 6] = [
    ("ip4", "ip4 c1 > vip"),
    ("ip4", "ip4 c1 > vip options 2"),
    ("ip6", "ip6 c1 > vip"),
    ("ip6", "ip6 c1 > vip / hop-by-hop"),
    ("ip6", "ip6 c1 > vip / routing / destination-options units 1"),
    ("ip6", "ip6 c1 > vip / fragment id 7"),
];
const FRAGMENTS: [&str; 8] = [
    "ip4 c1 > vip id 7 mf offset 32 proto 17 / data 8",
    "ip6 c1 > vip / fragment id 7 mf offset 32 next 17 / data 8",
    "ip4 c1 > vip id 7 mf / udp 40001 > 80 length 1208 / data 248",
    "ip4 c1 > vip id 7 mf / tcp 40001 > 80 A / data 44",
    "ip4 c1 > vip id 7 mf offset 32 proto 17 / data 64",
    "ip6 c1 > vip / fragment id 7 mf / udp 40001 > 80 length 1208 / data 248",
    "ip6 c1 > vip / hop-by-hop / fragment id 7 mf / tcp 40001 > 80 A / data 44",
    "ip6 c1 > vip / fragment id 7 mf offset 32 next 17 / data 64",
];
const ERRORS: [&str; 6] = [
    "ip4 hop > vip / icmp 3 4 rest 1400 / ip4 vip > c1 / tcp 80 > 40001 A",
    "ip4 hop > vip / icmp 11 0 / ip4 vip > c1 / udp 80 > 40001 / data 4",
    "ip4 hop > vip options 1 / icmp 3 1 / ip4 vip > c1 options 2 / tcp 80 > 40001 A / data 1480",
    "ip6 hop > vip / icmp6 2 0 rest 1400 / ip6 vip > c1 / tcp 80 > 40001 A",
    "ip6 hop > vip / icmp6 1 4 / ip6 vip > c1 / udp 80 > 40001 / data 4",
    "ip6 hop > vip / hop-by-hop / icmp6 3 0 / ip6 vip > c1 / destination-options / tcp 80 > 40001 A",
];

impl Samples {
    pub(super) fn new() -> Self {
        let flows =
            HEADERS.iter().flat_map(|(_, header)| FLOWS.iter().map(move |flow| format!("{header} / {flow}")));
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let kinds = [flows.collect(), texts(&FRAGMENTS), texts(&ERRORS)].map(|texts| {
            let tagged =
                |text: &String| TAGS.map(|tags| Sample::new(&format!("router > director{tags} / {text}")));
            texts.iter().flat_map(tagged).collect()
        });
        let mut recorded = Vec::new();
        for (name, text) in crate::fixtures::FILES {
            let file = File::parse(name, text).unwrap();
            for step in file.cases.iter().flat_map(|case| &case.steps) {
                if let Step::Packet(packet) = step {
                    recorded.push(build(packet.description, &[]).unwrap());
                }
            }
        }
        recorded.retain(|frame| frame.len() >= 14);
        let questions = [
            "router > ff:ff:ff:ff:ff:ff / arp 211.58.250.1 asks vip",
            "router > 33:33:ff:00:00:06 / ip6 fe80::1 > ff02::1:ff00:6 hops 255 / solicit vip",
        ];
        let questions = questions.map(|text| build(text, &[]).unwrap());
        Self { kinds: kinds.into(), questions, recorded }
    }

    /// Who has a VIP?
    fn question(&self, random: &mut Rng) -> Vec<u8> {
        let (number, is_ipv4) = (random.u8(..VIPS), random.bool());
        let mut frame = self.questions[usize::from(!is_ipv4)].clone();
        let target = if is_ipv4 { vip(number).octets().to_vec() } else { vip6(number).octets().to_vec() };
        let at = if is_ipv4 { 38 } else { 62 };
        frame[at..at + target.len()].copy_from_slice(&target);
        if random.u32(..10) == 0 {
            damage(random, &mut frame, 14);
        }
        frame
    }

    pub(super) fn packet(&self, random: &mut Rng) -> Vec<u8> {
        let kind = match random.u32(..100) {
            0..66 => 0,
            66..80 => 1,
            80..92 => 2,
            92..94 => return self.question(random),
            _ => {
                let mut frame = random.choice(&self.recorded).expect("some").clone();
                damage(random, &mut frame, 14);
                return frame;
            }
        };
        let sample = &self.kinds[kind][random.usize(..self.kinds[kind].len())];
        let mut frame = sample.of_somebody(random);
        if random.u32(..100) < 25 {
            damage(random, &mut frame, sample.network);
        }
        frame
    }
}

impl Sample {
    fn new(text: &str) -> Self {
        let frame = build(text, &[]).unwrap();
        let network = frame::link(&frame[..]).expect("it is IP").network();
        let is_ipv4 = frame[network] >> 4 == 4;
        let (ports, is_tcp) = match frame::parse(&frame[..]) {
            Parsed::Flow(flow) => (flow.transport, flow.protocol == lb_common::service::Protocol::Tcp),
            Parsed::FlowV6(flow) => (flow.transport, flow.protocol == lb_common::service::Protocol::Tcp),
            _ => (0, false),
        };
        let quote = match (ports, is_ipv4) {
            (0, true) if frame[network + 9] == 1 => V4::head(&frame[..], network).expect("a head").quote(),
            (0, false) if text.contains("icmp6") => V6::head(&frame[..], network).expect("a head").quote(),
            _ => 0,
        };
        let fragment = match text.split(" / ").position(|layer| layer.starts_with("fragment")) {
            Some(_) => network + 40 + if text.contains("hop-by-hop") { 8 } else { 0 },
            None => 0,
        };
        Self { frame, network, is_ipv4, ports, is_tcp, quote, fragment }
    }

    /// The packet as one of few clients sends it to one of the services, or a server to one of the
    /// clients.
    fn of_somebody(&self, random: &mut Rng) -> Vec<u8> {
        let mut frame = self.frame.clone();
        // Few clients send fragments, so that several are of one datagram.
        let is_fragment = self.fragment != 0 || self.is_ipv4 && frame[self.network + 6] & 0x3f != 0;
        let (clients, vips) = if is_fragment { (1..4, 3) } else { (1..24, VIPS) };
        let (number, vip) = (random.u32(clients), if random.bool() { 0 } else { random.u8(..vips) });
        let port = match vip {
            0 if random.u32(..3) == 0 => *random.choice(&TRANSLATED).expect("some"),
            0 => random.u16(PORTS),
            _ => SOME_PORTS[random.usize(..SOME_PORTS.len())],
        };
        let client_port = 40_000 + random.u16(..3);
        let servers = more::servers(vip, port, self.is_ipv4);
        if !servers.is_empty() {
            // Few clients, so that connections come to something.
            let few = [1, 2, 3, 5, 9, 17, 21];
            let number = few[random.usize(..if is_fragment { 4 } else { few.len() })];
            let client_port = 40_000 + random.u16(..2);
            let server = *random.choice(&servers).expect("some");
            if random.u32(..100) < 45 {
                self.of_server(random, &mut frame, server, [number, client_port.into()], port);
            } else {
                self.of_client(&mut frame, [number, client_port.into()], vip, port);
            }
        } else {
            let port =
                if port == LISTED && random.bool() { random.u16(MANY.first..MANY.last + 50) } else { port };
            self.of_client(&mut frame, [number, client_port.into()], vip, port);
        }
        if self.is_tcp {
            frame[self.ports + 13] = flags(random);
        } else if self.ports != 0 && port == QUIC {
            self.name_server(random, &mut frame);
        }
        self.vary(random, &mut frame);
        frame
    }

    fn of_client(&self, frame: &mut [u8], [number, client_port]: [u32; 2], vip: u8, port: u16) {
        let client_port = client_port as u16;
        if self.quote == 0 {
            self.address(frame, self.network, number, vip);
            if self.ports != 0 {
                put(frame, self.ports, client_port);
                put(frame, self.ports + 2, port);
            }
        } else {
            self.quote(frame, number, vip, [port, client_port]);
        }
    }

    /// As a server behind address translation sends it to a client or an address of ours, or an
    /// error about what that has sent to the server.
    fn of_server(
        &self,
        random: &mut Rng,
        frame: &mut [u8],
        server: IpAddr,
        [number, client_port]: [u32; 2],
        port: u16,
    ) {
        let (mut to, mut to_port) = (self.client(number), client_port as u16);
        if matches!(port, 124 | 127) && random.u32(..4) > 0 {
            to = *random.choice(&more::ours(self.is_ipv4)).expect("some");
            to_port = FIRST_PORT + random.u16(..more::OUR_PORTS);
        }
        if self.quote == 0 {
            self.write(frame, self.network, [Some(server), Some(to)]);
            if self.ports != 0 {
                put(frame, self.ports, more::SERVER_PORT);
                put(frame, self.ports + 2, to_port);
            }
        } else {
            let upper = self.upper_of_quote(frame);
            self.write(frame, self.network, [None, Some(to)]);
            self.write(frame, self.quote, [Some(to), Some(server)]);
            put(frame, upper, to_port);
            put(frame, upper + 2, more::SERVER_PORT);
        }
    }

    /// A connection ID of QUIC in the datagram, as far as it has room.
    fn name_server(&self, random: &mut Rng, frame: &mut [u8]) {
        let rotation = *random.choice(&[0, 0, 5, 5, 3, 7]).expect("some");
        let id = more::connection_id(random.u8(..5), rotation, random.u8(..));
        let is_long = random.u32(..3) == 0;
        let head = match is_long {
            true => vec![0xe1, 0, 0, 0, 1, *random.choice(&[0, 2, 3, 16, 17, 20]).expect("some")],
            false => vec![0x4e],
        };
        let quic = [&head[..], &id].concat();
        let room = frame.len() - (self.ports + 8);
        let length = quic.len().min(room);
        frame[self.ports + 8..][..length].copy_from_slice(&quic[..length]);
    }

    /// Writes source and destination of the IP header at `at`.
    fn write(&self, frame: &mut [u8], at: usize, addresses: [Option<IpAddr>; 2]) {
        let (first, length) = if self.is_ipv4 { (12, 4) } else { (8, 16) };
        for (number, address) in addresses.into_iter().enumerate() {
            let place = at + first + number * length;
            match address {
                Some(IpAddr::V4(address)) => frame[place..place + 4].copy_from_slice(&address.octets()),
                Some(IpAddr::V6(address)) => frame[place..place + 16].copy_from_slice(&address.octets()),
                None => {}
            }
        }
    }

    /// Where the ports of the quoted packet stand.
    fn upper_of_quote(&self, frame: &[u8]) -> usize {
        let at = self.quote;
        match self.is_ipv4 {
            true => at + usize::from(frame[at] & 15) * 4,
            false => at + 40 + if frame[at + 6] == 60 { 8 } else { 0 },
        }
    }

    /// Writes the client's address and the VIP's.
    fn address(&self, frame: &mut [u8], at: usize, number: u32, to: u8) {
        self.write(frame, at, [Some(self.client(number)), Some(self.vip(to))]);
    }

    fn client(&self, number: u32) -> IpAddr {
        if self.is_ipv4 { (*client(number).ip()).into() } else { client6(number).into() }
    }

    fn vip(&self, number: u8) -> IpAddr {
        if self.is_ipv4 { vip(number).into() } else { vip6(number).into() }
    }

    /// The same of what an ICMP error quotes, which was on its way back.
    fn quote(&self, frame: &mut [u8], number: u32, to: u8, ports: [u16; 2]) {
        let upper = self.upper_of_quote(frame);
        self.write(frame, self.network, [None, Some(self.vip(to))]);
        self.write(frame, self.quote, [Some(self.vip(to)), Some(self.client(number))]);
        put(frame, upper, ports[0]);
        put(frame, upper + 2, ports[1]);
    }

    /// What may be one way or another in a packet that is well.
    fn vary(&self, random: &mut Rng, frame: &mut Vec<u8>) {
        let at = self.network;
        match random.u32(..100) {
            0..6 => frame[6..12].copy_from_slice(&mac(random.u16(1..4)).octets()),
            6..18 => frame[6..12].copy_from_slice(&DIRECTOR_2.octets()),
            18..20 => frame[5] = 0x99,
            _ => {}
        }
        let hops = at + if self.is_ipv4 { 8 } else { 7 };
        if random.u32(..100) < 8 {
            frame[hops] = *random.choice(&[0, 1, 2, 7, 8, 9, 10, 11, 255]).expect("some");
        }
        if random.u32(..100) < 10 {
            frame[at + 1] = random.u8(..);
        }
        if random.u32(..100) < 3 {
            // Whom nobody may answer: a group, or of IPv4 a loopback address.
            match self.is_ipv4 {
                true => frame[at + 12] = *random.choice(&[127, 224]).expect("some"),
                false => frame[at + 8] = 0xff,
            }
        }
        if self.is_ipv4 && random.u32(..100) < 3 {
            // The mark of relayed packets.
            frame[at + 6] |= 0x80;
        }
        if !self.is_ipv4 && self.is_tcp && random.u32(..100) < 3 {
            frame[self.ports + 12] |= 8;
        }
        self.vary_fragment(random, frame);
        match random.u32(..100) {
            0..55 => self.mend(frame),
            55..60 => self.leave_to_hardware(frame),
            _ => {}
        }
        if random.u32(..100) < 10 {
            frame.resize(frame.len() + random.usize(1..20), 0);
        }
    }

    /// Another id, another offset, the last one.
    fn vary_fragment(&self, random: &mut Rng, frame: &mut [u8]) {
        let at = self.network;
        let is_later = self.ports == 0 && self.quote == 0;
        let offset = *random.choice(&[8, 16, 32, 36, 38, 40, 41, 44, 48, 56, 8191]).expect("some");
        let more = random.u32(..4) > 0;
        if self.is_ipv4 && frame[at + 6] & 0x3f != 0 {
            put(frame, at + 4, random.u16(..3));
            if is_later {
                put(frame, at + 6, if more { 0x2000 } else { 0 } | offset);
            }
        } else if self.fragment != 0 {
            frame[self.fragment + 7] = random.u8(..3);
            if is_later {
                put(frame, self.fragment + 2, offset << 3 | u16::from(more));
            }
        }
    }

    /// Right checksums, as far as one packet has them.
    fn mend(&self, frame: &mut [u8]) {
        let at = self.network;
        if self.is_ipv4 {
            let header = usize::from(frame[at] & 15) * 4;
            put(frame, at + 10, 0);
            let right = !sum(&[&frame[at..at + header]]);
            put(frame, at + 10, right);
        }
        if self.ports != 0 {
            let checksum = self.ports + if self.is_tcp { 16 } else { 6 };
            put(frame, checksum, 0);
            let right = !sum(&[&self.pseudo(frame), &frame[self.ports..]]);
            put(frame, checksum, if right == 0 { 0xffff } else { right });
        } else if self.quote != 0 {
            let message = self.quote - 8;
            put(frame, message + 2, 0);
            let pseudo = if self.is_ipv4 { vec![] } else { self.pseudo_of(frame, 58, message) };
            let right = !sum(&[&pseudo, &frame[message..]]);
            put(frame, message + 2, right);
        }
    }

    fn leave_to_hardware(&self, frame: &mut [u8]) {
        if self.ports != 0 {
            let pseudo = sum(&[&self.pseudo(frame)]);
            put(frame, self.ports + if self.is_tcp { 16 } else { 6 }, pseudo);
        }
    }

    fn pseudo(&self, frame: &[u8]) -> Vec<u8> {
        self.pseudo_of(frame, if self.is_tcp { 6 } else { 17 }, self.ports)
    }

    fn pseudo_of(&self, frame: &[u8], protocol: u8, from: usize) -> Vec<u8> {
        let addresses = if self.is_ipv4 { 12..20 } else { 8..40 };
        let addresses = &frame[self.network..][addresses];
        [addresses, &((frame.len() - from) as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat()
    }
}

fn put(frame: &mut [u8], at: usize, word: u16) {
    frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

fn flags(random: &mut Rng) -> u8 {
    match random.u32(..100) {
        0..34 => SYN,
        34..70 => ACK,
        70..78 => ACK | 8,
        78..86 => FIN | ACK,
        86..91 => RST,
        91..94 => SYN | ACK,
        94..96 => 0,
        _ => random.u8(..),
    }
}

/// Some bytes become others, or the frame ends elsewhere.
fn damage(random: &mut Rng, frame: &mut Vec<u8>, network: usize) {
    for _ in 0..random.u32(..3) {
        let at = random.usize(12..network + 64);
        let value = *random.choice(&[0, 1, 4, 5, 0x45, 0x60, 6, 17, 44, 0x7f, 0x80, 0xff]).expect("some");
        let value = if random.bool() { value } else { random.u8(..) };
        if let Some(byte) = frame.get_mut(at) {
            *byte = value;
        }
    }
    match random.u32(..10) {
        0..2 => frame.truncate(random.usize(14..frame.len().max(15))),
        2 => frame.resize(frame.len() + random.usize(..64), random.u8(..)),
        3 => {
            let at = network + random.usize(..8);
            let number = *random.choice(&[0, 1, 19, 20, 21, 28, 39, 40, 41, 60, 1500, 0xffff]).expect("some");
            if frame.len() > at + 2 {
                put(frame, at, number);
            }
        }
        _ => {}
    }
}
