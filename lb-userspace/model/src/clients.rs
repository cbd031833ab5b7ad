//! Which clients a service takes, and how much of them.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

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

/// How much may come in a second, and at once; both at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// Limits of new connections and of packets; `None`: there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    pub new_connections: Option<Rate>,
    pub packets: Option<Rate>,
}

/// The rules of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    /// The longest prefix of both lists that has a client decides.
    pub allow: Vec<ClientPrefix>,
    pub deny: Vec<ClientPrefix>,
    /// Files with more prefixes, one a line.
    pub allow_file: Option<PathBuf>,
    pub deny_file: Option<PathBuf>,
    /// Addresses that begin with so many equal bits are one client.
    pub prefix: u8,
    pub of_each: Rates,
    pub of_all: Rates,
}

impl Clients {
    /// Whether whoever is in no list is served: unless there is an `allow` and no `deny`.
    pub fn takes_unlisted(&self) -> bool {
        let allows = !self.allow.is_empty() || self.allow_file.is_some();
        let denies = !self.deny.is_empty() || self.deny_file.is_some();
        !allows || denies
    }
}
