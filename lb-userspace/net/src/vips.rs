//! The groups' VIPs as they go onto the interface.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lb_model::Group;

/// Whole addresses: the length of an IPv4 VIP's prefix on the interface.
pub const HOST: u8 = 32;

/// A VIP as it stands on the interface.
///
/// An IPv4 VIP stands there as a /32, whatever prefix the configuration gives it. So it leads to no network: the kernel does
/// not pick it as the source of packets to the servers when the director's own address comes back after it; and it is never
/// the first address of a network, with which the kernel would remove the others. The host answers ARP and clients for it as
/// for any other address. While the interface has no other address its scope is the host: then the kernel never picks it as a
/// source. (It would always be so if scope host did not put an address first in every listing, where scripts look for the
/// host's own one.) An IPv6 VIP has its prefix, and is deprecated, so that it is no source either.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VipAddress {
    pub address: IpAddr,
    pub prefix: u8,
    /// Such as `eth0:0`, IPv4 only: what ifconfig(8) shows it as.
    pub label: Option<String>,
}

/// A network of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: Ipv4Addr,
    prefix: u8,
}

impl Network {
    /// That of an address with its prefix length.
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

    /// Whether all of `other` is in it.
    pub fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }
}

/// What the holder needs to know of a group.
#[derive(Debug, Clone, Default)]
pub struct Vips {
    pub addresses: BTreeMap<IpAddr, VipAddress>,
    pub refresh: Duration,
    /// The networks of its IPv4 VIPs, by the prefixes of the configuration; without those of one address.
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

/// Every address that `groups` name.
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
