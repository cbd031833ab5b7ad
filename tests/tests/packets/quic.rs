//! QUIC-LB: a connection ID names its server, whatever address it comes from.

use std::net::IpAddr;

use aes::Aes128;
use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use lb_common::forward::nat::mask;
use lb_common::reason::TableEvent;
use lb_datapath::plan::quic::Quic;
use lb_datapath::plan::{Service, Target, nat::translation};
use lb_model::{QuicEncoding, QuicKey, QuicServerIds, Scheduler};
use lb_tests::harness::*;

use crate::nat;

const SERVERS: [u16; 3] = [1, 2, 3];
const KEY: [u8; 16] = *b"sixteen secrets!";
/// Offset of the UDP payload of a frame without tags.
const PAYLOAD_V4: usize = 14 + 20 + 8;
const PAYLOAD_V6: usize = SEGMENT + 8;

/// Plain IDs of two bytes, and encrypted ones of three.
const ENCODINGS: [QuicEncoding; 2] = [
    QuicEncoding { rotation: 0, server_id_length: 2, nonce_length: 6, key: None },
    QuicEncoding { rotation: 5, server_id_length: 3, nonce_length: 13, key: Some(QuicKey(KEY)) },
];

fn ids(server: u16) -> QuicServerIds {
    let server = server as u8;
    [(0, vec![0xab, server]), (5, vec![server, 0xcd, 0xef])].into()
}

fn quic(encodings: &[QuicEncoding]) -> Quic {
    let ids = SERVERS.map(|server| (target(server), ids(server)));
    Quic::new(encodings, ids.iter().map(|(target, ids)| (*target, ids)))
}

/// Round robin, so that a new connection's server is known.
fn services() -> [(lb_model::ServiceKey, Service); 2] {
    let mut service = service(Scheduler::Rr, &[1, 1, 1]);
    service.settings.quic = true;
    service.quic = quic(&ENCODINGS);
    [(WEB_UDP, service.clone()), (DNS6, service)]
}

/// A connection ID as a server makes it; nonces differ.
fn connection_id(server: u16, rotation: u8, nonce: u8) -> Vec<u8> {
    let first = rotation << 5 | 0x13;
    let id = &ids(server)[&rotation];
    match rotation {
        5 => {
            let mut block = [nonce; 16];
            block[..3].copy_from_slice(id);
            let mut block = block.into();
            Aes128::new(&KEY.into()).encrypt_block(&mut block);
            [&[first][..], &block].concat()
        }
        _ => [&[first][..], id, &[nonce; 6]].concat(),
    }
}

/// A packet with a short header, padded as its protection pads it.
fn short(id: &[u8]) -> Vec<u8> {
    [&[0x4e][..], id, &[0x77; 24]].concat()
}

/// A handshake packet of version 1.
fn long(id: &[u8]) -> Vec<u8> {
    [&[0xe1, 0, 0, 0, 1, id.len() as u8][..], id, &[0x77; 60]].concat()
}

fn v4(from: u32, quic: &[u8]) -> Vec<u8> {
    let packet = Packet { payload: quic.len(), ..Packet::udp(client(from)) };
    packet.bytes_with(|frame| frame[PAYLOAD_V4..].copy_from_slice(quic))
}

fn v6(from: u32, quic: &[u8]) -> Vec<u8> {
    let mut frame = udp6_of(from, quic.len());
    frame[PAYLOAD_V6..].copy_from_slice(quic);
    frame
}

type Wrap = fn(u32, &[u8]) -> Vec<u8>;
const FAMILIES: [Wrap; 2] = [v4, v6];

#[test]
fn a_client_that_changes_its_address_stays_with_its_server() {
    for wrap in FAMILIES {
        let director = Director::new(services());
        let send = |from, quic: &[u8]| director.send_bytes(&wrap(from, quic)).server();
        // Made up by the client: names nobody.
        let first = send(1, &long(&[0x0f; 8]));
        assert_eq!(director.event(TableEvent::QuicMoved), 0);
        for (moves, rotation) in [0, 5].into_iter().enumerate() {
            let own = |nonce| short(&connection_id(first, rotation, nonce));
            assert_eq!(send(1, &own(1)), first, "at the old address");
            let elsewhere = 10 + u32::from(rotation);
            for tags in [&[][..], &[DOT1Q], &[DOT1AD, DOT1Q]] {
                let frame = tagged(tags, &wrap(elsewhere, &own(2)));
                assert_eq!(director.send_bytes(&frame).server(), first, "at a new one, tags {tags:x?}");
            }
            assert_eq!(director.event(TableEvent::QuicMoved), moves as u64 + 1, "then it is known there");
        }
        director.assert_counts_are_true();
    }
}

/// The same behind address translation: the ID is read, and the packet rewritten.
#[test]
fn a_client_that_changes_its_address_stays_with_its_translated_server() {
    let server_port = 8443;
    let [(key, mut service), _] = services();
    for server in &mut service.servers {
        let Target::Real(address) = server.target else { panic!("a real server") };
        server.translation = Some(translation(address, server_port, mask(address, 24)));
    }
    let mut director = Director::new([(key, service)]);
    director.data_path.executor.set_routes(&nat::routes()).expect("there is room");
    let first = director.send_bytes(&v4(1, &long(&[0x0f; 8]))).server();
    for rotation in [0, 5] {
        let own = short(&connection_id(first, rotation, 1));
        let outcome = director.send_bytes(&v4(10 + u32::from(rotation), &own));
        assert_eq!(outcome.server(), first, "rotation {rotation}");
        let Target::Real(IpAddr::V4(address)) = target(first) else { panic!("one of IPv4") };
        assert_eq!(outcome.frame[30..34], address.octets(), "its address");
        assert_eq!(outcome.frame[36..38], server_port.to_be_bytes(), "and port");
        assert_eq!(outcome.frame[PAYLOAD_V4..], own, "what QUIC protects is as it was");
    }
    assert_eq!(director.event(TableEvent::QuicMoved), 2);
    director.assert_counts_are_true();
}

#[test]
fn a_connection_id_tells_better_than_what_the_addresses_had_before() {
    for wrap in FAMILIES {
        let director = Director::new(services());
        let send = |quic: &[u8]| director.send_bytes(&wrap(1, quic)).server();
        let first = send(&long(&[0x0f; 8]));
        let other = SERVERS.into_iter().find(|server| *server != first).expect("three");
        assert_eq!(send(&long(&connection_id(other, 0, 1))), first, "a client may make that up");
        for rotation in [0, 5] {
            assert_eq!(send(&short(&connection_id(other, rotation, 1))), other);
            assert_eq!(send(&short(&connection_id(first, rotation, 1))), first);
        }
        director.assert_counts_are_true();
    }
}

#[test]
fn what_names_nobody_goes_as_any_datagram_does() {
    let director = Director::new(services());
    let mut expected = SERVERS.into_iter().cycle();
    let rows = [
        ("a rotation that is not configured", short(&[0x2f; 9])),
        ("unroutable", short(&[0xff; 9])),
        ("a server that does not exist", short(&[0x13, 0xab, 9, 0, 0, 0, 0, 0, 0])),
        ("encrypted with another key", short(&[&[5 << 5][..], &[0x31; 16]].concat())),
        ("a connection ID that is too short", long(&[0x13])),
        ("a datagram that is too short", vec![0x40, 0x13]),
        ("an empty one", vec![]),
    ];
    for (from, (description, quic)) in (1..).zip(rows) {
        let picked = director.send_bytes(&v4(from, &quic)).server();
        assert_eq!(Some(picked), expected.next(), "{description}");
    }
    assert_eq!(director.event(TableEvent::QuicMoved), 0);
}

#[test]
fn a_server_that_takes_no_new_connections_keeps_its_own() {
    let mut director = Director::new(services());
    director.change_service(WEB_UDP, |service| service.servers[1].usable = false);
    let own = connection_id(2, 5, 1);
    assert_eq!(director.send_bytes(&v4(1, &short(&own))).server(), 2, "moved here");
    assert_eq!(director.send_bytes(&v4(1, &short(&own))).server(), 2, "and known");
    let stats = director.stats(WEB_UDP, 2);
    assert_eq!((stats.connections, stats.packets), (1, 2));
    assert_ne!(director.send_bytes(&v4(2, &long(&own))).server(), 2, "no new ones");
    director.change_service(WEB_UDP, |service| {
        service.quic.servers.retain(|_, named| *named != target(2));
        service.servers.remove(1);
    });
    assert_ne!(director.send_bytes(&v4(3, &short(&own))).server(), 2, "removed");
}

#[test]
fn a_configuration_can_be_brought_in_while_connections_of_the_old_one_go_on() {
    let mut director = Director::new(services());
    let sent = |director: &Director, from, rotation| {
        director.send_bytes(&v4(from, &short(&connection_id(3, rotation, 7)))).server()
    };
    director.change_service(WEB_UDP, |service| service.quic = quic(&ENCODINGS[..1]));
    assert_eq!(sent(&director, 1, 0), 3);
    assert_eq!(sent(&director, 2, 5), 1, "not known yet");
    director.change_service(WEB_UDP, |service| service.quic = quic(&ENCODINGS));
    assert_eq!([sent(&director, 3, 0), sent(&director, 4, 5)], [3, 3]);
    director.change_service(WEB_UDP, |service| service.quic = quic(&ENCODINGS[1..]));
    assert_eq!(sent(&director, 5, 5), 3);
    assert_eq!(sent(&director, 6, 0), 2, "given up");
}
