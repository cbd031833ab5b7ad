//! Frames from fields.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use lb_common::mac::Mac;

pub use lb_common::table::connection::tcp_flags::{ACK, FIN, RST, SYN};

use super::{MAC, PORT, VIP};

/// Address and port of a client.
pub type Client = SocketAddrV4;

/// Client number `number`, with an address of its own.
pub fn client(number: u32) -> Client {
    SocketAddrV4::new(Ipv4Addr::from(0x0a80_0000 + number), 40_000)
}

/// MAC of the router that clients are behind.
pub const ROUTER: Mac = Mac::new([0x02, 0, 0, 0, 0, 0x64]);

pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;
/// Protocols of IP packets.
pub const TCP: u8 = 6;
pub const ICMPV6: u8 = 58;
pub const DOT1Q: u16 = 0x8100;
pub const DOT1AD: u16 = 0x88a8;

/// "More fragments" of the IP header's fragment field.
pub const MORE_FRAGMENTS: u16 = 0x2000;

/// The program neither checks nor writes checksums: a value that a recomputation would change.
const CHECKSUM: [u8; 2] = [0xbe, 0xef];

/// A frame of this EtherType with something in it.
pub fn frame(ether_type: u16, content: &[u8]) -> Vec<u8> {
    [&MAC.octets()[..], &ROUTER.octets(), &ether_type.to_be_bytes(), content].concat()
}

/// The router asks who has `target` (RFC 826).
pub fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    let router = Ipv4Addr::new(211, 58, 250, 1);
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let content = [&head[..], &ROUTER.octets(), &router.octets(), &[0; 6], &target.octets()];
    frame(ARP, &content.concat())
}

/// The router solicits `target` (RFC 4861, section 4.3).
pub fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let multicast = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let message = [135, 0, 0xbe, 0xef, 0, 0, 0, 0];
    let source_mac = [&[1, 1][..], &ROUTER.octets()].concat();
    ipv6(ICMPV6, multicast, &[&message, &target.octets()[..], &source_mac].concat())
}

/// The router sends `content` to `target`; RFC 8200, section 3.
pub fn ipv6(next_header: u8, target: Ipv6Addr, content: &[u8]) -> Vec<u8> {
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let [high, low] = (content.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, high, low, next_header, 255];
    frame(IPV6, &[&head[..], &router.octets(), &target.octets(), content].concat())
}

/// The frame behind these VLAN tags, outermost first.
pub fn tagged(tags: &[u16], frame: &[u8]) -> Vec<u8> {
    let tags = tags.iter().flat_map(|tag| {
        let [a, b] = tag.to_be_bytes();
        [a, b, 0x20, 0x05] // priority 1, VLAN 5
    });
    frame[..12].iter().copied().chain(tags).chain(frame[12..].iter().copied()).collect()
}

/// An IPv4 packet in its frame.
#[derive(Debug, Clone)]
pub struct Packet {
    pub destination: Mac,
    pub source: Mac,
    /// EtherTypes of the VLAN tags, outermost first.
    pub tags: Vec<u16>,
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub ttl: u8,
    /// Words of four bytes.
    pub ip_options: usize,
    /// The IP header's fragment field.
    pub fragment: u16,
    pub transport: Transport,
    /// Bytes after the TCP or UDP header.
    pub payload: usize,
    /// Bytes after the IP packet.
    pub padding: usize,
}

#[derive(Debug, Clone, Copy)]
pub enum Transport {
    /// `options` in words of four bytes.
    Tcp {
        flags: u8,
        options: usize,
    },
    Udp,
}

impl Packet {
    fn new(from: Client, transport: Transport) -> Self {
        Self {
            destination: MAC,
            source: ROUTER,
            tags: Vec::new(),
            from,
            to: SocketAddrV4::new(VIP, PORT),
            ttl: 64,
            ip_options: 0,
            fragment: 0,
            transport,
            payload: 0,
            padding: 0,
        }
    }

    pub fn tcp(from: Client, flags: u8) -> Self {
        Self::new(from, Transport::Tcp { flags, options: 0 })
    }
    pub fn syn(from: Client) -> Self {
        Self::tcp(from, SYN)
    }
    pub fn ack(from: Client) -> Self {
        Self::tcp(from, ACK)
    }
    /// An ACK with a few bytes.
    pub fn data(from: Client) -> Self {
        Self { payload: 8, ..Self::ack(from) }
    }
    pub fn fin(from: Client) -> Self {
        Self::tcp(from, FIN | ACK)
    }
    pub fn rst(from: Client) -> Self {
        Self::tcp(from, RST)
    }
    /// A datagram of 32 bytes.
    pub fn udp(from: Client) -> Self {
        Self { payload: 32, ..Self::new(from, Transport::Udp) }
    }

    pub fn to(self, vip: Ipv4Addr, port: u16) -> Self {
        Self { to: SocketAddrV4::new(vip, port), ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination.octets());
        frame.extend(self.source.octets());
        frame.extend([0x08, 0x00]);
        let transport = self.transport_bytes();
        self.add_ip(&mut frame, transport.len() + self.payload);
        frame.extend(transport);
        frame.extend((0..self.payload).map(|index| index as u8));
        frame.extend((0..self.padding).map(|index| !(index as u8)));
        tagged(&self.tags, &frame)
    }

    /// The frame after a change of its bytes.
    pub fn bytes_with(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = self.bytes();
        change(&mut frame);
        frame
    }

    fn add_ip(&self, frame: &mut Vec<u8>, carried: usize) {
        let header = 20 + 4 * self.ip_options;
        let protocol = match self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp => 17,
        };
        frame.extend([0x40 | (header / 4) as u8, 0x10]);
        frame.extend(((header + carried) as u16).to_be_bytes());
        frame.extend([0x12, 0x34]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([self.ttl, protocol]);
        frame.extend(CHECKSUM);
        frame.extend(self.from.ip().octets());
        frame.extend(self.to.ip().octets());
        frame.extend([1; 4].repeat(self.ip_options)); // no operation (RFC 791)
    }

    fn transport_bytes(&self) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(self.from.port().to_be_bytes());
        header.extend(self.to.port().to_be_bytes());
        match self.transport {
            Transport::Tcp { flags, options } => {
                header.extend([0, 0, 0, 1, 0, 0, 0, 2]); // sequence and acknowledgement
                header.extend([((5 + options) << 4) as u8, flags, 0xff, 0xff]);
                header.extend(CHECKSUM);
                header.extend([0, 0]);
                header.extend([1; 4].repeat(options));
            }
            Transport::Udp => {
                header.extend(((8 + self.payload) as u16).to_be_bytes());
                header.extend(CHECKSUM);
            }
        }
        header
    }
}

/// The ones' complement sum over the IP header at the beginning of `packet`: 0 if its checksum
/// fits, and if not, as wrong after a change that mends the checksum as it was before.
pub fn ip_sum(packet: &[u8]) -> u32 {
    let header = usize::from(packet[0] & 0xf) * 4;
    let words = packet[..header].chunks(2);
    words.map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>() % 0xffff
}
