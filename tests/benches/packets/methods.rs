//! Known connections by method and family, and a pick by each scheduler.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use lb_common::addr::V6;
use lb_common::forward::nat::{Hop, Route};
use lb_common::mac::Mac;
use lb_datapath::plan::{Service, Target, nat, tunnel};
use lb_model::{Protocol, Scheduler, ServiceKey, Tunnel, TunnelKind};

use crate::Options;
use crate::bed::{self, Bed, Order, PICK_SERVERS, Run};
use crate::cases::{PACKETS, XDP_TX, offer};
use crate::frames::{Packet, VIP, VIP_V6};
use crate::outcome;
use crate::report::Times;

const FIRST_PORT: u16 = 9000;
pub(crate) const SERVER_PORT: u16 = 8080;
/// Clients whose packets are scheduled.
const PICKS: u64 = 1 << 17;

/// How packets get to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Direct,
    Ipip,
    Gue,
    Nat,
}

/// A method with a family, and a service of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub method: Method,
    pub is_ipv4: bool,
    /// What the server sends.
    pub back: bool,
}

impl Way {
    const METHODS: [(Method, &str); 4] =
        [(Method::Direct, "direct"), (Method::Ipip, "ipip"), (Method::Gue, "gue"), (Method::Nat, "nat")];

    fn all() -> impl Iterator<Item = (String, Self)> {
        Self::METHODS.into_iter().flat_map(|(method, name)| {
            [(true, "v4"), (false, "v6")].into_iter().flat_map(move |(is_ipv4, family)| {
                let way = Self { method, is_ipv4, back: false };
                let back = (method == Method::Nat)
                    .then(|| (format!("known-{name}-{family}-back"), Self { back: true, ..way }));
                [(format!("known-{name}-{family}"), way)].into_iter().chain(back)
            })
        })
    }

    fn port(self) -> u16 {
        FIRST_PORT + self.method as u16
    }

    fn vip(self) -> IpAddr {
        if self.is_ipv4 { VIP.into() } else { VIP_V6.into() }
    }

    /// The server's own address.
    pub(crate) fn server(self) -> IpAddr {
        match self.is_ipv4 {
            true => Ipv4Addr::new(198, 51, 100, 1 + self.method as u8).into(),
            false => Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1 + self.method as u16).into(),
        }
    }

    /// The director's address, which outer packets come from.
    pub(crate) fn own(self) -> IpAddr {
        match self.is_ipv4 {
            true => Ipv4Addr::new(211, 58, 250, 5).into(),
            false => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5).into(),
        }
    }

    fn service(self) -> Service {
        let mut service = bed::service(Scheduler::Rr, 1);
        let server = &mut service.servers[0];
        server.target = Target::Real(self.server());
        let through = |kind| Some(tunnel::tunnel(self.server(), &Tunnel::new(kind), self.own(), 1500));
        match self.method {
            Method::Direct => {}
            Method::Ipip => server.tunnel = through(TunnelKind::Ipip),
            Method::Gue => server.tunnel = through(TunnelKind::Gue),
            // No client is beside the server.
            Method::Nat => {
                server.translation = Some(nat::translation(self.server(), SERVER_PORT, V6([u64::MAX; 2])));
            }
        }
        service
    }

    /// What the client sends.
    fn request(self) -> Packet {
        if self.is_ipv4 { Packet::ack(self.port()) } else { Packet::ack_ipv6(self.port()) }
    }

    fn packet(self) -> Packet {
        match self.server() {
            IpAddr::V4(server) if self.back => Packet::answer(server.octets(), SERVER_PORT),
            IpAddr::V6(server) if self.back => Packet::answer_ipv6(server.octets(), SERVER_PORT),
            _ => self.request(),
        }
    }

    /// The VIP and its port.
    pub(crate) fn service_address(self) -> (IpAddr, u16) {
        (self.vip(), self.port())
    }

    fn given(self) -> Given {
        let headers = match (self.method, self.is_ipv4) {
            (Method::Nat, true) => Headers::V4,
            (Method::Nat, false) => Headers::V6,
            _ => Headers::None,
        };
        Given { headers, back: self.back, ..Given::NONE }
    }

    /// Where a client's address and port stand: in what it sends, or in what it is sent.
    const fn client(self) -> (u32, u32) {
        match (self.is_ipv4, self.back) {
            (true, false) => (26, 34),
            (true, true) => (30, 36),
            (false, false) => (34, 54),
            (false, true) => (50, 56),
        }
    }

    /// Where the TCP header's length and flags stand.
    const fn flags(self) -> u32 {
        if self.is_ipv4 { 46 } else { 66 }
    }
}

/// Which headers the walk puts back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Headers {
    None,
    V4,
    V6,
}

/// `Given` of lb-ebpf/bench/src/methods.rs, but for what the frame tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    headers: Headers,
    /// Where the client's address and port stand, if there is more than one client.
    client: Option<(u32, u32)>,
    /// Where the TCP header's length and flags stand, if clients connect.
    flags: Option<u32>,
    /// Of connections that found no slot nothing comes back.
    back: bool,
}

impl Given {
    pub(crate) const NONE: Self = Self { headers: Headers::None, client: None, flags: None, back: false };

    /// How many of so many packets may get another verdict: one in 10,000 connections finds no slot
    /// in a table that is half full.
    pub(crate) const fn astray(self, packets: u64) -> u64 {
        if self.back { packets / 10_000 } else { 0 }
    }

    pub(crate) fn words(self, frame: &[u8]) -> [u64; 10] {
        let half = |at: usize| u32::from(u16::from_ne_bytes([frame[at], frame[at + 1]]));
        let word = |at: usize| {
            frame.get(at..at + 4).map_or(0, |word| u32::from_ne_bytes(word.try_into().expect("four bytes")))
        };
        let (client, client_port) = self.client.unwrap_or_default();
        let checksum = if self.headers == Headers::V6 { half(70) } else { half(50) };
        let [length, flags] = [frame.len() as u32, self.flags.unwrap_or(0)];
        let begin = [length, word(12), self.headers as u32, client, client_port, flags, checksum];
        let words = (0..12).map(|number| word(18 + number * 4));
        let all: Vec<u32> = begin.into_iter().chain(words).chain([0]).collect();
        std::array::from_fn(|pair| u64::from(all[pair * 2]) | u64::from(all[pair * 2 + 1]) << 32)
    }
}

pub(crate) fn services() -> impl Iterator<Item = (ServiceKey, Service)> {
    Way::all().map(|(_, way)| {
        (ServiceKey { vip: way.vip(), port: way.port(), protocol: Protocol::Tcp }, way.service())
    })
}

/// All clients are behind one router.
pub(crate) fn routes() -> [Route; 2] {
    let by_router = |prefix: IpAddr| Route {
        prefix: prefix.into(),
        mask: lb_common::forward::nat::mask(prefix, 0),
        hop: Hop::by(outcome::ROUTER),
        ..Route::UNSET
    };
    [by_router(Ipv4Addr::UNSPECIFIED.into()), by_router(Ipv6Addr::UNSPECIFIED.into())]
}

/// Nanoseconds that it takes to put back what a tunnel has made of a frame: a case of its own,
/// because no program in use does it.
fn floor_undo(bed: &mut Bed, times: &mut Times) -> Result<()> {
    let packet = Packet::ack(FIRST_PORT);
    let run = |program| Run {
        program,
        packet: &packet,
        flows: 1,
        order: Order::Rising,
        packets: PACKETS,
        expected: XDP_TX,
        given: Given::NONE,
    };
    let without = bed.time(&run("floor_prepared"))?;
    let with = bed.time(&run("floor_room"))?;
    times.add("floor-undo", 1, (with - without) / 4.0);
    Ok(())
}

/// Times every wanted method once, and the floor of IPv6.
pub(crate) fn round(bed: &mut Bed, options: &Options, flows: u64, times: &mut Times) -> Result<()> {
    if Way::all().any(|(name, way)| !way.is_ipv4 && options.wants(&name)) {
        floor_lru_ipv6(bed, flows, times)?;
    }
    let is_tunnel = |way: Way| matches!(way.method, Method::Ipip | Method::Gue);
    if flows == 1 && Way::all().any(|(name, way)| is_tunnel(way) && options.wants(&name)) {
        floor_undo(bed, times)?;
    }
    for (name, way) in Way::all().filter(|(name, _)| options.wants(name)) {
        let ns = known(bed, flows, way).with_context(|| format!("{name} at {flows}"))?;
        times.add(&name, flows, ns);
    }
    Ok(())
}

fn floor_lru_ipv6(bed: &mut Bed, flows: u64, times: &mut Times) -> Result<()> {
    let way = Way { method: Method::Direct, is_ipv4: false, back: false };
    bed.fresh_clients(flows);
    let packet = way.packet();
    let given = Given { client: Some(way.client()), ..way.given() };
    let rising = |program| Run {
        program,
        packet: &packet,
        flows,
        order: Order::Rising,
        packets: flows,
        expected: XDP_TX,
        given,
    };
    bed.time(&rising("floor_lru_insert_ipv6"))?;
    let packets = PACKETS.max(flows * 2);
    let met_again = Run { order: Order::Shuffled, packets, ..rising("floor_lru_ipv6") };
    times.add("floor-lru-ipv6", flows, bed.time(&met_again)?);
    bed.time(&rising("floor_lru_delete_ipv6")).map(drop)
}

/// Packets of established connections, of which the last one is looked at.
fn known(bed: &mut Bed, flows: u64, way: Way) -> Result<f64> {
    bed.clear();
    bed.fresh_clients(flows);
    let one = flows == 1;
    let request = Way { back: false, ..way };
    let of_clients = |way: Way| if one { None } else { Some(way.client()) };
    let run = |packet, given| Run {
        program: "director_prepared",
        packet,
        flows,
        order: Order::Rising,
        packets: flows * 4,
        expected: XDP_TX,
        given,
    };
    let connecting = Given { client: of_clients(request), flags: Some(way.flags()), ..way.given() };
    let (opening, packet) = (request.packet(), way.packet());
    bed.time(&run(&opening, connecting))?;
    let packets = PACKETS.max(flows * 2);
    let met_again = run(&packet, Given { client: of_clients(way), ..way.given() });
    let met_again = Run { order: Order::Shuffled, packets, ..met_again };
    let (ns, left) = bed.time_and_see(&met_again)?;
    let client = bed.base + Order::Shuffled.last(packets, flows);
    outcome::check(&packet.of_client(met_again.given.client, client), &left, way)?;
    Ok(ns)
}

/// A connection to one of many servers, by each scheduler.
pub(crate) fn picks(bed: &mut Bed, options: &Options, times: &mut Times) -> Result<()> {
    for scheduler in Scheduler::ALL {
        let name = format!("pick-{}-{PICK_SERVERS}", scheduler.name());
        if options.wants(&name) {
            bed.clear();
            let packet = Packet::syn(bed::port(scheduler, PICK_SERVERS));
            times.add(&name, PICKS, offer(bed, PICKS, &packet).with_context(|| name.clone())?);
        }
    }
    Ok(())
}

/// The MAC of every server here.
pub(crate) const SERVER_MAC: Mac = Mac::new([2, 0, 0, 1, 0, 1]);
