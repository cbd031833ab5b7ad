//! Prefixes of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_model::SourcePrefix;

use super::{unfit, whole};

const SOURCE_PREFIX: &str = "a prefix of unicast addresses, such as 172.16.0.0/16 or fd00:6c62::/64";

/// A prefix for the sources of tunnels' outer packets.
pub(crate) fn source_prefix(text: &str) -> Result<SourcePrefix, String> {
    let expected = || format!("expected {SOURCE_PREFIX}");
    let (address, length) = text.split_once('/').ok_or_else(expected)?;
    let address: IpAddr = address.parse().map_err(|_| expected())?;
    let length = whole(length, 1..=address_bits(address).into())
        .map_err(|wrong| format!("{wrong} for the prefix length"))?;
    let first = network(address, length);
    match unfit(address) {
        Some(kind) => Err(format!("found {kind}, expected {SOURCE_PREFIX}")),
        None if first != address => {
            Err(format!("found bits behind the prefix, expected {first}/{length} or a longer prefix"))
        }
        None => Ok(SourcePrefix { address, length }),
    }
}

/// How many bits an address of this family has.
pub(crate) const fn address_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first address of the network of `address` whose prefix has this length.
pub(crate) fn network(address: IpAddr, length: u8) -> IpAddr {
    let free = u32::from(address_bits(address).saturating_sub(length));
    match address {
        IpAddr::V4(address) => {
            Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(free).unwrap_or(0)).into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(free).unwrap_or(0)).into()
        }
    }
}
