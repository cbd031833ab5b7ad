//! Announcements of VIPs: gratuitous ARP (request and reply, RFC 5227 section 3), and for IPv6
//! unsolicited neighbour advertisements with the override flag (RFC 4861, section 7.2.6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use lb_common::mac::Mac;
use lb_common::packet::numbers::{ethertype, icmpv6, protocol};

use super::link::Sender;

const BROADCAST: Mac = Mac::new([0xff; 6]);
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
/// All nodes, link-local (RFC 4291, section 2.7.1), and its Ethernet address (RFC 2464, section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac::new([0x33, 0x33, 0, 0, 0, 1]);

/// Which frames announce an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The frame that most listeners understand.
    First,
    Rest,
    Whole,
}

impl Part {
    /// Number of frames.
    pub const fn frames(self, vip: IpAddr) -> u32 {
        match (self, vip) {
            (Self::First, _) | (Self::Rest, IpAddr::V4(_)) | (Self::Whole, IpAddr::V6(_)) => 1,
            (Self::Rest, IpAddr::V6(_)) => 0,
            (Self::Whole, IpAddr::V4(_)) => 2,
        }
    }
}

/// Sends announcements on one interface.
#[derive(Debug)]
pub struct Announcer(Sender);

impl Announcer {
    /// Needs CAP_NET_RAW. `interface` is the interface's index.
    pub fn new(interface: u32) -> Result<Self> {
        Sender::new(interface, "gratuitous ARP").map(Self)
    }

    /// Announces to all hosts on the segment that `vip` is at `mac`. Does not wait for room in the
    /// interface's queue.
    pub fn announce(&self, vip: IpAddr, mac: Mac, part: Part) -> io::Result<()> {
        let frames = frames(vip, mac);
        let first = frames.len().min(1);
        let frames = match part {
            Part::First => &frames[..first],
            Part::Rest => &frames[first..],
            Part::Whole => &frames[..],
        };
        frames.iter().try_for_each(|frame| self.0.send(frame))
    }

    /// Asks who has `vip`, by an ARP probe or a neighbour solicitation: the sender address is
    /// empty, so no neighbour cache changes (RFC 5227, section 2.1.1; RFC 4862, section 5.4.2). A
    /// host answers that has the address, whether others hear of it or not.
    pub fn ask(&self, vip: IpAddr, mac: Mac) -> Result<()> {
        self.ask_as(vip, (mac, None))
    }

    /// [`Self::ask`], of IPv4 as the machine with this address, if there is one: as clients do. A
    /// director whose lease has run out does not answer, though it still has the VIP.
    pub fn ask_as(&self, vip: IpAddr, (mac, own): (Mac, Option<Ipv4Addr>)) -> Result<()> {
        let Self(sender) = self;
        let frame = match vip {
            IpAddr::V4(vip) => question(vip, (mac, own.unwrap_or(Ipv4Addr::UNSPECIFIED))),
            IpAddr::V6(vip) => solicitation(vip, mac),
        };
        sender
            .send(&frame)
            .with_context(|| format!("cannot ask who has {vip} on interface {}", sender.interface()))
    }
}

/// The frames for an address: some listeners accept only requests, others only replies.
fn frames(vip: IpAddr, mac: Mac) -> Vec<Vec<u8>> {
    match vip {
        IpAddr::V4(vip) => vec![arp(vip, mac, ARP_REQUEST), arp(vip, mac, ARP_REPLY)],
        IpAddr::V6(vip) => vec![advertisement(vip, mac)],
    }
}

fn arp(vip: Ipv4Addr, mac: Mac, operation: u16) -> Vec<u8> {
    // The target's MAC: zero in a request, our own in a reply.
    let target = if operation == ARP_REPLY { mac } else { Mac::NONE };
    arp_frame(operation, (mac, vip), (target, vip))
}

fn question(vip: Ipv4Addr, from: Party) -> Vec<u8> {
    arp_frame(ARP_REQUEST, from, (Mac::NONE, vip))
}

type Party = (Mac, Ipv4Addr);

/// A broadcast ARP frame.
fn arp_frame(operation: u16, (mac, sender): Party, (target_mac, target): Party) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(BROADCAST.octets());
    frame.extend(mac.octets());
    frame.extend(ethertype::ARP.to_be_bytes());
    // Ethernet, IPv4, lengths of their addresses (RFC 826).
    frame.extend([0, 1, 0x08, 0x00, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac.octets());
    frame.extend(sender.octets());
    frame.extend(target_mac.octets());
    frame.extend(target.octets());
    frame
}

fn advertisement(vip: Ipv6Addr, mac: Mac) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let mut icmp = vec![icmpv6::NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    icmp.extend(vip.octets());
    icmp.extend([2, 1]); // option: target link-layer address, one unit of 8 bytes
    icmp.extend(mac.octets());
    icmpv6_frame((mac, vip), (ALL_NODES_MAC, ALL_NODES), icmp)
}

/// As for duplicate address detection: without a sender, so it has no option either, and whoever
/// has the address tells all nodes (RFC 4861, sections 4.3 and 7.2.4).
fn solicitation(vip: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut icmp = vec![icmpv6::NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend(vip.octets());
    // The solicited-node multicast address (RFC 4291, section 2.7.1), and its Ethernet address.
    let [.., a, b, c] = vip.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let group_mac = Mac::new([0x33, 0x33, 0xff, a, b, c]);
    icmpv6_frame((mac, Ipv6Addr::UNSPECIFIED), (group_mac, group), icmp)
}

/// A frame with this message of neighbour discovery, whose checksum is zero still.
fn icmpv6_frame(
    (source_mac, source): (Mac, Ipv6Addr),
    (destination_mac, destination): (Mac, Ipv6Addr),
    mut icmp: Vec<u8>,
) -> Vec<u8> {
    let checksum = icmpv6_checksum(source, destination, &icmp);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = Vec::with_capacity(14 + 40 + icmp.len());
    frame.extend(destination_mac.octets());
    frame.extend(source_mac.octets());
    frame.extend(ethertype::IPV6.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((icmp.len() as u16).to_be_bytes());
    frame.extend([protocol::ICMPV6, 255]); // hop limit 255, or receivers drop it
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(icmp);
    frame
}

/// The ICMPv6 checksum over pseudo-header and message (RFC 4443, section 2.3).
fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let mut sum =
        words(&source.octets()) + words(&destination.octets()) + message.len() as u32 + 58 + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 5]);

    #[test]
    fn arp_announcements_name_the_vip_as_sender_and_target() {
        let vip = Ipv4Addr::new(211, 58, 250, 6);
        let [request, reply] = &frames(IpAddr::V4(vip), MAC)[..] else { panic!("two frames") };
        for (frame, operation) in [(request, 1), (reply, 2)] {
            assert_eq!(frame.len(), 42);
            assert_eq!(&frame[0..14], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 5, 0x08, 0x06]);
            assert_eq!(frame[21], operation);
            assert_eq!((&frame[22..28], &frame[28..32]), (&MAC.octets()[..], &vip.octets()[..]));
            assert_eq!(&frame[38..42], vip.octets());
        }
    }

    #[test]
    fn a_question_names_no_sender() {
        let vip = Ipv4Addr::new(211, 58, 250, 6);
        let frame = question(vip, (MAC, Ipv4Addr::UNSPECIFIED));
        assert_eq!((frame.len(), frame[21]), (42, 1));
        assert_eq!((&frame[22..28], &frame[28..32]), (&MAC.octets()[..], &[0; 4][..]));
        assert_eq!((&frame[32..38], &frame[38..42]), (&[0; 6][..], &vip.octets()[..]));
    }

    #[test]
    fn a_question_of_ipv6_goes_to_the_group_of_its_address_and_names_no_sender() {
        let frame = solicitation("2001:db8::106:2a6".parse().unwrap(), MAC);
        assert_eq!(&frame[..14], [0x33, 0x33, 0xff, 6, 2, 0xa6, 2, 0, 0, 0, 0, 5, 0x86, 0xdd]);
        assert_eq!(
            (frame.len(), frame[20], frame[21], &frame[22..38]),
            (14 + 40 + 24, 58, 255, &[0; 16][..])
        );
        let group: Ipv6Addr = "ff02::1:ff06:2a6".parse().unwrap();
        assert_eq!(&frame[38..54], group.octets());
        assert_eq!(icmpv6_checksum(Ipv6Addr::UNSPECIFIED, group, &frame[54..]), 0);
        assert_eq!(frame[54], 135);
    }

    #[test]
    fn the_parts_have_as_many_frames_as_they_say() {
        for address in ["211.58.250.6", "2001:db8::6"] {
            let vip: IpAddr = address.parse().unwrap();
            let all = frames(vip, MAC).len();
            assert_eq!(all as u32, Part::Whole.frames(vip));
            assert_eq!(all as u32, Part::First.frames(vip) + Part::Rest.frames(vip));
        }
    }

    #[test]
    fn an_advertisement_has_a_checksum_that_adds_up() {
        let vip: Ipv6Addr = "2001:db8::6".parse().unwrap();
        let frame = &frames(IpAddr::V6(vip), MAC)[0];
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(
            icmpv6_checksum(vip, ALL_NODES, &frame[54..]),
            0,
            "with its checksum a message sums to zero"
        );
        assert_eq!((frame[54], frame[58]), (136, 0x20));
    }
}
