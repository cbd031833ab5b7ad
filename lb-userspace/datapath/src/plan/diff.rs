//! From the applied state to the desired one.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_model::ServiceKey;

use super::clients::Clients;
use super::quic::Quic;
use super::{Change, Server, Service, State, Target};

/// The changes that turn `actual` into `desired`; empty when they are equal.
///
/// The order keeps packets safe at every step: a server is in the maps before a schedule names it,
/// and a schedule stops naming it before it goes.
pub fn diff(desired: &State, actual: &State) -> Vec<Change> {
    let mut changes = Vec::new();
    // What every service denies is there before services look it up, and longer than they do.
    let denied = (desired.denied != actual.denied).then(|| Change::Denied(Arc::clone(&desired.denied)));
    let (first, last) = if desired.denied.is_empty() { (None, denied) } else { (denied, None) };
    changes.extend(first);
    for (key, service) in &actual.services {
        if !desired.services.contains_key(key) {
            remove_service(*key, service, &mut changes);
        }
    }
    for (key, service) in &desired.services {
        match actual.services.get(key) {
            Some(old) => change_service(*key, service, old, &mut changes),
            None => add_service(*key, service, &mut changes),
        }
    }
    changes.extend(last);
    changes
}

fn remove_service(key: ServiceKey, service: &Service, changes: &mut Vec<Change>) {
    if !service.candidates().is_empty() {
        changes.push(Change::Schedule(key, service.scheduler, service.hashing, Vec::new()));
    }
    if !service.quic.is_empty() {
        changes.push(Change::Quic(key, Quic::default()));
    }
    if !service.clients.is_empty() {
        changes.push(Change::Clients(key, Clients::default()));
    }
    changes.extend(service.servers.iter().map(|server| Change::RemoveServer(key, server.target)));
    changes.push(Change::RemoveService(key));
}

fn add_service(key: ServiceKey, service: &Service, changes: &mut Vec<Change>) {
    changes.push(Change::AddService(key, service.settings));
    // Also where it has none: its number may have been another service's.
    changes.push(Change::Clients(key, service.clients.clone()));
    changes.extend(service.servers.iter().map(|server| Change::AddServer(key, *server)));
    if !service.quic.is_empty() {
        changes.push(Change::Quic(key, service.quic.clone()));
    }
    changes.push(schedule(key, service));
}

fn change_service(key: ServiceKey, desired: &Service, actual: &Service, changes: &mut Vec<Change>) {
    if desired.settings != actual.settings {
        changes.push(Change::ChangeService(key, desired.settings));
    }
    let old: BTreeMap<Target, &Server> =
        actual.servers.iter().map(|server| (server.target, server)).collect();
    let new: BTreeMap<Target, &Server> =
        desired.servers.iter().map(|server| (server.target, server)).collect();
    for server in &desired.servers {
        match old.get(&server.target) {
            None => changes.push(Change::AddServer(key, *server)),
            Some(old) if *old != server => changes.push(Change::ChangeServer(key, *server)),
            Some(_) => {}
        }
    }
    if desired.clients != actual.clients {
        changes.push(Change::Clients(key, desired.clients.clone()));
    }
    if desired.quic != actual.quic {
        changes.push(Change::Quic(key, desired.quic.clone()));
    }
    if schedule(key, desired) != schedule(key, actual) {
        changes.push(schedule(key, desired));
    }
    changes.extend(
        old.keys()
            .filter(|target| !new.contains_key(target))
            .map(|target| Change::RemoveServer(key, *target)),
    );
}

/// The change that spreads new connections over the service's members.
pub fn schedule(key: ServiceKey, service: &Service) -> Change {
    Change::Schedule(key, service.scheduler, service.hashing, service.candidates())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::super::Settings;
    use super::*;
    use lb_common::mac::Mac;
    use lb_common::schedule::compile::Candidate;
    use lb_model::{
        ClientLists, ClientPrefix, Hashing, Protocol, QuicEncoding, QuicServerIds, Scheduler, Stray, Timeouts,
    };

    /// What an executor keeps, and the rules it relies on.
    fn execute(changes: &[Change], actual: &State) -> State {
        let mut state = actual.clone();
        let mut members: BTreeMap<ServiceKey, Vec<Candidate<Target>>> =
            actual.services.iter().map(|(key, service)| (*key, service.candidates())).collect();
        for change in changes {
            match change {
                Change::AddService(key, settings) => {
                    let (scheduler, hashing) = (Scheduler::Rr, Hashing::default());
                    let (quic, clients, servers) = (Quic::default(), Clients::default(), Vec::new());
                    let service = Service { settings: *settings, scheduler, hashing, quic, clients, servers };
                    assert!(state.services.insert(*key, service).is_none());
                }
                Change::ChangeService(key, settings) => {
                    state.services.get_mut(key).unwrap().settings = *settings;
                }
                Change::RemoveService(key) => {
                    assert!(state.services.remove(key).unwrap().servers.is_empty());
                    members.remove(key);
                }
                Change::Clients(key, clients) => {
                    state.services.get_mut(key).unwrap().clients = clients.clone();
                }
                Change::Denied(denied) => state.denied = Arc::clone(denied),
                Change::Quic(key, quic) => {
                    let service = state.services.get_mut(key).unwrap();
                    assert!(quic.servers.values().all(|target| service.server(*target).is_some()));
                    service.quic = quic.clone();
                }
                Change::AddServer(key, server) => {
                    let service = state.services.get_mut(key).unwrap();
                    assert!(service.server(server.target).is_none());
                    service.servers.push(*server);
                }
                Change::ChangeServer(key, server) => {
                    let service = state.services.get_mut(key).unwrap();
                    *service.servers.iter_mut().find(|old| old.target == server.target).unwrap() = *server;
                }
                Change::RemoveServer(key, target) => {
                    let named = members
                        .get(key)
                        .is_some_and(|list| list.iter().any(|listed| listed.server == *target));
                    assert!(!named, "a schedule still names {target}");
                    let servers = &mut state.services.get_mut(key).unwrap().servers;
                    servers.retain(|server| server.target != *target);
                }
                Change::Schedule(key, scheduler, hashing, list) => {
                    let service = state.services.get_mut(key).unwrap();
                    assert!(list.iter().all(|listed| service.server(listed.server).is_some()));
                    (service.scheduler, service.hashing) = (*scheduler, *hashing);
                    members.insert(*key, list.clone());
                }
            }
        }
        // The order of servers lives in the schedule alone.
        for (key, service) in &mut state.services {
            let listed: Vec<_> = members[key].clone();
            let mut expected = service.candidates();
            expected.sort_by_key(|one| listed.iter().position(|listed| listed.server == one.server));
            assert_eq!(listed, expected);
        }
        state
    }

    fn server() -> impl Strategy<Value = Server> {
        (0u8..6, 0u16..4, 0u16..3, any::<bool>(), any::<bool>()).prop_map(
            |(host, weight, share, mac, usable)| Server {
                target: match host {
                    0 => Target::Local,
                    host => Target::Real(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host))),
                },
                weight,
                share,
                mac: mac.then_some(Mac::new([2, 0, 0, 0, 0, host])),
                tunnel: None,
                translation: None,
                egress: None,
                usable,
                gives_up: None,
                binds: usable,
                thresholds: lb_common::service::limits::Thresholds::new(u32::from(share), 0),
            },
        )
    }

    fn quic(servers: &[Server]) -> Quic {
        let encoding = QuicEncoding { rotation: 0, server_id_length: 1, nonce_length: 4, key: None };
        let ids: Vec<QuicServerIds> =
            (0..servers.len()).map(|number| [(0, vec![number as u8])].into()).collect();
        Quic::new(&[encoding], servers.iter().map(|server| server.target).zip(&ids))
    }

    fn service() -> impl Strategy<Value = Service> {
        let scheduler = prop_oneof![Just(Scheduler::Rr), Just(Scheduler::Wlc), Just(Scheduler::Sh)];
        (proptest::collection::vec(server(), 0..6), scheduler, any::<bool>()).prop_map(
            |(mut servers, scheduler, hash)| {
                let mut seen = std::collections::BTreeSet::new();
                servers.retain(|server| seen.insert(server.target));
                let stray = if hash { Stray::Hash } else { Stray::Pass };
                let settings = Settings {
                    ports: None,
                    stray,
                    refuses: false,
                    each_datagram: false,
                    quic: false,
                    timeouts: Timeouts::default(),
                    persistence: None,
                    source_nat: None,
                    group: None,
                    departed: false,
                };
                let hashing = Hashing { port: hash, fallback: false };
                let quic = if hash { quic(&servers) } else { Quic::default() };
                let clients = if hash { limited() } else { Clients::default() };
                Service { settings, scheduler, hashing, quic, clients, servers }
            },
        )
    }

    fn limited() -> Clients {
        let connections = lb_common::service::admission::Admission { connections: 1, ..Default::default() };
        Clients { admission: connections, ..Clients::default() }
    }

    fn state() -> impl Strategy<Value = State> {
        let services = proptest::collection::btree_map(1u16..4, service(), 0..4);
        (services, any::<bool>()).prop_map(|(services, denies)| State {
            services: services
                .into_iter()
                .map(|(port, service)| {
                    let vip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
                    (ServiceKey { vip, port, protocol: Protocol::Tcp }, service)
                })
                .collect(),
            denied: Arc::new(match denies {
                true => ClientLists { deny: vec![everybody()], ..ClientLists::default() },
                false => ClientLists::default(),
            }),
        })
    }

    fn everybody() -> ClientPrefix {
        ClientPrefix { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 }
    }

    /// Same content, whatever the order of servers outside the schedule.
    fn sorted(mut state: State) -> State {
        for service in state.services.values_mut() {
            service.servers.sort_by_key(|server| server.target);
        }
        state
    }

    proptest! {
        #[test]
        fn executing_the_difference_reaches_the_desired_state(desired in state(), actual in state()) {
            let reached = execute(&diff(&desired, &actual), &actual);
            for (key, service) in &desired.services {
                if service.members().next().is_some() {
                    prop_assert_eq!(reached.services[key].scheduler, service.scheduler);
                }
            }
            prop_assert_eq!(sorted(reached), sorted(desired));
        }

        #[test]
        fn equal_states_need_no_change(state in state()) {
            prop_assert_eq!(diff(&state, &state), Vec::new());
        }

        #[test]
        fn an_unchanged_server_is_not_touched(desired in state(), actual in state()) {
            for change in diff(&desired, &actual) {
                if let Change::ChangeServer(key, server) | Change::AddServer(key, server) = change {
                    let old = actual.services.get(&key).and_then(|service| service.server(server.target));
                    prop_assert_ne!(old, Some(&server));
                }
            }
        }
    }
}
