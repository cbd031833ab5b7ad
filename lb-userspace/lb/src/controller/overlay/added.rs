//! Who added what: services and servers that are not the file's. It is looked up for each of them
//! whenever somebody asks for the status, so it is found out once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use lb_model::overlay::{Change, Overlays, is_kept_elsewhere};
use lb_model::{Config, Service, ServiceKey, ServiceNames, canonical};

use super::all;

/// Sources by what they have added.
#[derive(Debug, Clone, Default)]
pub(super) struct Added {
    pub services: HashMap<ServiceKey, String>,
    pub servers: HashMap<(ServiceKey, IpAddr), String>,
}

impl Added {
    /// `config` has the changes; those that are unused, by number, are none.
    pub(super) fn of(config: &Config, sources: &Overlays, unused: &BTreeMap<usize, String>) -> Self {
        let names = ServiceNames::of(&config.services);
        let mut added = Self::default();
        // Thousands of servers may have come to one service.
        let mut servers = HashMap::new();
        let all = all(sources).enumerate();
        for (_, (source, change)) in all.filter(|(number, _)| !unused.contains_key(number)) {
            match change {
                Change::AddService { service } => {
                    let found = names.index_of_new(service).and_then(|index| config.services.get(index));
                    if let Some(service) = found {
                        added.services.entry(service.key).or_insert_with(|| source.clone());
                    }
                }
                Change::AddServer { service, server } => {
                    let Some(service) = names.find(service) else { continue };
                    let called = servers.entry(service.key).or_insert_with(|| servers_by_name(service));
                    if let Some(address) = called.get(&*canonical(&server.address)) {
                        let key = (service.key, *address);
                        added.servers.entry(key).or_insert_with(|| source.clone());
                    }
                }
                Change::RemoveServer { .. }
                | Change::EditServer { .. }
                | Change::EditService { .. }
                | Change::RemoveService { .. } => {}
            }
        }
        added
    }

    /// Why a change of `source` cannot be made: its service comes from a source whose changes are
    /// made later. `names` are those of the running configuration.
    pub(super) fn of_later_source(
        &self,
        names: &ServiceNames<'_>,
        source: &str,
        change: &Change,
    ) -> Option<String> {
        let service = names.find(change.service()?)?;
        let later = self.services.get(&service.key).filter(|other| other.as_str() > source)?;
        Some(format!("service {} comes from the source {later}: change it there", service.name))
    }

    /// Services that others keep.
    pub(super) fn kept_elsewhere(&self) -> BTreeSet<ServiceKey> {
        let kept = self.services.iter().filter(|(_, source)| is_kept_elsewhere(source));
        kept.map(|(key, _)| *key).collect()
    }
}

/// Addresses of a service's servers by all that these are called, see
/// [`lb_model::Server::is_called`].
fn servers_by_name(service: &Service) -> HashMap<String, IpAddr> {
    // From behind: the first one of a name stays.
    let each = service.servers.iter().rev();
    each.flat_map(|server| server.names().map(|name| (name, server.address))).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lb_model::Server;
    use lb_model::overlay::{CLI, NewServer, NewService};

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
        let added = Added::of(&config, &sources, &BTreeMap::from([(3, "it is there already".to_owned())]));
        let keys = [2, 3].map(|index: usize| (config.services[index].key, CLI.to_owned()));
        assert_eq!(added.services, HashMap::from(keys));
        let key = (config.services[0].key, IpAddr::from([192, 0, 2, 22]));
        assert_eq!(added.servers, HashMap::from([(key, CLI.to_owned())]));
    }

    #[test]
    fn of_servers_with_one_name_the_first_is_meant() {
        let mut config = lb_config::parse(FILE, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
        let known = &mut config.services[0].servers;
        // Its name is the other one's address.
        known[0].name = "192.0.2.22".into();
        let server = NewServer { address: "192.0.2.22".into(), ..NewServer::default() };
        let changes = vec![Change::AddServer { service: "web".into(), server }];
        let sources = Overlays::from([(CLI.to_owned(), changes)]);
        let added = Added::of(&config, &sources, &BTreeMap::new());
        let key = (config.services[0].key, IpAddr::from([192, 0, 2, 21]));
        assert_eq!(added.servers, HashMap::from([(key, CLI.to_owned())]));
    }

    /// Each of them is looked up once: a look at all for each would take minutes.
    #[test]
    fn of_thousands_of_servers_at_one_service_each_is_known() {
        let mut config = lb_config::parse(FILE, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
        let addresses = (0..20_000_u32).map(|number| Ipv4Addr::from_bits(0x0a00_0000 + number));
        let addresses: Vec<Ipv4Addr> = addresses.collect();
        let servers = addresses.iter().map(|address| Server::new((*address).into(), 80));
        config.services[0].servers.extend(servers);
        let change = |address: &Ipv4Addr| {
            let server = NewServer { address: address.to_string(), ..NewServer::default() };
            Change::AddServer { service: "web".into(), server }
        };
        let changes = addresses.iter().map(change).collect();
        let sources = Overlays::from([(CLI.to_owned(), changes)]);
        let added = Added::of(&config, &sources, &BTreeMap::new());
        assert_eq!(added.servers.len(), addresses.len());
    }

    #[test]
    fn services_of_a_later_source_are_changed_there() {
        let config = lb_config::parse(FILE, "lb.yaml").unwrap_or_else(|error| panic!("{error}"));
        let sources = Overlays::from([("kubernetes".to_owned(), vec![service("192.0.2.10:53", "udp")])]);
        let added = Added::of(&config, &sources, &BTreeMap::new());
        let names = ServiceNames::of(&config.services);
        let refused = |source: &str, service: &str| {
            let change = Change::RemoveService { service: service.to_owned() };
            added.of_later_source(&names, source, &change)
        };
        let why = refused(CLI, "udp/192.0.2.10:53").expect("it is another's");
        assert_eq!(why, "service udp/192.0.2.10:53 comes from the source kubernetes: change it there");
        assert_eq!(refused("later", "udp/192.0.2.10:53"), None);
        assert_eq!(refused(CLI, "web"), None, "the file's");
        assert_eq!(refused(CLI, "nothing"), None);
        assert_eq!(added.of_later_source(&names, CLI, &service("192.0.2.10:53", "udp")), None);
    }
}
