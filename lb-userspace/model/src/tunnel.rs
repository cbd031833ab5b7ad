//! The tunnel to a server.

use std::net::IpAddr;

pub use lb_common::forward::tunnel::{GUE_PORT, Kind as TunnelKind, LEAST_MTU_V6};

/// The tunnel to a server; its other end is the server's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    pub kind: TunnelKind,
    /// UDP port of GUE at the server, host byte order. Default [`GUE_PORT`].
    pub port: u16,
    /// The most bytes of an outer packet; `None`: the MTU of the route to the server. Never more
    /// than that.
    pub mtu: Option<u16>,
    /// Where outer packets come from; `None`: this director's address towards the server.
    pub source: Option<SourcePrefix>,
}

impl Tunnel {
    /// With the configuration's defaults.
    pub const fn new(kind: TunnelKind) -> Self {
        Self { kind, port: GUE_PORT, mtu: None, source: None }
    }
}

/// Source addresses, one for each flow: the prefix, and the flow's hash behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePrefix {
    /// Its bits behind the prefix are 0.
    pub address: IpAddr,
    /// Prefix length, 1 to 32 or, of an IPv6 address, to 128.
    pub length: u8,
}

impl SourcePrefix {
    /// Bits of an address that are not the prefix's.
    pub const fn free_bits(&self) -> u32 {
        let all = if self.address.is_ipv4() { 32 } else { 128 };
        all - self.length as u32
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address) {
            (IpAddr::V4(prefix), IpAddr::V4(address)) => (prefix.to_bits() ^ address.to_bits()).into(),
            (IpAddr::V6(prefix), IpAddr::V6(address)) => prefix.to_bits() ^ address.to_bits(),
            _ => return false,
        };
        differ.checked_shr(self.free_bits()).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_what_begins_with_it() {
        let prefix =
            |address: &str, length| SourcePrefix { address: address.parse().expect(address), length };
        let contains =
            |prefix: SourcePrefix, address: &str| prefix.contains(address.parse().expect("an address"));
        let v4 = prefix("172.16.0.0", 16);
        assert!(contains(v4, "172.16.255.1") && !contains(v4, "172.17.0.0") && !contains(v4, "fd00::1"));
        let v6 = prefix("fd00::", 64);
        assert!(contains(v6, "fd00::1:2:3:4") && !contains(v6, "fd00:0:0:1::"));
        assert!(contains(prefix("::", 1), "7fff::1") && contains(prefix("fd00::5", 128), "fd00::5"));
    }
}
