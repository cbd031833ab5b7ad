//! The configuration of health checks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::Regex;

use crate::config::{Command, Protocol};

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub probe: Probe,
    pub via: Via,
    /// `Some`: the probe uses TLS.
    pub tls: Option<Tls>,
    /// From the start of a probe to the start of the next one.
    pub interval: Duration,
    /// The interval while results contradict the server's state; at most `interval`.
    pub fast_interval: Duration,
    /// A probe without a result after this time has failed.
    pub timeout: Duration,
    /// Successes in a row that bring a server up, at least 1.
    pub rise: u32,
    /// Failures in a row that take the server down, at least 1.
    pub fall: u32,
    /// Port to probe instead of the server's own, host byte order.
    pub port: Option<u16>,
    /// Source address of probes; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
    /// Outgoing interface of probes; `None`: the kernel's choice.
    pub interface: Option<String>,
}

impl Check {
    /// A check with the configuration's defaults.
    pub fn new(probe: Probe) -> Self {
        let interval = Duration::from_secs(2);
        Self {
            probe,
            via: Via::Server,
            tls: None,
            interval,
            fast_interval: interval,
            timeout: Duration::from_secs(3),
            rise: 1,
            fall: 1,
            port: None,
            source: None,
            interface: None,
        }
    }

    /// Whether the client speaks first: after connecting, the server waits for a request or for the
    /// end of the connection.
    pub fn speaks_first(&self) -> bool {
        let speaks = match &self.probe {
            Probe::Tcp(Exchange { send, expected }) => !send.is_empty() || expected.is_nothing(),
            Probe::Http(_) | Probe::Grpc { .. } | Probe::Ldap | Probe::Postgresql { .. } | Probe::Redis => {
                true
            }
            _ => false,
        };
        speaks || self.tls.is_some()
    }

    /// The target of probes of a server that serves on `port`.
    pub fn target(&self, vip: IpAddr, server: IpAddr, port: u16) -> SocketAddr {
        let address = match self.via {
            Via::Server => server,
            Via::Vip => vip,
        };
        SocketAddr::new(address, self.port.unwrap_or(port))
    }
}

/// The address that probes are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The server's own address.
    Server,
    /// The VIP at the server's MAC: the server gets probes the same way as clients' packets.
    Vip,
}

/// TLS settings, and how certificates are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server name in the TLS handshake (SNI); with `verify` the certificate must be valid for
    /// it. Default the VIP or the host.
    pub name: Option<String>,
    /// The certificate chain must end in a root that this host trusts.
    pub verify: bool,
    /// A certificate that expires sooner than this causes a warning.
    pub expiry_warning: Duration,
}

/// What a probe sends, and what it expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The server accepts a TCP connection; if the exchange sends or expects something, the answer
    /// must match.
    Tcp(Exchange),
    /// The server answers a datagram.
    Udp(Exchange),
    /// The server answers an HTTP request.
    Http(HttpProbe),
    Dns(DnsProbe),
    /// The server greets, and answers EHLO with this name.
    Smtp {
        helo: String,
    },
    Imap,
    Pop3,
    Ftp,
    /// The server answers an anonymous bind.
    Ldap,
    /// The server greets, and answers a login of this user; it may refuse it.
    Mysql {
        user: String,
    },
    /// The server answers a start-up message of this user for this database, not with an error that
    /// says it cannot serve.
    Postgresql {
        user: String,
        database: String,
    },
    /// The server answers `PING`.
    Redis,
    /// The host answers ICMP echo.
    Ping,
    /// `grpc.health.v1.Health/Check` for this service (empty: the whole server) returns SERVING.
    Grpc {
        service: String,
    },
    /// HAProxy's agent protocol: a line such as `up 75%`, `drain`, `maint`, `down#reason`.
    Agent {
        send: Option<String>,
    },
    External(ExternalProbe),
    /// A file contains the weight; if it is missing or 0, the server is out.
    File(PathBuf),
    /// Never up.
    Off,
}

impl Probe {
    /// Whether its answers may set the server's weight.
    pub fn advises(&self) -> bool {
        match self {
            Self::Agent { .. } | Self::File(_) => true,
            Self::External(external) => external.dynamic,
            _ => false,
        }
    }

    /// The transports that it uses, the first one first.
    pub const fn transports(&self) -> &'static [Protocol] {
        match self {
            Self::Udp(_) => &[Protocol::Udp],
            // DNS uses TCP for answers that do not fit into a datagram.
            Self::Dns(_) => &[Protocol::Udp, Protocol::Tcp],
            _ => &[Protocol::Tcp],
        }
    }

    /// The check's `type` in the configuration; https is http with TLS.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
            Self::Http(_) => "http",
            Self::Dns(_) => "dns",
            Self::Smtp { .. } => "smtp",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Ftp => "ftp",
            Self::Ldap => "ldap",
            Self::Mysql { .. } => "mysql",
            Self::Postgresql { .. } => "postgresql",
            Self::Redis => "redis",
            Self::Ping => "ping",
            Self::Grpc { .. } => "grpc",
            Self::Agent { .. } => "agent",
            Self::External(_) => "external",
            Self::File(_) => "file",
            Self::Off => "off",
        }
    }
}

/// What a probe sends, and what the answer must contain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exchange {
    pub send: Vec<u8>,
    pub expected: Expectation,
}

/// What an answer must contain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expectation {
    pub text: Option<String>,
    pub pattern: Option<Pattern>,
}

impl Expectation {
    pub fn is_nothing(&self) -> bool {
        self.text.is_none() && self.pattern.is_none()
    }
}

/// A regular expression; compared by its text.
#[derive(Debug, Clone)]
pub struct Pattern(pub Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    pub method: Method,
    /// Request path, begins with `/`.
    pub request: String,
    /// Host header; default the VIP.
    pub host: Option<String>,
    /// Statuses that count as success, as configured; [`HttpProbe::statuses`] has the default.
    pub status: Option<Statuses>,
    pub expected: Expectation,
    /// SHA-256 of the body.
    pub digest: Option<[u8; 32]>,
}

impl HttpProbe {
    /// Whether the body must be as expected.
    pub fn expects_a_page(&self) -> bool {
        !self.expected.is_nothing() || self.digest.is_some()
    }

    /// The statuses that count as success. A redirect shows that the server serves, but it is not
    /// the page that is expected.
    pub fn statuses(&self) -> Statuses {
        let last = if self.expects_a_page() { 299 } else { 399 };
        self.status.clone().unwrap_or_else(|| Statuses(vec![200..=last]))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Options,
    Post,
}

impl Method {
    pub const ALL: [Self; 4] = [Self::Get, Self::Head, Self::Options, Self::Post];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
        }
    }
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            method: Method::Get,
            request: "/".into(),
            host: None,
            status: None,
            expected: Expectation::default(),
            digest: None,
        }
    }
}

/// HTTP statuses that count as success; at least one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(pub Vec<RangeInclusive<u16>>);

impl Statuses {
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

/// As in the configuration: `200-299, 304`.
impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsProbe {
    /// The name in the query.
    pub name: String,
    pub record: RecordType,
    /// A record that the answers must contain, in zone file notation; `None`: any answer without an
    /// error.
    pub answer: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordType {
    A,
    Aaaa,
    Ns,
    Mx,
    Txt,
    Soa,
}

impl RecordType {
    pub const ALL: [Self; 6] = [Self::A, Self::Aaaa, Self::Ns, Self::Mx, Self::Txt, Self::Soa];

    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Ns => "NS",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Soa => "SOA",
        }
    }
}

/// An external check program: exit code 0 is success. ldirectord's four arguments (VIP, its port,
/// the server's address, its port) follow its own arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalProbe {
    pub command: Command,
    /// keepalived's `misc_dynamic`: exit codes 2 to 255 are success, too, and set the weight to 0
    /// to 253.
    pub dynamic: bool,
}
