//! Test servers: neighbours that have the VIP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use lb_common::mac::Mac;
use lb_common::packet::vlan::Vlan;

use super::host::{Ends, Host};
use super::route::Route;
use super::stack::Frame;

pub(super) const VIP_V4: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 6);
pub(super) const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(VIP_V4), 80);
pub(super) const OWN_V4: Ipv4Addr = Ipv4Addr::new(211, 58, 250, 5);
pub(super) const OWN: IpAddr = IpAddr::V4(OWN_V4);
pub(super) const OWN_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 5]);
pub(super) const SERVER_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 25]);

pub(super) const ROUTE: Route =
    Route { own: OWN, own_mac: OWN_MAC, mac: SERVER_MAC, tunnel: None, vlan: Vlan::UNTAGGED };

pub(super) const VIP6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 6)), 80);
pub(super) const ROUTE6: Route =
    Route { own: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5)), ..ROUTE };

/// A server that accepts one connection, or none.
pub(super) struct Server(pub Host);

impl Server {
    /// Accepts a connection to the VIP.
    pub(super) fn listening(now: Instant) -> Self {
        Self(Host::listening(VIP, now))
    }

    /// Has the VIP, but no listener.
    pub(super) fn deaf(now: Instant) -> Self {
        Self(Host::without_socket(Ends { own: VIP, remote: VIP }, 1, now))
    }

    /// Processes frames and returns the server's frames.
    pub(super) fn poll(&mut self, frames: &[Frame], now: Instant) -> Vec<Frame> {
        let mut sent = self.0.poll(None, now);
        for frame in frames {
            assert_eq!(
                (&frame[..6], &frame[6..12]),
                (&SERVER_MAC.octets()[..], &OWN_MAC.octets()[..]),
                "MACs"
            );
            sent.extend(self.0.poll(Some(&frame[14..]), now));
        }
        sent.iter().map(|packet| answer(packet)).collect()
    }
}

/// The frame of a packet from the server to the director.
pub(super) fn answer(packet: &[u8]) -> Frame {
    let ethertype = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&OWN_MAC.octets()[..], &SERVER_MAC.octets(), &ethertype, packet].concat()
}
