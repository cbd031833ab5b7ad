//! From configuration, health and MACs to what the data path shall hold: pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use lb_common::lease::MAX_GROUPS;

use crate::config::{self, Config, Fallback, Group, ServiceKey};
use crate::observe::view::Health;
use crate::plan::{Server, Service, Settings, State, Target};

/// What is known of the servers besides the configuration.
pub trait Knowledge {
    fn health(&self, service: &config::Service, server: IpAddr) -> Health;
    fn mac(&self, server: IpAddr) -> Option<[u8; 6]>;
    /// Servers that left the configuration and still serve the connections they have.
    fn draining(&self, service: &ServiceKey) -> Vec<IpAddr>;
}

/// What the data path shall hold.
pub fn state(config: &Config, knowledge: &impl Knowledge) -> State {
    let services: BTreeMap<ServiceKey, Service> = config
        .services
        .iter()
        .map(|service| {
            let group = config.group_of(service.key.vip).filter(|group| LEASES.contains(group));
            (service.key, self::service(service, group, knowledge))
        })
        .collect();
    State { services }
}

/// Numbers of the groups that have a lease. There are more only without a cluster, where no lease ever ends.
const LEASES: Range<u8> = 0..MAX_GROUPS as u8;

/// The VIPs that are under a lease, each with the number of its group.
pub fn vips(groups: &[Group]) -> Vec<(IpAddr, u8)> {
    let numbered = groups.iter().zip(LEASES);
    numbered.flat_map(|(group, number)| group.vips.iter().map(move |vip| (vip.address, number))).collect()
}

fn service(service: &config::Service, group: Option<u8>, knowledge: &impl Knowledge) -> Service {
    let mut servers: Vec<Server> = service
        .servers
        .iter()
        .map(|server| {
            let mac = knowledge.mac(server.address);
            let healthy = matches!(knowledge.health(service, server.address), Health::Up | Health::Unchecked);
            Server {
                target: Target::Real(server.address),
                weight: server.weight,
                mac,
                usable: healthy && mac.is_some(),
            }
        })
        .collect();
    servers.extend(knowledge.draining(&service.key).into_iter().map(|address| Server {
        target: Target::Real(address),
        weight: 0,
        mac: knowledge.mac(address),
        usable: false,
    }));
    if service.fallback == Fallback::Local {
        let needed = !servers.iter().any(|server| server.usable && server.weight > 0);
        servers.push(Server { target: Target::Local, weight: 1, mac: None, usable: needed });
    }
    Service {
        settings: Settings { stray: service.stray, timeouts: service.timeouts, group },
        scheduler: service.scheduler,
        servers,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::config::{Failback, GroupVip, Protocol, Timeouts};

    struct Facts {
        health: Health,
        mac: Option<[u8; 6]>,
        draining: Vec<IpAddr>,
    }

    impl Knowledge for Facts {
        fn health(&self, _: &config::Service, _: IpAddr) -> Health {
            self.health
        }
        fn mac(&self, _: IpAddr) -> Option<[u8; 6]> {
            self.mac
        }
        fn draining(&self, _: &ServiceKey) -> Vec<IpAddr> {
            self.draining.clone()
        }
    }

    const WWW1: IpAddr = IpAddr::V4(Ipv4Addr::new(211, 58, 250, 25));
    const WWW2: IpAddr = IpAddr::V4(Ipv4Addr::new(211, 58, 250, 27));
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 25];

    fn web(weight: u16, fallback: Fallback) -> config::Service {
        let vip = IpAddr::V4(Ipv4Addr::new(211, 58, 250, 6));
        let key = ServiceKey { vip, port: 80, protocol: Protocol::Tcp };
        let server = config::Server { weight, ..config::Server::new(WWW1, 80) };
        config::Service { fallback, servers: vec![server], ..config::Service::new("web".to_owned(), key) }
    }

    /// A director of this service.
    fn config(service: &config::Service) -> Config {
        Config {
            interface: "eth0".to_owned(),
            connections: 1,
            control: config::Control { socket: "/run/lb/lb.sock".into() },
            metrics: None,
            timeouts: Timeouts::default(),
            maintenance: "/var/lib/lb/maintenance".into(),
            cluster: None,
            groups: Vec::new(),
            services: vec![service.clone()],
        }
    }

    fn members(service: &config::Service, facts: &Facts) -> Vec<Target> {
        let state = state(&config(service), facts);
        state.services[&service.key].members().map(|server| server.target).collect()
    }

    #[test]
    fn a_server_takes_new_connections_when_healthy_and_reachable() {
        let service = web(1, Fallback::None);
        for (health, mac, expected) in [
            (Health::Up, Some(MAC), vec![Target::Real(WWW1)]),
            (Health::Unchecked, Some(MAC), vec![Target::Real(WWW1)]),
            (Health::Up, None, vec![]),
            (Health::Down, Some(MAC), vec![]),
            (Health::Unknown, Some(MAC), vec![]),
        ] {
            let facts = Facts { health, mac, draining: vec![] };
            assert_eq!(members(&service, &facts), expected, "{health:?} {mac:?}");
        }
    }

    #[test]
    fn the_fallback_serves_exactly_while_nobody_else_does() {
        let up = Facts { health: Health::Up, mac: Some(MAC), draining: vec![] };
        let down = Facts { health: Health::Down, mac: Some(MAC), draining: vec![] };
        assert_eq!(members(&web(1, Fallback::Local), &up), vec![Target::Real(WWW1)]);
        assert_eq!(members(&web(1, Fallback::Local), &down), vec![Target::Local]);
        assert_eq!(members(&web(0, Fallback::Local), &up), vec![Target::Local], "weight 0 takes nothing new");
    }

    #[test]
    fn a_draining_server_keeps_its_mac_and_takes_nothing_new() {
        let facts = Facts { health: Health::Up, mac: Some(MAC), draining: vec![WWW2] };
        let service = web(1, Fallback::None);
        let state = state(&config(&service), &facts);
        let draining = state.services[&service.key].server(Target::Real(WWW2)).unwrap();
        assert_eq!((draining.usable, draining.mac), (false, Some(MAC)));
    }

    #[test]
    fn a_service_is_under_the_lease_of_the_group_that_holds_its_vip() {
        let service = web(1, Fallback::None);
        let group = |addresses: &[IpAddr]| Group {
            name: "group".to_owned(),
            vips: addresses.iter().map(|address| GroupVip { address: *address, prefix: 32 }).collect(),
            label: None,
            refresh: Duration::ZERO,
            nodes: Vec::new(),
            failback: Failback::Manual,
        };
        let facts = Facts { health: Health::Unknown, mac: None, draining: vec![] };
        let mut config = config(&service);
        let group_of = |config: &Config| state(config, &facts).services[&service.key].settings.group;
        assert_eq!(group_of(&config), None);
        config.groups = vec![group(&[WWW1]), group(&[WWW2, service.key.vip])];
        assert_eq!(group_of(&config), Some(1));
        assert_eq!(vips(&config.groups), [(WWW1, 0), (WWW2, 1), (service.key.vip, 1)]);
        config.groups.splice(0..0, vec![group(&[]); 300]);
        assert_eq!((group_of(&config), vips(&config.groups)), (None, vec![]), "more groups than leases");
    }
}
