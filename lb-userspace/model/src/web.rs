//! How the page and the HTTP API are served.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The page and the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Default `127.0.0.1:9106`.
    pub listen: SocketAddr,
    /// `None`: plain HTTP.
    pub tls: Option<WebTls>,
    /// File of the tokens that orders need. `None`: read-only.
    pub tokens: Option<PathBuf>,
    /// Names that the director is asked by, besides addresses and `localhost`; in lower case.
    pub hosts: Vec<String>,
}

/// Files in PEM format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebTls {
    /// The certificate, and the intermediate ones after it.
    pub certificate: PathBuf,
    pub key: PathBuf,
}
