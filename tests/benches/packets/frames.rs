//! The packets of the benchmark: 60 bytes, the least that Ethernet carries, as load tests of
//! balancers count.

use lb_common::mac::Mac;
use lb_common::table::connection::tcp_flags;

pub(crate) const DIRECTOR_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 5]);
const CLIENT_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 100]);
pub(crate) const VIP: [u8; 4] = [211, 58, 250, 6];
const CLIENT: [u8; 4] = [211, 58, 250, 100];
const CLIENT_PORT: u16 = 40_000;
pub(crate) const VIP_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];
const CLIENT_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100];
const LENGTH: usize = 60;

/// One frame, and what of it the walk puts back before each packet.
pub(crate) struct Packet(Vec<u8>);

impl Packet {
    pub(crate) fn syn(port: u16) -> Self {
        Self::tcp(VIP, port, tcp_flags::SYN)
    }

    pub(crate) fn ack(port: u16) -> Self {
        Self::tcp(VIP, port, tcp_flags::ACK)
    }

    /// To an address that is no VIP.
    pub(crate) fn not_ours() -> Self {
        Self::tcp([1, 2, 3, 4], 80, tcp_flags::ACK)
    }

    /// The same to a VIP of IPv6, which takes more bytes.
    pub(crate) fn ack_ipv6(port: u16) -> Self {
        Self::ipv6([CLIENT_V6, VIP_V6], [CLIENT_PORT, port])
    }

    /// What a server sends to the client.
    pub(crate) fn answer(server: [u8; 4], port: u16) -> Self {
        Self::ipv4(6, [server, CLIENT], [port, CLIENT_PORT], &segment(tcp_flags::ACK))
    }

    /// The same of IPv6.
    pub(crate) fn answer_ipv6(server: [u8; 16], port: u16) -> Self {
        Self::ipv6([server, CLIENT_V6], [port, CLIENT_PORT])
    }

    fn tcp(destination: [u8; 4], port: u16, flags: u8) -> Self {
        Self::ipv4(6, [CLIENT, destination], [CLIENT_PORT, port], &segment(flags))
    }

    pub(crate) fn udp(port: u16) -> Self {
        // Length of header and payload, no checksum, 18 bytes of payload.
        let mut rest = [0; 22];
        rest[1] = 26;
        Self::ipv4(17, [CLIENT, VIP], [CLIENT_PORT, port], &rest)
    }

    /// `rest` is what follows the ports.
    fn ipv4(protocol: u8, addresses: [[u8; 4]; 2], ports: [u16; 2], rest: &[u8]) -> Self {
        let mut frame = macs();
        let total_length = 24 + rest.len() as u8;
        frame.extend([8, 0, 0x45, 0, 0, total_length, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend(addresses.concat());
        frame.extend(ports.map(u16::to_be_bytes).concat());
        frame.extend(rest);
        let sum = !residue(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        if protocol == 6 {
            let sum = !residue_of_segment(&frame[..14 + usize::from(total_length)]);
            frame[50..52].copy_from_slice(&sum.to_be_bytes());
        }
        frame.resize(LENGTH, 0);
        Self(frame)
    }

    fn ipv6(addresses: [[u8; 16]; 2], ports: [u16; 2]) -> Self {
        let mut frame = macs();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, 6, 64]);
        frame.extend(addresses.concat());
        frame.extend(ports.map(u16::to_be_bytes).concat());
        frame.extend(segment(tcp_flags::ACK));
        let sum = !residue_of_segment(&frame);
        frame[70..72].copy_from_slice(&sum.to_be_bytes());
        Self(frame)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as the walk has made them for the client of this number; `at`: where its address
    /// and port stand, `None`: it is always the same client.
    pub(crate) fn of_client(&self, at: Option<(u32, u32)>, client: u64) -> Vec<u8> {
        let mut frame = self.0.clone();
        if let Some((address, port)) = at {
            let (address, port) = (address as usize, port as usize);
            let spread = (client as u32).wrapping_mul(0x9e37_79b1);
            frame[address..address + 4].copy_from_slice(&spread.to_ne_bytes());
            frame[port..port + 2].copy_from_slice(&(1024 + (client >> 32) as u16).to_be_bytes());
        }
        frame
    }

    /// Both MACs as the entries in lb-ebpf/bench/src/main.rs want them.
    pub(crate) fn macs(&self) -> [u64; 2] {
        let [low, high] = [0, 8].map(|at| self.0[at..at + 8].try_into().expect("a frame has 60 bytes"));
        [u64::from_ne_bytes(low), u64::from_ne_bytes(high) & 0xffff_ffff]
    }
}

fn macs() -> Vec<u8> {
    [DIRECTOR_MAC.octets(), CLIENT_MAC.octets()].concat()
}

/// A TCP segment behind its ports, with six bytes of data: those prove a connection.
const fn segment(flags: u8) -> [u8; 22] {
    [0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
}

/// The ones' complement sum of big-endian words: 0xffff if they hold their own checksum.
pub(crate) fn residue(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The same of the segment or datagram in a frame without tags and options, with its pseudo header.
pub(crate) fn residue_of_segment(frame: &[u8]) -> u16 {
    let (addresses, protocol, at) = match frame[12] {
        8 => (&frame[26..34], frame[23], 34),
        _ => (&frame[22..54], frame[20], 54),
    };
    let length = (frame.len() - at) as u16;
    residue(&[addresses, &[0, protocol], &length.to_be_bytes(), &frame[at..]].concat())
}
