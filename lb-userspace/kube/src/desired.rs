//! From the cluster to the director's services: pure. A Service is served once its status has
//! addresses, so all directors serve the same, whoever wrote them there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_model::overlay::{NewPersistence, NewServer, NewService, Settings};
use lb_model::{LONGEST_NAME, MAX_SERVERS_OF_ONE};

use crate::address::Family;
use crate::cluster::{Cluster, Endpoint, Name, Node, Port, Service, Slice};
use crate::config::Config;
use crate::words;

/// What the director is to serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    pub services: Vec<NewService>,
    /// Whose they are, by their names.
    pub owners: BTreeMap<String, Name>,
}

pub(crate) fn desired(cluster: &Cluster, config: &Config) -> Desired {
    let mut slices: BTreeMap<(&str, &str), Vec<&Slice>> = BTreeMap::new();
    for (name, slice) in cluster.slices.all() {
        slices.entry((name.namespace.as_str(), slice.service.as_str())).or_default().push(slice);
    }
    let ours = cluster.services.all().iter();
    let ours = ours.filter(|(_, service)| service.is_ours(config) && service.has_finalizer());
    let mut ours: Vec<(&Name, &Service)> = ours.collect();
    // An address that two have, by whatever mistake, stays with the older one.
    ours.sort_by_key(|(name, service)| (service.created_s, *name));
    let mut taken = BTreeSet::new();
    let mut desired = Desired::default();
    for (name, service) in ours {
        let slices = slices.get(&(name.namespace.as_str(), name.name.as_str()));
        let slices = slices.map(Vec::as_slice).unwrap_or_default();
        for address in service.addresses.iter().filter(|address| taken.insert(**address)) {
            for port in &service.ports {
                if let Some(new) = one(name, service, *address, port, slices, cluster, config) {
                    desired.owners.insert(new.called(), name.clone());
                    desired.services.push(new);
                }
            }
        }
    }
    desired
}

/// `None`: the director does not know the protocol.
fn one(
    name: &Name,
    service: &Service,
    address: IpAddr,
    port: &Port,
    slices: &[&Slice],
    cluster: &Cluster,
    config: &Config,
) -> Option<NewService> {
    let protocol = match port.protocol.as_str() {
        "TCP" => "tcp",
        "UDP" => "udp",
        _ => return None,
    };
    let family = Family::of(address);
    let nodes = cluster.nodes.all();
    let (servers, check_port) = match service.is_local {
        true => local_servers(service, port, family, slices, nodes),
        false => {
            let usable = nodes.iter().filter(|(_, node)| node.is_ready && !node.is_excluded);
            (servers(usable.map(|(name, node)| (name, node, None)), family), Some(config.kube_proxy_port))
        }
    };
    let check_port = check_port.filter(|port| *port != 0);
    let persistence = service.affinity_s.map(|timeout_s| NewPersistence { timeout_s, prefix: None });
    let scheduler = service.scheduler.clone();
    Some(NewService {
        vip: SocketAddr::new(address, port.port).to_string(),
        name: Some(service_name(name, port.port, protocol, family)),
        protocol: Some(protocol.to_owned()),
        settings: Settings { scheduler, persistence, ..Settings::default() },
        // As kube-proxy does where a Service has no endpoints.
        fallback: Some("refuse".to_owned()),
        check: check_port.map(|_| "http".to_owned()),
        check_port,
        check_request: check_port.map(|_| "/healthz".to_owned()),
        servers,
    })
}

/// Nodes with endpoints that are ready, by the sum of their weights, which are 1 unless a carrier
/// says otherwise; if there is none, those whose endpoints serve until they end. Also where the
/// nodes tell that they are well: those whose last endpoints leave tell that they are not, so these
/// are not asked.
fn local_servers(
    service: &Service,
    port: &Port,
    family: Family,
    slices: &[&Slice],
    nodes: &BTreeMap<Name, Node>,
) -> (Vec<NewServer>, Option<u16>) {
    let key = (port.name.clone(), port.protocol.clone());
    let slices = slices.iter().filter(|slice| slice.family == family);
    let slices = slices.filter_map(|slice| Some((slice, *slice.ports.get(&key)?)));
    let all = slices.flat_map(|(slice, port)| {
        let endpoints = slice.endpoints.iter();
        endpoints.map(move |endpoint| (endpoint, port, slice.weight))
    });
    let all: Vec<(&Endpoint, u16, u16)> = all.collect();
    let of = |is_meant: fn(&Endpoint) -> bool| {
        // An endpoint may stand in two slices for a while.
        let mut by_node: BTreeMap<&str, BTreeMap<(&str, u16), u16>> = BTreeMap::new();
        for (endpoint, port, weight) in all.iter().filter(|(endpoint, ..)| is_meant(endpoint)) {
            let of_node = by_node.entry(endpoint.node.as_str()).or_default();
            of_node.insert((endpoint.address.as_str(), *port), *weight);
        }
        let weighted = nodes.iter().filter(|(_, node)| !node.is_excluded).filter_map(|(name, node)| {
            let weights = by_node.get(name.name.as_str())?.values();
            let weight = weights.fold(0_u16, |sum, weight| sum.saturating_add(*weight));
            Some((name, node, Some(weight)))
        });
        servers(weighted, family)
    };
    let ready = of(|endpoint| endpoint.is_ready);
    match ready.is_empty() {
        false => (ready, service.health_port),
        true => (of(|endpoint| endpoint.is_leaving), None),
    }
}

/// Those that have an address, each once.
fn servers<'a>(
    nodes: impl Iterator<Item = (&'a Name, &'a Node, Option<u16>)>,
    family: Family,
) -> Vec<NewServer> {
    let mut known = BTreeSet::new();
    let servers = nodes.filter_map(|(name, node, weight)| {
        let address = node.address(family).filter(|address| known.insert(*address))?;
        let called = (name.name.len() <= LONGEST_NAME).then(|| name.name.clone());
        Some(NewServer { address: address.to_string(), name: called, weight, ..NewServer::default() })
    });
    servers.take(MAX_SERVERS_OF_ONE).collect()
}

/// `shop/web:80/tcp`, with a 6 behind it for IPv6. What is too long for the director is cut off and
/// told apart by its hash.
fn service_name(Name { namespace, name }: &Name, port: u16, protocol: &str, family: Family) -> String {
    let six = if family == Family::Ipv6 { "6" } else { "" };
    let whole = format!("{namespace}/{name}:{port}/{protocol}{six}");
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    let tail = format!("~{}", words::hash(&whole));
    // Kubernetes' names are ASCII.
    let head: String = whole.chars().take(LONGEST_NAME - tail.len()).collect();
    head + &tail
}

#[cfg(test)]
mod tests;
