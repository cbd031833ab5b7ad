//! The ways back to clients of what servers send that are reached by address translation: the
//! host's routes by the interfaces that packets come in by, and into the VLANs that clients are in,
//! and the MACs of their gateways. Pure; `lb_net` finds out.
//!
//! There is no way to clients in the networks of servers behind an interface that no packets come
//! in by: what is sent to them would leave by the wrong one.
//!
//! Of a client on the segment the kernel need not know the MAC, because its packets do not reach
//! the kernel: the program remembers it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_api::findings::{Finding, Kind};
use lb_common::addr::V6;
use lb_common::forward::nat::{Hop, MOST_ROUTES, Route, mask};
use lb_common::mac::Mac;
use lb_model::Config;
use lb_net::routes::{By, Table, TableRoute};

#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Short prefixes first, without those that lead where shorter ones lead anyway. `None`: not
    /// known yet.
    routes: Option<Vec<TableRoute>>,
    /// By the interface that they are asked by; `None`: the main one.
    macs: BTreeMap<(Option<u32>, IpAddr), Mac>,
    changed: bool,
}

impl Clients {
    pub(super) fn set_table(&mut self, Table(mut routes): Table) {
        routes.sort_by_key(|route| route.length);
        let mut kept: Vec<TableRoute> = Vec::new();
        for route in routes {
            let shorter = longest(&kept, route.prefix);
            let way = |route: &TableRoute| (route.gateway, route.by);
            if shorter.is_none_or(|shorter| way(shorter) != way(&route)) {
                kept.push(route);
            }
        }
        self.changed |= self.routes.as_ref() != Some(&kept);
        self.routes = Some(kept);
    }

    /// An address has this MAC, on the segment of the interface with this index; `None`: the main
    /// one's. Returns whether packets to clients go by it.
    pub(super) fn set_mac(&mut self, interface: Option<u32>, address: IpAddr, mac: Option<Mac>) -> bool {
        let key = (interface, address);
        let before = match mac {
            Some(mac) => self.macs.insert(key, mac),
            None => self.macs.remove(&key),
        };
        let concerned = before != mac && self.gateways().any(|gateway| gateway == key);
        self.changed |= concerned;
        concerned
    }

    /// Each with the interface that it is asked by.
    fn gateways(&self) -> impl Iterator<Item = (Option<u32>, IpAddr)> {
        self.routes.iter().flatten().filter_map(gateway)
    }

    /// The gateways, whose MACs must be known, by the interface that they are asked by; `None`: the
    /// main one.
    pub(super) fn next_hops(&self) -> BTreeMap<Option<u32>, BTreeSet<IpAddr>> {
        let mut hops: BTreeMap<_, BTreeSet<IpAddr>> = BTreeMap::new();
        for (interface, address) in self.gateways() {
            hops.entry(interface).or_default().insert(address);
        }
        hops
    }

    /// The mask of the addresses that reach this one without the director, as far as the host's
    /// routes tell: of one behind a router its own alone.
    pub(super) fn subnet(&self, address: IpAddr) -> V6 {
        let route = longest(self.routes.as_deref().unwrap_or_default(), address);
        match route.filter(|route| route.gateway.is_none()) {
            Some(route) => mask(address, route.length),
            None => mask(address, 128),
        }
    }

    /// What the data path shall hold, if that has changed.
    pub(super) fn take_changed(&mut self) -> Option<Vec<Route>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let hop = |route: &TableRoute| match gateway(route) {
            None if route.by == By::Servers => Hop::NONE,
            None => Hop::ON_LINK,
            Some(key) => self.macs.get(&key).map_or(Hop::NONE, |mac| Hop::by(*mac)),
        };
        let mut room: Vec<&TableRoute> = self.routes.iter().flatten().take(MOST_ROUTES as usize).collect();
        // The default route of IPv6 would lead to IPv4 addresses, too.
        room.sort_by_key(|route| (route.prefix.is_ipv6(), Reverse(route.length)));
        let routes = room.into_iter().map(|route| Route {
            prefix: route.prefix.into(),
            mask: mask(route.prefix, route.length),
            hop: hop(route),
            device: if let By::Other(device) = route.by { device } else { 0 },
            vlan: route.by.vlan(),
        });
        Some(routes.collect())
    }

    /// What is wrong with the ways back.
    pub(super) fn finding(&self, config: &Config) -> Option<Finding> {
        let routes = self.routes.as_ref()?;
        let servers = || config.services.iter().flat_map(|service| &service.servers);
        let has_masq = |is_ipv4| servers().any(|server| server.masq && server.address.is_ipv4() == is_ipv4);
        let found = |text: String, mend: &str| {
            let (kind, subject) = (Kind::NoWayBack, config.interface.clone());
            Some(Finding { kind, subject, text, mend: mend.to_owned() })
        };
        if servers().any(|server| server.masq) && routes.len() > MOST_ROUTES as usize {
            let text = format!(
                "the host has {} routes by {} that lead elsewhere than shorter ones, and what servers of `forward: masq` \
                 send is sent to clients by the {MOST_ROUTES} of shortest prefix",
                routes.len(),
                config.interface
            );
            return found(text, "summarise the host's routes");
        }
        let (_, silent) =
            self.gateways().find(|key| has_masq(key.1.is_ipv4()) && !self.macs.contains_key(key))?;
        let text = format!(
            "the router {silent} does not answer, so what servers of `forward: masq` send does not get to the clients behind it"
        );
        found(text, "`ip route` shows the host's routes; is the router up?")
    }
}

/// The route's gateway, with the interface that it is asked by.
fn gateway(route: &TableRoute) -> Option<(Option<u32>, IpAddr)> {
    Some((route.by.interface(), route.gateway?))
}

/// The route that an address takes.
fn longest(routes: &[TableRoute], address: IpAddr) -> Option<&TableRoute> {
    let leads = |route: &&TableRoute| {
        let mask = mask(route.prefix, route.length);
        let route = Route { prefix: route.prefix.into(), mask, ..Route::UNSET };
        route.leads_to(address.into())
    };
    let family = routes.iter().filter(|route| route.prefix.is_ipv4() == address.is_ipv4());
    family.filter(leads).max_by_key(|route| route.length)
}

#[cfg(test)]
mod tests {
    use lb_model::Vlan;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn route(prefix: &str, length: u8, gateway: Option<&str>) -> TableRoute {
        TableRoute { prefix: address(prefix), length, gateway: gateway.map(address), by: By::Main }
    }

    const ROUTER: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn clients() -> Clients {
        let mut clients = Clients::default();
        clients.set_table(Table(vec![
            route("0.0.0.0", 0, Some("192.0.2.1")),
            route("10.0.0.0", 8, Some("192.0.2.1")),
            route("10.1.0.0", 16, Some("192.0.2.2")),
            route("192.0.2.0", 24, None),
            route("::", 0, Some("fe80::1")),
            route("2001:db8::", 64, None),
        ]));
        clients
    }

    fn hop(routes: &[Route], to: &str) -> Hop {
        let to = V6::from(address(to));
        routes.iter().find(|route| route.leads_to(to)).map_or(Hop::NONE, |route| route.hop)
    }

    #[test]
    fn packets_go_by_the_longest_prefix() {
        let mut clients = clients();
        let gateways: BTreeSet<IpAddr> = ["192.0.2.1", "192.0.2.2", "fe80::1"].map(address).into();
        assert_eq!(clients.next_hops(), [(None, gateways)].into());
        assert!(clients.set_mac(None, address("192.0.2.1"), Some(ROUTER)));
        assert!(!clients.set_mac(None, address("192.0.2.77"), Some(ROUTER)), "nobody's gateway");
        assert!(!clients.set_mac(Some(9), address("192.0.2.1"), Some(ROUTER)), "on another segment");
        let routes = clients.take_changed().expect("it is new");
        assert_eq!(routes.len(), 5, "what leads where a shorter one leads is none");
        for (to, expected) in [
            ("198.51.100.1", Hop::by(ROUTER)),
            ("10.9.9.9", Hop::by(ROUTER)),
            ("10.1.2.3", Hop::NONE),
            ("192.0.2.7", Hop::ON_LINK),
            ("2001:db8::7", Hop::ON_LINK),
            ("2001:db8:1::7", Hop::NONE),
        ] {
            assert_eq!(hop(&routes, to), expected, "{to}");
        }
        assert_eq!(clients.take_changed(), None);
        assert!(clients.set_mac(None, address("192.0.2.1"), None));
        assert_eq!(hop(&clients.take_changed().expect("changed"), "10.9.9.9"), Hop::NONE);
    }

    #[test]
    fn the_subnet_of_a_server_is_that_of_its_route() {
        let clients = clients();
        let near = |server: &str, client: &str| {
            let subnet = clients.subnet(address(server));
            lb_datapath::plan::nat::translation(address(server), 80, subnet).is_near(address(client).into())
        };
        assert!(near("192.0.2.21", "192.0.2.99") && !near("192.0.2.21", "192.0.3.1"));
        assert!(!near("10.1.0.7", "10.1.0.8") && near("10.1.0.7", "10.1.0.7"), "behind a router");
        assert!(near("2001:db8::7", "2001:db8::8") && !near("2001:db8::7", "2001:db8:1::8"));
    }

    #[test]
    fn the_network_of_a_server_behind_another_interface_is_near_it_and_no_way_leads_there() {
        let elsewhere = |prefix, length| TableRoute { by: By::Servers, ..route(prefix, length, None) };
        let mut clients = Clients::default();
        clients.set_table(Table(vec![
            route("0.0.0.0", 0, Some("192.0.2.1")),
            route("10.0.0.0", 8, None),
            elsewhere("10.20.0.0", 16),
            route("192.0.2.0", 24, None),
        ]));
        clients.set_mac(None, address("192.0.2.1"), Some(ROUTER));
        let server = address("10.20.0.21");
        let translation = lb_datapath::plan::nat::translation(server, 80, clients.subnet(server));
        let is_near = |client| translation.is_near(address(client).into());
        assert_eq!(["10.20.9.9", "10.21.0.1", "198.51.100.1"].map(is_near), [true, false, false]);
        let routes = clients.take_changed().expect("it is new");
        for (to, expected) in
            [("10.20.9.9", Hop::NONE), ("10.21.0.1", Hop::ON_LINK), ("198.51.100.1", Hop::by(ROUTER))]
        {
            assert_eq!(hop(&routes, to), expected, "{to}");
        }
    }

    #[test]
    fn clients_are_reached_by_the_interface_and_the_vlan_that_their_route_says() {
        const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
        let by = |by, prefix, length, gateway| TableRoute { by, ..route(prefix, length, gateway) };
        let ten = By::Vlan { interface: 9, vlan: Vlan::single(10) };
        let mut clients = Clients::default();
        clients.set_table(Table(vec![
            route("0.0.0.0", 0, Some("192.0.2.1")),
            by(ten, "0.0.0.0", 0, Some("192.0.2.1")),
            by(By::Other(8), "203.0.113.0", 24, None),
            by(By::Other(8), "198.51.100.0", 24, Some("203.0.113.1")),
        ]));
        let hops = [(None, "192.0.2.1"), (Some(8), "203.0.113.1"), (Some(9), "192.0.2.1")];
        let expected = hops.map(|(interface, one)| (interface, BTreeSet::from([address(one)])));
        assert_eq!(clients.next_hops(), expected.into());
        assert!(clients.set_mac(None, address("192.0.2.1"), Some(ROUTER)));
        assert!(clients.set_mac(Some(9), address("192.0.2.1"), Some(OTHER)));
        let routes = clients.take_changed().expect("it is new");
        let told = |to: &str, vlan: Vlan| {
            let leads = |route: &&Route| route.vlan == vlan && route.leads_to(address(to).into());
            routes.iter().find(leads).map(|route| (route.hop, route.device))
        };
        assert_eq!(told("10.1.1.1", Vlan::UNTAGGED), Some((Hop::by(ROUTER), 0)));
        assert_eq!(told("10.1.1.1", Vlan::single(10)), Some((Hop::by(OTHER), 0)));
        assert_eq!(told("203.0.113.9", Vlan::UNTAGGED), Some((Hop::ON_LINK, 8)));
        assert_eq!(told("198.51.100.9", Vlan::UNTAGGED), Some((Hop::NONE, 8)), "its router is silent");
    }

    #[test]
    fn a_silent_router_is_told() {
        let text = "
interface: eth0
services:
  - { vip: '192.0.2.10:80', servers: [{ address: '198.51.100.7:8080', forward: masq }] }
";
        let config = lb_config::parse(text, "test.yaml").expect("a configuration");
        let mut clients = clients();
        clients.set_mac(None, address("192.0.2.1"), Some(ROUTER));
        let finding = clients.finding(&config).expect("a finding");
        assert!(finding.text.contains("the router 192.0.2.2 does not answer"), "{}", finding.text);
        clients.set_mac(None, address("192.0.2.2"), Some(ROUTER));
        assert_eq!(clients.finding(&config), None);
        assert_eq!(Clients::default().finding(&config), None, "nothing is known yet");
    }
}
