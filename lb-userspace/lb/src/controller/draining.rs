//! Servers and services that left the configuration and serve on for the connections they have.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use lb_model::{Protocol, Server, Service, ServiceKey};

/// What is on its way out.
#[derive(Debug, Default)]
pub(super) struct Draining {
    servers: BTreeMap<(ServiceKey, IpAddr), Leaving>,
    /// Services that have left, as they were; each has servers above.
    services: BTreeMap<ServiceKey, Service>,
}

#[derive(Debug)]
struct Leaving {
    server: Server,
    since: Instant,
    until: Instant,
}

impl Draining {
    /// Notes the difference between two configurations: who left begins to drain, and who came back
    /// is no longer on its way out. Servers of a service that has left drain as long as that
    /// service wanted it.
    pub(super) fn reload(&mut self, old: &[Service], new: &[Service], now: Instant) {
        // Of tens of thousands one may have changed.
        let new: HashMap<ServiceKey, &Service> = new.iter().map(|service| (service.key, service)).collect();
        for service in old {
            let successor = new.get(&service.key).copied();
            if successor.is_none() && service.key.protocol == Protocol::Udp {
                // UDP has no connections that could end: its clients shall know at once.
                continue;
            }
            if successor.is_some_and(|successor| successor == service) {
                continue;
            }
            for server in service.servers.iter().cloned().chain(service.fallback_server()) {
                let key = (service.key, server.address);
                let until = now + successor.unwrap_or(service).drain;
                self.servers.entry(key).or_insert(Leaving { server, since: now, until });
            }
            if successor.is_none() {
                self.services.insert(service.key, service.clone());
            }
        }
        self.services.retain(|key, _| !new.contains_key(key));
        self.servers.retain(|(key, address), _| {
            let service = new.get(key);
            service.map_or_else(|| self.services.contains_key(key), |service| !has(service, *address))
        });
        self.forget_empty();
    }

    /// Forgets servers whose time is over, or for which `is_idle` holds, and services without any.
    /// True if there were any.
    pub(super) fn finish(&mut self, now: Instant, is_idle: impl Fn(&ServiceKey, IpAddr) -> bool) -> bool {
        let before = self.servers.len();
        self.servers.retain(|(key, address), leaving| leaving.until > now && !is_idle(key, *address));
        self.forget_empty();
        self.servers.len() != before
    }

    fn forget_empty(&mut self) {
        let servers = &self.servers;
        self.services.retain(|key, _| servers.keys().any(|(service, _)| service == key));
    }

    pub(super) fn of(&self, service: &ServiceKey) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(move |((key, _), _)| key == service).map(|(_, leaving)| &leaving.server)
    }

    /// Since when this one of a service's servers is on its way out, if it is.
    pub(super) fn since(&self, service: &ServiceKey, server: IpAddr) -> Option<Instant> {
        self.servers.get(&(*service, server)).map(|leaving| leaving.since)
    }

    /// The services that have left.
    pub(super) fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The configuration's services with all that drains: who serves is checked, whether it may
    /// have new connections or not.
    pub(super) fn with<'s>(&self, services: &'s [Service]) -> Cow<'s, [Service]> {
        if self.servers.is_empty() {
            return Cow::Borrowed(services);
        }
        let with = |service: &Service, mut servers: Vec<Server>| {
            servers.extend(self.of(&service.key).cloned());
            Service { servers, ..service.clone() }
        };
        let configured = services.iter().map(|service| with(service, service.servers.clone()));
        configured.chain(self.services.values().map(|service| with(service, Vec::new()))).collect()
    }
}

fn has(service: &Service, address: IpAddr) -> bool {
    let fallback = service.fallback_server().is_some_and(|server| server.address == address);
    fallback || service.servers.iter().any(|server| server.address == address)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use lb_model::Fallback;

    const DRAIN: Duration = Duration::from_secs(30);

    fn address(host: u8) -> IpAddr {
        [192, 0, 2, host].into()
    }

    fn service(port: u16, protocol: Protocol, hosts: &[u8]) -> Service {
        let key = ServiceKey { vip: address(10), port, protocol };
        let servers = hosts.iter().map(|host| Server::new(address(*host), port)).collect();
        Service { servers, drain: DRAIN, ..Service::new(format!("{port}"), key) }
    }

    fn hosts<'s>(servers: impl Iterator<Item = &'s Server>) -> Vec<IpAddr> {
        servers.map(|server| server.address).collect()
    }

    #[test]
    fn c1_a_service_that_leaves_drains_with_all_its_servers_and_can_return() {
        let fallback = Fallback::Server(address(29));
        let web = Service { fallback, ..service(80, Protocol::Tcp, &[21, 22]) };
        let other = service(81, Protocol::Tcp, &[21]);
        let both = [web.clone(), other.clone()];
        let (mut draining, now) = (Draining::default(), Instant::now());
        draining.reload(&both, std::slice::from_ref(&other), now);
        assert_eq!(hosts(draining.of(&web.key)), [21, 22, 29].map(address));
        assert_eq!(draining.services().map(|service| service.key).collect::<Vec<_>>(), [web.key]);
        assert_eq!(draining.with(std::slice::from_ref(&other)).len(), 2, "both are checked");
        // Another reload meanwhile begins nothing anew.
        draining.reload(std::slice::from_ref(&other), std::slice::from_ref(&other), now + DRAIN / 2);

        let less = Service { servers: web.servers[..1].to_vec(), fallback: Fallback::None, ..web.clone() };
        draining.reload(std::slice::from_ref(&other), &[other.clone(), less], now + DRAIN / 2);
        assert_eq!(hosts(draining.of(&web.key)), [22, 29].map(address), "the others go on leaving");
        assert_eq!(draining.services().count(), 0);
        assert!(!draining.finish(now + DRAIN - Duration::from_millis(1), |_, _| false));
        assert!(draining.finish(now + DRAIN, |_, _| false));
    }

    /// With a look at all others for each service this test would take minutes.
    #[test]
    fn of_tens_of_thousands_of_services_one_leaves() {
        let old: Vec<Service> = (1..=60_000).map(|port| service(port, Protocol::Tcp, &[21])).collect();
        let mut new = old.clone();
        let gone = new.remove(40_000);
        let mut draining = Draining::default();
        draining.reload(&old, &new, Instant::now());
        assert_eq!(draining.services().map(|service| service.key).collect::<Vec<_>>(), [gone.key]);
        assert_eq!(draining.servers.len(), 1);
    }

    #[test]
    fn c1_a_service_that_has_left_goes_with_its_last_server() {
        let web = service(80, Protocol::Tcp, &[21, 22]);
        let (mut draining, now) = (Draining::default(), Instant::now());
        draining.reload(std::slice::from_ref(&web), &[], now);
        assert!(draining.finish(now, |_, server| server == address(21)));
        assert_eq!((draining.services().count(), hosts(draining.of(&web.key))), (1, vec![address(22)]));
        assert!(draining.finish(now, |_, _| true));
        assert_eq!(draining.services().count(), 0);

        draining.reload(&[service(53, Protocol::Udp, &[21]), service(80, Protocol::Tcp, &[])], &[], now);
        assert_eq!((draining.services().count(), draining.servers.len()), (0, 0), "nobody to wait for");
    }
}
