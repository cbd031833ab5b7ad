//! Services with every other scheduler, with several ports, with QUIC-LB, and with servers behind
//! address translation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aes::Aes128;
use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use lb_common::forward::nat::source::Pool;
use lb_common::forward::nat::{Hop, Route, mask};
use lb_common::mac::Mac;
use lb_datapath::plan::quic::Quic;
use lb_datapath::plan::{Server, Service, Target, nat};
use lb_model::{PortRange, Ports, Protocol, QuicEncoding, QuicKey, QuicServerIds, Scheduler, Stray};
use lb_tests::harness::*;

use super::binding;

/// Beside its own port it has [`MANY`].
pub(in super::super) const LISTED: u16 = 126;
pub(in super::super) const MANY: PortRange = PortRange { first: 1000, last: 1600 };
/// Of UDP; of TCP it is behind address translation.
pub(in super::super) const QUIC: u16 = 125;
/// Servers are behind address translation there.
pub(in super::super) const TRANSLATED: [u16; 7] = [121, 122, 123, 124, QUIC, 127, 129];
pub(in super::super) const SERVER_PORT: u16 = 8080;
/// Ports of each of [`ours`].
pub(in super::super) const OUR_PORTS: u16 = 3;

/// The service at one of these ports; `None`: at another one.
pub(super) fn service_at(port: u16, protocol: Protocol) -> Option<Service> {
    let ranges = [PortRange::one(LISTED), MANY];
    let mut service = match port {
        114 => service(Scheduler::Sed, &[3, 1, 1]),
        115 => service(Scheduler::Nq, &[3, 1]),
        // Its table is large, so there are few of them.
        116 if protocol == Protocol::Tcp => service(Scheduler::Mh, &[2, 1, 3]),
        116 => service(Scheduler::Sh, &[2, 1, 3]),
        117 => service(Scheduler::Dh, &[1, 2, 3]),
        118 => service(Scheduler::Fo, &[1, 3, 3]),
        119 => service(Scheduler::Ovf, &[2, 1, 3]),
        120 => service(Scheduler::Twos, &[3, 1, 2]),
        121..125 | 127 | 129 => rr([1]),
        QUIC if protocol == Protocol::Udp => {
            let mut service = rr([1, 2, 3]);
            service.settings.quic = true;
            service.quic = quic();
            service
        }
        QUIC => service(Scheduler::Mh, &[1]),
        LISTED => binding(10, 128, rr([1, 2, 3])),
        128 => binding(10, 128, service(Scheduler::Sed, &[2, 1, 1])),
        _ => return None,
    };
    match port {
        116 => service.hashing.port = true,
        LISTED => service.settings.ports = Ports::of(&ranges),
        QUIC if protocol == Protocol::Tcp => service.settings.stray = Stray::Hash,
        _ => {}
    }
    Some(service)
}

/// The servers behind address translation of the service at this port of a VIP.
pub(in super::super) fn servers(vip: u8, port: u16, is_ipv4: bool) -> Vec<IpAddr> {
    let at = |place: u8| match is_ipv4 {
        true => Ipv4Addr::new(10, 1, 2, vip * 16 + place).into(),
        false => Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, u16::from(vip * 16 + place)).into(),
    };
    match port {
        121 => vec![at(1), at(2)],
        // Three services have this one in common.
        122 | 123 | 127 => vec![at(3)],
        124 => vec![at(4)],
        QUIC => vec![at(5)],
        // Among the clients.
        129 if is_ipv4 => vec![(*client(28).ip()).into()],
        129 => vec![client6(28).into()],
        _ => vec![],
    }
}

/// Clients with numbers from 16 on, and of IPv6 from 20 on, reach its server by themselves.
fn near(port: u16, server: IpAddr) -> lb_common::addr::V6 {
    match (port, server) {
        (129, IpAddr::V4(_)) => mask(server, 28),
        // The network has the client's number divided by ten.
        (129, IpAddr::V6(_)) => mask(server, 48),
        _ => mask(server, if server.is_ipv4() { 24 } else { 64 }),
    }
}

/// Addresses in the place of clients.
pub(in super::super) fn ours(is_ipv4: bool) -> [IpAddr; 2] {
    [1, 2].map(|number| match is_ipv4 {
        true => Ipv4Addr::new(10, 1, 200, number).into(),
        false => Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 2, number.into()).into(),
    })
}

/// Puts the servers at this port behind address translation, if they are.
pub(super) fn translate(service: &mut Service, vip: u8, port: u16, is_ipv4: bool) {
    if service.settings.quic || !TRANSLATED.contains(&port) {
        return;
    }
    let translated = |(number, address): (u16, IpAddr)| Server {
        target: Target::Real(address),
        translation: Some(nat::translation(address, SERVER_PORT, near(port, address))),
        ..server(number, 1)
    };
    service.servers = (1..).zip(servers(vip, port, is_ipv4)).map(translated).collect();
    if matches!(port, 124 | 127) {
        let pool = nat::pool(&ours(is_ipv4));
        service.settings.source_nat = pool.map(|pool| Pool { ports: OUR_PORTS, ..pool });
    }
}

/// To clients: one has no way, some are behind a router of their own.
pub(super) fn routes() -> Vec<Route> {
    let route = |prefix: IpAddr, length, hop| Route {
        prefix: prefix.into(),
        mask: mask(prefix, length),
        hop,
        ..Route::UNSET
    };
    let other = Hop::by(Mac::new([0x02, 0, 0, 0, 0, 0x65]));
    vec![
        route(client6(5).into(), 128, Hop::NONE),
        route((*client(5).ip()).into(), 32, Hop::NONE),
        route(client6(8).into(), 126, other),
        route((*client(8).ip()).into(), 30, other),
        route(Ipv4Addr::UNSPECIFIED.into(), 0, Hop::by(ROUTER)),
        route(Ipv6Addr::UNSPECIFIED.into(), 0, Hop::by(ROUTER)),
    ]
}

const KEY: [u8; 16] = *b"sixteen secrets!";
/// Plain server IDs of two bytes, and encrypted ones of three.
const ENCODINGS: [QuicEncoding; 2] = [
    QuicEncoding { rotation: 0, server_id_length: 2, nonce_length: 6, key: None },
    QuicEncoding { rotation: 5, server_id_length: 3, nonce_length: 13, key: Some(QuicKey(KEY)) },
];

fn ids(server: u8) -> QuicServerIds {
    [(0, vec![0xab, server]), (5, vec![server, 0xcd, 0xef])].into()
}

fn quic() -> Quic {
    let ids = [1, 2, 3].map(|server| (target(server), ids(server as u8)));
    Quic::new(&ENCODINGS, ids.iter().map(|(target, ids)| (*target, ids)))
}

/// A connection ID of 17 bytes that names this server, which perhaps is none, by one of the
/// configurations; the first octet of others names none.
pub(in super::super) fn connection_id(server: u8, rotation: u8, nonce: u8) -> [u8; 17] {
    let mut id = [nonce; 17];
    id[0] = rotation << 5 | nonce & 0x1f;
    match rotation {
        0 => id[1..3].copy_from_slice(&[0xab, server]),
        5 => {
            let mut block = [nonce; 16];
            block[..3].copy_from_slice(&[server, 0xcd, 0xef]);
            let mut block = block.into();
            Aes128::new(&KEY.into()).encrypt_block(&mut block);
            id[1..].copy_from_slice(&block);
        }
        _ => {}
    }
    id
}
