//! `lb-kube` against an API server and a director that do what the real ones do when things go
//! wrong.
//!
//! - `api`: the API server, with `discovery`; `director`: what stands in for the director;
//!   `process`: `lb-kube` itself
//! - `services`: from Services to the director and back; `gateways`: the same of Gateways;
//!   `leaders`: who writes; `troubles`: what goes wrong between them; `kubectl`: as operators see
//!   it; `manifests`: deploy/kubernetes

mod api;
mod director;
mod discovery;
mod gateways;
mod kubectl;
mod leaders;
mod manifests;
mod process;
mod services;
mod troubles;

use serde_json::{Value, json};
use tempfile::TempDir;

use self::api::Api;
use self::director::Director;
use self::process::{LbKube, wait_for};

/// Everything that a test needs.
struct Bed {
    folder: TempDir,
    api: Api,
    director: Director,
}

impl Bed {
    /// A cluster of two nodes.
    async fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let api = Api::start().await;
        api.put("nodes", node("n1", "192.0.2.21"));
        api.put("nodes", node("n2", "192.0.2.22"));
        let director = Director::start(folder.path(), "lb.sock");
        Self { folder, api, director }
    }

    fn start(&self) -> LbKube {
        LbKube::start(self.folder.path(), &self.api, &self.director, "lb1")
    }

    fn service(&self, name: &str) -> Option<Value> {
        self.api.get("services", "shop", name)
    }

    /// The addresses in its status.
    fn addresses(&self, name: &str) -> Vec<String> {
        let service = self.service(name).unwrap_or_default();
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
        ingress.iter().map(|one| one["ip"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Status and reason of our condition.
    fn condition(&self, name: &str) -> (String, String) {
        let service = self.service(name).unwrap_or_default();
        let all = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ours = all.into_iter().find(|one| one["type"] == "lb-kube/Served").unwrap_or_default();
        let text = |key: &str| ours[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    async fn wait_for_service(&self, wanted: &str) {
        wait_for(wanted, || self.director.serves().iter().any(|service| service == wanted)).await;
    }

    async fn wait_for_condition(&self, name: &str, status: &str, reason: &str) {
        wait_for(reason, || self.condition(name) == (status.to_owned(), reason.to_owned())).await;
    }
}

fn node(name: &str, address: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "addresses": [{ "type": "InternalIP", "address": address }]
        }
    })
}

fn service(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "lb-kube/direct", "ipFamilies": ["IPv4"],
            "externalTrafficPolicy": "Cluster", "ports": [{ "port": 80, "protocol": "TCP" }]
        }
    })
}

/// Of the Service `web`; so many endpoints on each node.
fn slice(endpoints: &[(&str, u8)]) -> Value {
    let endpoints = endpoints.iter().flat_map(|(node, count)| {
        (0..*count).map(move |number| {
            json!({
                "addresses": [format!("10.0.0.{number}")], "nodeName": node,
                "conditions": { "ready": true, "serving": true, "terminating": false }
            })
        })
    });
    json!({
        "metadata": {
            "name": "web-1", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" }
        },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        "endpoints": endpoints.collect::<Vec<_>>()
    })
}
