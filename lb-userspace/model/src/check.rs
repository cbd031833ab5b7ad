//! The part of the model that says how a server is checked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::Regex;

use crate::config::{Command, Protocol};

/// How a server's health is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub probe: Probe,
    pub via: Via,
    /// The stream of bytes is TLS.
    pub tls: Option<Tls>,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// The same while results speak against the server's state; at most `interval`.
    pub fast_interval: Duration,
    /// A probe without a result by then has failed.
    pub timeout: Duration,
    /// Successes in a row that bring a server up, at least 1.
    pub rise: u32,
    /// Failures in a row that take it down, at least 1.
    pub fall: u32,
    /// Port to probe instead of the server's own, host byte order.
    pub port: Option<u16>,
    /// Address that probes come from; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
    /// Interface that probes leave by; `None`: the kernel's choice.
    pub interface: Option<String>,
}

impl Check {
    /// With the defaults of the configuration.
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

    /// Once connected the server waits for us: to say something, or to close the connection.
    pub fn speaks_first(&self) -> bool {
        let speaks = match &self.probe {
            Probe::Tcp(Exchange { send, wanted }) => !send.is_empty() || wanted.is_nothing(),
            Probe::Http(_) | Probe::Grpc { .. } | Probe::Ldap | Probe::Postgresql { .. } | Probe::Redis => {
                true
            }
            _ => false,
        };
        speaks || self.tls.is_some()
    }

    /// Where probes of a server that serves on `port` go.
    pub fn target(&self, vip: IpAddr, server: IpAddr, port: u16) -> SocketAddr {
        let address = match self.via {
            Via::Server => server,
            Via::Vip => vip,
        };
        SocketAddr::new(address, self.port.unwrap_or(port))
    }
}

/// Which address of the server is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Its own.
    Server,
    /// The VIP at the server's MAC, as clients' packets come to it.
    Vip,
}

/// How certificates are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The name that is asked for (SNI) and, with `verify`, wanted in the certificate; default the VIP or the host.
    pub name: Option<String>,
    /// The chain must lead to a root that this host trusts.
    pub verify: bool,
    /// A certificate that ends sooner than this is told of.
    pub expiry_warning: Duration,
}

/// What is asked, and what is wanted in return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A TCP connection is accepted; if something is sent or wanted, that is answered.
    Tcp(Exchange),
    /// A datagram is answered.
    Udp(Exchange),
    /// A request is answered.
    Http(HttpProbe),
    Dns(DnsProbe),
    /// Greets, and answers EHLO with this name.
    Smtp {
        helo: String,
    },
    Imap,
    Pop3,
    Ftp,
    /// An anonymous bind is answered.
    Ldap,
    /// Greets, and answers a login of this user; that it is refused is fine.
    Mysql {
        user: String,
    },
    /// A start-up message of this user for this database is answered by anything but a refusal to serve.
    Postgresql {
        user: String,
        database: String,
    },
    /// `PING` is answered.
    Redis,
    /// The host answers ICMP echo.
    Ping,
    /// `grpc.health.v1.Health/Check` of this service (empty: the whole server) says SERVING.
    Grpc {
        service: String,
    },
    /// HAProxy's agent protocol: a line such as `up 75%`, `drain`, `maint`, `down#reason`.
    Agent {
        send: Option<String>,
    },
    External(ExternalProbe),
    /// A file holds the weight; it is missing or 0: the server is out.
    File(PathBuf),
    /// Never up.
    Off,
}

impl Probe {
    /// Its answers may say what weight the server shall have.
    pub fn advises(&self) -> bool {
        match self {
            Self::Agent { .. } | Self::File(_) => true,
            Self::External(external) => external.dynamic,
            _ => false,
        }
    }

    /// What it speaks to the server, first things first.
    pub const fn transports(&self) -> &'static [Protocol] {
        match self {
            Self::Udp(_) => &[Protocol::Udp],
            // TCP is for answers that do not fit.
            Self::Dns(_) => &[Protocol::Udp, Protocol::Tcp],
            _ => &[Protocol::Tcp],
        }
    }

    /// Its `type` in the configuration; https is http with TLS.
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

/// What is sent and what must come back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exchange {
    pub send: Vec<u8>,
    pub wanted: Wanted,
}

/// What an answer must contain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    pub text: Option<String>,
    pub pattern: Option<Pattern>,
}

impl Wanted {
    pub fn is_nothing(&self) -> bool {
        self.text.is_none() && self.pattern.is_none()
    }
}

/// A regular expression; equal to another by its text.
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
    pub status: Statuses,
    pub wanted: Wanted,
    /// SHA-256 of the body.
    pub digest: Option<[u8; 32]>,
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
            status: Statuses::default(),
            wanted: Wanted::default(),
            digest: None,
        }
    }
}

/// HTTP statuses that are good; at least one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(pub Vec<RangeInclusive<u16>>);

impl Statuses {
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![200..=299])
    }
}

/// As in the configuration: `200-299, 304`.
impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
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
    /// The name asked for.
    pub name: String,
    pub record: RecordType,
    /// Must be among the answers, as a zone file writes it; `None`: any answer without an error.
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

/// A program that judges: exit code 0 is good. It gets ldirectord's four arguments (VIP, its port, the server's address,
/// its port) behind its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalProbe {
    pub command: Command,
    /// keepalived's `misc_dynamic`: exit codes 2 to 255 are good too, and set the weight to 0 to 253.
    pub dynamic: bool,
}
