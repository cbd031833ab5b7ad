use proptest::prelude::*;

use super::*;
use crate::cluster::samples::{name, node, ready, service, slice, store};

fn nodes() -> Vec<(Name, Node)> {
    let named = |name: &str| Name { namespace: String::new(), name: name.into() };
    vec![
        (named("n1"), node(&["192.0.2.21", "2001:db8::21"])),
        (named("n2"), node(&["192.0.2.22"])),
        (named("n3"), Node { is_ready: false, ..node(&["192.0.2.23"]) }),
        (named("n4"), Node { is_excluded: true, ..node(&["192.0.2.24"]) }),
        (named("n5"), node(&[])),
    ]
}

fn leaving(node: &str, address: &str) -> Endpoint {
    Endpoint { is_ready: false, is_leaving: true, ..ready(node, address) }
}

fn cluster(service: Service, slices: Vec<Slice>) -> Cluster {
    let slices = slices.into_iter().enumerate().map(|(index, slice)| (name(&format!("web-{index}")), slice));
    Cluster { services: store([(name("web"), service)]), slices: store(slices), nodes: store(nodes()) }
}

fn made(service: Service, slices: Vec<Slice>) -> Vec<NewService> {
    desired(&cluster(service, slices), &Config::default()).services
}

/// Names and weights.
fn shown(service: &NewService) -> Vec<(&str, Option<u16>)> {
    let servers = service.servers.iter();
    servers.map(|server| (server.name.as_deref().unwrap_or(&server.address), server.weight)).collect()
}

#[test]
fn of_the_cluster_all_ready_nodes_serve() {
    let services = made(service(&["192.0.2.10"]), Vec::new());
    let server = |name: &str, address: &str| NewServer {
        address: address.into(),
        name: Some(name.into()),
        ..NewServer::default()
    };
    let wanted = NewService {
        vip: "192.0.2.10:80".into(),
        name: Some("shop/web:80/tcp".into()),
        protocol: Some("tcp".into()),
        settings: Settings::default(),
        fallback: Some("refuse".into()),
        check: Some("http".into()),
        check_port: Some(10256),
        check_request: Some("/healthz".into()),
        servers: vec![server("n1", "192.0.2.21"), server("n2", "192.0.2.22")],
    };
    assert_eq!(services, [wanted]);
}

#[test]
fn of_local_endpoints_their_nodes_serve_by_their_number() {
    let local = Service { is_local: true, health_port: Some(30100), ..service(&["192.0.2.10"]) };
    let slices = vec![
        slice(vec![ready("n1", "10.0.0.1"), ready("n1", "10.0.0.2"), leaving("n2", "10.0.1.1")]),
        // The same endpoint may stand in two slices for a while.
        slice(vec![ready("n1", "10.0.0.2"), ready("n3", "10.0.2.1"), ready("n4", "10.0.3.1")]),
    ];
    let services = made(local.clone(), slices);
    // A node that is not ready is asked itself, as Kubernetes' own balancers do; one that is
    // excluded gets nothing.
    assert_eq!(shown(&services[0]), [("n1", Some(2)), ("n3", Some(1))]);
    assert_eq!(services[0].check_port, Some(30100));
    let services = made(local.clone(), vec![slice(vec![leaving("n2", "10.0.1.1")])]);
    assert_eq!(shown(&services[0]), [("n2", Some(1))]);
    assert_eq!(services[0].check, None, "the node says that it has no endpoint left");
    let services = made(local, Vec::new());
    assert!(services[0].servers.is_empty());
    assert_eq!(services[0].fallback.as_deref(), Some("refuse"));
}

#[test]
fn endpoints_of_a_carrier_count_for_their_weights() {
    let local = Service { is_local: true, health_port: Some(30100), ..service(&["192.0.2.10"]) };
    let slices = vec![
        Slice { weight: 9, ..slice(vec![ready("n1", "10.0.0.1"), ready("n2", "10.0.1.1")]) },
        slice(vec![ready("n1", "10.0.0.2"), ready("n1", "10.0.0.3")]),
    ];
    let services = made(local, slices);
    assert_eq!(shown(&services[0]), [("n1", Some(11)), ("n2", Some(9))]);
}

#[test]
fn each_family_and_port_has_its_own_endpoints() {
    let named = |name: &str, port| Port { name: name.into(), protocol: "TCP".into(), port };
    let both = Service {
        is_local: true,
        families: vec![Family::Ipv4, Family::Ipv6],
        ports: vec![named("a", 80), named("b", 81)],
        ..service(&["192.0.2.10", "2001:db8::10"])
    };
    let of = |family, port: &str, node: &str| Slice {
        family,
        ports: BTreeMap::from([((port.to_owned(), "TCP".to_owned()), 8080)]),
        ..slice(vec![ready(node, "10.0.0.1")])
    };
    let services = made(
        both,
        vec![of(Family::Ipv4, "a", "n1"), of(Family::Ipv4, "b", "n2"), of(Family::Ipv6, "a", "n1")],
    );
    let found: Vec<_> =
        services.iter().map(|one| (one.called(), one.vip.as_str(), one.servers.len())).collect();
    let wanted = [
        ("shop/web:80/tcp".to_owned(), "192.0.2.10:80", 1),
        ("shop/web:81/tcp".to_owned(), "192.0.2.10:81", 1),
        ("shop/web:80/tcp6".to_owned(), "[2001:db8::10]:80", 1),
        ("shop/web:81/tcp6".to_owned(), "[2001:db8::10]:81", 0),
    ];
    assert_eq!(found, wanted);
    assert_eq!(services[2].servers[0].address, "2001:db8::21");
}

#[test]
fn what_is_not_ours_or_has_no_address_is_not_served() {
    let has = service(&["192.0.2.10"]);
    for other in [
        service(&[]),
        Service { class: None, ..has.clone() },
        Service { is_deleted: true, ..has.clone() },
        Service { is_load_balancer: false, ..has.clone() },
        Service { finalizers: Vec::new(), ..has.clone() },
        Service { ports: vec![Port { protocol: "SCTP".into(), port: 80, ..Port::default() }], ..has.clone() },
    ] {
        assert!(made(other.clone(), Vec::new()).is_empty(), "{other:?}");
    }
}

#[test]
fn an_address_that_two_have_is_the_older_ones() {
    let young = Service { created_s: 2, ..service(&["192.0.2.10", "192.0.2.11"]) };
    let old = Service { created_s: 1, ..service(&["192.0.2.10"]) };
    let cluster = Cluster {
        services: store([(name("a"), young), (name("b"), old)]),
        ..cluster(service(&[]), Vec::new())
    };
    let desired = desired(&cluster, &Config::default());
    let found: Vec<_> = desired.services.iter().map(|one| (one.called(), one.vip.as_str())).collect();
    let wanted =
        [("shop/b:80/tcp".to_owned(), "192.0.2.10:80"), ("shop/a:80/tcp".to_owned(), "192.0.2.11:80")];
    assert_eq!(found, wanted);
}

#[test]
fn affinity_and_scheduler_go_along() {
    let bound = Service { affinity_s: Some(600), scheduler: Some("mh".into()), ..service(&["192.0.2.10"]) };
    let settings = &made(bound, Vec::new())[0].settings;
    assert_eq!(settings.persistence, Some(NewPersistence { timeout_s: 600, prefix: None }));
    assert_eq!(settings.scheduler.as_deref(), Some("mh"));
}

#[test]
fn without_a_port_nobody_asks_kube_proxy() {
    let config = Config { kube_proxy_port: 0, ..Config::default() };
    let services = desired(&cluster(service(&["192.0.2.10"]), Vec::new()), &config).services;
    assert_eq!((&services[0].check, services[0].check_port), (&None, None));
}

#[test]
fn long_names_are_told_apart() {
    let long = |last: &str| Name { namespace: "n".repeat(40), name: "w".repeat(40) + last };
    let [one, other] = ["1", "2"].map(|last| service_name(&long(last), 80, "tcp", Family::Ipv4));
    assert_ne!(one, other);
    assert!(one.len() == LONGEST_NAME && one.starts_with("nnnn") && one.contains('~'), "{one}");
}

proptest! {
    /// The director would refuse two servers of the same address or name.
    #[test]
    fn servers_are_unique(
        addresses in prop::collection::vec((0..4_u8, 0..3_u8), 0..12),
        local in any::<bool>(),
    ) {
        let named = |index: usize| Name { namespace: String::new(), name: format!("n{index}") };
        let nodes = addresses.iter().enumerate().map(|(index, (last, _))| {
            (named(index), node(&[&format!("192.0.2.{last}")]))
        });
        let endpoints = addresses.iter().enumerate().flat_map(|(index, (_, count))| {
            (0..*count).map(move |number| ready(&format!("n{index}"), &format!("10.0.{index}.{number}")))
        });
        let service = Service { is_local: local, ..service(&["192.0.2.10"]) };
        let cluster = Cluster {
            nodes: store(nodes),
            ..cluster(service, vec![slice(endpoints.collect())])
        };
        for service in desired(&cluster, &Config::default()).services {
            let addresses: BTreeSet<&String> = service.servers.iter().map(|server| &server.address).collect();
            prop_assert_eq!(addresses.len(), service.servers.len());
            prop_assert!(service.servers.iter().all(|server| server.weight != Some(0)));
        }
    }
}
