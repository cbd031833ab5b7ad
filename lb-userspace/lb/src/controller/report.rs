//! What operators read in the log, in the words that ldirectord used.

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use lb_api::events::{Level, Record};
use lb_datapath::plan::{Service, State, Target};
use lb_datapath::table::Table;
use lb_model::{Config, ServiceKey};
use lb_net::vips::addresses_of;

/// The connection table's size, once at start.
pub(super) fn table(table: &Table, connections: u32) {
    tracing::info!(
        "connection table for {connections} connections: {} slots for IPv4, {} for IPv6, {} MiB of kernel memory",
        table.v4.slots(),
        table.v6.slots(),
        table.bytes() / (1 << 20)
    );
}

/// VIPs of no group that this host does not hold either: the clients' packets will not come here by
/// themselves.
pub(super) fn missing_vips(config: &Config) {
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else { return };
    let on_host = addresses.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let held: HashSet<IpAddr> = on_host.chain(addresses_of(&config.groups)).collect();
    let mut vips: Vec<IpAddr> = config.services.iter().map(|service| service.key.vip).collect();
    vips.sort_unstable();
    vips.dedup();
    for vip in vips.into_iter().filter(|vip| !held.contains(vip)) {
        tracing::warn!(
            "VIP {vip} is in none of the `groups` and not on this host: its packets come here only if a router sends them"
        );
    }
}

/// Who was added to and removed from the servers in service, as events. `reason` is why a server is
/// down.
pub(super) fn changes_in_service(
    before: &State,
    after: &State,
    config: &Config,
    reason: impl Fn(ServiceKey, IpAddr) -> Option<String>,
) -> Vec<Record> {
    let mut records = Vec::new();
    let present = |(_, service): &(&ServiceKey, &Service)| !service.settings.departed;
    let by_key = LazyCell::new(|| -> HashMap<ServiceKey, &lb_model::Service> {
        config.services.iter().map(|service| (service.key, service)).collect()
    });
    for (key, service) in after.services.iter().filter(present) {
        // As nearly all of them are, whenever one changes.
        if before.services.get(key) == Some(service) {
            continue;
        }
        let configured = by_key.get(key).copied();
        let name = configured.map_or("", |service| &service.name);
        let fallback = configured.and_then(lb_model::Service::fallback_server).map(|server| server.address);
        let old = before.services.get(key);
        if old.is_none_or(|old| old.settings.departed) {
            let text = format!("Adding virtual server: {key}");
            records.push(Record::new(Level::Info, "service_added", text).service(name));
        }
        records.extend(changes(Subject { key, name, fallback }, old, service, &reason));
    }
    for (key, service) in &before.services {
        let is = after.services.get(key);
        if service.settings.departed && is.is_none() {
            tracing::info!("No connection of virtual server {key} is kept any longer");
        } else if !service.settings.departed && is.is_none_or(|is| is.settings.departed) {
            let empty = Service { servers: Vec::new(), ..service.clone() };
            let subject = Subject { key, name: "", fallback: None };
            records.extend(changes(subject, Some(service), &empty, &reason));
            let drains = if is.is_some() { "; its connections live on for `drain`" } else { "" };
            let text = format!("Removing virtual server: {key}{drains}");
            records.push(Record::new(Level::Info, "service_removed", text));
        }
    }
    records
}

/// A service.
#[derive(Clone, Copy)]
struct Subject<'a> {
    key: &'a ServiceKey,
    name: &'a str,
    fallback: Option<IpAddr>,
}

impl Subject<'_> {
    /// The server as ldirectord wrote it; `None`: it is the fallback.
    fn real_server(&self, target: Target, weight: u16) -> Option<(IpAddr, String)> {
        match target {
            Target::Real(address) if self.fallback != Some(address) => {
                let Self { key, .. } = self;
                let text = format!("{} ({weight}*{key})", SocketAddr::new(address, key.port));
                Some((address, text))
            }
            Target::Real(_) | Target::Local => None,
        }
    }
}

fn changes(
    subject: Subject<'_>,
    before: Option<&Service>,
    after: &Service,
    reason: impl Fn(ServiceKey, IpAddr) -> Option<String>,
) -> Vec<Record> {
    let Subject { key, name: service, .. } = subject;
    let mut records = Vec::new();
    let mut record = |level, event, address: IpAddr, text| {
        records.push(Record::new(level, event, text).service(service).server(&address.to_string()));
    };
    let (old, new) = (before.map_or_else(Vec::new, members), members(after));
    let by_target = |members: &[(Target, u16)]| members.iter().copied().collect::<BTreeMap<_, _>>();
    let (was, is) = (by_target(&old), by_target(&new));
    for (target, weight) in new.iter().filter(|(target, weight)| was.get(target) != Some(weight)) {
        match subject.real_server(*target, *weight) {
            // Agents and slow starts change weights all the time.
            Some((_, server)) if was.contains_key(target) => {
                tracing::debug!(service, "Changing real server: {server}");
            }
            Some((address, server)) => {
                record(Level::Info, "server_added", address, format!("Adding real server: {server}"));
            }
            None => tracing::warn!(service, "Starting fallback server for: {key}"),
        }
    }
    for (target, weight) in old.iter().filter(|(target, _)| !is.contains_key(target)) {
        match subject.real_server(*target, *weight) {
            Some((address, server)) => {
                let because = reason(*key, address).map_or_else(String::new, |reason| format!(": {reason}"));
                let text = format!("Removing real server: {server}{because}");
                record(Level::Warning, "server_removed", address, text);
            }
            None => tracing::info!(service, "Turning off fallback server for: {key}"),
        }
    }
    records
}

fn members(service: &Service) -> Vec<(Target, u16)> {
    service.members().map(|server| (server.target, server.weight)).collect()
}

#[cfg(test)]
mod tests {
    use lb_datapath::plan::clients::Clients;
    use lb_datapath::plan::quic::Quic;
    use lb_datapath::plan::{Server, Settings};

    use super::*;

    const CONFIG: &str = "
interface: eth0
services:
  - { name: web, vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }, { address: 192.0.2.22 }] }
";

    fn web(config: &Config) -> ServiceKey {
        config.services[0].key
    }

    /// The service with servers of these addresses and weights.
    fn state(config: &Config, servers: &[(u8, u16)]) -> State {
        let service = &config.services[0];
        let server = |(host, weight): &(u8, u16)| Server {
            target: Target::Real([192, 0, 2, *host].into()),
            weight: *weight,
            share: *weight,
            tunnel: None,
            translation: None,
            egress: None,
            mac: Some([2; 6].into()),
            usable: true,
            gives_up: None,
            binds: true,
            thresholds: lb_common::service::limits::Thresholds::NONE,
        };
        let settings = Settings {
            ports: None,
            stray: service.stray,
            refuses: false,
            each_datagram: false,
            quic: false,
            timeouts: service.timeouts,
            persistence: None,
            source_nat: None,
            group: None,
            departed: false,
        };
        let servers = servers.iter().map(server).collect();
        let (scheduler, hashing) = (service.scheduler, service.hashing);
        let service = Service {
            settings,
            scheduler,
            hashing,
            quic: Quic::default(),
            clients: Clients::default(),
            servers,
        };
        State { services: [(web(config), service)].into(), ..State::default() }
    }

    #[test]
    fn who_comes_and_goes_is_told_as_ldirectord_did() {
        let config = lb_config::parse(CONFIG, "test.yaml").expect("a configuration");
        let reason =
            |_, address: IpAddr| (address == IpAddr::from([192, 0, 2, 21])).then(|| "refused".to_owned());
        let told = |before: &State, after: &State| -> Vec<(String, String)> {
            let records = changes_in_service(before, after, &config, reason);
            records.into_iter().map(|record| (record.event, record.text)).collect()
        };
        let event = |event: &str, text: &str| (event.to_owned(), text.to_owned());
        let both = state(&config, &[(21, 1), (22, 3)]);
        assert_eq!(
            told(&State::default(), &both),
            [
                event("service_added", "Adding virtual server: tcp/192.0.2.10:80"),
                event("server_added", "Adding real server: 192.0.2.21:80 (1*tcp/192.0.2.10:80)"),
                event("server_added", "Adding real server: 192.0.2.22:80 (3*tcp/192.0.2.10:80)"),
            ]
        );
        let one = state(&config, &[(22, 2)]);
        assert_eq!(
            told(&both, &one),
            [event("server_removed", "Removing real server: 192.0.2.21:80 (1*tcp/192.0.2.10:80): refused")],
            "another weight is none"
        );
        assert_eq!(
            told(&one, &State::default()),
            [
                event("server_removed", "Removing real server: 192.0.2.22:80 (2*tcp/192.0.2.10:80)"),
                event("service_removed", "Removing virtual server: tcp/192.0.2.10:80"),
            ]
        );
    }
}
