//! The groups' VIPs as addresses of the interface.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lb_model::Group;

/// Prefix length of an IPv4 VIP on the interface: that of a single host.
pub const HOST: u8 = 32;

/// The command by which a real server takes a VIP to itself, for messages.
pub fn on_loopback(vip: IpAddr) -> String {
    let prefix = if vip.is_ipv4() { 32 } else { 128 };
    format!("ip address add {vip}/{prefix} dev lo")
}

/// A VIP as an address of the interface.
///
/// An IPv4 VIP is a /32, whatever prefix the configuration gives it, so it has no connected route.
/// Therefore the kernel does not pick it as the source of packets to the servers if the director's
/// own address is removed and added again; and it is never the primary address of a network, with
/// which the kernel would remove the secondary ones. The host answers ARP and clients for it as for
/// any other address. While the interface has no other address, the VIP has scope host, so that the
/// kernel never picks it as a source. (It does not always have it, because addresses of scope host
/// come first in listings, where scripts look for the host's own address.) An IPv6 VIP has its
/// prefix, and is deprecated, so that it is no source either.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VipAddress {
    pub address: IpAddr,
    pub prefix: u8,
    /// The label that ifconfig(8) shows, such as `eth0:0`; IPv4 only.
    pub label: Option<String>,
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: Ipv4Addr,
    prefix: u8,
}

impl Network {
    /// The network of an address with its prefix length.
    pub fn of(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(HOST);
        let mask = u32::MAX.checked_shl(u32::from(HOST - prefix)).unwrap_or(0);
        Self { address: Ipv4Addr::from(u32::from(address) & mask), prefix }
    }

    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        Self::of(address, self.prefix) == self
    }

    /// Whether this network contains all of `other`.
    pub fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }
}

/// A group's addresses and networks, for the holder.
#[derive(Debug, Clone, Default)]
pub struct Vips {
    pub addresses: BTreeMap<IpAddr, VipAddress>,
    pub refresh: Duration,
    /// The networks of the IPv4 VIPs by their configured prefixes, without single hosts.
    pub networks: BTreeSet<Network>,
}

impl From<&Group> for Vips {
    fn from(group: &Group) -> Self {
        let address_of = |vip: &lb_model::GroupVip| {
            let (prefix, label) = match vip.address {
                IpAddr::V4(_) => (HOST, group.label.clone()),
                // IPv6 addresses have no labels.
                IpAddr::V6(_) => (vip.prefix, None),
            };
            (vip.address, VipAddress { address: vip.address, prefix, label })
        };
        let networks = group.vips.iter().filter_map(|vip| match vip.address {
            IpAddr::V4(address) if vip.prefix < HOST => Some(Network::of(address, vip.prefix)),
            _ => None,
        });
        Self {
            addresses: group.vips.iter().map(address_of).collect(),
            refresh: group.refresh,
            networks: networks.collect(),
        }
    }
}

/// All addresses of `groups`.
pub fn addresses_of(groups: &[Group]) -> impl Iterator<Item = IpAddr> + '_ {
    groups.iter().flat_map(|group| group.vips.iter().map(|vip| vip.address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        let (address, prefix) = text.split_once('/').expect("a prefix");
        Network::of(address.parse().expect("an address"), prefix.parse().expect("a number"))
    }

    #[test]
    fn a_network_holds_its_addresses_and_smaller_networks() {
        let net = network("10.8.8.77/24");
        assert_eq!((net.address(), net.prefix()), (Ipv4Addr::new(10, 8, 8, 0), 24));
        assert!(net.contains(Ipv4Addr::new(10, 8, 8, 255)) && !net.contains(Ipv4Addr::new(10, 8, 9, 0)));
        assert!(net.covers(net) && net.covers(network("10.8.8.4/30")));
        assert!(!net.covers(network("10.8.0.0/16")) && !net.covers(network("10.8.9.4/30")));
        assert!(network("1.2.3.4/0").covers(net) && network("1.2.3.4/0").contains(Ipv4Addr::BROADCAST));
        assert!(network("1.2.3.4/32").contains(Ipv4Addr::new(1, 2, 3, 4)));
    }
}
