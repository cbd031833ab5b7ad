//! Which clients a service takes, and how much of them.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Addresses that begin with the same bits. The other bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientPrefix {
    pub address: IpAddr,
    pub length: u8,
}

impl fmt::Display for ClientPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Whom a service takes and whom it does not. Of both lists the longest prefix that has a client
/// decides. Each is sorted and has no prefix twice, and no prefix is in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientLists {
    pub allow: Vec<ClientPrefix>,
    pub deny: Vec<ClientPrefix>,
}

impl ClientLists {
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    pub fn len(&self) -> usize {
        self.allow.len() + self.deny.len()
    }

    /// Whether anybody of this family is denied. The list is sorted, and IPv4 comes first, so one
    /// look suffices for a list of any length.
    pub fn denies_any_of(&self, is_ipv4: bool) -> bool {
        let end = if is_ipv4 { self.deny.first() } else { self.deny.last() };
        end.is_some_and(|prefix| prefix.address.is_ipv4() == is_ipv4)
    }
}

/// Lists, and the files that have more of them. Copies share the lists, which may be long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// What stands in the configuration itself.
    pub given: Arc<ClientLists>,
    /// Files with more prefixes, one a line.
    pub allow_file: Option<PathBuf>,
    pub deny_file: Option<PathBuf>,
    /// All of them, with what the files had when they were read.
    pub lists: Arc<ClientLists>,
}

impl Listed {
    /// Whether those alone are served whom `allow` has.
    pub fn takes_allowed_only(&self) -> bool {
        !self.given.allow.is_empty() || self.allow_file.is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.given.is_empty() && self.allow_file.is_none() && self.deny_file.is_none()
    }
}

/// How much may come in a second, and at once; both at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// Limits of new connections and of packets; `None`: there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    pub new: Option<Rate>,
    pub packets: Option<Rate>,
}

/// The rules of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    pub listed: Listed,
    /// Addresses of the service's family that begin with so many equal bits are one client.
    pub prefix: u8,
    pub of_each: Rates,
    /// Connections of each at a time; `None`: any number.
    pub connections: Option<u32>,
    pub of_all: Rates,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_a_deny_list_are_found_at_its_ends() {
        let families = |addresses: &[&str]| {
            let parse = |address: &&str| ClientPrefix { address: address.parse().unwrap(), length: 8 };
            let mut deny: Vec<ClientPrefix> = addresses.iter().map(parse).collect();
            deny.sort_unstable();
            let lists = ClientLists { deny, ..ClientLists::default() };
            [true, false].map(|is_ipv4| lists.denies_any_of(is_ipv4))
        };
        assert_eq!(families(&[]), [false, false]);
        assert_eq!(families(&["10.0.0.0", "200.0.0.0"]), [true, false]);
        assert_eq!(families(&["fd00::", "100::"]), [false, true]);
        assert_eq!(families(&["fd00::", "200.0.0.0", "100::", "10.0.0.0"]), [true, true]);
    }
}
