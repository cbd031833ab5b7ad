//! From the API's types to ours.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    ADDRESSES, Endpoint, MANAGED_BY, MANAGER, Name, Node, OF_SERVICE, Owner, POOL, Port, Read, SCHEDULER,
    SLICE_MANAGED_BY, Service, Slice, WEIGHT,
};
use crate::address::Family;
use crate::gateway::infrastructure::Extras;
use crate::gateway::name_of;
use crate::gateway::resources::GROUP;

const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_S: u64 = 10_800;

pub(crate) fn name(metadata: &ObjectMeta) -> Name {
    Name {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

pub(crate) fn annotation(metadata: &ObjectMeta, key: &str) -> Option<String> {
    metadata.annotations.as_ref()?.get(key).cloned()
}

/// Whether `lb-kube` has made it.
fn is_managed(metadata: &ObjectMeta, label: &str) -> bool {
    let manager = metadata.labels.as_ref().and_then(|labels| labels.get(label));
    manager.is_some_and(|manager| manager == MANAGER)
}

/// The Gateway whose carrier it is. Other controllers make Services of Gateways, too.
fn owner(metadata: &ObjectMeta) -> Option<Owner> {
    let mut all = metadata.owner_references.iter().flatten();
    let of_group = |version: &str| version.split_once('/').is_some_and(|(group, _)| group == GROUP);
    let found = all.find(|owner| owner.kind == "Gateway" && of_group(&owner.api_version))?;
    let owner = Owner { name: found.name.clone(), uid: found.uid.clone() };
    let mut gateway = name(metadata);
    gateway.name.clone_from(&found.name);
    // Somebody may have taken the label away; another one's is another's word.
    let has_label = metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(MANAGED_BY));
    let is_called_so = !has_label && name_of(&gateway) == name(metadata);
    (is_called_so || is_managed(metadata, MANAGED_BY)).then_some(owner)
}

pub(crate) fn port(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

impl Read<api::Service> for Service {
    fn read(object: api::Service) -> (Name, Option<Self>) {
        let api::Service { metadata, spec, status } = object;
        let spec = spec.unwrap_or_default();
        let status = status.unwrap_or_default();
        let asked = annotation(&metadata, ADDRESSES).or_else(|| spec.load_balancer_ip.clone());
        let asked = asked.unwrap_or_default();
        let families = spec.ip_families.iter().flatten().filter_map(|family| Family::called(family));
        let mut families: Vec<Family> = families.collect();
        if families.is_empty() {
            // A server that knows no families has those of its cluster IP.
            let cluster_ip = spec.cluster_ip.as_deref().and_then(|address| address.parse::<IpAddr>().ok());
            families.push(cluster_ip.map_or(Family::Ipv4, Family::of));
        }
        let affinity = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let affinity = affinity.and_then(|client| client.timeout_seconds);
        let affinity = affinity.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(AFFINITY_S);
        let ports = spec.ports.iter().flatten().filter_map(|one| {
            let protocol = one.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some(Port { name: one.name.clone().unwrap_or_default(), protocol, port: port(one.port)? })
        });
        let ingress = status.load_balancer.and_then(|balancer| balancer.ingress).unwrap_or_default();
        let addresses = ingress.iter().filter_map(|ingress| ingress.ip.as_deref()?.parse().ok());
        let gateway = owner(&metadata);
        let extras = gateway.as_ref().map(|_| Extras::of(&metadata)).unwrap_or_default();
        let service = Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            created_s: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            is_deleted: metadata.deletion_timestamp.is_some(),
            is_load_balancer: spec.type_.as_deref() == Some("LoadBalancer"),
            class: spec.load_balancer_class.clone(),
            asks_for: asked.split([',', ' ']).filter(|one| !one.is_empty()).map(str::to_owned).collect(),
            pool: annotation(&metadata, POOL),
            scheduler: annotation(&metadata, SCHEDULER),
            families,
            prefers_both: spec.ip_family_policy.as_deref() == Some("PreferDualStack"),
            is_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            health_port: spec.health_check_node_port.and_then(port),
            affinity_s: (spec.session_affinity.as_deref() == Some("ClientIP")).then_some(affinity),
            ports: ports.collect(),
            addresses: addresses.collect(),
            conditions: status.conditions.unwrap_or_default(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            gateway,
            has_label: is_managed(&metadata, MANAGED_BY),
            extras,
        };
        (name(&metadata), Some(service))
    }
}

impl Read<discovery::EndpointSlice> for Slice {
    fn read(object: discovery::EndpointSlice) -> (Name, Option<Self>) {
        let discovery::EndpointSlice { address_type, endpoints, metadata, ports } = object;
        let service = metadata.labels.as_ref().and_then(|labels| labels.get(OF_SERVICE)).cloned();
        let ports = ports.into_iter().flatten().map(|one| {
            let protocol = one.protocol.unwrap_or_else(|| "TCP".to_owned());
            ((one.name.unwrap_or_default(), protocol), one.port.and_then(port).unwrap_or_default())
        });
        let ports: BTreeMap<(String, String), u16> = ports.collect();
        let endpoints: Vec<Endpoint> = endpoints.into_iter().filter_map(endpoint).collect();
        // Those of names instead of addresses are for DNS.
        let of = service.zip(Family::called(&address_type));
        let is_ours = is_managed(&metadata, SLICE_MANAGED_BY);
        let weight = annotation(&metadata, WEIGHT).and_then(|weight| weight.parse().ok());
        let weight = weight.filter(|_| is_ours).unwrap_or(1);
        let extras = if is_ours { Extras::of(&metadata) } else { Extras::default() };
        let slice =
            of.map(|(service, family)| Self { service, family, ports, endpoints, weight, is_ours, extras });
        (name(&metadata), slice)
    }
}

/// `None`: no packets may go there, or nobody knows where it is.
fn endpoint(endpoint: discovery::Endpoint) -> Option<Endpoint> {
    let conditions = endpoint.conditions.unwrap_or_default();
    // The API's words: what is not known is to be taken for ready.
    let is_ready = conditions.ready.unwrap_or(true);
    let is_leaving =
        conditions.serving.unwrap_or(is_ready) && conditions.terminating.unwrap_or_default() && !is_ready;
    let address = endpoint.addresses.into_iter().next()?;
    let node = endpoint.node_name?;
    (is_ready || is_leaving).then_some(Endpoint { address, node, is_ready, is_leaving })
}

impl Read<api::Node> for Node {
    fn read(object: api::Node) -> (Name, Option<Self>) {
        let api::Node { metadata, spec: _, status } = object;
        let status = status.unwrap_or_default();
        let is_ready =
            |condition: &api::NodeCondition| condition.type_ == "Ready" && condition.status == "True";
        let all = status.addresses.unwrap_or_default();
        let of_type = |wanted: &'static str| {
            let all = all.iter().filter(move |address| address.type_ == wanted);
            all.filter_map(|address| address.address.parse::<IpAddr>().ok())
        };
        let node = Self {
            is_ready: status.conditions.iter().flatten().any(is_ready),
            is_excluded: metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED)),
            addresses: of_type("InternalIP").chain(of_type("ExternalIP")).collect(),
        };
        (name(&metadata), Some(node))
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::super::samples::addresses;
    use super::*;

    fn read<K: DeserializeOwned, T: Read<K>>(object: Value) -> Option<(Name, T)> {
        let (name, read) = T::read(serde_json::from_value(object).expect("an object of the API"));
        read.map(|read| (name, read))
    }

    #[test]
    fn a_service_is_read() {
        let object = json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "1970-01-01T00:01:00Z", "finalizers": ["lb-kube/cleanup"],
                "annotations": {
                    "lb-kube/addresses": "192.0.2.10, 2001:db8::10", "lb-kube/pool": "public"
                }
            },
            "spec": {
                "type": "LoadBalancer", "loadBalancerClass": "lb-kube/direct",
                "loadBalancerIP": "192.0.2.9",
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
                "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100,
                "sessionAffinity": "ClientIP",
                "ports": [
                    { "name": "http", "port": 80, "nodePort": 30080 }, { "port": 53, "protocol": "UDP" }
                ]
            },
            "status": {
                "loadBalancer": { "ingress": [{ "ip": "192.0.2.10" }, { "hostname": "a.example" }] }
            }
        });
        let (name, service) = read::<api::Service, Service>(object).expect("a Service");
        assert_eq!(name.to_string(), "shop/web");
        let wanted = Service {
            uid: "u".into(),
            version: "7".into(),
            created_s: 60,
            is_load_balancer: true,
            class: Some("lb-kube/direct".into()),
            asks_for: vec!["192.0.2.10".into(), "2001:db8::10".into()],
            pool: Some("public".into()),
            families: vec![Family::Ipv4, Family::Ipv6],
            prefers_both: true,
            is_local: true,
            health_port: Some(30100),
            affinity_s: Some(10_800),
            ports: vec![
                Port { name: "http".into(), protocol: "TCP".into(), port: 80 },
                Port { name: String::new(), protocol: "UDP".into(), port: 53 },
            ],
            addresses: addresses(&["192.0.2.10"]),
            finalizers: vec!["lb-kube/cleanup".into()],
            ..Service::default()
        };
        assert_eq!(service, wanted);
    }

    #[test]
    fn endpoints_are_ready_leaving_or_nothing() {
        let endpoint = json!({ "addresses": ["10.0.0.1"], "nodeName": "n1" });
        let of = |conditions: Value| {
            let mut endpoint = endpoint.clone();
            endpoint["conditions"] = conditions;
            endpoint
        };
        let object = json!({
            "addressType": "IPv4",
            "metadata": {
                "name": "web-1", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" }
            },
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "endpoints": [
                of(json!({})),
                of(json!({ "ready": true, "serving": true, "terminating": false })),
                of(json!({ "ready": false, "serving": true, "terminating": true })),
                of(json!({ "ready": false, "serving": false, "terminating": true })),
                of(json!({ "ready": false })),
                { "addresses": ["10.0.0.2"], "conditions": {} },
            ]
        });
        let (_, slice) = read::<discovery::EndpointSlice, Slice>(object).expect("a slice");
        let endpoint = |is_ready, is_leaving| Endpoint {
            address: "10.0.0.1".into(),
            node: "n1".into(),
            is_ready,
            is_leaving,
        };
        assert_eq!(slice.endpoints, [endpoint(true, false), endpoint(true, false), endpoint(false, true)]);
        assert_eq!(slice.ports, BTreeMap::from([(("http".into(), "TCP".into()), 8080)]));
        assert_eq!((slice.weight, slice.is_ours), (1, false));
        let names = json!({
            "addressType": "FQDN", "endpoints": [],
            "metadata": { "name": "a", "labels": { "kubernetes.io/service-name": "web" } }
        });
        assert!(read::<discovery::EndpointSlice, Slice>(names).is_none());
    }

    #[test]
    fn carriers_and_their_slices_are_known() {
        let carrier = |manager: &str, version: &str| {
            let owner = json!({ "apiVersion": version, "kind": "Gateway", "name": "edge", "uid": "g" });
            let object = json!({
                "metadata": {
                    "name": "lb-kube-edge", "namespace": "shop", "labels": { MANAGED_BY: manager },
                    "ownerReferences": [owner]
                }
            });
            let (_, service) = read::<api::Service, Service>(object).expect("a Service");
            service.gateway
        };
        let edge = Owner { name: "edge".into(), uid: "g".into() };
        assert_eq!(carrier("lb-kube", "gateway.networking.k8s.io/v1"), Some(edge.clone()));
        assert_eq!(carrier("istio", "gateway.networking.k8s.io/v1"), None);
        let without_label = |called: &str| {
            let version = "gateway.networking.k8s.io/v1";
            let owner = json!({ "apiVersion": version, "kind": "Gateway", "name": "edge", "uid": "g" });
            let metadata = json!({ "name": called, "namespace": "shop", "ownerReferences": [owner] });
            let found = read::<api::Service, Service>(json!({ "metadata": metadata }));
            found.expect("a Service").1.gateway
        };
        assert_eq!(without_label("lb-kube-edge"), Some(edge), "somebody has taken it away");
        assert_eq!(without_label("edge"), None);
        assert_eq!(carrier("lb-kube", "example.org/v1"), None);
        let weight = |manager: &str| {
            let object = json!({
                "addressType": "IPv4", "endpoints": [],
                "metadata": {
                    "name": "a", "annotations": { WEIGHT: "7" },
                    "labels": { OF_SERVICE: "web", SLICE_MANAGED_BY: manager }
                }
            });
            let (_, slice) = read::<discovery::EndpointSlice, Slice>(object).expect("a slice");
            (slice.weight, slice.is_ours)
        };
        assert_eq!((weight("lb-kube"), weight("other")), ((7, true), (1, false)));
    }

    #[test]
    fn a_node_has_its_internal_addresses_first() {
        let object = json!({
            "metadata": { "name": "n1", "labels": { EXCLUDED: "" } },
            "status": {
                "conditions": [{ "type": "Ready", "status": "True" }],
                "addresses": [
                    { "type": "ExternalIP", "address": "203.0.113.1" },
                    { "type": "Hostname", "address": "n1" },
                    { "type": "InternalIP", "address": "192.0.2.21" },
                    { "type": "InternalIP", "address": "2001:db8::21" }
                ]
            }
        });
        let (_, node) = read::<api::Node, Node>(object).expect("a node");
        assert!(node.is_ready && node.is_excluded);
        assert_eq!(node.addresses, addresses(&["192.0.2.21", "2001:db8::21", "203.0.113.1"]));
        assert_eq!(node.address(Family::Ipv6), Some("2001:db8::21".parse().expect("an address")));
    }
}
