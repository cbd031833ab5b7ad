//! What an API server has, as `kubectl` asks for it first.

use serde_json::{Value, json};

/// Groups and resources, their kinds, and whether they belong to a namespace.
const RESOURCES: [(&str, &str, &str, bool); 5] = [
    ("", "services", "Service", true),
    ("", "nodes", "Node", false),
    ("discovery.k8s.io", "endpointslices", "EndpointSlice", true),
    ("coordination.k8s.io", "leases", "Lease", true),
    ("events.k8s.io", "events", "Event", true),
];

fn version(group: &str) -> String {
    if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") }
}

/// The object with its `apiVersion` and `kind`.
pub(crate) fn typed(resource: &str, mut object: Value) -> Value {
    let (api_version, kind) = kind(resource);
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object
}

/// `apiVersion` and `kind` of a resource.
pub(crate) fn kind(resource: &str) -> (String, &'static str) {
    let known = RESOURCES.iter().find(|(_, name, ..)| *name == resource);
    let (group, _, kind, _) = known.unwrap_or_else(|| panic!("nobody should ask for {resource}"));
    (version(group), kind)
}

/// What stands at the paths above all resources.
pub(crate) fn answer(path: &str) -> Option<Value> {
    let groups = RESOURCES.iter().map(|(group, ..)| *group).filter(|group| !group.is_empty());
    match path {
        "/version" => Some(json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" })),
        "/api" => Some(json!({ "kind": "APIVersions", "versions": ["v1"] })),
        "/apis" => {
            let groups = groups.map(|group| {
                let version = json!({ "groupVersion": version(group), "version": "v1" });
                json!({ "name": group, "versions": [version], "preferredVersion": version })
            });
            let groups: Vec<Value> = groups.collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        "/api/v1" => Some(resources("")),
        _ => {
            let group = path.strip_prefix("/apis/")?.strip_suffix("/v1")?;
            groups.into_iter().find(|known| *known == group).map(resources)
        }
    }
}

fn resources(group: &str) -> Value {
    let resources = RESOURCES.iter().filter(|(of, ..)| *of == group).map(|(_, name, kind, namespaced)| {
        json!({
            "name": name, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]
        })
    });
    let resources: Vec<Value> = resources.collect();
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version(group),
        "resources": resources
    })
}
