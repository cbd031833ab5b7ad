//! The way of a flow's frames to its server, written as the XDP program writes clients' packets: by
//! a tunnel, into a VLAN. Pure.

use std::net::IpAddr;

use lb_common::forward::egress::{OUTER_TPID, TPID};
use lb_common::forward::tunnel::{self, Inner, Tunnel};
use lb_common::mac::Mac;
use lb_common::packet::frame::{self, Parsed};
use lb_common::packet::numbers::ethertype;
use lb_common::packet::vlan::Vlan;

use super::stack::Frame;

/// The route of a flow's frames: MAC addresses and source address, and what stands around packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// The director's own address and MAC.
    pub own: IpAddr,
    pub own_mac: Mac,
    /// The server's MAC, or that of the next hop.
    pub mac: Mac,
    pub tunnel: Option<Tunnel>,
    pub vlan: Vlan,
}

const ETHERNET: usize = 14;

impl Route {
    pub(super) fn frame(&self, packet: &[u8]) -> Frame {
        let link = |is_ipv4| {
            let ethertype = ethertype_of(is_ipv4);
            [&self.mac.octets()[..], &self.own_mac.octets(), &self.tags(), &ethertype].concat()
        };
        let plain = || [&link(self.own.is_ipv4()), packet].concat();
        let Some(tunnel) = &self.tunnel else { return plain() };
        match outer(tunnel, packet) {
            Some(outer) => [&link(tunnel.is_ipv4()), &outer[..], packet].concat(),
            // No probe sends such a packet.
            None => plain(),
        }
    }

    fn tags(&self) -> Vec<u8> {
        let tag = |tpid: u16, number: u16| [tpid.to_be_bytes(), number.to_be_bytes()].concat();
        match (self.vlan.outer(), self.vlan.inner()) {
            (0, 0) => Vec::new(),
            (0, number) => tag(TPID, number),
            (outer, inner) => [tag(OUTER_TPID, outer), tag(TPID, inner)].concat(),
        }
    }
}

/// As it stands in a frame.
const fn ethertype_of(is_ipv4: bool) -> [u8; 2] {
    let number = if is_ipv4 { ethertype::IPV4 } else { ethertype::IPV6 };
    number.to_be_bytes()
}

/// The outer headers of a TCP segment or a datagram.
fn outer(tunnel: &Tunnel, packet: &[u8]) -> Option<Vec<u8>> {
    let kind = tunnel.kind()?;
    let is_ipv4 = packet.first()? >> 4 == 4;
    let ethertype = ethertype_of(is_ipv4);
    let frame = [&[0; ETHERNET - 2][..], &ethertype, packet].concat();
    let (hash, transport) = match frame::parse(&frame[..]) {
        Parsed::Flow(flow) => (tunnel::flow_hash(&flow), flow.transport),
        Parsed::FlowV6(flow) => (tunnel::flow_hash(&flow), flow.transport),
        _ => return None,
    };
    let length = u32::try_from(packet.len()).ok()?;
    let class = if is_ipv4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 };
    let sum = tunnel::inner_sum(&frame[..], is_ipv4, ETHERNET, transport, length);
    let inner = Inner { is_ipv4, class, length, hash, sum };
    let mut words = vec![0_u32; kind.overhead(tunnel.is_ipv4()) / size_of::<u32>()];
    let put = |number: usize, word| words[number] = word;
    match tunnel.is_ipv4() {
        true => tunnel::write::<true>(tunnel, kind, &inner, put),
        false => tunnel::write::<false>(tunnel, kind, &inner, put),
    }
    Some(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lb_common::forward::tunnel::Kind;

    use super::super::host::{Ends, Host};
    use super::super::test_server::{OWN, ROUTE, VIP};
    use super::*;

    fn syn() -> Vec<u8> {
        let ends = Ends { own: (OWN, 61000).into(), remote: VIP };
        let mut host = Host::connecting(ends, 7, Instant::now());
        host.poll(None, Instant::now()).remove(0)
    }

    #[test]
    fn packets_stand_behind_the_outer_headers_and_tags() {
        let packet = syn();
        let address = |text: &str| text.parse::<IpAddr>().expect(text).into();
        for kind in Kind::ALL {
            for (source, destination) in [("192.0.2.5", "198.51.100.7"), ("2001:db8::5", "2001:db8::7")] {
                let (source, destination) = (address(source), address(destination));
                let tunnel = Tunnel { source, destination, kind: kind as u8, mtu: 1500, ..Tunnel::UNSET };
                let vlan = Vlan::double(100, 200);
                let frame = Route { tunnel: Some(tunnel), vlan, ..ROUTE }.frame(&packet);
                assert_eq!(frame[..12], [ROUTE.mac.octets(), ROUTE.own_mac.octets()].concat());
                assert_eq!(frame[12..20], [0x88, 0xa8, 0, 100, 0x81, 0, 0, 200]);
                let (ethertype, is_ipv4) = (&frame[20..22], tunnel.is_ipv4());
                assert_eq!(ethertype, if is_ipv4 { [8, 0] } else { [0x86, 0xdd] });
                let at = 22 + kind.overhead(is_ipv4);
                assert_eq!(frame[at..], packet, "{kind:?}");
                let length = if is_ipv4 { [frame[24], frame[25]] } else { [frame[26], frame[27]] };
                let own = if is_ipv4 { 0 } else { 40 };
                assert_eq!(usize::from(u16::from_be_bytes(length)) + own, frame.len() - 22, "{kind:?}");
            }
        }
        let plain = ROUTE.frame(&packet);
        assert_eq!((&plain[12..14], &plain[14..]), (&[8, 0][..], &packet[..]));
        let tagged = Route { vlan: Vlan::single(120), ..ROUTE }.frame(&packet);
        assert_eq!((&tagged[12..18], &tagged[18..]), (&[0x81, 0, 0, 120, 8, 0][..], &packet[..]));
    }
}
