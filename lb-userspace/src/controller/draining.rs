//! Servers that left the configuration and serve on for the connections they have.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::config::{Server, Service, ServiceKey};

/// The servers on their way out.
#[derive(Debug, Default)]
pub struct Draining(BTreeMap<(ServiceKey, IpAddr), Leaving>);

#[derive(Debug)]
struct Leaving {
    server: Server,
    until: Instant,
}

impl Draining {
    /// Notes the difference between two configurations: who left begins to drain, who came back is no longer on its
    /// way out, and a service that is gone takes its servers along.
    pub fn reload(&mut self, old: &[Service], new: &[Service], now: Instant) {
        for service in old {
            let Some(successor) = new.iter().find(|candidate| candidate.key == service.key) else { continue };
            for server in service.servers.iter().cloned().chain(service.fallback_server()) {
                let key = (service.key, server.address);
                self.0.entry(key).or_insert(Leaving { server, until: now + successor.drain });
            }
        }
        self.0.retain(|(key, address), _| {
            let service = new.iter().find(|service| service.key == *key);
            service.is_some_and(|service| !has(service, *address))
        });
    }

    /// Forgets servers whose time is over, or for which `is_idle` holds. True if there were any.
    pub fn finish(&mut self, now: Instant, is_idle: impl Fn(&ServiceKey, IpAddr) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|(key, address), leaving| leaving.until > now && !is_idle(key, *address));
        self.0.len() != before
    }

    pub fn of(&self, service: &ServiceKey) -> impl Iterator<Item = &Server> {
        self.0.iter().filter(move |((key, _), _)| key == service).map(|(_, leaving)| &leaving.server)
    }

    /// Every address that must stay resolved.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.0.keys().map(|(_, address)| *address)
    }
}

fn has(service: &Service, address: IpAddr) -> bool {
    let fallback = service.fallback_server().is_some_and(|server| server.address == address);
    fallback || service.servers.iter().any(|server| server.address == address)
}
