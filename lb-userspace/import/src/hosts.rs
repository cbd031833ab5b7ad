//! Names of hosts and services as addresses and ports.

use std::net::IpAddr;

/// Services that configurations name instead of their port (IANA; Debian's /etc/services).
const SERVICES: [(&str, u16); 34] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("tftp", 69),
    ("http", 80),
    ("www", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("nntp", 119),
    ("ntp", 123),
    ("imap", 143),
    ("imap2", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("submissions", 465),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("domain-s", 853),
    ("rsync", 873),
    ("imaps", 993),
    ("pop3s", 995),
    ("ms-sql-s", 1433),
    ("radius", 1812),
    ("radius-acct", 1813),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("sip", 5060),
    ("sip-tls", 5061),
    ("redis", 6379),
    ("http-alt", 8080),
];

/// A port by number or name.
pub(crate) fn port(text: &str) -> Option<u16> {
    let named = SERVICES.iter().find(|(name, _)| *name == text).map(|(_, port)| *port);
    named.or_else(|| text.parse().ok())
}

/// A hosts file, read once.
#[derive(Debug, Default)]
pub(crate) struct Hosts(Vec<(IpAddr, Vec<String>)>);

impl Hosts {
    pub(crate) fn new(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            Some((address, words.map(str::to_owned).collect()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The address of a host by its name, by its short name, or as it is written.
    pub(crate) fn address(&self, name: &str) -> Option<IpAddr> {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse() {
            return Some(address);
        }
        let known = |wanted: &str| {
            let has = |(_, names): &&(IpAddr, Vec<String>)| names.iter().any(|name| name == wanted);
            self.0.iter().find(has).map(|(address, _)| *address)
        };
        known(name).or_else(|| known(name.split('.').next()?))
    }

    /// The first name of an address.
    pub(crate) fn name(&self, address: IpAddr) -> Option<&str> {
        let (_, names) = self.0.iter().find(|(known, _)| *known == address)?;
        names.first().map(String::as_str)
    }
}

/// An address and a port as one text, as the YAML has them.
pub(crate) fn endpoint(address: IpAddr, ports: &str) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{ports}"),
        IpAddr::V6(address) => format!("[{address}]:{ports}"),
    }
}
