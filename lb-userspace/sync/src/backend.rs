//! A real server of a service, by a name that means the same to all directors, whatever numbers
//! they have given it.

use lb_common::addr::V6;
use lb_common::service::Protocol;

/// Service and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backend {
    pub vip: V6,
    /// The service's port, as the configuration gives it (host byte order); 0: all ports.
    pub port: u16,
    pub protocol: Protocol,
    /// The server's address.
    pub server: V6,
}

impl Backend {
    /// A number for it that all directors find alike.
    pub(crate) fn hash(&self) -> u64 {
        let [a, b] = self.vip.0.map(u64::from_be);
        let [c, d] = self.server.0.map(u64::from_be);
        let ports = u64::from(self.port) << 8 | u64::from(self.protocol.number());
        [a, b, c, d, ports].into_iter().fold(0, |hash, word| mixed(hash ^ word))
    }
}

/// The finaliser of splitmix64 (Steele, Lea and Flood, 2014): every bit depends on all others.
pub(crate) const fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
pub(crate) mod tests {
    use lb_common::addr::{Address as _, V4};

    use super::*;

    /// Server `last` of 192.0.2.10:80.
    pub(crate) fn backend(last: u8) -> Backend {
        let address = |last| V4::from_octets([192, 0, 2, last]).mapped();
        Backend { vip: address(10), port: 80, protocol: Protocol::Tcp, server: address(last) }
    }

    #[test]
    fn all_of_it_counts() {
        let one = backend(21);
        let others = [
            backend(22),
            Backend { port: 81, ..one },
            Backend { protocol: Protocol::Udp, ..one },
            Backend { vip: backend(1).server, ..one },
            Backend { vip: one.server, server: one.vip, ..one },
        ];
        for other in others {
            assert_ne!(one.hash(), other.hash(), "{other:?}");
        }
    }
}
