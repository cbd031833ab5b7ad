//! The ways to servers that are reached by tunnels or by address translation: their routes, and the
//! MACs of the next hops. Pure; `lb_net::routes` and `lb_net::neighbours` find out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_api::findings::{Finding, Kind};
use lb_common::mac::Mac;
use lb_model::{Config, LEAST_MTU_V6, Server, Service};
use lb_net::routes::{Event, Route};

#[derive(Debug, Default)]
pub(super) struct Tunnels {
    /// Of servers that are reached by their routes alone.
    servers: BTreeSet<IpAddr>,
    /// Of servers that other services reach directly.
    mixed: BTreeSet<IpAddr>,
    routes: BTreeMap<IpAddr, Result<Route, String>>,
    /// What the `lb` before this one went by, until this one has looked itself.
    presumed: BTreeMap<IpAddr, Route>,
    /// Of next hops.
    macs: BTreeMap<IpAddr, Mac>,
}

impl Tunnels {
    /// From now on these are the servers with tunnels or address translation, and those that are
    /// reached directly. Returns the addresses whose routes are to be followed.
    pub(super) fn follow(
        &mut self,
        tunnelled: &BTreeSet<IpAddr>,
        direct: &BTreeSet<IpAddr>,
    ) -> BTreeSet<IpAddr> {
        self.servers = tunnelled - direct;
        self.mixed = tunnelled & direct;
        self.routes.retain(|address, _| tunnelled.contains(address));
        self.presumed.retain(|address, _| tunnelled.contains(address));
        tunnelled.clone()
    }

    /// What the `lb` before this one went by is taken to be so.
    pub(super) fn presume(&mut self, server: IpAddr, source: IpAddr, mtu: u32) {
        if !self.routes.contains_key(&server) {
            self.presumed.insert(server, Route { next_hop: server, source, mtu });
        }
    }

    /// Takes in what was found about a route.
    pub(super) fn set_route(&mut self, event: Event) {
        let Event { address, found } = event;
        if !self.servers.contains(&address) && !self.mixed.contains(&address) {
            return;
        }
        let found = found.and_then(|route| match self.mixed.contains(&address) {
            true if route.next_hop != address => Err(format!(
                "the route to {address} leads by {}, but another service reaches this server directly",
                route.next_hop
            )),
            _ => Ok(route),
        });
        self.presumed.remove(&address);
        self.routes.insert(address, found);
    }

    /// The addresses that packets into tunnels are handed to, whose MACs must be known.
    pub(super) fn next_hops(&self) -> BTreeSet<IpAddr> {
        let found = self.servers.iter().filter_map(|server| self.routes.get(server)?.as_ref().ok());
        found.map(|route| route.next_hop).collect()
    }

    /// An address has this MAC. Returns the servers that are reached by way of it.
    pub(super) fn set_mac(&mut self, address: IpAddr, mac: Option<Mac>) -> Vec<IpAddr> {
        match mac {
            Some(mac) => drop(self.macs.insert(address, mac)),
            None => drop(self.macs.remove(&address)),
        }
        let by_it = |server: &&IpAddr| match self.routes.get(*server) {
            Some(Ok(route)) => route.next_hop == address,
            _ => false,
        };
        self.servers.iter().filter(by_it).copied().collect()
    }

    /// Whether the MAC of this address is another one's, of its next hop.
    pub(super) fn is_tunnelled(&self, address: IpAddr) -> bool {
        self.servers.contains(&address)
    }

    /// The MAC of the next hop to the server, if that is known; an error if there is no way to it.
    pub(super) fn mac(&self, server: IpAddr) -> Result<Option<Mac>, ()> {
        match self.routes.get(&server) {
            Some(Ok(route)) => Ok(self.macs.get(&route.next_hop).copied()),
            Some(Err(_)) => Err(()),
            None => Ok(None),
        }
    }

    pub(super) fn route(&self, server: IpAddr) -> Option<Route> {
        match self.routes.get(&server) {
            Some(found) => found.as_ref().ok().copied(),
            None => self.presumed.get(&server).copied(),
        }
    }

    /// Why nothing gets to the server.
    pub(super) fn trouble(&self, server: IpAddr) -> Option<&str> {
        self.routes.get(&server)?.as_ref().err().map(String::as_str)
    }

    /// The address whose MAC is asked for.
    pub(super) fn next_hop(&self, server: IpAddr) -> IpAddr {
        self.route(server).map_or(server, |route| route.next_hop)
    }

    /// What is wrong with the ways to the configuration's servers.
    pub(super) fn findings(&self, config: &Config) -> Vec<Finding> {
        let mut findings = BTreeMap::new();
        for service in &config.services {
            for server in &service.servers {
                if let Some((text, mend)) = self.wrong(service, server, &config.interface) {
                    let subject = server.address.to_string();
                    let finding =
                        Finding { kind: Kind::TunnelUnusable, subject: subject.clone(), text, mend };
                    findings.entry(subject).or_insert(finding);
                }
            }
        }
        findings.into_values().collect()
    }

    fn wrong(&self, service: &Service, server: &Server, interface: &str) -> Option<(String, String)> {
        let (name, address) = (&server.name, server.address);
        if let Some(trouble) = self.trouble(address).filter(|_| server.is_routed()) {
            let text = match server.tunnel {
                Some(tunnel) => {
                    format!("the {} tunnel to {name} cannot be used: {trouble}", tunnel.kind.name())
                }
                None => format!("{name} cannot be reached by address translation: {trouble}"),
            };
            let mend = format!("`ip route get {address}` shows the route, which must leave by {interface}");
            return Some((text, mend));
        }
        let tunnel = server.tunnel?;
        let kind = tunnel.kind.name();
        let mtu = self.route(address)?.mtu;
        let room = mtu.saturating_sub(tunnel.kind.overhead(address.is_ipv4()) as u32);
        (service.key.vip.is_ipv6() && room < LEAST_MTU_V6).then(|| {
            let text = format!(
                "the {kind} tunnel to {name} carries packets of {room} bytes at most, because the MTU of its route is \
                 {mtu}, and IPv6 clients may send {LEAST_MTU_V6}"
            );
            (text, format!("raise the MTU of {interface} or of the route"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn found(server: &str, next_hop: &str) -> Event {
        let route = Route { next_hop: address(next_hop), source: address("192.0.2.5"), mtu: 1500 };
        Event { address: address(server), found: Ok(route) }
    }

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn set<const N: usize>(addresses: [&str; N]) -> BTreeSet<IpAddr> {
        addresses.into_iter().map(address).collect()
    }

    #[test]
    fn servers_behind_a_router_have_its_mac() {
        let (near, far, other) = ("192.0.2.21", "198.51.100.7", "198.51.100.8");
        let mut tunnels = Tunnels::default();
        assert_eq!(tunnels.follow(&set([near, far, other]), &set([])), set([near, far, other]));
        assert_eq!((tunnels.next_hops(), tunnels.route(address(far))), (set([]), None));
        tunnels.set_route(found(near, near));
        tunnels.set_route(found(far, "192.0.2.1"));
        tunnels.set_route(found(other, "192.0.2.1"));
        assert_eq!(tunnels.next_hops(), set([near, "192.0.2.1"]));
        let by_router = tunnels.set_mac(address("192.0.2.1"), Some(MAC));
        assert_eq!(by_router, [far, other].map(address));
        assert_eq!([near, far].map(|server| tunnels.mac(address(server))), [Ok(None), Ok(Some(MAC))]);
        assert_eq!(tunnels.set_mac(address(near), Some(MAC)), [address(near)]);
        let gone = Event { address: address(far), found: Err("no route".to_owned()) };
        tunnels.set_route(gone);
        assert_eq!((tunnels.mac(address(far)), tunnels.trouble(address(far))), (Err(()), Some("no route")));
        assert_eq!(tunnels.route(address(far)), None);
        tunnels.follow(&set([]), &set([]));
        assert_eq!(tunnels.next_hops(), set([]));
    }

    #[test]
    fn a_server_that_is_reached_directly_too_must_be_on_the_segment() {
        let server = "192.0.2.21";
        let mut tunnels = Tunnels::default();
        tunnels.follow(&set([server]), &set([server]));
        tunnels.set_route(found(server, "192.0.2.1"));
        assert!(tunnels.trouble(address(server)).is_some_and(|text| text.contains("directly")));
        tunnels.set_route(found(server, server));
        assert!(tunnels.route(address(server)).is_some() && !tunnels.is_tunnelled(address(server)));
        assert_eq!(tunnels.next_hops(), set([]), "its own MAC is asked for anyway");
    }

    #[test]
    fn what_was_known_holds_until_the_first_look() {
        let server = address("198.51.100.7");
        let mut tunnels = Tunnels::default();
        tunnels.follow(&[server].into(), &set([]));
        tunnels.presume(server, address("192.0.2.9"), 1400);
        assert_eq!(tunnels.route(server).map(|route| route.mtu), Some(1400));
        assert_eq!(tunnels.next_hops(), set([]), "nobody is asked for what is presumed");
        tunnels.set_route(found("198.51.100.7", "192.0.2.1"));
        assert_eq!(tunnels.route(server).map(|route| route.mtu), Some(1500));
        tunnels.presume(server, address("192.0.2.9"), 1400);
        assert_eq!(tunnels.route(server).map(|route| route.mtu), Some(1500));
    }

    #[test]
    fn a_tunnel_that_cannot_be_used_is_told_with_the_mend() {
        let text = "
interface: eth0
services:
  - { vip: '192.0.2.10:80', servers: [{ name: www1, address: 198.51.100.7, forward: gue }] }
  - { vip: '[2001:db8::10]:80', servers: [{ name: www1, address: 198.51.100.7, forward: ipip }] }
";
        let config = lb_config::parse(text, "test.yaml").expect("a configuration");
        let server = address("198.51.100.7");
        let mut tunnels = Tunnels::default();
        tunnels.follow(&[server].into(), &set([]));
        assert_eq!(tunnels.findings(&config), []);
        tunnels.set_route(Event { address: server, found: Err("no route to it".to_owned()) });
        let [finding] = &tunnels.findings(&config)[..] else { panic!("one finding") };
        assert_eq!(finding.text, "the gue tunnel to www1 cannot be used: no route to it");
        assert!(finding.mend.contains("ip route get 198.51.100.7"), "{}", finding.mend);
        let narrow = Route { next_hop: server, source: server, mtu: 1299 };
        tunnels.set_route(Event { address: server, found: Ok(narrow) });
        let [finding] = &tunnels.findings(&config)[..] else { panic!("one finding") };
        assert!(
            finding.text.starts_with("the ipip tunnel to www1 carries packets of 1279 bytes"),
            "{}",
            finding.text
        );
        tunnels.set_route(Event { address: server, found: Ok(Route { mtu: 1300, ..narrow }) });
        assert_eq!(tunnels.findings(&config), []);
    }
}
