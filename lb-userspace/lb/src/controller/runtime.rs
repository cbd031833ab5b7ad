//! All that is known besides the configuration: what each server is worth, which services have
//! their quorum, MACs, and who is on its way out. Times are since the controller's start.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_common::addr::V6;
use lb_common::forward::nat::mask;
use lb_common::mac::Mac;
use lb_datapath::plan::egress::Exit;
use lb_health::Verdict;
use lb_health::machine::State;
use lb_health::quorum::{Quorum, Transition};
use lb_health::server::{Availability, CheckResult, Input, Machine, Output, Rules};
use lb_model::{Config, Server, Service, ServiceKey, Vlan};

use super::clients::Clients;
use super::desired;
use super::draining::Draining;
use super::reach::Reach;
use super::vip_checks::checked_through_vip;
use super::ways::Ways;
use lb_net::neighbours;
use lb_net::routes::{self, Others, Route};

/// Something that operators want to hear of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notification {
    Server(ServiceKey, IpAddr, Output),
    Quorum(ServiceKey, Transition),
}

/// What operators have ordered for a server.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Why it gets no new connections.
    pub kept_out: Option<String>,
    /// In place of the configured one.
    pub weight: Option<u16>,
}

#[derive(Debug, Default)]
pub(super) struct Runtime {
    services: HashMap<ServiceKey, Known>,
    reach: Reach,
    pub draining: Draining,
    pub ways: Ways,
    pub clients: Clients,
    /// What the data path goes by has changed.
    changed: bool,
}

#[derive(Debug)]
struct Known {
    quorum: Quorum,
    servers: HashMap<IpAddr, Machine>,
}

impl Runtime {
    /// From now on these are the services, those on their way out included. What is known of others
    /// is forgotten.
    pub(super) fn follow(&mut self, services: &[Service], now: Duration) -> Vec<Notification> {
        let keys: HashSet<ServiceKey> = services.iter().map(|service| service.key).collect();
        self.services.retain(|key, _| keys.contains(key));
        let mut notifications = Vec::new();
        for service in services {
            let runs = self.services.contains_key(&service.key);
            let new = || Known { quorum: Quorum::new(now), servers: HashMap::new() };
            let known = self.services.entry(service.key).or_insert_with(new);
            let addresses: HashSet<IpAddr> = service.servers.iter().map(|server| server.address).collect();
            known.servers.retain(|address, _| addresses.contains(address));
            for server in &service.servers {
                let rules = rules(service, server);
                let input = match known.servers.contains_key(&server.address) {
                    true => Input::Rules(rules),
                    false => {
                        // Nobody could take the load off servers with which a service begins.
                        let new = if runs { Machine::newcomer } else { Machine::new };
                        known.servers.insert(server.address, new(rules, now));
                        Input::Unreached(unreached(&self.reach, &self.ways, server.address))
                    }
                };
                let Some(machine) = known.servers.get_mut(&server.address) else { continue };
                let outputs = machine.handle(input, now);
                notifications.extend(
                    outputs.into_iter().map(|out| Notification::Server(service.key, server.address, out)),
                );
            }
        }
        self.changed = true;
        notifications
    }

    /// A check has spoken. If its server has left the configuration meanwhile, it changes nothing.
    pub(super) fn verdict(&mut self, verdict: Verdict, now: Duration) -> Vec<Notification> {
        let Verdict { service, server, index, state, reason, advice, warning } = verdict;
        let result = CheckResult { state, reason, advice, warning };
        self.give(service, server, Input::Found { index, result }, now)
    }

    /// Until a check through the VIP has spoken, its server is taken to have passed it.
    pub(super) fn presume(&mut self, config: &Config, now: Duration) -> Vec<Notification> {
        let through_vip = checked_through_vip(&config.services);
        through_vip
            .flat_map(|(service, server, index)| {
                let reason = "not checked yet, and taken to be well until then".to_owned();
                let result =
                    CheckResult { state: State::Up, reason: Some(reason), advice: None, warning: None };
                self.give(service.key, server.address, Input::Found { index, result }, now)
            })
            .collect()
    }

    /// Servers that the `lb` before this one gave connections are taken to be well until their
    /// checks have spoken.
    pub(super) fn presume_again(
        &mut self,
        services: &[Service],
        was_usable: impl Fn(&ServiceKey, IpAddr) -> bool,
        now: Duration,
    ) -> Vec<Notification> {
        let servers =
            services.iter().flat_map(|service| service.servers.iter().map(|one| (service.key, one)));
        let usable = servers.filter(|(key, server)| was_usable(key, server.address));
        let checks = usable.flat_map(|(key, server)| {
            (0..server.checks.len()).map(move |index| (key, server.address, index))
        });
        let reason = "not checked yet, and well for the lb before".to_owned();
        let result = CheckResult { state: State::Up, reason: Some(reason), advice: None, warning: None };
        let found = |index| Input::Found { index, result: result.clone() };
        checks.flat_map(|(key, address, index)| self.give(key, address, found(index), now)).collect()
    }

    /// Servers are kept out, and have other weights, as ordered, and no others.
    pub(super) fn follow_orders(
        &mut self,
        services: &[Service],
        orders: impl Fn(&Service, &Server) -> Orders,
        now: Duration,
    ) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for service in services {
            for server in &service.servers {
                let Orders { kept_out, weight } = orders(service, server);
                let rules = Rules { weight: weight.unwrap_or(server.weight), ..rules(service, server) };
                for input in [Input::Rules(rules), Input::Maintenance(kept_out)] {
                    notifications.extend(self.give(service.key, server.address, input, now));
                }
            }
        }
        notifications
    }

    /// The servers' timers, and who has not been reached for too long.
    pub(super) fn pass_time(&mut self, now: Duration) -> Vec<Notification> {
        let gone = self.reach.pass_time(now);
        // A fallback server has no machine.
        self.changed |= !gone.is_empty();
        let mut notifications: Vec<Notification> =
            gone.into_iter().flat_map(|address| self.update_reached(address, now)).collect();
        let due = |machine: &Machine| machine.next_timeout().is_some_and(|at| at <= now);
        let due = self.servers(|_, machine| due(machine));
        notifications
            .extend(due.into_iter().flat_map(|(key, server)| self.give(key, server, Input::Timer, now)));
        notifications
    }

    /// Updates the machines of this address: is it reached?
    fn update_reached(&mut self, address: IpAddr, now: Duration) -> Vec<Notification> {
        let reason = unreached(&self.reach, &self.ways, address);
        let servers = self.servers(|server, _| server == address);
        let each = servers.into_iter();
        each.flat_map(|(key, server)| self.give(key, server, Input::Unreached(reason.clone()), now)).collect()
    }

    fn servers(&self, wanted: impl Fn(IpAddr, &Machine) -> bool) -> Vec<(ServiceKey, IpAddr)> {
        let services = self.services.iter();
        let servers = services.flat_map(|(key, known)| known.servers.iter().map(move |one| (*key, one)));
        servers
            .filter(|(_, (server, machine))| wanted(**server, machine))
            .map(|(key, (server, _))| (key, *server))
            .collect()
    }

    fn give(&mut self, key: ServiceKey, server: IpAddr, input: Input, now: Duration) -> Vec<Notification> {
        let known = self.services.get_mut(&key).and_then(|known| known.servers.get_mut(&server));
        let Some(machine) = known else { return Vec::new() };
        let before = machine.availability();
        let outputs = machine.handle(input, now);
        self.changed |= machine.availability() != before;
        outputs.into_iter().map(|output| Notification::Server(key, server, output)).collect()
    }

    /// Returns what it was before, and what became of servers.
    pub(super) fn set_mac(
        &mut self,
        address: IpAddr,
        mac: Option<Mac>,
        now: Duration,
    ) -> (Option<Mac>, Vec<Notification>) {
        let (before, is_back) = self.reach.set(address, mac, now);
        self.changed |= before != mac;
        (before, if is_back { self.update_reached(address, now) } else { Vec::new() })
    }

    /// What was found about the route to a server. Returns the MAC of its next hop if the way has
    /// changed: `Some(None)` if there is none.
    pub(super) fn set_route(&mut self, event: routes::Event) -> Option<Option<Mac>> {
        let server = event.address;
        let (was_elsewhere, before) = (self.ways.is_elsewhere(server), self.ways.route(server));
        let presumed = self.ways.is_presumed(server);
        self.ways.set_route(event);
        self.changed = true;
        let is_elsewhere = self.ways.is_elsewhere(server);
        let exit = |route: Option<Route>| route.map(|route| route.exit.interface);
        let moved = was_elsewhere != is_elsewhere
            || before.is_some() && exit(before) != exit(self.ways.route(server));
        match self.ways.mac(server) {
            // Its MAC comes from the segment of the VIPs, as that of any other server.
            _ if !is_elsewhere => (was_elsewhere && !presumed).then_some(None),
            Ok(mac) if moved && !presumed => Some(mac),
            // Until its next hop has answered, what was known before holds.
            Ok(mac) => mac.map(Some),
            Err(()) => Some(None),
        }
    }

    /// An address has this MAC, by way of which packets may go back to clients, on the segment of
    /// the interface with this index; `None`: the main one's.
    pub(super) fn set_client_hop(&mut self, interface: Option<u32>, address: IpAddr, mac: Option<Mac>) {
        self.changed |= self.clients.set_mac(interface, address, mac);
    }

    /// What of the host's routes packets go back to clients by; `None`: no server is reached by
    /// address translation.
    pub(super) fn ways_back(&self, services: &[Service]) -> Option<Others> {
        let servers = self.ways.translated()?;
        let watched = self.draining.with(services);
        let translates = |service: &&Service| service.servers.iter().any(|server| server.masq);
        let vlans = watched.iter().filter(translates).filter_map(|service| service.vlan);
        let vlans = vlans.filter(|vlan| *vlan != Vlan::UNTAGGED).collect();
        Some(Others { clients: self.ways.others().clone(), vlans, servers })
    }

    /// These are the host's routes to clients.
    pub(super) fn set_table(&mut self, table: routes::Table) {
        self.clients.set_table(table);
        self.changed = true;
    }

    /// Why there is no MAC for packets to the server.
    pub(super) fn silence(&self, server: IpAddr) -> String {
        silence(&self.ways, server)
    }

    /// From now on these are the addresses that are resolved.
    pub(super) fn follow_addresses(&mut self, addresses: &BTreeSet<IpAddr>, now: Duration) {
        self.reach.follow(addresses, now);
    }

    /// Returns and clears the mark that something has changed that the data path depends on.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Counts what is usable, and looks whether it is enough.
    pub(super) fn count(&mut self, services: &[Service], now: Duration) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for service in services {
            let sum = self.usable(&service.key).map(u64::from).sum();
            let Some(known) = self.services.get_mut(&service.key) else { continue };
            let turn = known.quorum.count(service.quorum, sum, now);
            notifications.extend(turn.map(|turn| Notification::Quorum(service.key, turn)));
        }
        notifications
    }

    /// The servers that this director could send clients to: a service without its quorum has none.
    pub(super) fn serving(&self) -> usize {
        let with_quorum = self.services.iter().filter(|(_, known)| known.quorum.is_won());
        with_quorum.map(|(key, _)| self.usable(key).filter(|weight| *weight > 0).count()).sum()
    }

    /// The weights of a service's servers that are well, reached, and not on their way out.
    fn usable(&self, service: &ServiceKey) -> impl Iterator<Item = u16> {
        let servers = self.services.get(service).into_iter().flat_map(|known| &known.servers);
        let servers = servers.filter(|(address, _)| self.draining.since(service, **address).is_none());
        servers.filter_map(|(address, machine)| match machine.availability() {
            Availability::Usable { weight } if self.reach.mac(*address).is_some() => Some(weight),
            _ => None,
        })
    }

    pub(super) fn server(&self, service: &ServiceKey, server: IpAddr) -> Option<&Machine> {
        self.services.get(service)?.servers.get(&server)
    }

    pub(super) fn quorum(&self, service: &ServiceKey) -> Option<&Quorum> {
        self.services.get(service).map(|known| &known.quorum)
    }

    /// Of each server whether it is down, or well and reached.
    pub(super) fn has_seen_all(&self) -> bool {
        let mut servers = self.services.values().flat_map(|known| &known.servers);
        servers.all(|(address, machine)| match machine.availability() {
            Availability::Unknown => false,
            Availability::Down => true,
            Availability::Usable { .. } => self.reach.mac(*address).is_some(),
        })
    }
}

impl desired::RuntimeState for Runtime {
    fn worth(&self, service: &ServiceKey, server: IpAddr) -> Availability {
        self.server(service, server).map_or(Availability::Unknown, Machine::availability)
    }
    fn has_quorum(&self, service: &ServiceKey) -> bool {
        self.quorum(service).is_some_and(Quorum::is_won)
    }
    fn mac(&self, server: IpAddr) -> Option<Mac> {
        self.reach.mac(server)
    }
    fn is_gone(&self, server: IpAddr) -> bool {
        self.reach.is_gone(server)
    }
    fn route(&self, server: IpAddr) -> Option<Route> {
        self.ways.route(server)
    }
    fn exit(&self, server: IpAddr) -> Exit {
        self.ways.exit(server)
    }
    fn subnet(&self, server: IpAddr) -> V6 {
        match self.ways.route(server) {
            // Of one behind a router its own address alone: the table knows routers of the main
            // interface only.
            Some(route) if route.next_hop != server => mask(server, 128),
            _ => self.clients.subnet(server),
        }
    }
    fn draining(&self, service: &ServiceKey) -> Vec<Server> {
        self.draining.of(service).cloned().collect()
    }
    fn departed(&self) -> Vec<&Service> {
        self.draining.services().collect()
    }
}

/// Why nothing reaches the server, if that has lasted.
fn unreached(reach: &Reach, ways: &Ways, server: IpAddr) -> Option<String> {
    reach.is_gone(server).then(|| silence(ways, server))
}

/// Why there is no MAC for packets to the server.
fn silence(ways: &Ways, server: IpAddr) -> String {
    let hop = ways.next_hop(server);
    let silent = || format!("no answer to {} for {hop}", neighbours::protocol(hop));
    ways.trouble(server).map_or_else(silent, str::to_owned)
}

fn rules(service: &Service, server: &Server) -> Rules {
    Rules {
        weight: server.weight,
        checks: server.checks.iter().map(|check| check.probe.name()).collect(),
        slow_start: service.slow_start,
        damping: service.damping,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::Health;
    use lb_model::Protocol;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const NOW: Duration = Duration::ZERO;

    fn address(host: u8) -> IpAddr {
        [192, 0, 2, host].into()
    }

    /// A service of servers with these weights, each checked, of which two together make the
    /// quorum.
    fn service(weights: &[u16]) -> Service {
        let key = ServiceKey { vip: address(10), port: 80, protocol: Protocol::Tcp };
        let check = lb_model::Check::new(lb_model::Probe::Tcp(lb_model::Exchange::default()));
        let servers = (21..).zip(weights).map(|(host, weight)| Server {
            weight: *weight,
            checks: [check.clone()].into(),
            ..Server::new(address(host), 80)
        });
        let quorum = lb_model::Quorum { weight: 2, hysteresis: 0 };
        Service { quorum, servers: servers.collect(), ..Service::new("web".to_owned(), key) }
    }

    fn verdict(service: &Service, host: u8, state: State) -> Verdict {
        let (key, server) = (service.key, address(host));
        Verdict { service: key, server, index: 0, state, reason: None, advice: None, warning: None }
    }

    /// With every server up, and a MAC of each.
    fn all_up(service: &Service) -> Runtime {
        let mut runtime = Runtime::default();
        runtime.follow(std::slice::from_ref(service), NOW);
        for server in &service.servers {
            let IpAddr::V4(ip) = server.address else { panic!("IPv4 throughout") };
            runtime.verdict(verdict(service, ip.octets()[3], State::Up), NOW);
            runtime.set_mac(server.address, Some(MAC), NOW);
        }
        runtime
    }

    #[test]
    fn the_quorum_is_the_weight_of_servers_that_are_well_and_reached() {
        let service = service(&[1, 1, 0]);
        let mut runtime = all_up(&service);
        let count = |runtime: &mut Runtime| {
            let notifications = runtime.count(std::slice::from_ref(&service), NOW);
            (notifications.len(), runtime.serving())
        };
        assert_eq!(count(&mut runtime), (1, 2), "won; the one of weight 0 serves nobody");
        runtime.set_mac(address(21), None, NOW);
        assert_eq!(count(&mut runtime), (1, 0), "lost, and with it the server that is left");
        runtime.set_mac(address(21), Some(MAC), NOW);
        runtime.verdict(verdict(&service, 22, State::Down), NOW);
        assert_eq!(count(&mut runtime), (0, 0));
        runtime.verdict(verdict(&service, 22, State::Up), NOW);
        assert_eq!(count(&mut runtime), (1, 2));
    }

    #[test]
    fn only_what_the_data_path_goes_by_is_a_change() {
        let service = service(&[1]);
        let mut runtime = all_up(&service);
        assert!(runtime.take_changed() && !runtime.take_changed());
        let explained = Verdict { reason: Some("late".to_owned()), ..verdict(&service, 21, State::Up) };
        assert_eq!(runtime.verdict(explained, NOW), []);
        runtime.set_mac(address(21), Some(MAC), NOW);
        assert!(!runtime.take_changed());
        let notifications = runtime.verdict(verdict(&service, 21, State::Down), NOW);
        assert_eq!(notifications.len(), 2, "{notifications:?}");
        assert!(runtime.take_changed());
    }

    #[test]
    fn c6_who_joins_a_service_that_runs_is_a_newcomer() {
        let grows = |weights: &[u16]| Service { slow_start: Duration::from_secs(9), ..service(weights) };
        let (one, both) = (grows(&[100]), grows(&[100, 100]));
        let mut runtime = all_up(&one);
        runtime.follow(std::slice::from_ref(&both), NOW);
        runtime.verdict(verdict(&both, 22, State::Up), NOW);
        let weight = |host| runtime.server(&both.key, address(host)).map(Machine::weight);
        assert_eq!([21, 22].map(weight), [Some(100), Some(1)]);
    }

    #[test]
    fn c7b_a_server_without_a_check_is_down_when_it_is_silent_for_long() {
        let mut service = service(&[1, 1]);
        service.servers[1].checks = [].into();
        let mut runtime = all_up(&service);
        let health = |runtime: &Runtime| {
            [21, 22].map(|host| runtime.server(&service.key, address(host)).map(Machine::health))
        };
        for host in [21, 22] {
            runtime.set_mac(address(host), None, NOW);
        }
        let late = Duration::from_secs(60);
        assert_eq!(runtime.pass_time(late).len(), 2, "one is told: it changed, and it went down");
        assert_eq!(health(&runtime), [Some(Health::Up), Some(Health::Down)], "a check judges the first");
        let (_, notifications) = runtime.set_mac(address(22), Some(MAC), late);
        assert_eq!(notifications.len(), 2, "{notifications:?}");
        assert_eq!(health(&runtime)[1], Some(Health::Unchecked));
    }

    #[test]
    fn a_server_that_leaves_and_returns_is_a_new_one() {
        let both = service(&[1, 1]);
        let mut runtime = all_up(&both);
        let one = service(&[1]);
        runtime.follow(std::slice::from_ref(&one), NOW);
        assert_eq!(runtime.verdict(verdict(&both, 22, State::Down), NOW), [], "it has left");
        runtime.follow(std::slice::from_ref(&both), NOW);
        let health = |host| runtime.server(&both.key, address(host)).map(Machine::health);
        assert_eq!([21, 22].map(health), [Some(Health::Up), Some(Health::Unknown)]);
        assert!(!runtime.has_seen_all());
    }
}
