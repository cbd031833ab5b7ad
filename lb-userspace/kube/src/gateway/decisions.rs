//! What the leader writes to the cluster for Gateways: pure. Each object gets what it lacks; the
//! watch tells when that has been done, and then follows what depends on it.
//!
//! The order of things: a carrier, then its slices, while it gets its address and is served as any
//! Service; then the Gateway's status, which says so. A carrier that nobody needs any more is
//! deleted; its own finalizer has it keep its address until the directors have let it go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::ApiResource;
use serde_json::{Map, Value, json};

use super::attach::{Attachments, attach, judge};
use super::backends::resolve;
use super::carrier::{Carrier, carrier, slices, sources};
use super::conditions::Wanted;
use super::infrastructure::has_parameters;
use super::resources::{GROUP, Kind};
use super::{Class, Gateways, status};
use crate::cluster::{
    ADDRESSES, Cluster, MANAGED_BY, MANAGER, Name, OF_SERVICE, POOL, SCHEDULER, SLICE_MANAGED_BY, Service,
    Slice, WEIGHT,
};
use crate::config::Config;

/// The finalizer of classes that Gateways have, as the API calls it.
const IN_USE: &str = "gateway-exists-finalizer.gateway.networking.k8s.io";

/// A change of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub resource: ApiResource,
    pub name: Name,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// The whole object.
    Create(Value),
    /// Merge patches of an object and of its status.
    Patch(Value),
    Status(Value),
    /// Only if it has this uid.
    Delete(Option<String>),
}

/// What is to be written now.
pub(crate) fn writes(gateways: &Gateways, cluster: &Cluster, config: &Config, now: &Timestamp) -> Vec<Write> {
    let attachments = attach(gateways, config);
    let mut writes = Writes { gateways, all: Vec::new() };
    for (name, class) in gateways.classes.all().iter().filter(|(_, class)| class.spec.is_ours(config)) {
        writes.class(name, class, now);
    }
    writes.carriers(cluster, &attachments, config);
    let services = cluster.services.all();
    for (name, gateway) in gateways.ours(config) {
        let wanted = status::of_gateway(name, gateway, services, &attachments, now);
        if wanted != gateway.status {
            writes.status(Kind::Gateway, name, &gateway.version, json!(wanted));
        }
    }
    for (kind, name, route) in gateways.routes().filter(|(_, _, route)| !route.is_deleted) {
        let parents = attachments.parents.get(&(kind, name)).map(Vec::as_slice).unwrap_or_default();
        let (_, resolved): (_, Wanted) = resolve((kind, name, route), services, gateways);
        let wanted = status::of_route(route, parents, &resolved, config, now);
        if wanted != route.status {
            writes.status(kind, name, &route.version, json!(wanted));
        }
    }
    writes.all
}

struct Writes<'a> {
    gateways: &'a Gateways,
    all: Vec<Write>,
}

impl Writes<'_> {
    fn status(&mut self, kind: Kind, name: &Name, version: &str, status: Value) {
        let body = json!({ "metadata": { "resourceVersion": version }, "status": status });
        self.put(kind, name, What::Status(body));
    }

    /// A class that Gateways have stays until they are gone, even if it is deleted.
    fn class(&mut self, name: &Name, class: &Class, now: &Timestamp) {
        let mut all = self.gateways.gateways.all().values();
        let is_needed = all.any(|gateway| gateway.spec.gateway_class_name == name.name);
        let others = class.finalizers.iter().filter(|finalizer| *finalizer != IN_USE);
        let ours = [IN_USE.to_owned()].into_iter().filter(|_| is_needed);
        let finalizers: Vec<String> = others.cloned().chain(ours).collect();
        // One that is deleted takes no new ones.
        let is_over = class.is_deleted && finalizers.len() > class.finalizers.len();
        if finalizers != class.finalizers && !is_over {
            let metadata = json!({ "resourceVersion": class.version, "finalizers": finalizers });
            return self.put(Kind::GatewayClass, name, What::Patch(json!({ "metadata": metadata })));
        }
        let wanted = status::of_class(class, now);
        if wanted != class.status {
            self.status(Kind::GatewayClass, name, &class.version, json!({ "conditions": wanted.conditions }));
        }
    }

    /// Nothing is written in a version that nobody knows.
    fn put(&mut self, kind: Kind, name: &Name, what: What) {
        if let Some(version) = self.gateways.version(kind) {
            self.push(kind.resource(version), name, what);
        }
    }

    fn push(&mut self, resource: ApiResource, name: &Name, what: What) {
        self.all.push(Write { resource, name: name.clone(), what });
    }

    fn carriers(&mut self, cluster: &Cluster, attachments: &Attachments<'_>, config: &Config) {
        let services = cluster.services.all();
        let sources = sources(cluster.slices.all());
        let (mut wanted, mut copies) = (BTreeMap::new(), BTreeMap::new());
        for (name, gateway) in self.gateways.ours(config) {
            let Some(carrier) = carrier(name, gateway, config) else { continue };
            let takes_new = self.gateways.takes_new(gateway, config) && !has_parameters(gateway);
            if !services.contains_key(&carrier.name) && !takes_new {
                continue;
            }
            let found = services.get(&carrier.name).filter(|found| is_whole(&carrier, found));
            for judged in judge(gateway) {
                let holder = attachments.holders.get(&(name, judged.listener.name.as_str()));
                if let (Some(found), Some(route)) = (found, holder) {
                    let (backends, _) = resolve(*route, services, self.gateways);
                    let of_port = slices(&carrier, &judged, &backends, &sources).into_iter();
                    copies.extend(of_port.map(|(name, slice)| (name, (slice, found.uid.clone()))));
                }
            }
            wanted.insert(carrier.name.clone(), carrier);
        }
        let resource = ApiResource::erase::<api::Service>(&());
        for (name, carrier) in &wanted {
            if let Some(what) = of_carrier(carrier, services.get(name)) {
                self.push(resource.clone(), name, what);
            }
        }
        // Those of another class are another `lb-kube`'s.
        let is_ours = |service: &Service| service.class.as_ref() == Some(&config.class);
        let is_over = |name: &Name, service: &Service| {
            service.gateway.is_some() && is_ours(service) && !service.is_deleted && !wanted.contains_key(name)
        };
        for (name, service) in services.iter().filter(|(name, service)| is_over(name, service)) {
            self.push(resource.clone(), name, What::Delete(Some(service.uid.clone())));
        }
        let is_anothers = |name: &Name, slice: &Slice| {
            let carrier = Name { namespace: name.namespace.clone(), name: slice.service.clone() };
            services.get(&carrier).is_some_and(|service| !is_ours(service))
        };
        self.slices(cluster.slices.all(), &copies, is_anothers);
    }

    /// `copies`: the slices as they are to be, and the uids of their carriers.
    fn slices(
        &mut self,
        known: &BTreeMap<Name, Slice>,
        copies: &BTreeMap<Name, (Slice, String)>,
        is_anothers: impl Fn(&Name, &Slice) -> bool,
    ) {
        let resource = ApiResource::erase::<EndpointSlice>(&());
        for (name, (slice, uid)) in copies {
            let what = match known.get(name) {
                None => What::Create(of_slice(name, slice, uid, None)),
                // Somebody else's, or as it should be.
                Some(known) if !known.is_ours || known == slice => continue,
                Some(known) => What::Patch(of_slice(name, slice, uid, Some(known))),
            };
            self.push(resource.clone(), name, what);
        }
        let is_over = |name: &Name, slice: &Slice| {
            slice.is_ours && !copies.contains_key(name) && !is_anothers(name, slice)
        };
        for (name, _) in known.iter().filter(|(name, slice)| is_over(name, slice)) {
            self.push(resource.clone(), name, What::Delete(None));
        }
    }
}

/// Whether that Service is the carrier, and stays.
fn is_whole(carrier: &Carrier, found: &Service) -> bool {
    carrier.is(found) && !found.is_deleted && !carrier.is_fixed_otherwise(found)
}

fn of_carrier(carrier: &Carrier, found: Option<&Service>) -> Option<What> {
    match found {
        None => Some(What::Create(created(carrier))),
        // Its name is taken, which the Gateway's status tells, or it is on its way out.
        Some(found) if !carrier.is(found) || found.is_deleted => None,
        Some(found) if carrier.is_fixed_otherwise(found) => Some(What::Delete(Some(found.uid.clone()))),
        Some(found) if carrier.is_like(found) => None,
        Some(found) => Some(What::Patch(patched(carrier, found))),
    }
}

fn annotations(carrier: &Carrier) -> [(&'static str, Option<String>); 3] {
    let asked = (!carrier.asks_for.is_empty()).then(|| carrier.asks_for.join(","));
    [(ADDRESSES, asked), (POOL, carrier.pool.clone()), (SCHEDULER, carrier.scheduler.clone())]
}

fn created(carrier: &Carrier) -> Value {
    let own = annotations(carrier).into_iter();
    let mut annotations = carrier.extras.annotations(None);
    annotations.extend(own.filter_map(|(key, value)| Some((key.to_owned(), value?.into()))));
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": carrier.name.name, "namespace": carrier.name.namespace,
            "labels": with(carrier.extras.labels(None), &[(MANAGED_BY, MANAGER)]),
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": format!("{GROUP}/v1"), "kind": "Gateway", "controller": true,
                "name": carrier.owner.name, "uid": carrier.owner.uid,
            }],
        },
        "spec": spec(carrier),
    })
}

/// With the resource version the API server refuses it if the Service has changed.
fn patched(carrier: &Carrier, found: &Service) -> Value {
    let own = annotations(carrier).into_iter();
    let mut annotations = carrier.extras.annotations(Some(&found.extras));
    annotations.extend(own.map(|(key, value)| (key.to_owned(), json!(value))));
    json!({
        "metadata": {
            "resourceVersion": found.version,
            "labels": with(carrier.extras.labels(Some(&found.extras)), &[(MANAGED_BY, MANAGER)]),
            "annotations": annotations,
        },
        "spec": spec(carrier),
    })
}

/// Labels or annotations with those that `lb-kube` gives.
fn with(all: Map<String, Value>, own: &[(&str, &str)]) -> Map<String, Value> {
    all.into_iter().chain(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).into()))).collect()
}

fn spec(carrier: &Carrier) -> Value {
    let ports = carrier.ports.iter().map(|port| {
        json!({
            "name": port.name, "protocol": port.protocol, "port": port.port, "targetPort": port.port,
        })
    });
    let mut spec = json!({
        "type": "LoadBalancer", "loadBalancerClass": carrier.class,
        // Pods see the clients' addresses, and the directors' weights count.
        "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false,
        "ports": ports.collect::<Vec<_>>(),
    });
    let families: Vec<&str> = carrier.families.iter().map(|family| family.name()).collect();
    if !families.is_empty() {
        let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        spec["ipFamilyPolicy"] = policy.into();
        spec["ipFamilies"] = json!(families);
    }
    spec
}

/// `found`: as it is, if it is there.
fn of_slice(name: &Name, slice: &Slice, uid: &str, found: Option<&Slice>) -> Value {
    let found = found.map(|found| &found.extras);
    let own = [(OF_SERVICE, slice.service.as_str()), (SLICE_MANAGED_BY, MANAGER)];
    let weight = slice.weight.to_string();
    let ports = slice
        .ports
        .iter()
        .map(|((name, protocol), port)| json!({ "name": name, "protocol": protocol, "port": port }));
    let endpoints = slice.endpoints.iter().map(|endpoint| {
        json!({
            "addresses": [endpoint.address], "nodeName": endpoint.node,
            "conditions": {
                "ready": endpoint.is_ready, "serving": true, "terminating": endpoint.is_leaving,
            },
        })
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name.name, "namespace": name.namespace,
            "labels": with(slice.extras.labels(found), &own),
            "annotations": with(slice.extras.annotations(found), &[(WEIGHT, weight.as_str())]),
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "controller": true,
                "name": slice.service, "uid": uid,
            }],
        },
        "addressType": slice.family.name(),
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}
