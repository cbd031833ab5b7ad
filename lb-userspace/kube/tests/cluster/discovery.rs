//! What an API server has, as `kubectl` asks for it first.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The group of what may be installed or not.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Groups with their versions, resources, their kinds, and whether they belong to a namespace.
const RESOURCES: [(&str, &str, &str, bool); 11] = [
    ("v1", "services", "Service", true),
    ("v1", "nodes", "Node", false),
    ("v1", "namespaces", "Namespace", false),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true),
    ("coordination.k8s.io/v1", "leases", "Lease", true),
    ("events.k8s.io/v1", "events", "Event", true),
    ("gateway.networking.k8s.io/v1", "gatewayclasses", "GatewayClass", false),
    ("gateway.networking.k8s.io/v1", "gateways", "Gateway", true),
    ("gateway.networking.k8s.io/v1alpha2", "tcproutes", "TCPRoute", true),
    ("gateway.networking.k8s.io/v1alpha2", "udproutes", "UDPRoute", true),
    ("gateway.networking.k8s.io/v1beta1", "referencegrants", "ReferenceGrant", true),
];

/// The object with its `apiVersion` and `kind`.
pub(crate) fn typed(resource: &str, mut object: Value) -> Value {
    let (api_version, kind) = kind(resource);
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object
}

/// `apiVersion` and `kind` of a resource.
pub(crate) fn kind(resource: &str) -> (&'static str, &'static str) {
    let known = RESOURCES.iter().find(|(_, name, ..)| *name == resource);
    let (version, _, kind, _) = known.unwrap_or_else(|| panic!("nobody should ask for {resource}"));
    (version, kind)
}

/// The version in which the table has what is asked for in this one; routes may have moved on.
pub(crate) fn version_of<'v>(resource: &str, version: &'v str, has_routes_in_v1: bool) -> &'v str {
    match (has_routes_in_v1 && ["tcproutes", "udproutes"].contains(&resource), version) {
        (false, version) => version,
        (true, "v1") => "v1alpha2",
        (true, _) => "none",
    }
}

/// Whether the server has that resource in that version.
pub(crate) fn knows(group: &str, version: &str, resource: &str, has_gateway_api: bool) -> bool {
    let wanted = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let is_there = has_gateway_api || group != GATEWAY_API;
    is_there && RESOURCES.iter().any(|(version, name, ..)| *version == wanted && *name == resource)
}

/// What stands at the paths above all resources.
pub(crate) fn answer(path: &str, has_gateway_api: bool) -> Option<Value> {
    let mut groups: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (group_version, ..) in &RESOURCES {
        let Some((group, version)) = group_version.split_once('/') else { continue };
        let version = json!({ "groupVersion": group_version, "version": version });
        let versions = groups.entry(group).or_default();
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    if !has_gateway_api {
        groups.remove(GATEWAY_API);
    }
    match path {
        "/version" => Some(json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" })),
        "/api" => Some(json!({ "kind": "APIVersions", "versions": ["v1"] })),
        "/apis" => {
            let groups = groups.iter().map(|(group, versions)| {
                json!({ "name": group, "versions": versions, "preferredVersion": versions[0] })
            });
            let groups: Vec<Value> = groups.collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        "/api/v1" => Some(resources("v1")),
        _ => {
            let group_version = path.strip_prefix("/apis/")?;
            let (group, _) = group_version.split_once('/')?;
            let versions = groups.get(group)?;
            let is_known = versions.iter().any(|version| version["groupVersion"] == group_version);
            is_known.then(|| resources(group_version))
        }
    }
}

fn resources(group_version: &str) -> Value {
    let resources = RESOURCES.iter().filter(|(of, ..)| *of == group_version);
    let resources = resources.map(|(_, name, kind, namespaced)| {
        json!({
            "name": name, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]
        })
    });
    let resources: Vec<Value> = resources.collect();
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources
    })
}
