//! Who is told of what happens, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Receivers of alerts. Without any, nobody is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alerts {
    /// What happens within this time after an event is one message with it.
    pub group_wait: Duration,
    /// Their names are unique.
    pub receivers: Vec<Receiver>,
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    pub name: String,
    /// Of which severity on; `None`: only `events`.
    pub severity: Option<Severity>,
    /// Names of events that are told whatever their severity.
    pub events: BTreeSet<String>,
    /// Messages an hour.
    pub limit: u32,
    /// What still lasts after this time is told again; `None`: never. Alertmanagers repeat by
    /// themselves.
    pub repeat: Option<Duration>,
    pub channel: Channel,
}

/// How severe an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// How a receiver is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    Email(Email),
    Webhook(Webhook),
    /// Base URLs of Alertmanagers, each of which is told all.
    Alertmanager(Vec<HttpUrl>),
}

impl Channel {
    /// As the configuration calls it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Webhook(_) => "webhook",
            Self::Alertmanager(_) => "alertmanager",
        }
    }
}

/// E-mail by way of an SMTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// A name or an address.
    pub host: String,
    pub port: u16,
    pub tls: MailTls,
    pub login: Option<Login>,
    /// `ADDRESS` or `NAME <ADDRESS>`; so with `to`.
    pub from: String,
    /// At least one.
    pub to: Vec<String>,
}

/// How a connection to an SMTP server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// By the command STARTTLS, without which nothing is sent.
    StartTls,
    /// From the first byte on.
    Always,
    Off,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

/// An HTTP server that gets messages by POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub url: HttpUrl,
    /// Bearer token.
    pub token: Option<Secret>,
}

/// A URL of HTTP or HTTPS.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// With the query; begins with a slash. It may be a secret.
    pub path: String,
}

impl HttpUrl {
    /// Whether what is sent there stays on this host.
    pub fn is_local(&self) -> bool {
        is_local(&self.host)
    }
}

/// Without the path.
impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpUrl({self}…)")
    }
}

/// Whether `host` is this one's loopback interface.
pub fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// A password or a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

/// A secret is not shown.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let url = HttpUrl { tls: true, host: "chat".into(), port: 443, path: "/hooks/s3cret".into() };
        let webhook = Webhook { url, token: Some(Secret("s3cret".into())) };
        let shown = format!("{webhook:?} {}", webhook.url);
        assert!(shown.contains("chat:443") && !shown.contains("s3cret"), "{shown}");
    }
}
