//! The ways to servers: by which interface, and where there is a tunnel or address translation by
//! which route; and the MACs of the next hops. Pure; `lb_net::routes` and `lb_net::neighbours` find
//! out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_api::findings::{Finding, Kind};
use lb_common::forward::egress::{Egress, TPID};
use lb_common::mac::Mac;
use lb_datapath::plan::egress::{self, Exit};
use lb_model::{Config, LEAST_MTU_V6, Server, Service};
use lb_net::links;
use lb_net::routes::{Event, Route, Want};

#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Index of the interface of the VIPs.
    main: u32,
    /// Those of the others that packets come in by.
    others: BTreeSet<u32>,
    /// All servers but other directors.
    wanted: BTreeMap<IpAddr, Want>,
    /// Servers that go by their routes, and that other services reach directly.
    mixed: BTreeSet<IpAddr>,
    /// Servers behind address translation.
    masq: BTreeSet<IpAddr>,
    routes: BTreeMap<IpAddr, Result<Route, String>>,
    /// What the `lb` before this one went by, until this one has looked itself.
    presumed: BTreeMap<IpAddr, Route>,
    /// Of next hops, by the interface that they are asked by.
    macs: BTreeMap<(u32, IpAddr), Mac>,
}

/// By interface, the addresses whose MACs must be known there.
pub(super) type NextHops = BTreeMap<u32, BTreeSet<IpAddr>>;

impl Ways {
    /// The interface of the VIPs has this index, and the others that packets come in by have these.
    pub(super) fn set_interfaces(&mut self, main: u32, others: BTreeSet<u32>) {
        (self.main, self.others) = (main, others);
    }

    /// Indices of the interfaces besides the main one that packets come in by.
    pub(super) const fn others(&self) -> &BTreeSet<u32> {
        &self.others
    }

    /// From now on these are the servers. Returns what is to be found out about them.
    pub(super) fn follow<'a>(
        &mut self,
        servers: impl Iterator<Item = &'a Server>,
        nodes: &BTreeSet<IpAddr>,
    ) -> BTreeMap<IpAddr, Want> {
        self.wanted.clear();
        self.mixed.clear();
        self.masq.clear();
        // Directors hand packets to each other on the segment of the VIPs.
        for server in servers.filter(|server| !nodes.contains(&server.address)) {
            let routed = server.is_routed();
            let new = || Want { routed, interface: None };
            let want = self.wanted.entry(server.address).or_insert_with(new);
            if want.routed != routed {
                want.routed = true;
                self.mixed.insert(server.address);
            }
            if server.masq {
                self.masq.insert(server.address);
            }
            if want.interface.is_none() {
                want.interface.clone_from(&server.interface);
            }
        }
        self.routes.retain(|address, _| self.wanted.contains_key(address));
        self.presumed.retain(|address, _| self.wanted.contains_key(address));
        self.wanted.clone()
    }

    /// What the `lb` before this one went by is taken to be so: of a tunnel its source and MTU, and
    /// how packets left.
    pub(super) fn presume(&mut self, server: IpAddr, tunnel: Option<(IpAddr, u32)>, egress: Option<&Egress>) {
        if self.routes.contains_key(&server) {
            return;
        }
        let exit = egress.map_or(self.here(), egress::exit);
        let (device, mac) = exit.other.unwrap_or((self.main, Mac::NONE));
        let Exit { vlan, tpid, mtu, .. } = exit;
        let exit = links::Exit { interface: device, device, mac, vlan, tpid, mtu };
        let (source, mtu) = tunnel.map_or((None, mtu), |(source, mtu)| (Some(source), mtu));
        self.presumed.insert(server, Route { next_hop: server, source, mtu, exit });
    }

    /// Takes in what was found about a route.
    pub(super) fn set_route(&mut self, event: Event) {
        let Event { address, found } = event;
        if !self.wanted.contains_key(&address) {
            return;
        }
        let found = found.and_then(|route| match self.mixed.contains(&address) {
            true if route.next_hop != address => Err(format!(
                "the route to {address} leads by {}, but another service reaches this server directly",
                route.next_hop
            )),
            _ => match self.untranslated(address, &route.exit) {
                Some(why) => Err(format!("the route to {address} {why}")),
                None => Ok(route),
            },
        });
        self.presumed.remove(&address);
        self.routes.insert(address, found);
    }

    /// Why what a server that is reached by address translation sends would not be translated back;
    /// `None` also of any other server.
    fn untranslated(&self, server: IpAddr, exit: &links::Exit) -> Option<&'static str> {
        let links::Exit { interface, device, .. } = *exit;
        // Of a VLAN device the program may be on the device below, and sees the tag.
        let comes_in = device == self.main || [device, interface].iter().any(|one| self.others.contains(one));
        (self.masq.contains(&server) && !comes_in).then_some(
            "leaves by an interface that lb takes no packets from yet: restart lb; if nothing names that one, name it as \
             `interface` of the server, or in `interfaces`",
        )
    }

    /// The interfaces besides the main one that servers of address translation are behind; `None`:
    /// there are no such servers.
    pub(super) fn translated(&self) -> Option<BTreeSet<u32>> {
        let routes = self.masq.iter().filter_map(|server| self.routes.get(server)?.as_ref().ok());
        let others = routes.map(|route| route.exit.interface).filter(|interface| *interface != self.main);
        (!self.masq.is_empty()).then(|| others.collect())
    }

    /// The addresses that packets are handed to, but for servers on the segment of the VIPs.
    pub(super) fn next_hops(&self) -> NextHops {
        let mut hops = NextHops::new();
        for server in self.wanted.keys().filter(|server| self.is_elsewhere(**server)) {
            if let Some(Ok(route)) = self.routes.get(server) {
                hops.entry(route.exit.interface).or_default().insert(route.next_hop);
            }
        }
        hops
    }

    /// An address has this MAC, on the segment of this interface. Returns the servers that are
    /// reached by way of it.
    pub(super) fn set_mac(&mut self, interface: u32, address: IpAddr, mac: Option<Mac>) -> Vec<IpAddr> {
        let key = (interface, address);
        match mac {
            Some(mac) => drop(self.macs.insert(key, mac)),
            None => drop(self.macs.remove(&key)),
        }
        let by_it = |server: &&IpAddr| match self.routes.get(*server) {
            Some(Ok(route)) => (route.exit.interface, route.next_hop) == key,
            _ => false,
        };
        let servers = self.wanted.keys().filter(|server| self.is_elsewhere(**server));
        servers.filter(by_it).copied().collect()
    }

    /// Whether the server is reached in another way than directly on the segment of the VIPs: its
    /// MAC is that of its next hop, on the segment of the interface that it is behind.
    pub(super) fn is_elsewhere(&self, address: IpAddr) -> bool {
        let Some(want) = self.wanted.get(&address) else { return false };
        if want.routed && !self.mixed.contains(&address) {
            return true;
        }
        match self.routes.get(&address) {
            Some(Ok(route)) => route.exit.interface != self.main,
            Some(Err(_)) => want.interface.is_some(),
            None => self
                .presumed
                .get(&address)
                .is_some_and(|route| route.exit.device != self.main || route.exit.vlan.is_some()),
        }
    }

    /// Whether all that is known of the way is what the `lb` before this one went by.
    pub(super) fn is_presumed(&self, server: IpAddr) -> bool {
        self.presumed.contains_key(&server)
    }

    /// The MAC of the next hop to the server, if that is known; an error if there is no way to it.
    pub(super) fn mac(&self, server: IpAddr) -> Result<Option<Mac>, ()> {
        match self.routes.get(&server) {
            Some(Ok(route)) => Ok(self.macs.get(&(route.exit.interface, route.next_hop)).copied()),
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

    /// By which interface packets leave to the server.
    pub(super) fn exit(&self, server: IpAddr) -> Exit {
        let Some(Route { exit, .. }) = self.route(server) else { return self.here() };
        let links::Exit { interface: _, device, mac, vlan, tpid, mtu } = exit;
        Exit { other: (device != self.main).then_some((device, mac)), vlan, tpid, mtu }
    }

    /// Index of the interface that the server is behind, where that is another one than the main
    /// one, or a VLAN device on it.
    pub(super) fn interface(&self, server: IpAddr) -> Option<u32> {
        let exit = self.route(server)?.exit;
        (exit.device != self.main || exit.vlan.is_some()).then_some(exit.interface)
    }

    /// Indices of the other devices by which packets leave: to servers, and back to clients.
    pub(super) fn other_devices(&self) -> BTreeSet<u32> {
        let devices = self.routes.values().flatten().map(|route| route.exit.device);
        let to_clients = self.others.iter().copied().filter(|_| !self.masq.is_empty());
        devices.filter(|device| *device != self.main).chain(to_clients).collect()
    }

    /// As they come in.
    const fn here(&self) -> Exit {
        Exit { other: None, vlan: None, tpid: TPID, mtu: 0 }
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
                let found = match server.is_routed() {
                    true => self.wrong_route(service, server),
                    false => self.wrong_interface(server),
                };
                if let Some(finding) = found {
                    findings.entry((finding.kind, finding.subject.clone())).or_insert(finding);
                }
            }
        }
        findings.into_values().collect()
    }

    fn wrong_route(&self, service: &Service, server: &Server) -> Option<Finding> {
        let (name, address) = (&server.name, server.address);
        let finding =
            |text, mend| Finding { kind: Kind::TunnelUnusable, subject: address.to_string(), text, mend };
        if let Some(trouble) = self.trouble(address) {
            let text = match server.tunnel {
                Some(tunnel) => {
                    format!("the {} tunnel to {name} cannot be used: {trouble}", tunnel.kind.name())
                }
                None => format!("{name} cannot be reached by address translation: {trouble}"),
            };
            return Some(finding(text, format!("`ip route get {address}` shows the route")));
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
            finding(text, "raise the MTU of the route, or of the interface that it leaves by".to_owned())
        })
    }

    fn wrong_interface(&self, server: &Server) -> Option<Finding> {
        let (name, address) = (&server.name, server.address);
        let trouble = self.trouble(address)?;
        let mend = match &server.interface {
            Some(interface) => {
                format!("`ip link show {interface}` tells more; or set another `interface` for {name}")
            }
            None => format!(
                "`ip route get {address}` shows the interface; `interface` of {name} names another one"
            ),
        };
        Some(Finding {
            kind: Kind::InterfaceUnusable,
            subject: address.to_string(),
            text: format!("no packets get to {name}: {trouble}"),
            mend,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    const MAIN: u32 = 2;
    const OTHER: u32 = 3;
    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn exit(interface: u32) -> links::Exit {
        links::Exit { interface, device: interface, mac: MAC, vlan: None, tpid: TPID, mtu: 1500 }
    }

    fn found_by(interface: u32, server: &str, next_hop: &str) -> Event {
        let source = Some(address("192.0.2.5"));
        let route = Route { next_hop: address(next_hop), source, mtu: 1500, exit: exit(interface) };
        Event { address: address(server), found: Ok(route) }
    }

    fn found(server: &str, next_hop: &str) -> Event {
        found_by(MAIN, server, next_hop)
    }

    fn server(text: &str, tunnel: bool) -> Server {
        let tunnel = tunnel.then_some(lb_model::Tunnel::new(lb_model::TunnelKind::Ipip));
        Server { tunnel, ..Server::new(address(text), 80) }
    }

    fn ways(servers: &[Server]) -> Ways {
        let mut ways = Ways::default();
        ways.set_interfaces(MAIN, BTreeSet::new());
        ways.follow(servers.iter(), &BTreeSet::new());
        ways
    }

    fn hops(hops: &[(u32, &[&str])]) -> NextHops {
        let each = hops.iter();
        each.map(|(interface, all)| (*interface, all.iter().map(|one| address(one)).collect())).collect()
    }

    #[test]
    fn servers_behind_a_router_have_its_mac() {
        let (near, far, other) = ("192.0.2.21", "198.51.100.7", "198.51.100.8");
        let mut ways = ways(&[near, far, other].map(|one| server(one, true)));
        assert_eq!((ways.next_hops(), ways.route(address(far))), (hops(&[]), None));
        ways.set_route(found(near, near));
        ways.set_route(found(far, "192.0.2.1"));
        ways.set_route(found(other, "192.0.2.1"));
        assert_eq!(ways.next_hops(), hops(&[(MAIN, &[near, "192.0.2.1"])]));
        assert_eq!(ways.set_mac(OTHER, address("192.0.2.1"), Some(MAC)), [] as [IpAddr; 0]);
        let by_router = ways.set_mac(MAIN, address("192.0.2.1"), Some(MAC));
        assert_eq!(by_router, [far, other].map(address));
        assert_eq!([near, far].map(|server| ways.mac(address(server))), [Ok(None), Ok(Some(MAC))]);
        assert_eq!(ways.set_mac(MAIN, address(near), Some(MAC)), [address(near)]);
        let gone = Event { address: address(far), found: Err("no route".to_owned()) };
        ways.set_route(gone);
        assert_eq!((ways.mac(address(far)), ways.trouble(address(far))), (Err(()), Some("no route")));
        assert_eq!(ways.route(address(far)), None);
        ways.follow([].iter(), &BTreeSet::new());
        assert_eq!(ways.next_hops(), hops(&[]));
    }

    #[test]
    fn a_server_that_is_reached_directly_too_must_be_on_the_segment() {
        let one = "192.0.2.21";
        let mut ways = ways(&[server(one, true), server(one, false)]);
        ways.set_route(found(one, "192.0.2.1"));
        assert!(ways.trouble(address(one)).is_some_and(|text| text.contains("directly")));
        ways.set_route(found(one, one));
        assert!(ways.route(address(one)).is_some() && !ways.is_elsewhere(address(one)));
        assert_eq!(ways.next_hops(), hops(&[]), "its own MAC is asked for anyway");
    }

    #[test]
    fn a_server_of_direct_routing_may_be_behind_another_interface() {
        let (here, there, node) = ("192.0.2.21", "203.0.113.21", "192.0.2.6");
        let mut ways = Ways::default();
        ways.set_interfaces(MAIN, BTreeSet::new());
        let servers = [here, there, node].map(|one| server(one, false));
        let wanted = ways.follow(servers.iter(), &[address(node)].into());
        assert_eq!(wanted.len(), 2, "another director is on the segment");
        ways.set_route(found(here, here));
        assert!(!ways.is_elsewhere(address(there)), "until that is known");
        ways.set_route(found_by(OTHER, there, there));
        assert_eq!(ways.next_hops(), hops(&[(OTHER, &[there])]));
        assert_eq!(ways.set_mac(MAIN, address(there), Some(MAC)), [] as [IpAddr; 0]);
        assert_eq!(ways.set_mac(OTHER, address(there), Some(MAC)), [address(there)]);
        let other = |server| ways.exit(address(server)).other;
        assert_eq!([other(here), other(there)], [None, Some((OTHER, MAC))]);
        let by_vlan = links::Exit { interface: 9, device: MAIN, vlan: Some(lb_model::Vlan(5)), ..exit(MAIN) };
        let route = Route { exit: by_vlan, ..ways.route(address(there)).expect("a route") };
        ways.set_route(Event { address: address(there), found: Ok(route) });
        let exit = ways.exit(address(there));
        assert_eq!((exit.other, exit.vlan), (None, Some(lb_model::Vlan(5))), "by the interface, with a tag");
        assert!(ways.is_elsewhere(address(there)), "its MAC is asked for on the VLAN device");
    }

    /// What the server sends comes in where packets to it leave.
    #[test]
    fn address_translation_goes_by_interfaces_that_packets_come_in_by() {
        const ELSEWHERE: u32 = 4;
        let [near, far, lost, tagged] = ["10.20.0.21", "10.30.0.21", "10.40.0.21", "10.50.0.21"];
        let masq = |text| Server { masq: true, ..server(text, false) };
        let mut ways = ways(&[near, far, lost, tagged].map(masq));
        ways.set_interfaces(MAIN, [OTHER, 9, 10].into());
        assert_eq!(ways.translated(), Some(BTreeSet::new()), "nothing is known yet");
        ways.set_route(found(near, near));
        ways.set_route(found_by(OTHER, far, far));
        ways.set_route(found_by(ELSEWHERE, lost, lost));
        let in_vlan = |interface, device| {
            let exit = links::Exit { interface, vlan: Some(lb_model::Vlan(20)), ..exit(device) };
            let Event { address, found } = found_by(MAIN, tagged, tagged);
            Event { address, found: found.map(|route| Route { exit, ..route }) }
        };
        ways.set_route(in_vlan(9, MAIN));
        let reached = |ways: &Ways, one| ways.route(address(one)).is_some();
        assert_eq!([near, far, lost, tagged].map(|one| reached(&ways, one)), [true, true, false, true]);
        assert!(ways.trouble(address(lost)).is_some_and(|text| text.contains("takes no packets from")));
        assert_eq!(ways.next_hops(), hops(&[(MAIN, &[near]), (OTHER, &[far]), (9, &[tagged])]));
        let exit = ways.exit(address(tagged));
        assert_eq!(
            (exit.other, exit.vlan),
            (None, Some(lb_model::Vlan(20))),
            "by the main interface, tagged"
        );
        assert_eq!(ways.exit(address(far)).other, Some((OTHER, MAC)));
        // On a device that has no program of its own the tag is taken off before.
        ways.set_route(in_vlan(10, ELSEWHERE));
        assert_eq!(ways.exit(address(tagged)).other, Some((ELSEWHERE, MAC)));
        assert_eq!(ways.translated(), Some([OTHER, 10].into()));
        assert_eq!(self::ways(&[server(near, false)]).translated(), None, "there is no such server");
    }

    #[test]
    fn what_was_known_holds_until_the_first_look() {
        let (tunnelled, direct) = (address("198.51.100.7"), address("203.0.113.21"));
        let mut ways = ways(&[server("198.51.100.7", true), server("203.0.113.21", false)]);
        ways.presume(tunnelled, Some((address("192.0.2.9"), 1400)), None);
        assert_eq!(ways.route(tunnelled).map(|route| route.mtu), Some(1400));
        let egress = Egress { device: OTHER, mac: MAC, mtu: 1500, tpid: TPID.into(), ..Egress::UNSET };
        ways.presume(direct, None, Some(&egress));
        assert_eq!((ways.exit(direct).other, ways.is_elsewhere(direct)), (Some((OTHER, MAC)), true));
        assert_eq!(ways.next_hops(), hops(&[]), "nobody is asked for what is presumed");
        ways.set_route(found("198.51.100.7", "192.0.2.1"));
        assert_eq!(ways.route(tunnelled).map(|route| route.mtu), Some(1500));
        ways.presume(tunnelled, Some((address("192.0.2.9"), 1400)), None);
        assert_eq!(ways.route(tunnelled).map(|route| route.mtu), Some(1500));
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
        let mut ways = Ways::default();
        ways.follow(config.services.iter().flat_map(|service| &service.servers), &BTreeSet::new());
        assert_eq!(ways.findings(&config), []);
        ways.set_route(Event { address: server, found: Err("no route to it".to_owned()) });
        let [finding] = &ways.findings(&config)[..] else { panic!("one finding") };
        assert_eq!(finding.text, "the gue tunnel to www1 cannot be used: no route to it");
        assert!(finding.mend.contains("ip route get 198.51.100.7"), "{}", finding.mend);
        let narrow = Route { next_hop: server, source: None, mtu: 1299, exit: exit(MAIN) };
        ways.set_route(Event { address: server, found: Ok(narrow) });
        let [finding] = &ways.findings(&config)[..] else { panic!("one finding") };
        assert!(
            finding.text.starts_with("the ipip tunnel to www1 carries packets of 1279 bytes"),
            "{}",
            finding.text
        );
        ways.set_route(Event { address: server, found: Ok(Route { mtu: 1300, ..narrow }) });
        assert_eq!(ways.findings(&config), []);
    }

    #[test]
    fn an_interface_that_cannot_be_used_is_told() {
        let text = "
interface: eth0
services: [{ vip: '192.0.2.10:80', servers: [{ name: www1, address: 203.0.113.21, interface: eth1 }] }]
";
        let config = lb_config::parse(text, "test.yaml").expect("a configuration");
        let mut ways = Ways::default();
        ways.follow(config.services[0].servers.iter(), &BTreeSet::new());
        ways.set_route(Event { address: address("203.0.113.21"), found: Err("eth1 is down".to_owned()) });
        let [finding] = &ways.findings(&config)[..] else { panic!("one finding") };
        assert_eq!(
            (finding.kind, &*finding.text),
            (Kind::InterfaceUnusable, "no packets get to www1: eth1 is down")
        );
        assert!(
            finding.mend.starts_with("`ip link show eth1`") && ways.is_elsewhere(address("203.0.113.21"))
        );
    }
}
