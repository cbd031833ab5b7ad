//! Fuzz target for Ethernet frames: no parser reads beyond their end.

use lb_common::packet::frame::{self, Parsed, Plain};
use lb_fuzz::{Failed, bytes, hold, targets};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use crate::icmp;
use crate::segment::claims::claim;

targets! {
    frames 2000 "Ethernet frames, as the XDP program, the conflict watch and pings read them" => run;
}

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 100];
const ETHERNET: usize = 14;
/// Length of an IPv6 header.
const IPV6: usize = 40;

/// Each is valid for at least one parser.
fn good() -> Vec<Vec<u8>> {
    let tcp = [
        &ip(6, 44),
        &[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x10, 1, 0, 0, 0, 0, 0][..],
        &[2, 4, 5, 0xb4],
    ]
    .concat();
    let udp = [&ip(17, 32), &[0x9c, 0x40, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4][..]].concat();
    let pong = [&ip(1, 28), &[0, 0, 0, 0, 0x12, 0x34, 0, 7][..]].concat();
    let asks =
        [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 100, 10, 0, 0, 100][..], &[0, 0, 0, 0, 0, 0, 10, 0, 0, 6]]
            .concat();
    let advertises = neighbour(&[136, 0, 0, 0, 0x20, 0, 0, 0], &[2, 1, 2, 0, 0, 0, 0, 7]);
    let solicits = neighbour(&[135, 0, 0, 0, 0, 0, 0, 0], &[1, 1, 2, 0, 0, 0, 0, 7]);
    let plain = [(0x0800, tcp.clone()), (0x0800, udp), (0x0800, pong), (0x0806, asks)];
    let replies = ipv6(64, &[129, 0, 0, 0, 0x12, 0x34, 0, 7]);
    let plain = plain.into_iter().chain([(0x86dd, advertises), (0x86dd, solicits), (0x86dd, replies)]);
    let tagged = [&[0, 5, 0x81, 0, 0, 6, 8, 0][..], &tcp].concat();
    plain.chain([(0x88a8, tagged)]).map(|(kind, packet)| framed(kind, &packet)).collect()
}

fn framed(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&MACS[..], &kind.to_be_bytes(), packet].concat()
}

fn ip(protocol: u8, length: u8) -> Vec<u8> {
    [&[0x45, 0, 0, length, 0, 1, 0x40, 0, 64, protocol, 0, 0][..], &[10, 0, 0, 100, 10, 0, 0, 6]].concat()
}

/// A neighbour message (RFC 4861): 8 bytes of header, target, and an option.
fn neighbour(message: &[u8; 8], option: &[u8; 8]) -> Vec<u8> {
    ipv6(255, &[&message[..], &ADDRESS, option].concat())
}

const ADDRESS: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];

/// A packet with this hop limit and ICMPv6 message.
fn ipv6(hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let length = message.len() as u8;
    [&[0x60, 0, 0, 0, 0, length, 58, hop_limit][..], &ADDRESS, &ADDRESS, message].concat()
}

pub(crate) fn run(config: Config) -> Result<(), Failed> {
    hold(config, bytes::nearly(good()), |frame| property(&frame))
}

fn property(frame: &[u8]) -> Result<(), TestCaseError> {
    let parsed = frame::parse(frame);
    if let Parsed::Flow(flow) = parsed {
        prop_assert!(flow.transport + 4 <= frame.len());
        if frame::check(frame, &flow).is_ok() {
            prop_assert!(flow.network + flow.total_length <= frame.len());
            prop_assert!(flow.transport + 8 <= frame.len());
        }
    }
    if let Some(Plain::GoesOn(flow) | Plain::Opens(flow)) = frame::plain(frame) {
        prop_assert_eq!(parsed, Parsed::Flow(flow), "quick and full parser agree");
        prop_assert!(frame::check(frame, &flow).is_ok());
    }
    if let Some(claim) = claim(frame) {
        prop_assert!(!claim.address.is_unspecified() || claim.address.is_ipv6());
    }
    if let Some(packet) = frame.get(ETHERNET..) {
        icmp::reply_v4(packet, 0x1234);
    }
    if let Some(message) = frame.get(ETHERNET + IPV6..) {
        icmp::reply_v6(message, 0x1234);
    }
    Ok(())
}
