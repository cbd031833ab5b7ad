//! ICMP errors about what a server has sent in the VIP's name.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use super::{Client, ICMPV6, IP, PORT, Packet, Transport, VIP, VIP6, client6, ipv6};

const ICMP: u8 = 1;

/// A router that sends an ICMP error.
const SENDER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 9, 9), 0);

/// The packet of a service's server to a client, as an error quotes it: the IP header, and 8 bytes.
pub fn sent_to(client: Client, transport: Transport, ip_options: usize) -> Vec<u8> {
    let from = SocketAddrV4::new(VIP, PORT);
    let packet = Packet { from, to: client, transport, ip_options, ..Packet::udp(client) };
    packet.bytes()[14..][..20 + 4 * ip_options + 8].to_vec()
}

/// An ICMP error to the VIP, of this type and code, which quotes this; `outer` has the rest of the
/// frame's properties.
pub fn icmp_error(outer: &Packet, [kind, code]: [u8; 2], quote: &[u8]) -> Vec<u8> {
    let carrier = Packet { from: SENDER, transport: Transport::Udp, payload: quote.len(), ..outer.clone() };
    let network = 14 + 4 * outer.tags.len();
    carrier.bytes_with(|frame| {
        frame[network + 9] = ICMP;
        let message = network + 20 + 4 * outer.ip_options;
        frame[message..message + 8].copy_from_slice(&[kind, code, 0xbe, 0xef, 0, 0, 5, 120]);
        frame[message + 8..][..quote.len()].copy_from_slice(quote);
    })
}

/// As [`sent_to`], of IPv6; `protocol` is TCP's or UDP's.
pub fn sent_to_v6(number: u32, protocol: u8) -> Vec<u8> {
    let [port, client_port] = [PORT, 40_000].map(u16::to_be_bytes);
    let content = [&port[..], &client_port, &[0, 0, 0, 1]].concat();
    let mut frame = ipv6(protocol, client6(number), &content);
    frame[IP + 8..IP + 24].copy_from_slice(&VIP6.octets());
    frame[IP..].to_vec()
}

/// As [`icmp_error`], of IPv6.
pub fn icmp6_error([kind, code]: [u8; 2], quote: &[u8]) -> Vec<u8> {
    let mut frame = ipv6(ICMPV6, VIP6, &[&[kind, code, 0xbe, 0xef, 0, 0, 5, 120][..], quote].concat());
    frame[IP + 8..IP + 24].copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9).octets());
    frame
}
