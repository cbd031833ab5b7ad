//! The packets of the benchmark: 60 bytes, the least that Ethernet carries, as load tests of
//! balancers count.

use lb_common::connection::tcp_flags;
use lb_common::mac::Mac;

pub(crate) const DIRECTOR_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 5]);
const CLIENT_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 100]);
pub(crate) const VIP: [u8; 4] = [211, 58, 250, 6];
const CLIENT: [u8; 4] = [211, 58, 250, 100];
const CLIENT_PORT: u16 = 40_000;
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

    fn tcp(destination: [u8; 4], port: u16, flags: u8) -> Self {
        let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
        Self::ipv4(6, destination, port, &rest)
    }

    pub(crate) fn udp(port: u16) -> Self {
        // Length of header and payload, no checksum, 18 bytes of payload.
        let mut rest = [0; 22];
        rest[1] = 26;
        Self::ipv4(17, VIP, port, &rest)
    }

    /// `rest` is what follows the ports.
    fn ipv4(protocol: u8, destination: [u8; 4], port: u16, rest: &[u8]) -> Self {
        let mut frame = [DIRECTOR_MAC.octets(), CLIENT_MAC.octets()].concat();
        let total_length = 24 + rest.len() as u8;
        frame.extend([8, 0, 0x45, 0, 0, total_length, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([CLIENT, destination].concat());
        frame.extend(CLIENT_PORT.to_be_bytes());
        frame.extend(port.to_be_bytes());
        frame.extend(rest);
        frame.resize(LENGTH, 0);
        Self(frame)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Both MACs as the entries in lb-ebpf/bench/src/main.rs want them.
    pub(crate) fn macs(&self) -> [u64; 2] {
        let [low, high] = [0, 8].map(|at| self.0[at..at + 8].try_into().expect("a frame has 60 bytes"));
        [u64::from_ne_bytes(low), u64::from_ne_bytes(high) & 0xffff_ffff]
    }
}
