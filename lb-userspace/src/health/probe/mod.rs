//! Probes: one file per kind, each an async function that can be dropped at any moment.

pub mod http;
pub mod tcp;

mod failure;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

pub use self::failure::Failure;
use crate::config::{Probe, ServiceKey};

/// Until when a probe has time, and how long that was from its start on, for the words of a failure.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    at: Instant,
    whole: Duration,
}

impl Limit {
    pub fn new(whole: Duration) -> Self {
        Self { at: Instant::now() + whole, whole }
    }

    /// Waits for `future` as long as there is time; after that `late` says in words what did not come.
    async fn wait<T>(
        self,
        future: impl Future<Output = T>,
        late: impl FnOnce(Duration) -> Failure,
    ) -> Result<T, Failure> {
        tokio::time::timeout_at(self.at, future).await.map_err(|_| late(self.whole))
    }
}

/// Makes the probe that a check asks for.
pub async fn probe(
    kind: &Probe,
    target: SocketAddr,
    service: ServiceKey,
    timeout: Duration,
) -> Result<(), Failure> {
    let limit = Limit::new(timeout);
    match kind {
        Probe::Tcp => tcp::probe(target, limit).await.map(drop),
        Probe::Http(http) => http::probe(target, http, &default_host(service), limit).await,
    }
}

/// The Host header of a client that has the VIP for a name (RFC 9110 section 7.2).
fn default_host(service: ServiceKey) -> String {
    match (service.vip, service.port) {
        (IpAddr::V4(vip), 80) => vip.to_string(),
        (IpAddr::V6(vip), 80) => format!("[{vip}]"),
        (vip, port) => SocketAddr::new(vip, port).to_string(),
    }
}

#[cfg(test)]
pub(super) mod servers;
