//! Frames from made-up sources, a new one for each attempt.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result};
use lb_common::packet::checksum;
use lb_common::table::connection::tcp_flags::{ACK, RST, SYN};

/// What is sent from each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A SYN.
    Syn,
    /// A SYN and an ACK after it.
    SynAck,
    /// Two datagrams.
    TwoDatagrams,
    Ack,
    Rst,
    /// "Port unreachable" about a packet that no server has sent.
    IcmpErrors,
    /// First fragments and later ones of different datagrams.
    Fragments,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Syn,
        Self::SynAck,
        Self::TwoDatagrams,
        Self::Ack,
        Self::Rst,
        Self::IcmpErrors,
        Self::Fragments,
    ];
}

const ETHERNET: usize = 14;
const IP: usize = 20;
/// Of the IP header.
const SOURCE: usize = ETHERNET + 12;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Of the networks that RFC 2544 has for benchmarks: 198.18.0.0/15.
const SOURCES: u32 = 0xc612_0000;
const SOURCES_MASK: u32 = 0x0001_ffff;

/// Makes one frame after the other.
pub(super) struct Frames {
    macs: [u8; 12],
    to: SocketAddrV4,
    kind: Kind,
    random: u64,
    count: u64,
    frame: Vec<u8>,
}

impl Frames {
    /// `macs`: of the director and of the sender.
    pub(super) fn new(macs: [&str; 2], to: SocketAddrV4, kind: Kind) -> Result<Self> {
        let bytes: Vec<u8> = macs
            .iter()
            .flat_map(|mac| mac.split(':'))
            .map(|byte| u8::from_str_radix(byte, 16))
            .collect::<Result<_, _>>()
            .context("not a MAC")?;
        let macs = bytes.try_into().ok().context("a MAC has six bytes")?;
        // Any number but 0. Hardly a source is in two floods: with the packets of both it would
        // have proven that it is somebody.
        let random = 0x9e37_79b9_7f4a_7c15 ^ (kind as u64) << 32;
        Ok(Self { macs, to, kind, random, count: 0, frame: Vec::new() })
    }

    /// The next frame.
    pub(super) fn following(&mut self) -> &[u8] {
        let second = self.count % 2 == 1;
        self.count += 1;
        let same_source = second && matches!(self.kind, Kind::SynAck | Kind::TwoDatagrams);
        if !same_source {
            // Marsaglia's xorshift64.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
        }
        let port = (self.random >> 40) as u16 | 1024;
        match self.kind {
            Kind::Syn => self.tcp(port, SYN),
            Kind::SynAck => self.tcp(port, if second { ACK } else { SYN }),
            Kind::Ack => self.tcp(port, ACK),
            Kind::Rst => self.tcp(port, RST),
            Kind::TwoDatagrams => self.datagram(port, 0),
            Kind::IcmpErrors => self.icmp_error(port),
            // More fragments follow the first; the later ones belong to other datagrams.
            Kind::Fragments => self.datagram(port, if second { 3 } else { 0x2000 }),
        }
        &self.frame
    }

    fn tcp(&mut self, port: u16, flags: u8) {
        self.ip(TCP, 20, 0);
        self.ports(port, self.to.port());
        let sequence = (self.random as u32).to_be_bytes();
        self.frame.extend([sequence, sequence].concat());
        self.frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        self.checksum(TCP, 16);
    }

    fn datagram(&mut self, port: u16, fragment: u16) {
        self.ip(UDP, 24, fragment);
        self.ports(port, self.to.port());
        // No checksum, which IPv4 allows.
        self.frame.extend([0, 24, 0, 0]);
        self.frame.extend([7; 16]);
    }

    fn icmp_error(&mut self, port: u16) {
        self.ip(ICMP, 36, 0);
        self.frame.extend([3, 3, 0, 0, 0, 0, 0, 0]);
        // What the VIP is said to have sent.
        let source: [u8; 4] = self.frame[SOURCE..SOURCE + 4].try_into().expect("four bytes");
        let mut quote = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 60, TCP, 0, 0];
        quote.extend([self.to.ip().octets(), source].concat());
        mend(&mut quote, 10);
        self.frame.extend(quote);
        self.ports(self.to.port(), port);
        self.frame.extend([0; 4]);
        mend(&mut self.frame[ETHERNET + IP..], 2);
    }

    /// Begins the frame: up to an IP header in front of so many bytes.
    fn ip(&mut self, protocol: u8, bytes: u16, fragment: u16) {
        let source = (SOURCES | self.random as u32 & SOURCES_MASK).to_be_bytes();
        self.frame.clear();
        self.frame.extend(self.macs);
        self.frame.extend([8, 0, 0x45, 0]);
        self.frame.extend((IP as u16 + bytes).to_be_bytes());
        self.frame.extend(((self.random >> 20) as u16).to_be_bytes());
        self.frame.extend(fragment.to_be_bytes());
        self.frame.extend([64, protocol, 0, 0]);
        self.frame.extend(source);
        self.frame.extend(self.to.ip().octets());
        mend(&mut self.frame[ETHERNET..], 10);
    }

    fn ports(&mut self, from: u16, to: u16) {
        self.frame.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
    }

    /// Writes the transport header's checksum, which stands at `at` of it.
    fn checksum(&mut self, protocol: u8, at: usize) {
        let (header, segment) = self.frame.split_at_mut(ETHERNET + IP);
        let pseudo = words(&header[SOURCE..]) + u32::from(protocol) + segment.len() as u32;
        let sum = checksum::of(pseudo + words(segment));
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

fn words(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

/// Writes the checksum of `bytes`, in which its place is still 0.
fn mend(bytes: &mut [u8], at: usize) {
    let sum = checksum::of(words(bytes));
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 10), 80);

    #[test]
    fn checksums_are_right_and_pairs_share_a_source() {
        for kind in Kind::ALL {
            let mut frames = Frames::new(["02:00:00:00:00:05", "02:00:00:00:00:64"], TO, kind).unwrap();
            let some: Vec<Vec<u8>> = (0..4).map(|_| frames.following().to_vec()).collect();
            for frame in &some {
                let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
                assert_eq!(frame.len(), ETHERNET + length, "{kind:?}");
                assert_eq!(checksum::of(words(&frame[ETHERNET..ETHERNET + IP])), 0, "{kind:?}");
                let (header, rest) = frame.split_at(ETHERNET + IP);
                let sum = match header[ETHERNET + 9] {
                    TCP => words(&header[SOURCE..]) + u32::from(TCP) + rest.len() as u32 + words(rest),
                    ICMP => words(rest),
                    _ => continue,
                };
                assert_eq!(checksum::of(sum), 0, "{kind:?}");
            }
            let pairs = matches!(kind, Kind::SynAck | Kind::TwoDatagrams);
            let client = |frame: &Vec<u8>| (frame[SOURCE..SOURCE + 4].to_vec(), frame[34..36].to_vec());
            assert_eq!(client(&some[0]) == client(&some[1]), pairs, "{kind:?}");
            assert_ne!(client(&some[1]), client(&some[2]), "{kind:?}");
        }
    }
}
