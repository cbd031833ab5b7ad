//! Who added what: services and servers that are not the file's. It is looked up for each of them
//! whenever somebody asks for the status, so it is found out once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lb_model::overlay::{Change, NewService, Overlays};
use lb_model::{Config, Service, ServiceKey, canonical};

/// Sources by what they have added.
#[derive(Debug, Clone, Default)]
pub(super) struct Added {
    pub services: HashMap<ServiceKey, String>,
    pub servers: HashMap<(ServiceKey, IpAddr), String>,
}

impl Added {
    /// `config` has the changes; those that are unused, by number, are none.
    pub(super) fn of(config: &Config, sources: &Overlays, unused: &[(usize, String)]) -> Self {
        let unused: HashSet<usize> = unused.iter().map(|(number, _)| *number).collect();
        let mut called: HashMap<String, Vec<&Service>> = HashMap::new();
        for service in &config.services {
            let key = service.key.address().to_string();
            for name in HashSet::from([service.name.clone(), service.ports.after(service.key.vip), key]) {
                called.entry(name).or_default().push(service);
            }
        }
        let named = |name: &str| {
            let found = called.get(name).or_else(|| called.get(&*canonical(name)));
            found.into_iter().flatten().copied()
        };
        let mut added = Self::default();
        let all = sources.iter().flat_map(|(source, changes)| changes.iter().map(move |one| (source, one)));
        for (_, (source, change)) in all.enumerate().filter(|(number, _)| !unused.contains(number)) {
            match change {
                Change::AddService { service: NewService { vip, name, protocol, .. } } => {
                    let protocol = protocol.as_deref().unwrap_or("tcp");
                    let is_it = |one: &&Service| {
                        one.key.protocol.name() == protocol || name.as_ref() == Some(&one.name)
                    };
                    let found = named(name.as_ref().unwrap_or(vip)).chain(named(vip)).find(is_it);
                    if let Some(service) = found {
                        added.services.entry(service.key).or_insert_with(|| source.clone());
                    }
                }
                Change::AddServer { service, server } => {
                    let mut servers = named(service).flat_map(|service| {
                        let key = service.key;
                        service.servers.iter().map(move |server| (key, server))
                    });
                    if let Some((key, server)) = servers.find(|(_, one)| one.is_called(&server.address)) {
                        added.servers.entry((key, server.address)).or_insert_with(|| source.clone());
                    }
                }
                Change::RemoveServer { .. } | Change::EditService { .. } | Change::RemoveService { .. } => {}
            }
        }
        added
    }
}

#[cfg(test)]
mod tests {
    use lb_model::overlay::{CLI, NewServer};

    use super::*;

    const FILE: &str = "
interface: eth0
services:
  - { name: web, vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }, { address: 192.0.2.22 }] }
  - { vip: '192.0.2.10:53', servers: [{ address: 192.0.2.21 }] }
  - { vip: '192.0.2.10:53', protocol: udp, servers: [{ address: 192.0.2.21 }] }
  - { vip: '[2001:db8::10]:80', servers: [{ address: 192.0.2.21, forward: ipip }] }
";

    fn service(vip: &str, protocol: &str) -> Change {
        let (vip, protocol) = (vip.to_owned(), Some(protocol.to_owned()));
        Change::AddService { service: NewService { vip, protocol, ..NewService::default() } }
    }

    #[test]
    fn what_was_added_is_known_by_any_of_its_names() {
        let config = lb_config::parse(FILE, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
        let server = NewServer { address: "192.0.2.22:80".into(), ..NewServer::default() };
        let changes = vec![
            service("192.0.2.10:53", "udp"),
            service("[2001:DB8::10]:80", "tcp"),
            Change::AddServer { service: "192.0.2.10:80".into(), server },
            service("192.0.2.10:53", "tcp"),
        ];
        let sources = Overlays::from([(CLI.to_owned(), changes)]);
        let added = Added::of(&config, &sources, &[(3, "it is there already".to_owned())]);
        let keys = [2, 3].map(|index: usize| (config.services[index].key, CLI.to_owned()));
        assert_eq!(added.services, HashMap::from(keys));
        let key = (config.services[0].key, IpAddr::from([192, 0, 2, 22]));
        assert_eq!(added.servers, HashMap::from([(key, CLI.to_owned())]));
    }
}
