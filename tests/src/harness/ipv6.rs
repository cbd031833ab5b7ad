//! Frames of IPv6 services' clients.

use std::net::{IpAddr, Ipv6Addr};

use lb_model::{Protocol, ServiceKey};

use super::{PORT, TCP, VIP6, ipv6};

/// Where [`tcp6`] goes.
pub const WEB6: ServiceKey = ServiceKey { vip: IpAddr::V6(VIP6), port: PORT, protocol: Protocol::Tcp };
/// Where [`udp6`] goes.
pub const DNS6: ServiceKey = ServiceKey { vip: IpAddr::V6(VIP6), port: PORT, protocol: Protocol::Udp };

/// Offset of the IPv6 header, without VLAN tags.
pub const IP: usize = 14;
/// Offset of what follows it.
pub const SEGMENT: usize = IP + 40;

const UDP: u8 = 17;

/// Client number `number`: neighbours of one network, and every tenth in another.
pub fn client6(number: u32) -> Ipv6Addr {
    let network = (number / 10) as u16;
    Ipv6Addr::new(0x2001, 0xdb8, network, 0xc, 0, 0, (number >> 16) as u16, number as u16)
}

fn from_client(number: u32, next_header: u8, segment: &[u8]) -> Vec<u8> {
    let mut frame = ipv6(next_header, VIP6, segment);
    frame[IP + 8..IP + 24].copy_from_slice(&client6(number).octets());
    frame
}

pub fn tcp6(number: u32, flags: u8) -> Vec<u8> {
    let [port, service] = [40_000_u16, PORT].map(u16::to_be_bytes);
    let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0xbe, 0xef, 0, 0];
    from_client(number, TCP, &[&port[..], &service, &rest].concat())
}

/// An ACK with a few bytes.
pub fn tcp6_data(number: u32) -> Vec<u8> {
    let mut frame = tcp6(number, super::ACK);
    frame.extend([7; 8]);
    let length = (frame.len() - SEGMENT) as u16;
    frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A datagram of 20 bytes.
pub fn udp6(number: u32) -> Vec<u8> {
    udp6_of(number, 20)
}

/// A datagram of so many bytes.
pub fn udp6_of(number: u32, payload: usize) -> Vec<u8> {
    let [port, service, length] = [40_000, PORT, 8 + payload as u16].map(u16::to_be_bytes);
    let segment = [&port[..], &service, &length, &[0xbe, 0xef], &vec![7; payload]].concat();
    from_client(number, UDP, &segment)
}

/// The frame with an extension header of this kind (or a fragment header) before its segment.
pub fn extended(mut frame: Vec<u8>, kind: u8, rest: [u8; 7]) -> Vec<u8> {
    let next = std::mem::replace(&mut frame[IP + 6], kind);
    let length = u16::from_be_bytes([frame[IP + 4], frame[IP + 5]]) + 8;
    frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
    frame.splice(SEGMENT..SEGMENT, [next].into_iter().chain(rest));
    frame
}
